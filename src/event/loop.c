#include "event/loop.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "os/time.h"

#define LOOP_MAGIC 0x6c6f6f70u
#define LOOP_BATCH 256 /* events fetched at once */

struct loop {
    uint32_t magic;
    int epoll;
    bool stop;
    bool running;
    bool in_timers;  /* a timer set now with no delay waits for the next tick */
    uint64_t now_ms; /* monotonic, of this tick */
    struct heap timers;
    struct list hooks;
    struct list *next_hook; /* the one to run after the present one; kept right by removals */
    struct epoll_event batch[LOOP_BATCH];
};

struct loop *loop_create(struct err *err)
{
    struct loop *loop = calloc(1, sizeof *loop);

    if (!loop) {
        err_set(err, ENOMEM, "event loop: out of memory");
        return NULL;
    }
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll < 0) {
        err_set_errno(err, errno, "event loop: epoll_create1");
        free(loop);
        return NULL;
    }
    loop->magic = LOOP_MAGIC;
    heap_init(&loop->timers);
    list_init(&loop->hooks);
    loop->next_hook = &loop->hooks;
    loop->now_ms = time_monotonic_ms();
    return loop;
}

void loop_destroy(struct loop *loop)
{
    if (!loop)
        return;
    close(loop->epoll);
    loop->magic = 0;
    free(loop);
}

static int loop_control(struct loop *loop, int operation, struct loop_watch *watch, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};

    return epoll_ctl(loop->epoll, operation, watch->fd, &event);
}

int loop_watch(struct loop *loop, struct loop_watch *watch, uint32_t events, struct err *err)
{
    const uint32_t rearming = (uint32_t)EPOLLET | (uint32_t)EPOLLONESHOT;
    int rc;

    if (events == 0) {
        loop_unwatch(loop, watch);
        return 0;
    }
    if (watch->events == 0) {
        watch->pending = 0;
        rc = loop_control(loop, EPOLL_CTL_ADD, watch, events);
    } else if (watch->events == events && !(events & rearming)) {
        return 0;
    } else if ((watch->events | events) & EPOLLEXCLUSIVE) {
        /* The kernel does not modify exclusive entries. */
        loop_control(loop, EPOLL_CTL_DEL, watch, 0);
        watch->events = 0;
        rc = loop_control(loop, EPOLL_CTL_ADD, watch, events);
    } else {
        rc = loop_control(loop, EPOLL_CTL_MOD, watch, events);
    }
    if (rc < 0)
        return err_set_errno(err, errno, "watch descriptor %d", watch->fd);
    watch->events = events;
    return 0;
}

void loop_unwatch(struct loop *loop, struct loop_watch *watch)
{
    if (watch->pending) {
        loop->batch[watch->pending - 1].data.ptr = NULL;
        watch->pending = 0;
    }
    if (watch->events == 0)
        return;
    loop_control(loop, EPOLL_CTL_DEL, watch, 0);
    watch->events = 0;
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t delay_ms)
{
    uint64_t when;

    if (!loop->running)
        loop->now_ms = time_monotonic_ms();
    if (delay_ms == 0 && loop->in_timers)
        delay_ms = 1;
    when = loop->now_ms + delay_ms;
    if (when < loop->now_ms)
        when = UINT64_MAX;
    heap_update(&loop->timers, &timer->node, when);
}

void loop_timer_cancel(struct loop *loop, struct loop_timer *timer)
{
    heap_remove(&loop->timers, &timer->node);
}

void loop_hook_add(struct loop *loop, struct loop_hook *hook)
{
    list_append(&loop->hooks, &hook->list);
}

void loop_hook_remove(struct loop *loop, struct loop_hook *hook)
{
    if (loop->next_hook == &hook->list)
        loop->next_hook = hook->list.next;
    list_remove(&hook->list);
}

uint64_t loop_now_ms(const struct loop *loop)
{
    return loop->now_ms;
}

static int loop_sleep_ms(const struct loop *loop)
{
    const struct heap_node *first = heap_first(&loop->timers);
    uint64_t now, rest;

    if (!first)
        return -1;
    now = time_monotonic_ms();
    if (first->key <= now)
        return 0;
    rest = first->key - now;
    return rest > INT_MAX ? INT_MAX : (int)rest;
}

static void loop_run_ready(struct loop *loop, int count)
{
    for (int i = 0; i < count; i++)
        ((struct loop_watch *)loop->batch[i].data.ptr)->pending = (uint32_t)i + 1;
    for (int i = 0; i < count; i++) {
        struct loop_watch *watch = loop->batch[i].data.ptr;
        uint32_t events;

        if (!watch)
            continue;
        watch->pending = 0;
        if (loop->stop)
            continue;
        /* Another handler of this tick may ask for less than was asked when it was fetched. */
        events = loop->batch[i].events & (watch->events | (uint32_t)EPOLLERR | (uint32_t)EPOLLHUP);
        if (events)
            watch->ready(watch, events);
    }
}

static void loop_run_timers(struct loop *loop)
{
    struct heap_node *first;

    loop->in_timers = true;
    while (!loop->stop && (first = heap_first(&loop->timers)) && first->key <= loop->now_ms) {
        struct loop_timer *timer = CONTAINER_OF(first, struct loop_timer, node);

        heap_remove(&loop->timers, first);
        timer->expired(timer);
    }
    loop->in_timers = false;
}

static void loop_run_hooks(struct loop *loop)
{
    struct list *entry = loop->hooks.next;

    /* Also in the tick that ends the loop: hooks finish what its handlers began. */
    while (entry != &loop->hooks) {
        struct loop_hook *hook = CONTAINER_OF(entry, struct loop_hook, list);

        loop->next_hook = entry->next;
        hook->run(hook);
        entry = loop->next_hook;
    }
    loop->next_hook = &loop->hooks;
}

int loop_run(struct loop *loop, struct err *err)
{
    int rc = 0;

    if (loop->magic != LOOP_MAGIC)
        return err_set(err, 0, "event loop: not a loop");
    loop->running = true;
    while (!loop->stop) {
        int count = epoll_wait(loop->epoll, loop->batch, LOOP_BATCH, loop_sleep_ms(loop));

        if (count < 0 && errno != EINTR) {
            rc = err_set_errno(err, errno, "event loop: epoll_wait");
            break;
        }
        loop->now_ms = time_monotonic_ms();
        loop_run_ready(loop, count < 0 ? 0 : count);
        loop_run_timers(loop);
        loop_run_hooks(loop);
    }
    loop->running = false;
    loop->stop = false;
    return rc;
}

void loop_stop(struct loop *loop)
{
    loop->stop = true;
}
