/*
 * fixture - a store in a temporary directory with a zone and one broker on it, without any process
 * but this one.
 */
#ifndef FILAD_TESTS_BROKER_FIXTURE_H
#define FILAD_TESTS_BROKER_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/broker.h"
#include "broker/dead_letter.h"
#include "broker/move.h"
#include "core/bytes.h"
#include "fibp/status.h"
#include "os/calls.h"
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
    uint64_t zone_size;
    uint32_t max_queues, max_unacked;
};

static inline void fixture_emit(void *context, struct operation *operation)
{
    struct fixture *fixture = context;
    assert_true(fixture->emitted_count < EMITTED_MAX);
    fixture->emitted[fixture->emitted_count++] = operation;
}

/* A broker of this fixture's own on a worker slot; zone and environment are there. */
static inline void fixture_open_broker(struct fixture *fixture, unsigned slot)
{
    struct err err = {0};
    zone_slot_prepare(fixture->zone, slot);
    struct broker_options broker_options = {.zone = fixture->zone,
                                            .slot = slot,
                                            .thread = ZONE_STORE_THREAD,
                                            .generation = atomic_load(&fixture->zone->generation),
                                            .env = fixture->env,
                                            .handles = 4,
                                            .visibility_timeout_ms = fixture->timeout_ms,
                                            .max_unacked = fixture->max_unacked,
                                            .commit = ENV_COMMIT_MEMORY,
                                            .emit = fixture_emit,
                                            .context = fixture};
    fixture->broker = broker_open(&broker_options, &err);
    if (!fixture->broker)
        fail_msg("%s", err.text);
    assert_int_equal(broker_refresh(fixture->broker), 0);
}

/* The environment as a keeper opens it. */
static inline void fixture_open_env(struct fixture *fixture)
{
    struct err err = {0};
    struct env_options options = {.path = fixture->path,
                                  .regions = fixture->regions,
                                  .cache_size = 16u << 20,
                                  .recover = true};
    fixture->env = env_open(&options, &err);
    if (!fixture->env)
        fail_msg("%s", err.text);
}

/* Makes the zone from the store; what rebuild_run returns. */
static inline int fixture_rebuild(struct fixture *fixture, struct rebuild_result *result,
                                  struct err *err)
{
    struct catalog *catalog = catalog_open(fixture->env, true, err);
    assert_non_null(catalog);
    struct rebuild_options options = {.zone = fixture->zone,
                                      .env = fixture->env,
                                      .catalog = catalog,
                                      .quantum = 1000,
                                      .max_queues = fixture->max_queues};
    int status = rebuild_run(&options, result, err);
    assert_int_equal(catalog_close(catalog), 0);
    return status;
}

/* Opens the store as a keeper does and a broker on worker slot 0. */
static inline void fixture_open(struct fixture *fixture)
{
    struct err err = {0};
    struct rebuild_result result;
    fixture_open_env(fixture);
    if (fixture_rebuild(fixture, &result, &err) != 0)
        fail_msg("%s", err.text);
    atomic_store(&fixture->zone->state, ZONE_UP);
    fixture_open_broker(fixture, 0);
}

