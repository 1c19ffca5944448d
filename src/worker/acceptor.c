#include "worker/acceptor.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "os/log.h"
#include "os/proc.h"
#include "os/sock.h"

#define ACCEPTOR_PER_TICK 64
#define ACCEPTOR_SPARE 384u       /* descriptors kept for other things than connections */
#define ACCEPTOR_AWAY_MIN_MS 5u   /* first look after leaving accepting to others, then twice ... */
#define ACCEPTOR_AWAY_MAX_MS 100u /* ... as long each time up to this */
#define ACCEPTOR_PATIENCE_MS                                                                       \
    500u /* a full worker waits so long for another one to take a connection */

enum acceptor_choice {
    ACCEPTOR_TAKE,
    ACCEPTOR_LEAVE,  /* others have fewer connections */
    ACCEPTOR_FULL,   /* no room here, but elsewhere */
    ACCEPTOR_REFUSE, /* no room anywhere */
};

struct acceptor_listener {
    struct loop_watch watch;
    struct acceptor *acceptor;
    const struct conf_listen *conf;
};

struct acceptor {
    struct loop *loop;
    struct sessions *sessions;
    struct zone *zone;
    unsigned slot;
    uint32_t max; /* connections at most */
    struct log_limit failures;
    struct loop_hook hook;
    struct loop_timer timer; /* while away */
    bool stopped;
    bool away;                  /* the listeners are not watched */
    uint64_t away_ms;           /* until the next look */
    uint32_t away_count;        /* connections at the time of leaving */
    uint64_t unwanted_since_ms; /* a connection waits that a full worker does not take; 0: none */
    unsigned left;              /* connections that may be taken in this tick */
    size_t count;
    struct acceptor_listener listeners[];
};

/* Connections of this worker, as many as count for the question of who takes the next one: when one
 * can give way there is room. */
static uint32_t acceptor_count(const struct acceptor *acceptor)
{
    uint32_t count = acceptor->sessions->count;

    return count >= acceptor->max && sessions_can_yield(acceptor->sessions) ? acceptor->max - 1
                                                                            : count;
}

static void acceptor_publish(struct acceptor *acceptor)
{
    struct zone_slot *slot = &acceptor->zone->slots[acceptor->slot];
    uint32_t count = acceptor_count(acceptor);

    if (atomic_load_explicit(&slot->connections, memory_order_relaxed) != count)
        atomic_store(&slot->connections, count);
}

/* Whether this worker should take the next connection. With few connections half of one above the
 * mean is allowed, so that somebody always takes the first. */
static enum acceptor_choice acceptor_choose(const struct acceptor *acceptor)
{
    uint64_t mine = acceptor_count(acceptor), max = acceptor->max;
    uint64_t workers = 0, total = 0;
    bool room_elsewhere = false;

    for (unsigned i = 0; i < ZONE_WORKERS; i++) {
        struct zone_slot *slot = &acceptor->zone->slots[i];

        if (!atomic_load_explicit(&slot->accepting, memory_order_relaxed))
            continue;
        uint64_t connections = i == acceptor->slot
                                   ? mine
                                   : atomic_load_explicit(&slot->connections, memory_order_relaxed);
        workers++;
        total += connections;
        room_elsewhere = room_elsewhere || connections < max;
    }
    if (mine >= max)
        return room_elsewhere ? ACCEPTOR_FULL : ACCEPTOR_REFUSE;
    uint64_t margin = total / 8 > workers / 2 ? total / 8 : workers / 2;
    return mine * workers > total + margin ? ACCEPTOR_LEAVE : ACCEPTOR_TAKE;
}

static void acceptor_go_away(struct acceptor *acceptor, uint64_t delay_ms)
{
    acceptor->away = true;
    acceptor->away_ms = delay_ms;
    acceptor->away_count = acceptor->sessions->count;
    for (size_t i = 0; i < acceptor->count; i++)
        loop_unwatch(acceptor->loop, &acceptor->listeners[i].watch);
    loop_timer_set(acceptor->loop, &acceptor->timer, delay_ms);
}

