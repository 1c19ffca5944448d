/*
 * apart - what tests of messages stored apart do besides putting and taking: a keeper that sweeps,
 * moves between a queue and its dead letters, and a look at what is left over. Behind large.h.
 */
#ifndef FILAD_TESTS_BROKER_APART_H
#define FILAD_TESTS_BROKER_APART_H

#include "unit/broker/large.h"

#include "broker/move.h"
#include "keeper/maintenance.h"
#include "os/time.h"

#define MIB (1u << 20)

/* --- the keeper --- */

static const struct conf no_conf;

struct keeping {
    struct broker *broker;
    struct maintenance maintenance;
    uint64_t now_ms;
};

static inline void keeping_start(struct keeping *keeping, struct fixture *fixture)
{
    struct err err = {0};
    struct broker_options options = fixture->broker->options;
    options.slot = ZONE_SLOT_KEEPER;
    options.thread = ZONE_MAINTENANCE;
    keeping->broker = broker_open(&options, &err);
    assert_non_null(keeping->broker);
    assert_int_equal(maintenance_init(&keeping->maintenance, keeping->broker, &no_conf, &err), 0);
    keeping->now_ms = time_monotonic_ms();
}

static inline void keeping_stop(struct keeping *keeping)
{
    maintenance_free(&keeping->maintenance);
    broker_close(keeping->broker);
}

/* All that is to be swept now; the number of steps. */
static inline unsigned keeping_sweep(struct keeping *keeping)
{
    unsigned steps = 0;
    int more = 1;
    keeping->now_ms += 2000;
    while ((more = sweep_step(&keeping->maintenance, keeping->now_ms)) > 0)
        steps++;
    assert_int_equal(more, 0);
    return steps;
}

static inline unsigned keeping_sweep_once(struct fixture *fixture)
{
    struct keeping keeping;
    keeping_start(&keeping, fixture);
    unsigned steps = keeping_sweep(&keeping);
    keeping_stop(&keeping);
    return steps;
}

static inline void large_assert_clean(struct fixture *fixture, const char *queue)
{
    struct large_stored stored = large_look(fixture, queue);
    assert_int_equal(stored.orphans, 0);
    assert_int_equal(stored.markers, 0);
}

static inline void large_assert_empty(struct fixture *fixture, const char *queue)
{
    struct large_stored stored = large_look(fixture, queue);
    assert_int_equal(stored.messages, 0);
    assert_int_equal(stored.chunks, 0);
    assert_int_equal(stored.markers, 0);
}

/* --- moves --- */

static inline uint8_t move_dead_letter(struct fixture *fixture, const char *queue,
                                       const struct uuid *id)
{
    struct local_queue *from = NULL, *to = NULL;
    uint8_t status = FIBP_INTERNAL_ERROR;
    char dead[32];
    snprintf(dead, sizeof(dead), "%s.dlq", queue);
    assert_int_equal(broker_find_queue(fixture->broker, str_from_c(queue), &from), 0);
    assert_int_equal(broker_find_queue(fixture->broker, str_from_c(dead), &to), 0);
    assert_int_equal(fixture_dead_letter(fixture->broker, from, to, id, &status), 0);
    pool_reset(fixture->broker->scratch);
    return status;
}

static inline uint32_t move_redrive(struct fixture *fixture, const char *queue)
{
    struct local_queue *from = NULL, *to = NULL;
    uint32_t sum = 0, moved = 0;
    uint8_t status = FIBP_INTERNAL_ERROR;
    char dead[32];
    snprintf(dead, sizeof(dead), "%s.dlq", queue);
    assert_int_equal(broker_find_queue(fixture->broker, str_from_c(dead), &from), 0);
    assert_int_equal(broker_find_queue(fixture->broker, str_from_c(queue), &to), 0);
    struct order order;
    assert_int_equal(order_begin(&order, fixture->broker, from->queue), 0);
    do {
        assert_int_equal(move_ready(fixture->broker, from, to, &order, 100, &moved, &status), 0);
        assert_int_equal(status, FIBP_OK);
        pool_reset(fixture->broker->scratch);
        sum += moved;
    } while (order_first(&order));
    order_free(&order);
    return sum;
}

#endif
