#include "keeper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "event/channel.h"
#include "event/loop.h"
#include "hook/breaker.h"
#include "keeper/maintenance.h"
#include "os/calls.h"
#include "os/futex.h"
#include "os/io.h"
#include "os/log.h"
#include "os/proc.h"
#include "os/thread.h"
#include "os/time.h"
#include "sched/hold.h"
#include "sched/rebuild.h"
#include "store/quarantine.h"
#include "store/space.h"
#include "worker/worker.h" /* exit statuses */

#define HANDLES 512
#define SPARE_FILES 100
#define TIMERS_SLEEP_MS 500 /* a step of the wall clock is seen by then */
#define STEPS_PER_SECTION 50
#define REFILL_SLEEP_NS UINT64_C(1000000000)

struct keeper {
    const struct keeper_options *options;
    struct env_options env_options;
    struct env *env;
    uint64_t generation;
    struct loop *loop;
    struct loop_watch channel, ended;
    struct thread timers, maintenance, refill;
    struct broker *timers_broker, *maintenance_broker;
    /* text empty: none */
    struct err timers_failure, maintenance_failure, refill_failure;
    _Atomic uint32_t stop; /* futex word of the maintenance thread; 1: both threads end */
    _Atomic bool failed;   /* by any thread, after its failure is written */
    bool told;             /* the master knows of the failure */
    pid_t master;
};

/* --- opening --- */

static int make_directories(const struct keeper *keeper, struct err *err)
{
    static const char *const names[] = {"log", "queues", "quarantine"};
    char path[4096];
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (io_path_join(path, sizeof(path), keeper->env_options.path, names[i], err) != 0 ||
            io_make_dirs(path, 0700, (uid_t)-1, (gid_t)-1, err) != 0)
            return -1;
    return io_make_dirs(keeper->env_options.regions, 0700, (uid_t)-1, (gid_t)-1, err);
}

/* Tries whether the regions fit before they are made: touching a page of a full tmpfs is SIGBUS. */
static int check_region_room(const struct keeper *keeper, struct err *err)
{
    uint64_t needed = env_region_bytes(&keeper->env_options), available = 0;
    const char *regions = keeper->env_options.regions;
    char path[4096];
    if (io_path_join(path, sizeof(path), regions, "room", err) != 0)
        return -1;
    int fd = os_open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set_errno(err, errno, "create %s", path);
    int result = os_fallocate(fd, 0, 0, (off_t)needed) == 0 ? 0 : errno;
    (void)os_close(fd);
    (void)os_unlink(path);
    if (!result)
        return 0;
    if (io_free_space(regions, &available, NULL) != 0)
        available = 0;
    return err_set_errno(err, result,
                         "the region directory %s has %llu bytes free, the store needs %llu "
                         "(store.cache_size, store.regions)",
                         regions, (unsigned long long)available, (unsigned long long)needed);
}

/* The files of the last generation make room for this one. */
static void remove_old_regions(const struct keeper *keeper)
{
    char path[4096], name[32];
    for (unsigned i = 1; i < 16; i++) {
        snprintf(name, sizeof(name), "__db.%03u", i);
        if (io_path_join(path, sizeof(path), keeper->env_options.regions, name, NULL) == 0)
            (void)os_unlink(path);
    }
}

static uint32_t queue_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur <= 2 * SPARE_FILES)
        return SPARE_FILES;
    rlim_t files = limit.rlim_cur - SPARE_FILES;
    return files > ZONE_QUEUES ? ZONE_QUEUES : (uint32_t)files;
}

static bool clean_mark_take(const struct keeper *keeper)
{
    char path[4096];
    return io_path_join(path, sizeof(path), keeper->env_options.path, "clean", NULL) == 0 &&
           os_unlink(path) == 0;
}

static void clean_mark_set(const struct keeper *keeper)
{
    char path[4096];
    struct err err = {0};
    if (io_path_join(path, sizeof(path), keeper->env_options.path, "clean", &err) != 0 ||
        io_write_file_atomic(path, STR("stopped in order\n"), 0600, &err) != 0)
        log_write(LOG_WARN, "store", "leave the mark of a clean stop: %s", err.text);
}