static inline void fixture_close(struct fixture *fixture)
{
    broker_detach(fixture->broker, true);
    broker_close(fixture->broker);
    fixture->broker = NULL;
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

/* Another worker of the same process on the same zone: its own slot, broker and deliveries. */
static inline void fixture_join(struct fixture *other, const struct fixture *first, unsigned slot)
{
    memset(other, 0, sizeof(*other));
    other->zone = first->zone;
    other->env = first->env;
    other->timeout_ms = first->timeout_ms;
    other->max_unacked = first->max_unacked;
    other->window.limit = 1u << 20;
    fixture_open_broker(other, slot);
}

static inline void fixture_leave(struct fixture *other)
{
    unsigned slot = other->broker->options.slot;
    broker_detach(other->broker, true);
    broker_close(other->broker);
    fixture_forget_emitted(other);
    zone_slot_release(other->zone, slot);
}

static inline int fixture_setup_sized(void **state, uint64_t zone_size, uint32_t max_queues)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    struct err err = {0};
    snprintf(fixture->path, sizeof(fixture->path), "/tmp/filad-broker-XXXXXX");
    if (!mkdtemp(fixture->path))
        return -1;
    snprintf(fixture->regions, sizeof(fixture->regions), "%s/regions", fixture->path);
    char path[96];
    static const char *const names[] = {"regions", "log", "queues", "quarantine"};
    for (unsigned i = 0; i < 4; i++) {
        snprintf(path, sizeof(path), "%s/%s", fixture->path, names[i]);
        if (io_make_dirs(path, 0700, (uid_t)-1, (gid_t)-1, &err) != 0)
            return -1;
    }
    fixture->zone_size = zone_size;
    fixture->max_queues = max_queues;
    fixture->max_unacked = 1000;
    fixture->zone = zone_map(zone_size, &err);
    if (!fixture->zone)
        return -1;
    fixture->timeout_ms = 30000;
    fixture->window.limit = 1u << 20;
    fixture_open(fixture);
    *state = fixture;
    return 0;
}

static inline int fixture_setup(void **state)
{
    return fixture_setup_sized(state, 64u << 20, 100);
}

static inline int fixture_teardown(void **state)
{
    struct fixture *fixture = *state;
    char command[128];
    os_calls_reset();
    if (fixture->broker) /* a test may have closed the store itself */
        fixture_close(fixture);
    fixture_forget_emitted(fixture);
    zone_unmap(fixture->zone);
    snprintf(command, sizeof(command), "rm -rf %s", fixture->path);
    int status = system(command);
    free(fixture);
    return status;
}

/* --- operations --- */

static inline void fixture_execute(struct fixture *fixture, struct operation *operation)
{
    struct operation *rest = operation;
    operation->next = NULL;
    while (rest) /* a large one takes several calls */
        if (broker_execute(fixture->broker, rest, &rest) != 0)
            fail_msg("%s", fixture->broker->failure.text);
    for (bool more = operation->later; more && operation->later;) {
        struct operation *finished = NULL;
        if (broker_step(fixture->broker, &finished, &more) != 0)
            fail_msg("%s", fixture->broker->failure.text);
    }
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

/* One message of a frame; its payload is `payload` as u32 and zeros up to `size` bytes. */
struct fixture_message {
    const char *queue, *key;
    uint32_t weight, payload;
    size_t size;
};

/* An ENQUEUE of these messages, for fixture_frame_free. */
static inline struct operation_enqueue *fixture_frame(const struct fixture_message *messages,
                                                      uint32_t count)
{
    struct operation_enqueue *enqueue =
        calloc(1, sizeof(*enqueue) + count * sizeof(enqueue->items[0]));
    size_t size = 0;
    for (uint32_t i = 0; i < count; i++)
        size += 6 + (messages[i].size > 4 ? messages[i].size : 4);
    uint8_t *record = calloc(1, size ? size : 1);
    enqueue->operation.kind = OPERATION_ENQUEUE;
    enqueue->operation.owner = record;
    enqueue->count = count;
    for (uint32_t i = 0; i < count; i++) {
        size_t payload = messages[i].size > 4 ? messages[i].size : 4;
        bytes_put_u32(record + 2, (uint32_t)payload);
        bytes_put_u32(record + 6, messages[i].payload);
        enqueue->items[i].queue = str_from_c(messages[i].queue);
        enqueue->items[i].record = str_of(record, 6 + payload);
        enqueue->items[i].fairness_key = str_from_c(messages[i].key);
        enqueue->items[i].weight = messages[i].weight;
        record += 6 + payload;
    }
    return enqueue;
}

static inline void fixture_frame_free(struct operation_enqueue *enqueue)
{
    free(enqueue->operation.owner);
    free(enqueue);
}

/* Enqueues one message; its status. */
static inline uint8_t fixture_enqueue_one(struct fixture *fixture, struct fixture_message message)
{
    struct operation_enqueue *enqueue = fixture_frame(&message, 1);
    fixture_execute(fixture, &enqueue->operation);
    uint8_t status = enqueue->items[0].status;
    fixture_frame_free(enqueue);
    return status;
}

/* Enqueues `count` messages of one key in one frame; payloads are first, first + 1, ... as u32. */
static inline void fixture_enqueue(struct fixture *fixture, const char *queue, const char *key,
                                   uint32_t weight, uint32_t first, uint32_t count,
                                   struct uuid *ids)
{
    struct fixture_message *messages = calloc(count, sizeof(*messages));
    for (uint32_t i = 0; i < count; i++)
        messages[i] = (struct fixture_message){queue, key, weight, first + i, 4};
    struct operation_enqueue *enqueue = fixture_frame(messages, count);
    fixture_execute(fixture, &enqueue->operation);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(enqueue->items[i].status, FIBP_OK);
        if (ids)
            ids[i] = enqueue->items[i].id;
    }
    fixture_frame_free(enqueue);
    free(messages);
}