static int acceptor_return(struct acceptor *acceptor, struct err *err)
{
    for (size_t i = 0; i < acceptor->count; i++)
        if (loop_watch(acceptor->loop, &acceptor->listeners[i].watch,
                       (uint32_t)EPOLLIN | (uint32_t)EPOLLEXCLUSIVE, err) < 0)
            return -1;
    acceptor->away = false;
    acceptor->unwanted_since_ms = 0;
    loop_timer_cancel(acceptor->loop, &acceptor->timer);
    return 0;
}

/* Takes one connection. False when there is none, or when it cannot be had now. */
static bool acceptor_take(struct acceptor_listener *listener, bool refuse)
{
    struct acceptor *acceptor = listener->acceptor;
    int fd = sock_accept(listener->watch.fd, NULL, NULL);

    if (fd < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return false;
        log_errno_seldom(&acceptor->failures, LOG_ERROR, "worker", errno, "accept a connection");
        acceptor_go_away(acceptor, ACCEPTOR_AWAY_MAX_MS);
        return false;
    }
    sock_set_nodelay(fd);
    /* A peer that vanished while it gets deliveries: there is traffic then, and no Ping. */
    if (acceptor->sessions->conf->fibp.keepalive_interval_ms > 0)
        sock_set_user_timeout(fd, 2 * acceptor->sessions->conf->fibp.keepalive_interval_ms);
    acceptor->left--;
    acceptor->unwanted_since_ms = 0;
    if (!refuse && acceptor->sessions->count >= acceptor->max)
        sessions_yield(acceptor->sessions);
    if (refuse)
        sessions_refuse(acceptor->sessions, fd, listener->conf);
    else
        sessions_add(acceptor->sessions, fd, listener->conf);
    acceptor_publish(acceptor);
    return true;
}

static void acceptor_ready(struct loop_watch *watch, uint32_t events)
{
    struct acceptor_listener *listener = CONTAINER_OF(watch, struct acceptor_listener, watch);
    struct acceptor *acceptor = listener->acceptor;

    (void)events;
    while (acceptor->left > 0 && !acceptor->away) {
        enum acceptor_choice choice = acceptor_choose(acceptor);

        if (choice == ACCEPTOR_LEAVE || choice == ACCEPTOR_FULL)
            acceptor_go_away(acceptor, ACCEPTOR_AWAY_MIN_MS);
        else if (!acceptor_take(listener, choice == ACCEPTOR_REFUSE))
            return;
    }
}

/* The next listener with a connection waiting, or NULL. */
static struct acceptor_listener *acceptor_pending(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->count; i++) {
        struct pollfd item = {.fd = acceptor->listeners[i].watch.fd, .events = POLLIN};

        if (poll(&item, 1, 0) > 0)
            return &acceptor->listeners[i];
    }
    return NULL;
}

/* A full worker takes a connection only when nobody else has for long. */
static bool acceptor_is_patient(struct acceptor *acceptor)
{
    uint64_t now = loop_now_ms(acceptor->loop);

    if (acceptor->unwanted_since_ms == 0)
        acceptor->unwanted_since_ms = now;
    return now - acceptor->unwanted_since_ms < ACCEPTOR_PATIENCE_MS;
}

/* While away. The kernel wakes one worker for a connection, and it may have been this one just
 * before it left; so what still waits now is for nobody else to notice. */
static void acceptor_look(struct loop_timer *timer)
{
    struct acceptor *acceptor = CONTAINER_OF(timer, struct acceptor, timer);
    enum acceptor_choice choice = acceptor_choose(acceptor);
    uint64_t next_ms = acceptor->away_ms * 2;
    struct acceptor_listener *pending;
    struct err err;

    if (choice == ACCEPTOR_TAKE || choice == ACCEPTOR_REFUSE) {
        if (acceptor_return(acceptor, &err) == 0)
            return;
        log_write(LOG_ERROR, "worker", "%s", err.text);
        acceptor_go_away(acceptor, ACCEPTOR_AWAY_MAX_MS);
        return;
    }
    pending = acceptor_pending(acceptor);
    if (!pending) {
        acceptor->unwanted_since_ms = 0;
    } else if (choice == ACCEPTOR_LEAVE || !acceptor_is_patient(acceptor)) {
        if (acceptor_take(pending, choice == ACCEPTOR_FULL))
            next_ms = ACCEPTOR_AWAY_MIN_MS;
    } else {
        next_ms = ACCEPTOR_AWAY_MIN_MS;
    }
    acceptor->away_ms = next_ms < ACCEPTOR_AWAY_MAX_MS ? next_ms : ACCEPTOR_AWAY_MAX_MS;
    loop_timer_set(acceptor->loop, &acceptor->timer, acceptor->away_ms);
}