static int rebuild(struct keeper *keeper, bool *again, struct err *err)
{
    const struct conf *conf = keeper->options->conf;
    struct rebuild_result result = {.again = false};
    struct catalog *catalog = catalog_open(keeper->env, true, err);
    if (!catalog)
        return -1;
    struct rebuild_options options = {.zone = keeper->options->zone,
                                      .env = keeper->env,
                                      .catalog = catalog,
                                      .quantum = conf->scheduler.quantum,
                                      .max_queues = queue_limit()};
    int status = rebuild_run(&options, &result, err);
    (void)catalog_close(catalog);
    *again = status != 0 && result.again;
    if (status == 0) /* what died between a deletion and the freeing has left some */
        breaker_sweep(options.zone, atomic_load(&options.zone->scheduler));
    if (status == 0)
        log_write(LOG_NOTICE, "store", "epoch %u: %u queues, %llu lanes, %llu leases", result.epoch,
                  result.queues, (unsigned long long)result.lanes,
                  (unsigned long long)result.leases);
    return status;
}

/* One broker for each thread; opened while nobody else is there yet. */
static struct broker *open_broker(struct keeper *keeper, enum zone_thread thread, struct err *err)
{
    const struct conf *conf = keeper->options->conf;
    struct broker_options options = {
        .zone = keeper->options->zone,
        .slot = ZONE_SLOT_KEEPER,
        .thread = thread,
        .generation = keeper->generation,
        .env = keeper->env,
        .handles = HANDLES,
        .visibility_timeout_ms = conf->scheduler.visibility_timeout_ms,
        .max_unacked = conf->scheduler.max_unacked,
        .commit = ENV_COMMIT_MEMORY,
    };
    return broker_open(&options, err);
}

/* Files that stand in the way are set aside, one more with each try. */
static int open_and_rebuild(struct keeper *keeper, uint64_t *recovered_ms, struct err *err)
{
    bool scanned = false;
    for (;;) {
        struct err failure = {0};
        bool again = false;
        keeper->env = env_open(&keeper->env_options, err);
        *recovered_ms = time_monotonic_ms();
        if (keeper->env) {
            if (env_reserve_regions(&keeper->env_options, err) != 0)
                return -1;
            if (rebuild(keeper, &again, err) == 0)
                return 0;
            if (!again)
                return -1;
            (void)env_close(keeper->env);
            keeper->env = NULL;
        } else if (scanned || quarantine_scan(keeper->env_options.path, &failure) <= 0) {
            if (failure.text[0])
                log_write(LOG_ERROR, "store", "%s", failure.text);
            return -1;
        } else {
            scanned = true;
        }
    }
}

static bool is_new(const struct keeper *keeper)
{
    char catalog[4096];
    return io_path_join(catalog, sizeof(catalog), keeper->env_options.path, "catalog.db", NULL) ==
               0 &&
           access(catalog, F_OK) != 0;
}

static int open_store(struct keeper *keeper, struct err *err)
{
    uint64_t began_ms = time_monotonic_ms();
    const struct conf *conf = keeper->options->conf;
    struct zone *zone = keeper->options->zone;
    remove_old_regions(keeper);
    if (make_directories(keeper, err) != 0 || check_region_room(keeper, err) != 0)
        return -1;
    bool clean = clean_mark_take(keeper);
    log_write(LOG_NOTICE, "store", "%s %s",
              clean            ? "opening, after a clean stop,"
              : is_new(keeper) ? "making a new store in"
                               : "recovering",
              keeper->env_options.path);
    (void)space_release(keeper->env_options.path);
    uint64_t recovered_ms = 0;
    if (open_and_rebuild(keeper, &recovered_ms, err) != 0)
        return -1;
    (void)space_restore(keeper->env_options.path,
                        space_reserve(conf->store.reserve, conf->store.checkpoint.bytes));
    keeper->timers_broker = open_broker(keeper, ZONE_TIMERS, err);
    keeper->maintenance_broker = open_broker(keeper, ZONE_MAINTENANCE, err);
    if (!keeper->timers_broker || !keeper->maintenance_broker)
        return -1;
    atomic_store(&zone->state, ZONE_UP);
    uint64_t now_ms = time_monotonic_ms();
    log_write(LOG_NOTICE, "store", "open after %llu ms, %llu of them for the queues",
              (unsigned long long)(now_ms - began_ms), (unsigned long long)(now_ms - recovered_ms));
    return 0;
}

/* --- threads --- */

static void mark_dead(struct keeper *keeper)
{
    struct zone *zone = keeper->options->zone;
    uint32_t up = ZONE_UP;
    if (atomic_load(&zone->generation) == keeper->generation)
        atomic_compare_exchange_strong(&zone->state, &up, ZONE_DEAD);
}

