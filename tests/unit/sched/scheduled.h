/*
 * scheduled - a zone with an empty scheduler, as a test's cmocka state; no store.
 */
#ifndef FILAD_TESTS_SCHED_SCHEDULED_H
#define FILAD_TESTS_SCHED_SCHEDULED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sched/scheduler.h"

struct scheduled {
    struct zone *zone;
    struct scheduler *scheduler;
};

static inline int scheduled_setup(void **state)
{
    struct err err = {0};
    struct scheduled *scheduled = calloc(1, sizeof(*scheduled));
    scheduled->zone = zone_map(32u << 20, &err);
    scheduled->scheduler =
        scheduled->zone ? scheduler_create(scheduled->zone, 5, 1000, 100, &err) : NULL;
    *state = scheduled;
    if (!scheduled->scheduler)
        return -1;
    atomic_store(&scheduled->zone->state, ZONE_UP);
    zone_slot_prepare(scheduled->zone, 0);
    return 0;
}

static inline int scheduled_teardown(void **state)
{
    struct scheduled *scheduled = *state;
    zone_unmap(scheduled->zone);
    free(scheduled);
    return 0;
}

#endif
