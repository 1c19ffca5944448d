#include "worker/settings.h"

#include <errno.h>
#include <stdlib.h>

#include "broker/settings.h"
#include "hook/breaker.h"
#include "os/time.h"

#define KINDS 2 /* enum change_kind */

struct settings {
    struct zone *zone;
    struct hash tables[KINDS]; /* setting.link by name; none of them is gone */
    uint64_t seed;
    uint64_t round;      /* raised when everything comes anew */
    uint64_t generation; /* of the zone's settings: all of it is known */
};

struct settings *settings_create(struct zone *zone, struct err *err)
{
    struct settings *settings = calloc(1, sizeof(*settings));
    uint64_t seed[2];

    if (!settings || hash_init(&settings->tables[CHANGE_CONFIG], &hash_malloc) < 0 ||
        hash_init(&settings->tables[CHANGE_QUEUE], &hash_malloc) < 0) {
        settings_destroy(settings);
        err_set_errno(err, ENOMEM, "make room for settings");
        return NULL;
    }
    time_entropy(seed);
    settings->seed = seed[0];
    settings->zone = zone;
    return settings;
}

static struct setting *setting_of(struct hash_link *link)
{
    return link ? CONTAINER_OF(link, struct setting, link) : NULL;
}

void settings_destroy(struct settings *settings)
{
    if (!settings)
        return;
    for (unsigned i = 0; i < KINDS; i++) {
        uint32_t bucket = 0;
        struct hash_link *link = hash_next(&settings->tables[i], &bucket, NULL), *next;

        for (; link; link = next) {
            next = hash_next(&settings->tables[i], &bucket, link);
            free(setting_of(link));
        }
        hash_free(&settings->tables[i], &hash_malloc);
    }
    free(settings);
}

static struct setting *settings_find(const struct settings *settings, enum change_kind kind,
                                     struct str name)
{
    const struct hash *table = &settings->tables[kind];
    struct hash_link *link =
        table->count > 0 ? hash_find(table, str_hash(name, settings->seed)) : NULL;

    for (; link; link = hash_find_next(link))
        if (str_equal(setting_of(link)->name, name))
            return setting_of(link);
    return NULL;
}

/* ---- changes ---- */

static void settings_remove(struct settings *settings, struct setting *setting,
                            const struct hook_set *hooks, bool gone)
{
    hash_remove(&settings->tables[setting->kind], &setting->link);
    if (gone && hooks && setting->kind == CHANGE_QUEUE)
        hook_set_queue_gone(hooks, setting->queue.id);
    free(setting);
}

/* Takes `setting`. A queue whose scripts are as they were stays at its address. */
static void settings_put(struct settings *settings, struct setting *setting,
                         const struct hook_set *hooks)
{
    struct setting *old = settings_find(settings, setting->kind, setting->name);
    bool same_queue = old && !setting->gone && setting->kind == CHANGE_QUEUE &&
                      old->queue.id == setting->queue.id;

    if (same_queue && old->queue.version == setting->queue.version) {
        old->round = settings->round;
        free(setting);
        return;
    }
    if (old)
        settings_remove(settings, old, hooks, !same_queue);
    if (setting->gone) {
        free(setting);
        return;
    }
    setting->round = settings->round;
    hash_insert(&settings->tables[setting->kind], &hash_malloc,
                str_hash(setting->name, settings->seed), &setting->link);
}

/* Everything has come anew: what was not named is no more. */
static void settings_sweep(struct settings *settings, enum change_kind kind,
                           const struct hook_set *hooks)
{
    uint32_t bucket = 0;
    struct hash_link *link = hash_next(&settings->tables[kind], &bucket, NULL), *next;

    for (; link; link = next) {
        next = hash_next(&settings->tables[kind], &bucket, link);
        if (setting_of(link)->round < settings->round)
            settings_remove(settings, setting_of(link), hooks, true);
    }
}

void settings_take(struct settings *settings, struct operation_settings *operation,
                   const struct hook_set *hooks)
{
    struct setting *setting = operation->first, *next;

    operation->first = NULL;
    if (operation->anew) {
        settings->generation = 0;
        settings->round++;
    }
    for (; setting; setting = next) {
        next = setting->next;
        settings_put(settings, setting, hooks);
    }
    if (operation->generation == 0)
        return;
    if (settings->generation == 0) {
        settings_sweep(settings, CHANGE_CONFIG, hooks);
        settings_sweep(settings, CHANGE_QUEUE, hooks);
    }
    settings->generation = operation->generation;
}

/* ---- questions ---- */

bool settings_is_current(const struct settings *settings)
{
    return atomic_load(&settings->zone->settings_generation) == settings->generation;
}

const struct hook_queue *settings_queue(const struct settings *settings, struct str name)
{
    const struct setting *setting = settings_find(settings, CHANGE_QUEUE, name);

    return setting ? &setting->queue : NULL;
}

bool settings_config(const struct settings *settings, struct str key, struct str *value)
{
    const struct setting *setting = settings_find(settings, CHANGE_CONFIG, key);

    *value = setting ? setting->value : str_of(NULL, 0);
    return setting;
}

static bool settings_serve_config(void *context, struct str key, struct str *value)
{
    return settings_config(context, key, value);
}

static struct hook_breaker *settings_serve_breaker(void *context, uint64_t queue_id)
{
    const struct settings *settings = context;

    return breaker_of(settings->zone, queue_id);
}

struct hook_services settings_services(struct settings *settings)
{
    return (struct hook_services){.context = settings,
                                  .config_get = settings_serve_config,
                                  .breaker = settings_serve_breaker};
}
