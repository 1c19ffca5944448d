#include "worker/worker.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "event/channel.h"
#include "event/loop.h"
#include "hook/hook.h"
#include "os/log.h"
#include "worker/acceptor.h"
#include "worker/pipeline.h"
#include "worker/sessions.h"
#include "worker/settings.h"
#include "worker/shed.h"

#define STORE_STOP_MS 200u /* what the threads get to end when the master asks */
#define STORE_POLL_MS 2u   /* between looks at an environment that is being opened */
#define SETTLE_MS 500u     /* a stop waits so long for what is under way before it ends the store */
#define STORE_END_MS 10000u /* what the threads get to finish their work when the worker ends */
#define FLUSH_MS 1000u      /* what the last answers get to reach their sockets */
#define TICK_MS 1000u       /* between ticks of modules when there is nothing to do */

enum worker_phase {
    WORKER_SERVING,
    WORKER_DRAINING, /* sessions end one by one, up to the deadline */
    WORKER_STOPPING, /* sessions end now; what is under way is executed */
    WORKER_ENDING,   /* the store threads finish */
    WORKER_FLUSHING, /* the last answers are written */
    WORKER_DONE,
};

struct worker {
    const struct worker_options *options;
    struct loop *loop;
    struct settings *settings;
    struct hook_services services;
    struct hook_set *hooks;
    struct pipeline *pipeline;
    struct sessions sessions;
    bool has_sessions;
    struct acceptor *acceptor;
    struct loop_watch channel;
    struct loop_watch finished; /* the pipeline's descriptor */
    struct loop_hook turn;
    struct loop_timer phase_timer; /* the deadline of the phase */
    struct loop_timer stop_timer;  /* STORE_STOP_MS */
    struct loop_timer tick_timer;  /* when a module wants ticks */
    struct loop_timer poll_timer;  /* while the environment is being opened */
    enum worker_phase phase;
    int status;          /* exit status */
    uint64_t generation; /* of the environment last opened */
    uint64_t wanted;     /* generation to open once the threads are away; 0: none */
    bool opening;        /* STORE_OPENED is still to be said */
    bool stopping;       /* STORE_STOPPED is still to be said */
    bool failure_told;   /* STORE_FAILED was said for `generation` */
};

/* ---- channel ---- */

static void worker_leave(struct worker *worker, int status)
{
    worker->phase = WORKER_DONE;
    worker->status = status;
}

static void worker_tell(struct worker *worker, enum channel_type type, uint64_t value,
                        const char *text)
{
    struct err err;

    if (worker->phase == WORKER_DONE)
        return;
    if (channel_send(worker->options->channel, type, value, text, &err) < 0) {
        log_write(LOG_ERROR, "worker", "tell the master: %s", err.text);
        worker_leave(worker, EXIT_MASTER_GONE);
    }
}

/* ---- store ---- */

static void worker_tell_failure(struct worker *worker, const char *reason)
{
    if (worker->failure_told)
        return;
    worker->failure_told = true;
    log_write(LOG_ERROR, "worker", "store: %s", reason);
    worker_tell(worker, CHANNEL_STORE_FAILED, worker->generation, reason);
}

static void worker_open_store(struct worker *worker)
{
    struct err err;

    worker->generation = worker->wanted;
    worker->wanted = 0;
    worker->failure_told = false;
    if (pipeline_start(worker->pipeline, worker->generation, &err) < 0) {
        worker_tell_failure(worker, err.text);
        return;
    }
    worker->opening = true;
    loop_timer_set(worker->loop, &worker->poll_timer, STORE_POLL_MS);
}