/* A frame of acks or nacks of one queue; free() it. */
static inline struct operation_settle *fixture_settle_frame(enum operation_kind kind,
                                                            const char *queue,
                                                            const struct uuid *ids, uint32_t count)
{
    struct operation_settle *settle = calloc(1, sizeof(*settle) + count * sizeof(settle->items[0]));
    settle->operation.kind = (uint8_t)kind;
    settle->count = count;
    for (uint32_t i = 0; i < count; i++) {
        settle->items[i].queue = str_from_c(queue);
        settle->items[i].id = ids[i];
        settle->items[i].id_valid = true;
    }
    return settle;
}

static inline uint8_t fixture_settle(struct fixture *fixture, enum operation_kind kind,
                                     const char *queue, const struct uuid *id)
{
    struct operation_settle *settle = fixture_settle_frame(kind, queue, id, 1);
    fixture_execute(fixture, &settle->operation);
    uint8_t status = settle->items[0].status;
    operation_free(&settle->operation);
    return status;
}

/* The zone's side of a queue. */
static inline struct queue *fixture_queue(struct fixture *fixture, const char *name)
{
    struct local_queue *local = NULL;
    assert_int_equal(broker_find_queue(fixture->broker, str_from_c(name), &local), 0);
    assert_non_null(local);
    return local->queue;
}

/* Expires all that is due by `now_ms` (monotonic), as the keeper does. */
static inline void fixture_expire(struct fixture *fixture, uint64_t now_ms)
{
    struct queue *queue = NULL;
    uint64_t when_ms = 0;
    do {
        bool more = true;
        assert_int_equal(scheduler_timer_next(fixture->broker->scheduler, now_ms, &queue, &when_ms),
                         LOCK_HELD);
        while (queue && more)
            assert_int_equal(broker_expire(fixture->broker, queue, now_ms, &more), 0);
    } while (queue);
}

/* Moves all delayed messages that are due at `wall_ms`, as the keeper does; how many batches. */
static inline unsigned fixture_due(struct fixture *fixture, uint64_t wall_ms)
{
    struct queue *queue = NULL;
    uint64_t when_ms = 0;
    unsigned batches = 0;
    for (;;) {
        bool more = true;
        assert_int_equal(scheduler_due_next(fixture->broker->scheduler, wall_ms, &queue, &when_ms),
                         LOCK_HELD);
        if (!queue)
            return batches;
        for (; more; batches++)
            assert_int_equal(broker_due(fixture->broker, queue, wall_ms, &more), 0);
    }
}

/* Moves a message from one queue to another, if it is leased. */
static inline int fixture_dead_letter(struct broker *broker, struct local_queue *from,
                                      struct local_queue *to, const struct uuid *id,
                                      uint8_t *status)
{
    struct dead_letter letter = {.id = *id, .reason = STR("broken")};
    assert_int_equal(broker_lock(broker, &from->queue->lock), 0);
    const struct lease *lease = queue_lease_find(from->queue, id);
    letter.token = lease ? queue_lease_token(lease) : 0;
    lock_release(&from->queue->lock);
    int result = move_leased(broker, from, to, &letter, 1);
    *status = letter.status;
    return result;
}