static void acceptor_turn(struct loop_hook *hook)
{
    struct acceptor *acceptor = CONTAINER_OF(hook, struct acceptor, hook);

    acceptor->left = ACCEPTOR_PER_TICK;
    acceptor_publish(acceptor);
    if (acceptor->away && !acceptor->stopped && acceptor->sessions->count < acceptor->away_count) {
        acceptor->away_count = acceptor->sessions->count;
        loop_timer_set(acceptor->loop, &acceptor->timer, 0);
    }
}

/* As many connections as are configured, and as descriptors allow. */
static void acceptor_limit(struct acceptor *acceptor)
{
    uint32_t configured = acceptor->sessions->conf->worker_connections;
    uint64_t descriptors = proc_nofile();
    uint64_t spare = descriptors / 2 < ACCEPTOR_SPARE ? descriptors / 2 : ACCEPTOR_SPARE;

    acceptor->max = configured;
    if (configured <= descriptors - spare)
        return;
    acceptor->max = (uint32_t)(descriptors - spare);
    acceptor->sessions->extras_max = (uint32_t)(spare / 4);
    log_write(LOG_WARN, "worker", "worker_connections: %u of %u, as %llu descriptors allow",
              acceptor->max, configured, (unsigned long long)descriptors);
}

struct acceptor *acceptor_create(struct loop *loop, struct sessions *sessions, struct zone *zone,
                                 unsigned slot, const int *listeners, size_t count, struct err *err)
{
    struct acceptor *acceptor =
        calloc(1, sizeof(*acceptor) + count * sizeof(acceptor->listeners[0]));

    if (!acceptor) {
        err_set(err, ENOMEM, "out of memory for listeners");
        return NULL;
    }
    acceptor->loop = loop;
    acceptor->sessions = sessions;
    acceptor->zone = zone;
    acceptor->slot = slot;
    acceptor_limit(acceptor);
    acceptor->hook.run = acceptor_turn;
    acceptor->timer.expired = acceptor_look;
    acceptor->left = ACCEPTOR_PER_TICK;
    acceptor->count = count;
    for (size_t i = 0; i < count; i++)
        acceptor->listeners[i] = (struct acceptor_listener){
            .watch = {.fd = listeners[i], .ready = acceptor_ready},
            .acceptor = acceptor,
            .conf = &sessions->conf->listen[i],
        };
    if (acceptor_return(acceptor, err) < 0) {
        for (size_t i = 0; i < count; i++)
            loop_unwatch(loop, &acceptor->listeners[i].watch);
        free(acceptor);
        return NULL;
    }
    loop_hook_add(loop, &acceptor->hook);
    acceptor_publish(acceptor);
    atomic_store(&zone->slots[slot].accepting, 1);
    return acceptor;
}

void acceptor_stop(struct acceptor *acceptor)
{
    if (acceptor->stopped)
        return;
    acceptor->stopped = true;
    atomic_store(&acceptor->zone->slots[acceptor->slot].accepting, 0);
    loop_timer_cancel(acceptor->loop, &acceptor->timer);
    for (size_t i = 0; i < acceptor->count; i++) {
        loop_unwatch(acceptor->loop, &acceptor->listeners[i].watch);
        close(acceptor->listeners[i].watch.fd);
    }
    acceptor->count = 0;
}

void acceptor_destroy(struct acceptor *acceptor)
{
    if (!acceptor)
        return;
    acceptor_stop(acceptor);
    loop_hook_remove(acceptor->loop, &acceptor->hook);
    free(acceptor);
}
