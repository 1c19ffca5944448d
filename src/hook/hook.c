#include "hook/hook.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"
#include "hook/tally.h"

#define HOOK_POOL_CHUNK 1024

struct hook_entry {
    const struct hook_module *module;
    void *state;
    struct hook_services services;
    _Atomic uint64_t *own; /* statistics of a process without tally; NULL: those there */
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

/* --- beginning and end --- */

/* What the section of modules[index] filled; NULL: it has none. */
static const void *hook_settings(const struct hook_module *const *modules, size_t index,
                                 const struct conf *conf)
{
    size_t section = 0;

    for (size_t i = 0; i < index; i++)
        section += modules[i]->section != NULL;
    return modules[index]->section ? conf->modules[section] : NULL;
}

static size_t hook_count(const struct hook_module *const *modules)
{
    size_t count = 0;

    while (modules[count])
        count++;
    return count;
}

/* Gives the module its statistics: those that all see, or some that nobody does. */
static int hook_give_statistics(struct hook_entry *entry, struct err *err)
{
    const struct hook_statistic *rows = entry->module->statistics;
    struct hook_services *services = &entry->services;
    size_t count = 0;

    services->statistics = NULL;
    if (!rows)
        return 0;
    if (services->tally)
        services->statistics = tally_values(services->tally, entry->module, services->slot);
    if (services->statistics)
        return 0;
    while (rows[count].name)
        count++;
    services->statistics = entry->own = calloc(count + 1, sizeof *entry->own);
    return entry->own ? 0 : err_set(err, ENOMEM, "out of memory");
}

static int hook_start(struct hook_set *set, const struct hook_module *module, const void *settings,
                      const struct conf *conf, const struct hook_services *services,
                      struct err *err)
{
    struct hook_entry *entry = &set->entries[set->count];

    if (signature_check(module->signature, module->name, err) < 0)
        return -1;
    for (const struct hook_page *page = module->pages; page && page->path; page++) {
        const struct hook_page *other = hook_set_find_page(set, str_from_c(page->path));

        if (other && strcmp(other->path, page->path) == 0)
            return err_set(err, EEXIST, "module %s: another one has the page %s, too", module->name,
                           page->path);
    }
    *entry = (struct hook_entry){.module = module, .services = *services};
    entry->services.modules = set;
    if (hook_give_statistics(entry, err) < 0 ||
        (module->init && module->init(settings, conf, &entry->services, &entry->state, err) < 0)) {
        free((void *)entry->own);
        return err_prefix(err, "module %s", module->name);
    }
    set->count++;
    return 0;
}

struct hook_set *hook_set_create(const struct hook_module *const *modules, const struct conf *conf,
                                 const struct hook_services *services, struct err *err)
{
    size_t count = hook_count(modules);
    struct hook_set *set = calloc(1, sizeof(*set) + count * sizeof(set->entries[0]));

    if (!set) {
        err_set(err, ENOMEM, "modules: out of memory");
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        if (hook_start(set, modules[i], hook_settings(modules, i, conf), conf, services, err) < 0) {
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
        free((void *)entry->own);
    }
    free(set);
}

/* --- messages --- */

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

bool hook_set_ticks(const struct hook_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->entries[i].module->tick)
            return true;
    return false;
}

/* --- pages --- */

/* How much of `path` the page stands for; 0: it is not its page. */
static size_t hook_page_covers(const struct hook_page *page, struct str path)
{
    struct str own = str_from_c(page->path);

    if (str_equal(own, path))
        return own.size + 1;
    if (own.size > 0 && own.data[own.size - 1] == '/' && path.size > own.size &&
        str_equal(str_of(path.data, own.size), own))
        return own.size;
    return 0;
}

static const struct hook_page *hook_set_look(const struct hook_set *set, struct str path,
                                             void **state)
{
    const struct hook_page *found = NULL;
    size_t best = 0;

    for (size_t i = 0; i < set->count; i++) {
        const struct hook_page *page = set->entries[i].module->pages;

        for (; page && page->path; page++) {
            size_t covered = hook_page_covers(page, path);

            if (covered <= best)
                continue;
            best = covered;
            found = page;
            *state = set->entries[i].state;
        }
    }
    return found;
}

const struct hook_page *hook_set_find_page(const struct hook_set *set, struct str path)
{
    void *state;

    return hook_set_look(set, path, &state);
}

void hook_set_visit_pages(const struct hook_set *set,
                          void (*visit)(void *context, const struct hook_module *module,
                                        const struct hook_page *page),
                          void *context)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct hook_page *page = set->entries[i].module->pages;

