/*
 * fixture - a store in a temporary directory with a zone and one broker on it, without any process
 * but this one.
 */
#ifndef FILAD_TESTS_BROKER_FIXTURE_H
#define FILAD_TESTS_BROKER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/broker.h"
#include "core/bytes.h"
#include "fibp/status.h"
#include "os/io.h"
#include "sched/rebuild.h"

#define EMITTED_MAX 4096

struct fixture {
    char path[64];
    char regions[80];
    struct zone *zone;
    struct env *env;
    struct broker *broker;
    struct operation *emitted[EMITTED_MAX];
    unsigned emitted_count;
    struct delivery_window window;
    uint64_t timeout_ms;
};

static inline void fixture_emit(void *context, struct operation *operation)
{
    struct fixture *fixture = context;
    assert_true(fixture->emitted_count < EMITTED_MAX);
    fixture->emitted[fixture->emitted_count++] = operation;
}

/* Opens the store as a keeper does and a broker on worker slot 0. */
static inline void fixture_open(struct fixture *fixture)
{
    struct err err = {0};
    struct rebuild_result result;
    struct env_options options = {.path = fixture->path, .regions = fixture->regions,
                                  .cache_size = 16u << 20, .recover = true};
    fixture->env = env_open(&options, &err);
    if (!fixture->env)
        fail_msg("%s", err.text);
    struct catalog *catalog = catalog_open(fixture->env, true, &err);
    assert_non_null(catalog);
    struct rebuild_options rebuild_options = {.zone = fixture->zone, .env = fixture->env,
                                              .catalog = catalog, .quantum = 1000,
                                              .max_queues = 100};
    if (rebuild_run(&rebuild_options, &result, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(catalog_close(catalog), 0);
    atomic_store(&fixture->zone->state, ZONE_UP);
    zone_slot_prepare(fixture->zone, 0);
    struct broker_options broker_options = {.zone = fixture->zone, .slot = 0,
                                            .thread = ZONE_STORE_THREAD,
                                            .generation = atomic_load(&fixture->zone->generation),
                                            .env = fixture->env, .handles = 4,
                                            .visibility_timeout_ms = fixture->timeout_ms,
                                            .max_unacked = 1000, .commit = ENV_COMMIT_MEMORY,
                                            .emit = fixture_emit, .context = fixture};
    fixture->broker = broker_open(&broker_options, &err);
    if (!fixture->broker)
        fail_msg("%s", err.text);
    assert_int_equal(broker_refresh(fixture->broker), 0);
}

static inline void fixture_ignore(void *context, struct subscription *subscription)
{
    (void)context;
    (void)subscription;
}

static inline void fixture_close(struct fixture *fixture)
{
    broker_detach(fixture->broker, true, fixture_ignore, NULL);
    broker_close(fixture->broker);
    assert_int_equal(env_flush(fixture->env), 0);
    assert_int_equal(env_close(fixture->env), 0);
    zone_shut(fixture->zone);
}

static inline void fixture_forget_emitted(struct fixture *fixture)
{
    for (unsigned i = 0; i < fixture->emitted_count; i++)
        operation_free(fixture->emitted[i]);
    fixture->emitted_count = 0;
}

static inline int fixture_setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    struct err err = {0};
    snprintf(fixture->path, sizeof(fixture->path), "/tmp/filad-broker-XXXXXX");
    if (!mkdtemp(fixture->path))
        return -1;
    snprintf(fixture->regions, sizeof(fixture->regions), "%s/regions", fixture->path);
    char path[96];
    static const char *const names[] = {"regions", "log", "queues"};
    for (unsigned i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/%s", fixture->path, names[i]);
        if (io_make_dirs(path, 0700, (uid_t)-1, (gid_t)-1, &err) != 0)
            return -1;
    }
    fixture->zone = zone_map(64u << 20, &err);
    fixture->timeout_ms = 30000;
    fixture->window.limit = 1u << 20;
    fixture_open(fixture);
    *state = fixture;
    return 0;
}

static inline int fixture_teardown(void **state)
{
    struct fixture *fixture = *state;
    char command[128];
    fixture_close(fixture);
    fixture_forget_emitted(fixture);
    zone_unmap(fixture->zone);
    snprintf(command, sizeof(command), "rm -rf %s", fixture->path);
    int status = system(command);
    free(fixture);
    return status;
}

/* --- operations ------------------------------------------------------------------------------------ */

static inline void fixture_execute(struct fixture *fixture, struct operation *operation)
{
    struct operation *rest = NULL;
    operation->next = NULL;
    if (broker_execute(fixture->broker, operation, &rest) != 0)
        fail_msg("%s", fixture->broker->failure.text);
    assert_null(rest);
}

static inline uint8_t fixture_create(struct fixture *fixture, const char *name)
{
    struct operation_create_queue create = {.operation = {.kind = OPERATION_CREATE_QUEUE},
                                            .name = str_from_c(name)};
    fixture_execute(fixture, &create.operation);
    return create.operation.status;
}

static inline uint8_t fixture_delete(struct fixture *fixture, const char *name)
{
    struct operation_delete_queue delete = {.operation = {.kind = OPERATION_DELETE_QUEUE},
                                            .name = str_from_c(name)};
    fixture_execute(fixture, &delete.operation);
    return delete.operation.status;
}

/* Enqueues `count` messages of one key in one frame; payloads are first, first + 1, ... as u32. */
static inline void fixture_enqueue(struct fixture *fixture, const char *queue, const char *key,
                            uint32_t weight, uint32_t first, uint32_t count, struct uuid *ids)
{
    struct operation_enqueue *enqueue =
        calloc(1, sizeof(*enqueue) + count * sizeof(enqueue->items[0]));
    uint8_t *records = malloc(count * 10u);
    enqueue->operation.kind = OPERATION_ENQUEUE;
    enqueue->count = count;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *record = records + i * 10u;
        bytes_put_u16(record, 0);
        bytes_put_u32(record + 2, 4);
        bytes_put_u32(record + 6, first + i);
        enqueue->items[i].queue = str_from_c(queue);
        enqueue->items[i].record = str_of(record, 10);
        enqueue->items[i].fairness_key = str_from_c(key);
        enqueue->items[i].weight = weight;
    }
    fixture_execute(fixture, &enqueue->operation);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(enqueue->items[i].status, FIBP_OK);
        if (ids)
            ids[i] = enqueue->items[i].id;
    }
    free(records);
    free(enqueue);
}

