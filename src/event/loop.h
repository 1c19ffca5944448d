/*
 * loop - one epoll event loop per process: descriptors, timers and what is to be done once a tick.
 * Not thread-safe; other threads reach a loop through an eventfd that it watches.
 */
#ifndef FILAD_EVENT_LOOP_H
#define FILAD_EVENT_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "core/heap.h"
#include "core/list.h"

struct loop;

/* A watched descriptor; embedded in its owner. `ready` gets EPOLL* bits. It may unwatch itself or
 * any other watch: events already fetched for an unwatched one are not delivered. */
struct loop_watch {
    int fd;
    uint32_t events; /* what is asked for; 0 while not watched */
    void (*ready)(struct loop_watch *watch, uint32_t events);
    uint32_t pending; /* private to the loop */
};

/* A one-shot timer; embedded in its owner. */
struct loop_timer {
    struct heap_node node; /* key: monotonic milliseconds */
    void (*expired)(struct loop_timer *timer);
};

/* Called once per tick, also in the last one, after all ready descriptors and timers, before the
 * loop sleeps. */
struct loop_hook {
    struct list list;
    void (*run)(struct loop_hook *hook);
};

struct loop *loop_create(struct err *err) __attribute__((warn_unused_result));
void loop_destroy(struct loop *loop);

/* Adds, or changes the events of, a watch. EPOLLEXCLUSIVE and EPOLLET may be among `events`. */
int loop_watch(struct loop *loop, struct loop_watch *watch, uint32_t events, struct err *err)
    __attribute__((warn_unused_result));
void loop_unwatch(struct loop *loop, struct loop_watch *watch);

/* (Re)arms: expires once, `delay_ms` from the tick's time on. */
void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t delay_ms);
void loop_timer_cancel(struct loop *loop, struct loop_timer *timer);

void loop_hook_add(struct loop *loop, struct loop_hook *hook);
void loop_hook_remove(struct loop *loop, struct loop_hook *hook);

/* Monotonic milliseconds, read once per tick. */
uint64_t loop_now_ms(const struct loop *loop);

/* Runs ticks until loop_stop; returns 0, or -1 when epoll itself fails. */
int loop_run(struct loop *loop, struct err *err) __attribute__((warn_unused_result));
void loop_stop(struct loop *loop);

#endif