        for (; page && page->path; page++)
            visit(context, set->entries[i].module, page);
    }
}

bool hook_set_answer(const struct hook_set *set, const struct hook_http_request *request,
                     struct hook_http_response *response)
{
    void *state = NULL;
    const struct hook_page *page = hook_set_look(set, request->path, &state);

    if (!page)
        return false;
    response->status = 200;
    response->type = "text/plain; charset=utf-8";
    page->answer(state, request, response);
    return true;
}

/* --- processes and commands --- */

struct hook_process_entry {
    const struct hook_module *module;
    void *state;
};

struct hook_processes {
    enum hook_role role;
    size_t count; /* started */
    struct hook_process_entry entries[];
};

struct hook_processes *hook_processes_start(enum hook_role role,
                                            const struct hook_module *const *modules,
                                            const struct conf *conf, struct err *err)
{
    size_t count = hook_count(modules);
    struct hook_processes *processes =
        calloc(1, sizeof *processes + count * sizeof processes->entries[0]);

    if (!processes) {
        err_set(err, ENOMEM, "modules: out of memory");
        return NULL;
    }
    processes->role = role;
    for (size_t i = 0; i < count; i++) {
        struct hook_process_entry *entry = &processes->entries[i];

        entry->module = modules[i];
        if (signature_check(modules[i]->signature, modules[i]->name, err) < 0) {
            hook_processes_exit(processes);
            return NULL;
        }
        if (modules[i]->process_start &&
            modules[i]->process_start(role, hook_settings(modules, i, conf), conf, &entry->state,
                                      err) < 0) {
            err_prefix(err, "module %s", modules[i]->name);
            hook_processes_exit(processes);
            return NULL;
        }
        processes->count++;
    }
    return processes;
}

void hook_processes_exit(struct hook_processes *processes)
{
    if (!processes)
        return;
    while (processes->count > 0) {
        const struct hook_process_entry *entry = &processes->entries[--processes->count];

        if (entry->module->process_exit)
            entry->module->process_exit(processes->role, entry->state);
    }
    free(processes);
}

/* Cuts `*rest` at the first `mark`; all of it when there is none. */
static struct str hook_cut(struct str *rest, char mark)
{
    const uint8_t *end = rest->size ? memchr(rest->data, mark, rest->size) : NULL;
    struct str head = *rest;

    if (end)
        head.size = (size_t)(end - rest->data);
    rest->data += end ? head.size + 1 : head.size;
    rest->size -= end ? head.size + 1 : head.size;
    return head;
}

int hook_processes_command(const struct hook_processes *processes, struct str line,
                           struct buf *answer, struct err *err)
{
    struct str argument = line;
    struct str whole = hook_cut(&argument, ' ');
    struct str name = whole;
    struct str module = hook_cut(&name, '.');

    if (!utf8_valid(line))
        return err_set(err, EINVAL, "the command is no UTF-8");
    for (size_t i = 0; i < processes->count; i++) {
        const struct hook_process_entry *entry = &processes->entries[i];
        const struct hook_command *command = entry->module->commands;

        if (!str_equal(module, str_from_c(entry->module->name)))
            continue;
        for (; command && command->name; command++)
            if (str_equal(name, str_from_c(command->name)))
                return command->run(entry->state, argument, answer, err);
        return err_set(err, ENOENT, "%.*s: module %s has no such command", (int)whole.size,
                       whole.data, entry->module->name);
    }
    return err_set(err, ENOENT, "%.*s: no such command", (int)whole.size, whole.data);
}

/* --- memory --- */

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
