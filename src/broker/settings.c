#include "broker/settings.h"

#include <errno.h>
#include <stdlib.h>

#include "broker/broker.h"

#define CONFLICTS_MAX 100
#define PART_BYTES (1u << 20) /* of settings that go up together */

void settings_free(struct setting *first)
{
    while (first) {
        struct setting *next = first->next;
        free(first);
        first = next;
    }
}

/* What goes up together. */
struct part {
    struct broker *broker;
    struct setting *first, **last;
    size_t size;
    bool anew; /* for the next one that goes up */
};

static int add(struct part *part, struct setting *setting, size_t size)
{
    *part->last = setting;
    part->last = &setting->next;
    part->size += size;
    return 0;
}

static struct str copy(uint8_t **to, struct str from)
{
    struct str copied = str_of(*to, from.size);
    if (from.size)
        memcpy(*to, from.data, from.size);
    *to += from.size;
    return copied;
}

static int add_config(struct part *part, struct str key, const struct str *value)
{
    size_t size = sizeof(struct setting) + key.size + (value ? value->size : 0);
    struct setting *setting = calloc(1, size);
    if (!setting)
        return ENOMEM;
    uint8_t *bytes = (uint8_t *)(setting + 1);
    setting->kind = CHANGE_CONFIG;
    setting->gone = !value;
    setting->name = copy(&bytes, key);
    if (value)
        setting->value = copy(&bytes, *value);
    return add(part, setting, size);
}

static int add_queue(struct part *part, struct str name, const struct catalog_queue *queue)
{
    bool gone = !queue || (queue->on_enqueue.size == 0 && queue->on_failure.size == 0);
    size_t size = sizeof(struct setting) + name.size;
    if (!gone)
        size += queue->on_enqueue.size + queue->on_failure.size;
    struct setting *setting = calloc(1, size);
    if (!setting)
        return ENOMEM;
    uint8_t *bytes = (uint8_t *)(setting + 1);
    setting->kind = CHANGE_QUEUE;
    setting->gone = gone;
    setting->name = copy(&bytes, name);
    if (!gone) {
        setting->queue.id = queue->id;
        setting->queue.version = queue->version;
        setting->queue.name = setting->name;
        setting->queue.scripts[HOOK_ON_ENQUEUE] = copy(&bytes, queue->on_enqueue);
        setting->queue.scripts[HOOK_ON_FAILURE] = copy(&bytes, queue->on_failure);
    }
    return add(part, setting, size);
}

/* `generation` 0: more follows. */
static int send(struct part *part, uint64_t generation)
{
    struct operation_settings *settings = calloc(1, sizeof(*settings));
    if (!settings)
        return ENOMEM;
    settings->operation.kind = OPERATION_SETTINGS;
    settings->first = part->first;
    settings->generation = generation;
    settings->anew = part->anew;
    part->first = NULL;
    part->last = &part->first;
    part->size = 0;
    part->anew = false;
    part->broker->options.emit(part->broker->options.context, &settings->operation);
    return 0;
}

/* --- everything --- */

static int visited(struct part *part, int result, struct err *err)
{
    if (!result && part->size >= PART_BYTES)
        result = send(part, 0);
    return result ? err_set_errno(err, result, "read the settings") : 0;
}

static int visit_config(void *context, struct str key, struct str value, struct err *err)
{
    return visited(context, add_config(context, key, &value), err);
}

static int visit_queue(void *context, const struct catalog_queue *queue, struct err *err)
{
    bool none = queue->on_enqueue.size == 0 && queue->on_failure.size == 0;
    return none ? 0 : visited(context, add_queue(context, queue->name, queue), err);
}

static int send_all(struct part *part, uint64_t generation, struct err *err)
{
    struct catalog *catalog = part->broker->catalog;
    part->anew = true;
    if (catalog_each_config(catalog, STR(""), visit_config, part, err) != 0 ||
        catalog_each_queue(catalog, visit_queue, part, err) != 0)
        return -1;
    return send(part, generation) == 0 ? 0 : err_set_errno(err, ENOMEM, "read the settings");
}

/* --- what has changed --- */

static int add_change(struct part *part, const struct change *change)
{
    struct catalog *catalog = part->broker->catalog;
    struct buf *value = &part->broker->value;
    int result;
    if (change->kind == CHANGE_CONFIG) {
        result = catalog_get_config(catalog, NULL, change->name, value);
        struct str present = buf_str(value);
        if (!result || result == DB_NOTFOUND)
            result = add_config(part, change->name, result ? NULL : &present);
    } else {
        struct catalog_queue queue;
        result = catalog_get_queue(catalog, NULL, change->name, &queue);
        if (!result || result == DB_NOTFOUND)
            result = add_queue(part, change->name, result ? NULL : &queue);
        catalog_queue_free(&queue);
    }
    return result;
}

static int send_changes(struct part *part, uint64_t generation, struct err *err)
{
    const struct changes *changes = &part->broker->scheduler->changes;
    int result = 0;
    for (uint64_t number = part->broker->settings_seen + 1; number <= generation && !result;
         number++)
        result = add_change(part, changes_get(changes, number));
    if (!result)
        result = send(part, generation);
    return result ? env_error(err, result, "read the settings") : 0;
}

/* Under the catalog lock. */
static int send_locked(struct broker *broker, struct err *err)
{
    struct part part = {.broker = broker, .last = &part.first};
    const struct changes *changes = &broker->scheduler->changes;
    uint64_t generation = atomic_load(&broker->options.zone->settings_generation);
    bool all = !broker->settings_seen || broker->settings_seen + 1 < changes->oldest;
    int status = all ? send_all(&part, generation, err) : send_changes(&part, generation, err);
    settings_free(part.first);
    if (status == 0)
        broker->settings_seen = generation;
    return status;
}

int broker_send_settings(struct broker *broker)
{
    struct err err = {0};
    int status, tries = 0;
    if (atomic_load(&broker->options.zone->settings_generation) == broker->settings_seen)
        return 0;
    if (broker_lock(broker, &broker->scheduler->catalog_lock) != 0)
        return -1;
    do {
        status = send_locked(broker, &err);
    } while (status != 0 && env_is_conflict(err.code) && ++tries < CONFLICTS_MAX);
    lock_release(&broker->scheduler->catalog_lock);
    if (status == 0 || err.code == ENOMEM || env_is_conflict(err.code))
        return 0; /* if need be the next turn tries again */
    broker->failure = err;
    return -1;
}
