/*
 * throttled - messages with throttle keys, runtime configuration, and the refill thread's work, for
 * tests on a fixture.
 */
#ifndef FILAD_TESTS_BROKER_THROTTLED_H
#define FILAD_TESTS_BROKER_THROTTLED_H

#include "unit/broker/fixture.h"

#include "os/time.h"
#include "sched/hold.h"

/* Sets a key of the runtime configuration; its status. */
static inline uint8_t throttled_try(struct fixture *fixture, const char *key, const char *value)
{
    struct operation_set_config set = {.operation = {.kind = OPERATION_SET_CONFIG},
                                       .key = str_from_c(key),
                                       .value = str_from_c(value)};
    fixture_execute(fixture, &set.operation);
    return set.operation.status;
}

static inline void throttled_set(struct fixture *fixture, const char *key, const char *value)
{
    assert_int_equal(throttled_try(fixture, key, value), FIBP_OK);
}

/* As fixture_enqueue, with throttle keys, ended by NULL (NULL: none). */
static inline void throttled_enqueue(struct fixture *fixture, const char *queue, const char *key,
                                     const char *const *throttle_keys, uint32_t first,
                                     uint32_t count)
{
    struct fixture_message *messages = calloc(count, sizeof(*messages));
    struct str keys[RECORD_THROTTLE_KEYS_MAX];
    uint16_t key_count = 0;
    while (throttle_keys && throttle_keys[key_count]) {
        keys[key_count] = str_from_c(throttle_keys[key_count]);
        key_count++;
    }
    for (uint32_t i = 0; i < count; i++)
        messages[i] = (struct fixture_message){queue, key, 1, first + i, 4};
    struct operation_enqueue *enqueue = fixture_frame(messages, count);
    for (uint32_t i = 0; i < count; i++) {
        enqueue->items[i].throttle_keys = keys;
        enqueue->items[i].throttle_count = key_count;
    }
    fixture_execute(fixture, &enqueue->operation);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(enqueue->items[i].status, FIBP_OK);
    fixture_frame_free(enqueue);
    free(messages);
}

/* What the refill thread does now; when it wants to be called again. */
static inline uint64_t throttled_run(struct fixture *fixture)
{
    uint64_t when_ns = 0;
    assert_int_equal(hold_run(fixture->broker->scheduler, time_monotonic_ns(), &when_ns),
                     LOCK_HELD);
    return when_ns;
}

/* Sleeps as that thread does until the first lane that waits can go on, and releases it. */
static inline void throttled_wait(struct fixture *fixture)
{
    uint32_t seen = atomic_load(&fixture->zone->refill_wake);
    uint64_t when_ns = throttled_run(fixture);
    assert_true(when_ns != THROTTLE_NEVER);
    while (time_monotonic_ns() < when_ns)
        hold_sleep(fixture->broker->scheduler, seen, when_ns);
    (void)throttled_run(fixture);
}

#endif