/* `reason`: what the thread says of its end; text empty: nothing. */
static void end_thread(struct keeper *keeper, struct err *failure, const struct err *reason)
{
    uint64_t one = 1;
    *failure = *reason;
    /* A zone that somebody marked dead, who may have died before saying so. */
    if (!failure->text[0] && atomic_load(&keeper->options->zone->state) == ZONE_DEAD &&
        atomic_load(&keeper->options->zone->generation) == keeper->generation)
        err_set(failure, 0, "the environment was given up");
    if (failure->text[0]) {
        mark_dead(keeper);
        atomic_store(&keeper->failed, true);
    }
    if (write(keeper->ended.fd, &one, sizeof(one)) < 0)
        log_errno(LOG_ERROR, "keeper", errno, "announce the end of a thread");
}

/* Expires what is due; *when_ms: the next due time, monotonic. */
static int expire_due(struct keeper *keeper, uint64_t *when_ms)
{
    struct broker *broker = keeper->timers_broker;
    for (unsigned i = 0; i < STEPS_PER_SECTION; i++) {
        struct queue *queue = NULL;
        bool more = false;
        uint64_t now_ms = time_monotonic_ms();
        if (scheduler_timer_next(broker->scheduler, now_ms, &queue, when_ms) != LOCK_HELD)
            return err_set(&broker->failure, 0, "the zone is being built anew");
        if (!queue)
            return 0;
        if (broker_expire(broker, queue, now_ms, &more) != 0)
            return -1;
    }
    *when_ms = 0;
    return 0;
}

/* Moves a batch of delayed messages of each queue that has some which are due; *wait_ms: how long
 * nothing more will be. A queue with many of them waits for the others after each batch. */
static int move_due(struct keeper *keeper, uint64_t *wait_ms)
{
    struct broker *broker = keeper->timers_broker;
    uint64_t wall_ms = time_wall_ms(), when_ms = 0;
    struct queue *queue = NULL;
    struct list again;
    int status = 0;
    list_init(&again);
    for (unsigned i = 0; i < STEPS_PER_SECTION && status == 0; i++) {
        bool more = false;
        if (scheduler_due_next(broker->scheduler, wall_ms, &queue, &when_ms) != LOCK_HELD)
            return err_set(&broker->failure, 0, "the zone is being built anew");
        if (!queue)
            break;
        status = broker_due(broker, queue, wall_ms, &more);
        if (more)
            list_append(&again, &queue->due_link);
    }
    *wait_ms = when_ms > wall_ms ? when_ms - wall_ms : 0;
    if (!list_empty(&again))
        *wait_ms = 0;
    while (!list_empty(&again) && status == 0) {
        queue = CONTAINER_OF(again.next, struct queue, due_link);
        list_remove(&queue->due_link);
        if (broker_lock(broker, &queue->lock) != 0)
            return -1;
        queue_due_update(queue);
        lock_release(&queue->lock);
    }
    return status;
}

/* One section's work. *wait_ms: how long there will be nothing to do. */
static int timers_step(struct keeper *keeper, uint64_t *wait_ms)
{
    uint64_t when_ms = UINT64_MAX, due_wait_ms = 0;
    if (broker_refresh(keeper->timers_broker) != 0 || expire_due(keeper, &when_ms) != 0 ||
        move_due(keeper, &due_wait_ms) != 0)
        return -1;
    uint64_t now_ms = time_monotonic_ms();
    *wait_ms = when_ms > now_ms ? when_ms - now_ms : 0;
    *wait_ms = due_wait_ms < *wait_ms ? due_wait_ms : *wait_ms;
    return 0;
}

static void timers_run(void *argument)
{
    struct keeper *keeper = argument;
    struct zone *zone = keeper->options->zone;
    struct zone_slot *slot = &zone->slots[ZONE_SLOT_KEEPER];
    int status = 0;
    while (status == 0 && !atomic_load(&keeper->stop)) {
        uint32_t seen = atomic_load(&slot->wake);
        uint64_t wait_ms = 0;
        if (!zone_enter(zone, ZONE_SLOT_KEEPER, ZONE_TIMERS, keeper->generation))
            break;
        status = timers_step(keeper, &wait_ms);
        zone_leave(zone, ZONE_SLOT_KEEPER, ZONE_TIMERS);
        if (status == 0 && wait_ms)
            zone_sleep(slot, seen, wait_ms < TIMERS_SLEEP_MS ? wait_ms : TIMERS_SLEEP_MS);
    }
    end_thread(keeper, &keeper->timers_failure, &keeper->timers_broker->failure);
}