static inline uint8_t fixture_settle(struct fixture *fixture, enum operation_kind kind, const char *queue,
                              const struct uuid *id)
{
    struct operation_settle *settle = calloc(1, sizeof(*settle) + sizeof(settle->items[0]));
    settle->operation.kind = (uint8_t)kind;
    settle->count = 1;
    settle->items[0].queue = str_from_c(queue);
    settle->items[0].id = *id;
    settle->items[0].id_valid = true;
    fixture_execute(fixture, &settle->operation);
    uint8_t status = settle->items[0].status;
    free(settle);
    return status;
}

static inline struct operation_queue_row fixture_stats(struct fixture *fixture, const char *queue)
{
    struct operation_get_stats *stats = calloc(1, sizeof(*stats));
    stats->operation.kind = OPERATION_GET_STATS;
    stats->name = str_from_c(queue);
    fixture_execute(fixture, &stats->operation);
    assert_int_equal(stats->operation.status, FIBP_OK);
    struct operation_queue_row totals = stats->totals;
    operation_free(&stats->operation);
    return totals;
}

/* --- deliveries: the frame is, per message, u32 payload, u32 attempt and the key's first byte -------- */

#define FRAME_MESSAGE 9

static inline void fixture_begin(const struct subscription *subscription, struct buf *out)
{
    (void)subscription;
    (void)out;
}

static inline void fixture_add(const struct subscription *subscription, struct buf *out,
                        const struct delivery_message *message)
{
    (void)subscription;
    buf_append(out, message->record.data + 6, 4);
    buf_append_u32(out, message->attempt);
    buf_append_u8(out, message->fairness_key.size ? message->fairness_key.data[0] : 0);
}

static inline void fixture_end(const struct subscription *subscription, struct buf *out, uint32_t count)
{
    (void)subscription;
    (void)out;
    (void)count;
}

static const struct delivery_encoder fixture_encoder = {fixture_begin, fixture_add, fixture_end};

static inline void fixture_subscribe(struct fixture *fixture, const char *queue,
                              struct subscription *subscription)
{
    struct operation_subscription subscribe = {.operation = {.kind = OPERATION_SUBSCRIBE},
                                               .subscription = subscription};
    memset(subscription, 0, sizeof(*subscription));
    subscription->queue = str_from_c(queue);
    subscription->encoder = &fixture_encoder;
    subscription->window = &fixture->window;
    fixture_execute(fixture, &subscribe.operation);
    assert_int_equal(subscribe.operation.status, FIBP_OK);
}

static inline void fixture_unsubscribe(struct fixture *fixture, struct subscription *subscription)
{
    struct operation_subscription unsubscribe = {.operation = {.kind = OPERATION_UNSUBSCRIBE},
                                                 .subscription = subscription};
    fixture_execute(fixture, &unsubscribe.operation);
}

static inline void fixture_deliver(struct fixture *fixture)
{
    int more = 1;
    while (more > 0)
        more = broker_deliver(fixture->broker, 4);
    assert_int_equal(more, 0);
}

struct delivered {
    struct uuid id;
    uint32_t payload, attempt;
    char key;
};

/* The messages of all deliveries emitted since the last call, in order. */
static inline unsigned fixture_delivered(struct fixture *fixture, struct delivered *out, unsigned limit)
{
    unsigned count = 0;
    for (unsigned i = 0; i < fixture->emitted_count; i++) {
        if (fixture->emitted[i]->kind != OPERATION_DELIVERY)
            continue;
        struct operation_delivery *delivery = (struct operation_delivery *)fixture->emitted[i];
        assert_int_equal(delivery->size, delivery->count * FRAME_MESSAGE);
        for (uint32_t j = 0; j < delivery->count; j++) {
            const uint8_t *message = delivery->frame + j * FRAME_MESSAGE;
            assert_true(count < limit);
            out[count++] = (struct delivered){.id = delivery->leases[j].id,
                                              .payload = bytes_get_u32(message),
                                              .attempt = bytes_get_u32(message + 4),
                                              .key = (char)message[8]};
        }
        atomic_fetch_sub(&fixture->window.queued, delivery->size);
    }
    fixture_forget_emitted(fixture);
    return count;
}

#endif