/* Follows what the store threads do. */
static void worker_watch_store(struct worker *worker)
{
    switch (pipeline_state(worker->pipeline)) {
    case PIPELINE_OPENING:
    case PIPELINE_STOPPING:
        break;
    case PIPELINE_RUNNING:
        if (worker->opening) {
            worker->opening = false;
            worker_tell(worker, CHANNEL_STORE_OPENED, worker->generation, NULL);
        }
        break;
    case PIPELINE_FAILED:
        worker->opening = false;
        worker_tell_failure(worker, pipeline_reason(worker->pipeline));
        break;
    case PIPELINE_AWAY:
        worker->opening = false;
        loop_timer_cancel(worker->loop, &worker->stop_timer);
        if (worker->stopping) {
            worker->stopping = false;
            worker_tell(worker, CHANNEL_STORE_STOPPED, worker->generation, NULL);
        }
        if (worker->wanted > 0 && worker->phase < WORKER_ENDING)
            worker_open_store(worker);
        break;
    }
}

static void worker_poll_store(struct loop_timer *timer)
{
    struct worker *worker = CONTAINER_OF(timer, struct worker, poll_timer);

    worker_watch_store(worker);
    if (worker->opening)
        loop_timer_set(worker->loop, &worker->poll_timer, STORE_POLL_MS);
}

static void worker_take(struct worker *worker)
{
    sessions_take(&worker->sessions);
    worker_watch_store(worker);
}

static void worker_finished(struct loop_watch *watch, uint32_t events)
{
    (void)events;
    worker_take(CONTAINER_OF(watch, struct worker, finished));
}

static void worker_store_stuck(struct loop_timer *timer)
{
    struct worker *worker = CONTAINER_OF(timer, struct worker, stop_timer);
    struct err err;

    /* What is finished by now is whole, and the threads may have ended just so. */
    worker_take(worker);
    if (!worker->stopping)
        return;
    if (worker->phase >= WORKER_ENDING) {
        log_write(LOG_ERROR, "worker", "the store thread does not end: leaving");
        _exit(EXIT_STORE_STUCK);
    }
    log_write(LOG_WARN, "worker", "the store thread did not end in %u ms: it is left behind",
              STORE_STOP_MS);
    if (shed_threads(worker->pipeline, worker->options->channel, &err) < 0) {
        log_write(LOG_ERROR, "worker", "%s: leaving", err.text);
        _exit(EXIT_STORE_STUCK);
    }
    /* The master hears by the end of the old process that the store was let go of. */
    worker->stopping = false;
    sessions_recount(&worker->sessions);
    worker_take(worker);
    log_write(LOG_NOTICE, "worker", "goes on with %u connections", worker->sessions.count);
}

/* ---- phases ---- */

/* The store threads finish what was submitted; then the last answers are written. */
static void worker_end(struct worker *worker)
{
    worker->phase = WORKER_ENDING;
    pipeline_stop(worker->pipeline, true);
    loop_timer_set(worker->loop, &worker->phase_timer, STORE_END_MS);
}

static void worker_flush(struct worker *worker)
{
    worker->phase = WORKER_FLUSHING;
    /* The store may have gone before it executed everything: what is left is refused. */
    sessions_give_up_settings(&worker->sessions);
    pipeline_stop(worker->pipeline, true);
    sessions_take(&worker->sessions);
    loop_timer_set(worker->loop, &worker->phase_timer, FLUSH_MS);
    /* The turn of the sessions is over for this tick: another one writes what was taken. */
    loop_timer_set(worker->loop, &worker->poll_timer, 0);
}

static bool worker_is_idle(const struct worker *worker)
{
    return worker->sessions.outstanding == 0 && pipeline_outstanding(worker->pipeline) == 0;
}

/* Once per tick, behind the turn of the sessions: goes from phase to phase. */
static void worker_turn(struct loop_hook *hook)
{
    struct worker *worker = CONTAINER_OF(hook, struct worker, turn);
    bool empty = list_empty(&worker->sessions.all);

    hook_set_tick(worker->hooks, loop_now_ms(worker->loop));
    if (worker->phase == WORKER_DRAINING && empty && worker_is_idle(worker))
        worker_end(worker);
    else if (worker->phase == WORKER_STOPPING && worker_is_idle(worker))
        worker_end(worker);
    if (worker->phase == WORKER_ENDING && pipeline_state(worker->pipeline) == PIPELINE_AWAY) {
        worker_watch_store(worker);
        worker_flush(worker);
    }
    if (worker->phase == WORKER_FLUSHING && empty)
        worker_leave(worker, 0);
    if (worker->phase == WORKER_DONE)
        loop_stop(worker->loop);
}