/* Lanes that wait for a token or a free place are released to the microsecond, whatever the other
 * threads are at: this one never touches the store. */
static void refill_run(void *argument)
{
    struct keeper *keeper = argument;
    struct zone *zone = keeper->options->zone;
    struct scheduler *scheduler = keeper->timers_broker->scheduler;
    struct err failure = {0};
    while (!failure.text[0] && !atomic_load(&keeper->stop)) {
        uint32_t seen = atomic_load(&zone->refill_wake);
        uint64_t when_ns = 0;
        if (!zone_enter(zone, ZONE_SLOT_KEEPER, ZONE_REFILL, keeper->generation))
            break;
        if (hold_run(scheduler, time_monotonic_ns(), &when_ns) != LOCK_HELD)
            err_set(&failure, 0, "the zone is being built anew");
        zone_leave(zone, ZONE_SLOT_KEEPER, ZONE_REFILL);
        uint64_t latest_ns = time_monotonic_ns() + REFILL_SLEEP_NS;
        if (!failure.text[0] && !atomic_load(&keeper->stop))
            hold_sleep(scheduler, seen, when_ns < latest_ns ? when_ns : latest_ns);
    }
    end_thread(keeper, &keeper->refill_failure, &failure);
}

static void maintenance_run(void *argument)
{
    struct keeper *keeper = argument;
    struct zone *zone = keeper->options->zone;
    struct maintenance maintenance;
    int status = maintenance_init(&maintenance, keeper->maintenance_broker, keeper->options->conf,
                                  &keeper->maintenance_broker->failure);
    while (status >= 0 && !atomic_load(&keeper->stop)) {
        uint64_t wait_ms = 0;
        if (!zone_enter(zone, ZONE_SLOT_KEEPER, ZONE_MAINTENANCE, keeper->generation))
            break;
        status = maintenance_step(&maintenance, time_monotonic_ms(), &wait_ms);
        if (status < 0) /* a sync may have failed: nobody confirms anything any more */
            mark_dead(keeper);
        zone_leave(zone, ZONE_SLOT_KEEPER, ZONE_MAINTENANCE);
        if (status == 0)
            futex_wait(&keeper->stop, 0, wait_ms);
    }
    maintenance_free(&maintenance);
    end_thread(keeper, &keeper->maintenance_failure, &keeper->maintenance_broker->failure);
}

/* --- the loop --- */

static void say(struct keeper *keeper, enum channel_type type, uint64_t value, const char *text)
{
    struct err err = {0};
    if (channel_send(keeper->options->channel, type, value, text, &err) != 0)
        log_write(LOG_ERROR, "keeper", "tell the master: %s", err.text);
}

static void on_ended(struct loop_watch *watch, uint32_t events)
{
    struct keeper *keeper = CONTAINER_OF(watch, struct keeper, ended);
    uint64_t count;
    (void)events;
    if (read(watch->fd, &count, sizeof(count)) < 0 || keeper->told || !atomic_load(&keeper->failed))
        return;
    const char *reason = keeper->timers_failure.text[0]        ? keeper->timers_failure.text
                         : keeper->maintenance_failure.text[0] ? keeper->maintenance_failure.text
                                                               : keeper->refill_failure.text;
    log_write(LOG_ERROR, "store", "the environment is given up: %s", reason);
    say(keeper, CHANNEL_STORE_FAILED, keeper->generation, reason);
    keeper->told = true;
}

/* The channel is not read any more from here on: without a master nobody must wait for this
 * process, which holds the store's lock. */
static void die_with_master(pid_t master)
{
    struct err err = {0};
    if (proc_set_death_signal(SIGKILL, master, &err) != 0)
        _exit(EXIT_MASTER_GONE);
}

static void stop_in_order(struct keeper *keeper)
{
    die_with_master(keeper->master);
    loop_stop(keeper->loop);
}

static void on_channel(struct loop_watch *watch, uint32_t events)
{
    struct keeper *keeper = CONTAINER_OF(watch, struct keeper, channel);
    struct channel_message message;
    struct err err = {0};
    int got;
    (void)events;
    while ((got = channel_receive(watch->fd, &message, &err)) > 0) {
        if (message.type == CHANNEL_STOP)
            stop_in_order(keeper);
        else if (message.type == CHANNEL_PING)
            say(keeper, CHANNEL_PONG, message.value, NULL);
        else if (message.type == CHANNEL_REOPEN && log_reopen(&err) != 0)
            log_write(LOG_ERROR, "keeper", "%s", err.text);
    }
    /* Workers that leave now may do so inside the store: a thread of ours could wait for what they
     * hold for ever, and the store's lock with it. The next start recovers. */
    if (got < 0)
        _exit(EXIT_MASTER_GONE);
}

