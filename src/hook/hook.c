#include "hook/hook.h"

#include <errno.h>
#include <stdlib.h>

#include "core/utf8.h"

#define HOOK_POOL_CHUNK 1024

struct hook_entry {
    const struct hook_module *module;
    void *state;
};

struct hook_set {
    size_t count; /* entries started */
    struct hook_entry entries[];
};

size_t hook_sections(const struct hook_module *const *modules, struct conf_section *sections,
                     size_t room)
{
    size_t count = 0;

    for (; *modules; modules++) {
        const struct hook_module *module = *modules;

        if (!module->section)
            continue;
        if (count < room)
            sections[count] =
                (struct conf_section){module->section, module->keys, module->conf_size};
        count++;
    }
    return count;
}

static int hook_start(struct hook_set *set, const struct hook_module *module, const void *settings,
                      const struct conf *conf, const struct hook_services *services,
                      struct err *err)
{
    struct hook_entry *entry = &set->entries[set->count];

    if (module->version != HOOK_VERSION)
        return err_set(err, 0, "module %s is made for version %u of the hook interface, not %u",
                       module->name, module->version, HOOK_VERSION);
    *entry = (struct hook_entry){.module = module};
    if (module->init && module->init(settings, conf, services, &entry->state, err) < 0)
        return err_prefix(err, "module %s", module->name);
    set->count++;
    return 0;
}

struct hook_set *hook_set_create(const struct hook_module *const *modules, const struct conf *conf,
                                 const struct hook_services *services, struct err *err)
{
    size_t count = 0, section = 0;

    while (modules[count])
        count++;

    struct hook_set *set = calloc(1, sizeof(*set) + count * sizeof(set->entries[0]));
    if (!set) {
        err_set(err, ENOMEM, "modules: out of memory");
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        const void *settings = modules[i]->section ? conf->modules[section++] : NULL;

        if (hook_start(set, modules[i], settings, conf, services, err) < 0) {
            hook_set_destroy(set);
            return NULL;
        }
    }
    return set;
}

void hook_set_destroy(struct hook_set *set)
{
    if (!set)
        return;
    while (set->count > 0) {
        struct hook_entry *entry = &set->entries[--set->count];

        if (entry->module->exit)
            entry->module->exit(entry->state);
    }
    free(set);
}

static bool hook_key_fits(struct str key)
{
    return key.size <= HOOK_KEY_MAX && utf8_valid(key);
}

static bool hook_throttles_fit(const struct hook_verdict *verdict)
{
    if (verdict->throttle_count > HOOK_THROTTLES_MAX)
        return false;
    for (uint16_t i = 0; i < verdict->throttle_count; i++)
        if (!hook_key_fits(verdict->throttle_keys[i]))
            return false;
    return true;
}

void hook_set_on_enqueue(const struct hook_set *set, const struct hook_message *message,
                         struct hook_memory *memory, struct hook_verdict *verdict)
{
    *verdict = (struct hook_verdict){.fairness_key = STR("default"), .weight = 1};
    for (size_t i = 0; i < set->count && !verdict->rejected.data; i++) {
        const struct hook_entry *entry = &set->entries[i];

        if (entry->module->on_enqueue)
            entry->module->on_enqueue(entry->state, message, memory, verdict);
    }
    if (verdict->delay_ms > HOOK_DELAY_MAX_MS)
        verdict->delay_ms = HOOK_DELAY_MAX_MS;
    if (verdict->rejected.data && !utf8_valid(verdict->rejected))
        verdict->rejected = STR("rejected");
    verdict->rejected.size = utf8_truncate(verdict->rejected, HOOK_REASON_MAX);
    if (!hook_key_fits(verdict->fairness_key))
        verdict->fairness_key = STR("default");
    if (!hook_throttles_fit(verdict)) {
        verdict->throttle_keys = NULL;
        verdict->throttle_count = 0;
    }
}

void hook_set_on_failure(const struct hook_set *set, const struct hook_failure *failure,
                         struct hook_decision *decision)
{
    *decision = (struct hook_decision){.action = HOOK_RETRY};
    for (size_t i = 0; i < set->count; i++) {
        const struct hook_entry *entry = &set->entries[i];

        if (entry->module->on_failure)
            entry->module->on_failure(entry->state, failure, decision);
    }
    if (decision->delay_ms > HOOK_DELAY_MAX_MS)
        decision->delay_ms = HOOK_DELAY_MAX_MS;
}

int hook_set_check_script(const struct hook_set *set, enum hook_script which, struct str source,
                          struct err *err)
{
    bool known = false;

    for (size_t i = 0; i < set->count; i++) {
        const struct hook_entry *entry = &set->entries[i];

        if (!entry->module->check_script)
            continue;
        known = true;
        if (entry->module->check_script(entry->state, which, source, err) < 0)
            return -1;
    }
    return known ? 0 : err_set(err, 0, "this build has no Lua module");
}

void hook_set_queue_gone(const struct hook_set *set, uint64_t queue_id)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->entries[i].module->queue_gone)
            set->entries[i].module->queue_gone(set->entries[i].state, queue_id);
}

void hook_set_tick(const struct hook_set *set, uint64_t now_ms)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->entries[i].module->tick)
            set->entries[i].module->tick(set->entries[i].state, now_ms);
}

void *hook_alloc(struct hook_memory *memory, size_t size)
{
    if (!memory->pool)
        memory->pool = pool_create(HOOK_POOL_CHUNK);
    return memory->pool ? pool_alloc(memory->pool, size) : NULL;
}

void hook_memory_free(struct hook_memory *memory)
{
    pool_destroy(memory->pool);
    memory->pool = NULL;
}