/* The turn that this brings about is the tick. */
static void worker_tick(struct loop_timer *timer)
{
    struct worker *worker = CONTAINER_OF(timer, struct worker, tick_timer);

    loop_timer_set(worker->loop, timer, TICK_MS);
}

static void worker_deadline(struct loop_timer *timer)
{
    struct worker *worker = CONTAINER_OF(timer, struct worker, phase_timer);

    switch (worker->phase) {
    case WORKER_DRAINING:
        log_write(LOG_WARN, "worker", "worker_shutdown_timeout: closing %u connections",
                  worker->sessions.count);
        sessions_close(&worker->sessions);
        worker->phase = WORKER_STOPPING;
        loop_timer_set(worker->loop, &worker->phase_timer, SETTLE_MS);
        break;
    case WORKER_STOPPING:
        worker_end(worker);
        break;
    case WORKER_ENDING:
        log_write(LOG_ERROR, "worker", "the store thread does not finish: leaving");
        _exit(EXIT_STORE_STUCK);
    case WORKER_FLUSHING:
        worker_leave(worker, 0);
        break;
    case WORKER_SERVING:
    case WORKER_DONE:
        break;
    }
}

/* ---- what the master says ---- */

static void worker_on_store_open(struct worker *worker, const struct channel_message *message)
{
    worker->wanted = message->value;
    worker_watch_store(worker);
}

static void worker_on_store_stop(struct worker *worker, const struct channel_message *message)
{
    (void)message;
    worker->wanted = 0;
    worker->stopping = true;
    loop_timer_set(worker->loop, &worker->stop_timer, STORE_STOP_MS);
    pipeline_stop(worker->pipeline, false);
    worker_watch_store(worker);
}

static void worker_on_drain(struct worker *worker, const struct channel_message *message)
{
    (void)message;
    if (worker->phase != WORKER_SERVING)
        return;
    worker->phase = WORKER_DRAINING;
    log_write(LOG_INFO, "worker", "draining %u connections", worker->sessions.count);
    acceptor_stop(worker->acceptor);
    sessions_drain(&worker->sessions);
    loop_timer_set(worker->loop, &worker->phase_timer,
                   worker->options->conf->worker_shutdown_timeout_ms);
}

static void worker_on_stop(struct worker *worker, const struct channel_message *message)
{
    (void)message;
    if (worker->phase > WORKER_DRAINING)
        return;
    worker->phase = WORKER_STOPPING;
    acceptor_stop(worker->acceptor);
    sessions_drain(&worker->sessions);
    loop_timer_set(worker->loop, &worker->phase_timer, SETTLE_MS);
}

static void worker_on_reopen(struct worker *worker, const struct channel_message *message)
{
    struct err err;

    (void)worker;
    (void)message;
    if (log_reopen(&err) < 0)
        log_write(LOG_ERROR, "worker", "reopen the log: %s", err.text);
}

static void worker_on_ping(struct worker *worker, const struct channel_message *message)
{
    worker_tell(worker, CHANNEL_PONG, message->value, NULL);
}

static void (*const worker_on[CHANNEL_TYPES])(struct worker *, const struct channel_message *) = {
    [CHANNEL_STORE_STOP] = worker_on_store_stop, [CHANNEL_STORE_OPEN] = worker_on_store_open,
    [CHANNEL_DRAIN] = worker_on_drain,           [CHANNEL_STOP] = worker_on_stop,
    [CHANNEL_REOPEN] = worker_on_reopen,         [CHANNEL_PING] = worker_on_ping,
};

static void worker_hear(struct loop_watch *watch, uint32_t events)
{
    struct worker *worker = CONTAINER_OF(watch, struct worker, channel);
    struct channel_message message;
    struct err err;
    int result = 0;

    (void)events;
    while (worker->phase != WORKER_DONE &&
           (result = channel_receive(watch->fd, &message, &err)) > 0) {
        if (!worker_on[message.type]) {
            result = err_set(&err, EPROTO, "message %d is not for a worker", message.type);
            break;
        }
        worker_on[message.type](worker, &message);
    }
    if (result < 0) {
        log_write(LOG_ERROR, "worker", "the master is gone: %s", err.text);
        worker_leave(worker, EXIT_MASTER_GONE);
    }
}