static void stop_threads(struct keeper *keeper)
{
    atomic_store(&keeper->stop, 1);
    futex_wake(&keeper->stop, 1);
    zone_wake(&keeper->options->zone->slots[ZONE_SLOT_KEEPER]);
    zone_wake_refill(keeper->options->zone);
    thread_join(&keeper->timers);
    thread_join(&keeper->maintenance);
    thread_join(&keeper->refill);
}

/* After a stop in order: everything into the databases, so that the next start has nothing to redo.
 */
static void close_in_order(struct keeper *keeper)
{
    broker_close(keeper->timers_broker);
    broker_close(keeper->maintenance_broker);
    int result = env_checkpoint(keeper->env, 0, true);
    if (!result)
        result = env_close(keeper->env);
    if (!result)
        clean_mark_set(keeper);
    else
        log_write(LOG_ERROR, "store", "close the store: %s; the next start recovers",
                  db_strerror(result));
}

static int serve(struct keeper *keeper, struct err *err)
{
    keeper->channel.fd = keeper->options->channel;
    keeper->channel.ready = on_channel;
    keeper->ended.ready = on_ended;
    keeper->ended.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (keeper->ended.fd < 0)
        return err_set_errno(err, errno, "create eventfd");
    keeper->loop = loop_create(err);
    if (!keeper->loop || loop_watch(keeper->loop, &keeper->channel, EPOLLIN, err) != 0 ||
        loop_watch(keeper->loop, &keeper->ended, EPOLLIN, err) != 0)
        return -1;
    if (thread_create(&keeper->timers, "timers", timers_run, keeper, err) != 0)
        return -1;
    if (thread_create(&keeper->maintenance, "maintenance", maintenance_run, keeper, err) != 0 ||
        thread_create(&keeper->refill, "refill", refill_run, keeper, err) != 0) {
        _exit(1); /* the timers thread is under way: the master recovers */
    }
    say(keeper, CHANNEL_READY, keeper->generation, NULL);
    int result = loop_run(keeper->loop, err);
    stop_threads(keeper);
    return result;
}

static void prepare(struct keeper *keeper, const struct keeper_options *options, bool recover)
{
    memset(keeper, 0, sizeof(*keeper));
    keeper->options = options;
    keeper->master = getppid();
    keeper->env_options.path = options->conf->store.path;
    keeper->env_options.regions = options->regions;
    keeper->env_options.cache_size = options->conf->store.cache_size;
    keeper->env_options.recover = recover;
    keeper->generation = atomic_load(&options->zone->generation);
}

int keeper_run(const struct keeper_options *options)
{
    struct keeper *keeper = calloc(1, sizeof(*keeper));
    struct err err = {0};
    if (!keeper)
        return 1;
    prepare(keeper, options, true);
    if (open_store(keeper, &err) != 0) {
        log_write(LOG_ERROR, "store", "%s", err.text);
        say(keeper, CHANNEL_FAILED, 0, err.text);
        return EXIT_CONFIGURATION;
    }
    if (serve(keeper, &err) != 0) {
        log_write(LOG_ERROR, "keeper", "%s", err.text);
        return 1;
    }
    /* Without a master, or after a failure, nobody vouches for the others: the next start recovers.
     */
    if (!atomic_load(&keeper->failed) && atomic_load(&options->zone->state) == ZONE_UP)
        close_in_order(keeper);
    loop_destroy(keeper->loop);
    free(keeper);
    return 0;
}

int keeper_failchk(const struct keeper_options *options)
{
    struct keeper keeper;
    struct err err = {0};
    prepare(&keeper, options, false);
    die_with_master(keeper.master);
    if (!zone_enter(options->zone, ZONE_SLOT_HELPER, ZONE_STORE_THREAD, keeper.generation))
        return 1;
    keeper.env = env_open(&keeper.env_options, &err);
    if (!keeper.env) {
        log_write(LOG_ERROR, "store", "check after a death: %s", err.text);
        return 1;
    }
    int result = env_failchk(keeper.env);
    if (result)
        log_write(LOG_WARN, "store", "check after a death: %s", db_strerror(result));
    if (!result)
        result = env_close(keeper.env);
    zone_leave(options->zone, ZONE_SLOT_HELPER, ZONE_STORE_THREAD);
    return result ? 1 : 0;
}