/* --- faults: os_calls that a test puts in; the teardown takes them out --- */

static inline ssize_t fixture_full_write(int fd, const void *data, size_t size)
{
    (void)fd;
    (void)data;
    (void)size;
    errno = ENOSPC;
    return -1;
}

static inline ssize_t fixture_full_pwrite(int fd, const void *data, size_t size, off_t offset)
{
    (void)offset;
    return fixture_full_write(fd, data, size);
}

/* No write of the store succeeds from now on. */
static inline void fixture_fill_disk(void)
{
    os_calls.write = fixture_full_write;
    os_calls.pwrite = fixture_full_pwrite;
}

static char fixture_ballast[96];

static inline ssize_t fixture_tight_write(int fd, const void *data, size_t size)
{
    struct stat info;
    if (stat(fixture_ballast, &info) == 0 && info.st_size > 0)
        return fixture_full_write(fd, data, size);
    return write(fd, data, size);
}

static inline ssize_t fixture_tight_pwrite(int fd, const void *data, size_t size, off_t offset)
{
    struct stat info;
    if (stat(fixture_ballast, &info) == 0 && info.st_size > 0)
        return fixture_full_write(fd, data, size);
    return pwrite(fd, data, size, offset);
}

/* None succeeds before the reserve is given up. */
static inline void fixture_fill_disk_but_reserve(const struct fixture *fixture)
{
    snprintf(fixture_ballast, sizeof(fixture_ballast), "%s/ballast", fixture->path);
    int fd = open(fixture_ballast, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 4096), 0);
    close(fd);
    os_calls.write = fixture_tight_write;
    os_calls.pwrite = fixture_tight_pwrite;
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

/* --- deliveries: the frame is, per message, u32 payload, u32 attempt and the key's first byte ---
 */

#define FRAME_MESSAGE 9

static inline void fixture_begin(const struct subscription *subscription, struct buf *out)
{
    (void)subscription;
    (void)out;
}

/* The whole record of a message: its beginning, and what is stored apart. NULL when that is gone;
 * free() it. */
static inline uint8_t *fixture_record(const struct delivery_message *message)
{
    uint8_t *record = malloc(message->record.size + message->rest + 1);
    memcpy(record, message->record.data, message->record.size);
    if (!message->rest || message->read_rest(message, record + message->record.size))
        return record;
    free(record);
    return NULL;
}

static inline bool fixture_add(const struct subscription *subscription, struct buf *out,
                               const struct delivery_message *message)
{
    (void)subscription;
    uint8_t *record = fixture_record(message);
    if (!record)
        return false;
    buf_append(out, record + 6, 4);
    free(record);
    buf_append_u32(out, message->attempt);
    buf_append_u8(out, message->fairness_key.size ? message->fairness_key.data[0] : 0);
    return true;
}

static inline void fixture_end(const struct subscription *subscription, struct buf *out,
                               uint32_t count)
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
static inline unsigned fixture_delivered(struct fixture *fixture, struct delivered *out,
                                         unsigned limit)
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

/* Everything that `queue` delivers now to a subscription that ends with it. */
static inline unsigned fixture_take(struct fixture *fixture, const char *queue,
                                    struct delivered *out, unsigned limit)
{
    struct subscription subscription;
    fixture_subscribe(fixture, queue, &subscription);
    fixture_deliver(fixture);
    unsigned count = fixture_delivered(fixture, out, limit);
    fixture_unsubscribe(fixture, &subscription);
    return count;
}

/* Bytes of the queue's file, once all of it is there. */
static inline uint64_t fixture_file_size(struct fixture *fixture, const char *queue)
{
    char path[128];
    struct stat info;
    snprintf(path, sizeof(path), "%s/queues/%llu.db", fixture->path,
             (unsigned long long)fixture_queue(fixture, queue)->id);
    assert_int_equal(env_checkpoint(fixture->env, 0, true), 0);
    assert_int_equal(stat(path, &info), 0);
    return (uint64_t)info.st_size;
}

#endif