/* ---- the beginning and the end ---- */

static int worker_start(struct worker *worker, struct err *err)
{
    const struct worker_options *options = worker->options;
    struct pipeline_options pipeline_options = {
        .zone = options->zone,
        .slot = options->slot,
        .conf = options->conf,
        .regions = options->regions,
    };

    worker->status = 1;
    worker->loop = loop_create(err);
    if (!worker->loop)
        return -1;
    worker->settings = settings_create(options->zone, err);
    if (!worker->settings)
        return -1;
    worker->services = settings_services(worker->settings);
    worker->services.tally = options->tally;
    worker->services.slot = options->slot;
    worker->hooks = hook_set_create(options->conf->hooks, options->conf, &worker->services, err);
    if (!worker->hooks) {
        worker->status = EXIT_CONFIGURATION;
        return -1;
    }
    worker->pipeline = pipeline_create(&pipeline_options, err);
    if (!worker->pipeline)
        return -1;
    sessions_init(&worker->sessions, worker->loop, worker->pipeline, options->conf, worker->hooks);
    worker->sessions.settings = worker->settings;
    worker->has_sessions = true;
    worker->turn.run = worker_turn;
    loop_hook_add(worker->loop, &worker->turn);
    worker->phase_timer.expired = worker_deadline;
    worker->stop_timer.expired = worker_store_stuck;
    worker->poll_timer.expired = worker_poll_store;
    worker->tick_timer.expired = worker_tick;
    if (hook_set_ticks(worker->hooks))
        loop_timer_set(worker->loop, &worker->tick_timer, TICK_MS);
    worker->channel = (struct loop_watch){.fd = options->channel, .ready = worker_hear};
    worker->finished =
        (struct loop_watch){.fd = pipeline_fd(worker->pipeline), .ready = worker_finished};
    if (loop_watch(worker->loop, &worker->channel, EPOLLIN, err) < 0 ||
        loop_watch(worker->loop, &worker->finished, EPOLLIN, err) < 0)
        return -1;
    worker->acceptor =
        acceptor_create(worker->loop, &worker->sessions, options->zone, options->slot,
                        options->listeners, options->conf->listen_count, err);
    return worker->acceptor ? 0 : -1;
}

static void worker_free(struct worker *worker)
{
    if (worker->pipeline && pipeline_state(worker->pipeline) != PIPELINE_AWAY) {
        /* Its threads run and may touch what would be freed here. Nothing of this process is worth
         * waiting for any more. */
        _exit(worker->status);
    }
    /* What was submitted after the threads had ended comes back too. */
    if (worker->pipeline)
        pipeline_stop(worker->pipeline, true);
    acceptor_destroy(worker->acceptor);
    if (worker->has_sessions)
        sessions_destroy(&worker->sessions);
    if (worker->pipeline)
        pipeline_destroy(worker->pipeline);
    hook_set_destroy(worker->hooks);
    settings_destroy(worker->settings);
    loop_destroy(worker->loop);
}

int worker_run(const struct worker_options *options)
{
    struct worker worker = {.options = options};
    struct err err, unsent;

    if (worker_start(&worker, &err) < 0) {
        log_write(LOG_ERROR, "worker", "start: %s", err.text);
        if (channel_send(options->channel, CHANNEL_FAILED, 0, err.text, &unsent) < 0)
            log_write(LOG_ERROR, "worker", "tell the master: %s", unsent.text);
    } else {
        worker.status = 0;
        worker_tell(&worker, CHANNEL_READY, 0, NULL);
        if (worker.phase != WORKER_DONE && loop_run(worker.loop, &err) < 0) {
            log_write(LOG_ERROR, "worker", "%s", err.text);
            worker.status = 1;
        }
    }
    worker_free(&worker);
    return worker.status;
}
