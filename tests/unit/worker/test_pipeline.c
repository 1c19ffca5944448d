/* The pipeline with its real threads on a real store, seen from the loop: subscriptions through a
 * change of environment, and threads that are left behind. */
#include "unit/broker/fixture.h"

#include <poll.h>
#include <string.h>
#include <sys/wait.h>

#include "os/time.h"
#include "worker/pipeline.h"

#define PATIENCE_MS 20000
#define SUBSCRIPTIONS 5

struct bench {
    struct fixture *fixture;
    struct conf conf;
    struct pipeline *pipeline;
    struct delivery_window window;
    struct subscription subscriptions[SUBSCRIPTIONS];
    struct operation *back[64]; /* what came back, but for deliveries and ends */
    unsigned back_count, deliveries, ended;
    uint64_t settings; /* the latest generation of them that came */
};

/* The store of this process is what the loop of cmocka goes on with: the last of its processes. */
static bool forked;

/* --- syncs that do not end --- */

static _Atomic bool hang, hanging;
static pid_t hang_pid;

static int sync_or_hang(int fd)
{
    while (atomic_load(&hang) && getpid() == hang_pid) {
        atomic_store(&hanging, true);
        poll(NULL, 0, 1);
    }
    return fdatasync(fd);
}

/* --- the loop --- */

static void encode_nothing(const struct subscription *subscription, struct buf *out)
{
    (void)subscription;
    buf_append_u8(out, 1);
}

static bool encode_message(const struct subscription *subscription, struct buf *out,
                           const struct delivery_message *message)
{
    (void)subscription;
    (void)message;
    buf_append_u8(out, 2);
    return true;
}

static void encode_end(const struct subscription *subscription, struct buf *out, uint32_t count)
{
    (void)subscription;
    (void)out;
    (void)count;
}

static const struct delivery_encoder encoder = {encode_nothing, encode_message, encode_end};

static void take(struct bench *bench)
{
    struct operation *operation = pipeline_take(bench->pipeline), *next;
    for (; operation; operation = next) {
        next = operation->next;
        if (operation->kind == OPERATION_DELIVERY) {
            struct operation_delivery *delivery = (struct operation_delivery *)operation;
            bench->deliveries += delivery->count;
            atomic_fetch_sub(&bench->window.queued, delivery->size);
            operation_free(operation);
        } else if (operation->kind == OPERATION_SUBSCRIPTION_ENDED) {
            bench->ended++;
            operation_free(operation);
        } else if (operation->kind == OPERATION_SETTINGS) {
            bench->settings = ((struct operation_settings *)operation)->generation;
            operation_free(operation);
        } else {
            assert_true(bench->back_count < 64);
            bench->back[bench->back_count++] = operation;
        }
    }
}

#define UNTIL(bench, condition)                                                                    \
    do {                                                                                           \
        uint64_t until_ms = time_monotonic_ms() + PATIENCE_MS;                                     \
        while (!(condition)) {                                                                     \
            if (time_monotonic_ms() > until_ms)                                                    \
                fail_msg("waited in vain for: %s", #condition);                                    \
            take(bench);                                                                           \
            poll(NULL, 0, 1);                                                                      \
        }                                                                                          \
    } while (0)

/* Once: its memory may be used for another one then. */
static bool is_back(struct bench *bench, const struct operation *operation)
{
    for (unsigned i = 0; i < bench->back_count; i++)
        if (bench->back[i] == operation) {
            bench->back[i] = NULL;
            return true;
        }
    return false;
}

/* Submits `count` operations as one chain. */
static void submit(struct bench *bench, struct operation **operations, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        operations[i]->next = i + 1 < count ? operations[i + 1] : NULL;
    pipeline_submit(bench->pipeline, operations[0]);
}

static uint8_t run(struct bench *bench, struct operation *operation)
{
    submit(bench, &operation, 1);
    UNTIL(bench, is_back(bench, operation));
    return operation->status;
}

static struct operation *message(const char *queue)
{
    struct fixture_message from = {queue, "k", 1, 7, 4};
    return &fixture_frame(&from, 1)->operation;
}

static uint8_t message_status(const struct operation *operation)
{
    return ((const struct operation_enqueue *)operation)->items[0].status;
}

static void message_free(struct operation *operation)
{
    fixture_frame_free((struct operation_enqueue *)operation);
}

static struct operation *subscribing(struct bench *bench, enum operation_kind kind, unsigned index)
{
    struct operation_subscription *operation = calloc(1, sizeof(*operation));
    operation->operation.kind = (uint8_t)kind;
    operation->subscription = &bench->subscriptions[index];
    return &operation->operation;
}

static void run_subscription(struct bench *bench, enum operation_kind kind, unsigned index)
{
    struct operation *operation = subscribing(bench, kind, index);
    assert_int_equal(run(bench, operation), FIBP_OK);
    operation_free(operation);
}

static struct operation *relieving(struct bench *bench)
{
    struct operation_room *room = calloc(1, sizeof(*room));
    room->operation.kind = OPERATION_ROOM;
    room->window = &bench->window;
    return &room->operation;
}

static struct operation *asking(const char *queue)
{
    struct operation_get_stats *stats = calloc(1, sizeof(*stats));
    stats->operation.kind = OPERATION_GET_STATS;
    stats->name = str_from_c(queue);
    return &stats->operation;
}

static uint32_t consumers(struct bench *bench, const char *queue)
{
    struct operation *stats = asking(queue);
    assert_int_equal(run(bench, stats), FIBP_OK);
    uint32_t count = ((struct operation_get_stats *)stats)->totals.consumers;
    operation_free(stats);
    return count;
}

/* --- environments --- */

static void start(struct bench *bench)
{
    struct err err = {0};
    uint64_t generation = atomic_load(&bench->fixture->zone->generation);
    if (pipeline_start(bench->pipeline, generation, &err) != 0)
        fail_msg("%s", err.text);
    UNTIL(bench, pipeline_state(bench->pipeline) != PIPELINE_OPENING);
    assert_int_equal(pipeline_state(bench->pipeline), PIPELINE_RUNNING);
    /* A new store thread brings the loop up to date before anything else. */
    UNTIL(bench, bench->settings == atomic_load(&bench->fixture->zone->settings_generation));
}

/* What a keeper does for the next generation. */
static void recover(struct bench *bench)
{
    struct rebuild_result result;
    struct err err = {0};
    fixture_open_env(bench->fixture);
    if (fixture_rebuild(bench->fixture, &result, &err) != 0)
        fail_msg("%s", err.text);
    atomic_store(&bench->fixture->zone->state, ZONE_UP);
}

static void stop(struct bench *bench)
{
    pipeline_stop(bench->pipeline, false);
    UNTIL(bench, pipeline_state(bench->pipeline) == PIPELINE_AWAY);
}

static int setup(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    void *inner = NULL;
    struct err err;
    if (fixture_setup(&inner) != 0)
        return -1;
    bench->fixture = inner;
    fixture_create(bench->fixture, "q");
    fixture_create(bench->fixture, "gone");
    broker_detach(bench->fixture->broker, true);
    broker_close(bench->fixture->broker);
    bench->fixture->broker = NULL;
    bench->conf.store.path = bench->fixture->path;
    bench->conf.store.cache_size = 16u << 20;
    bench->conf.scheduler.visibility_timeout_ms = 30000;
    bench->conf.scheduler.max_unacked = 1000;
    bench->window.limit = 1u << 20;
    for (unsigned i = 0; i < SUBSCRIPTIONS; i++)
        bench->subscriptions[i] =
            (struct subscription){.queue = STR("q"), .encoder = &encoder, .window = &bench->window};
    os_calls.fdatasync = sync_or_hang;
    zone_slot_prepare(bench->fixture->zone, 0);
    struct pipeline_options options = {
        .zone = bench->fixture->zone, .conf = &bench->conf, .regions = bench->fixture->regions};
    bench->pipeline = pipeline_create(&options, &err);
    *state = bench;
    return bench->pipeline ? 0 : -1;
}

static int teardown(void **state)
{
    struct bench *bench = *state;
    void *inner = bench->fixture;
    take(bench);
    pipeline_destroy(bench->pipeline);
    (void)env_close(bench->fixture->env);
    free(bench);
    return fixture_teardown(&inner);
}

/* --- tests --- */

/* What is subscribed is so in the next environment, what was given up or has lost its queue is not;
 * a limit counts through all of them. */
static void subscriptions_go_from_one_environment_to_the_next(void **state)
{
    struct bench *bench = *state;
    bench->subscriptions[1].limit = 3;
    bench->subscriptions[2].queue = STR("gone");
    start(bench);
    for (unsigned i = 0; i < 4; i++)
        run_subscription(bench, OPERATION_SUBSCRIBE, i);
    run_subscription(bench, OPERATION_UNSUBSCRIBE, 0);
    assert_int_equal(consumers(bench, "q"), 2);
    run_subscription(bench, OPERATION_UNSUBSCRIBE, 3);
    for (unsigned i = 0; i < 2; i++) {
        struct operation *enqueue = message("q");
        run(bench, enqueue);
        UNTIL(bench, bench->deliveries == i + 1);
        message_free(enqueue);
    }
    /* The queue goes while no thread looks: the end is said by the next environment. */
    struct operation_delete_queue delete = {.operation = {.kind = OPERATION_DELETE_QUEUE},
                                            .name = STR("gone")};
    assert_int_equal(run(bench, &delete.operation), FIBP_OK);
    stop(bench);
    /* One that waits for the next environment: its subscription is announced and then ended. */
    struct operation *later = subscribing(bench, OPERATION_UNSUBSCRIBE, 2);
    submit(bench, &later, 1);
    start(bench);
    UNTIL(bench, is_back(bench, later));
    operation_free(later);
    assert_true(bench->ended <= 1);
    assert_int_equal(consumers(bench, "q"), 1);
    for (unsigned i = 0; i < 3; i++) {
        struct operation *enqueue = message("q");
        run(bench, enqueue);
        message_free(enqueue);
    }
    UNTIL(bench, bench->deliveries == 3);
    assert_int_equal(consumers(bench, "q"), 1);
    assert_int_equal(bench->deliveries, 3);
    run_subscription(bench, OPERATION_UNSUBSCRIBE, 1);
    stop(bench);
}

static int sync_in_vain(int fd)
{
    (void)fd;
    errno = EIO;
    return -1;
}

/* Nobody has to send anything, and no sleep has to end, until a failed flush is known. */
static void a_failed_interval_flush_wakes_the_store_thread(void **state)
{
    struct bench *bench = *state;
    struct zone_slot *slot = &bench->fixture->zone->slots[0];
    bench->conf.store.durability = CONF_DURABILITY_INTERVAL;
    bench->conf.store.sync_interval_ms = 5;
    start(bench);
    struct operation *enqueue = message("q"); /* its file is made */
    assert_int_equal(run(bench, enqueue), FIBP_OK);
    message_free(enqueue);
    os_calls.fdatasync = sync_in_vain;
    uint32_t before = atomic_load(&slot->wake);
    enqueue = message("q");
    submit(bench, &enqueue, 1); /* the first time that it is woken */
    UNTIL(bench, pipeline_state(bench->pipeline) == PIPELINE_FAILED);
    assert_true(atomic_load(&slot->wake) - before >= 2);
    os_calls.fdatasync = sync_or_hang;
    stop(bench);
    pipeline_stop(bench->pipeline, true); /* it may not have been looked at */
    UNTIL(bench, is_back(bench, enqueue));
    message_free(enqueue);
}

/* So a worker that ends may submit messages whose scripts it could not ask any more. */
static void what_comes_after_the_end_is_refused(void **state)
{
    struct bench *bench = *state;
    start(bench);
    pipeline_stop(bench->pipeline, true);
    UNTIL(bench, pipeline_state(bench->pipeline) == PIPELINE_AWAY);
    struct operation *enqueue = message("q");
    submit(bench, &enqueue, 1);
    pipeline_stop(bench->pipeline, true);
    UNTIL(bench, is_back(bench, enqueue));
    assert_int_equal(enqueue->status, FIBP_STORAGE_ERROR);
    message_free(enqueue);
    start(bench);
    struct operation *stats = asking("q");
    assert_int_equal(run(bench, stats), FIBP_OK);
    assert_int_equal(((struct operation_get_stats *)stats)->totals.depth, 0);
    operation_free(stats);
    stop(bench);
}

/* Goes on in a child without the threads; this process ends as that one does. */
static void leave_threads(struct bench *bench)
{
    struct err err;
    pid_t child;
    int status;
    fflush(NULL);
    if (pipeline_shed(bench->pipeline, &child, &err) != 0)
        fail_msg("%s", err.text);
    if (child > 0) {
        if (waitpid(child, &status, 0) != child)
            _exit(99);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 98);
    }
    forked = true;
}

static void what_hung_is_sorted_and_goes_on(void **state)
{
    struct bench *bench = *state;
    bench->subscriptions[1].limit = 3;
    start(bench);
    for (unsigned i = 0; i < 3; i++)
        run_subscription(bench, OPERATION_SUBSCRIBE, i);
    run_subscription(bench, OPERATION_UNSUBSCRIBE, 2);
    struct operation *before = message("q");
    run(bench, before);
    UNTIL(bench, bench->deliveries == 1);

    /* In hand: the thread executes all three, posts the last two and hangs in the sync. */
    hang_pid = getpid();
    atomic_store(&hang, true);
    struct operation *begun[] = {message("q"), subscribing(bench, OPERATION_SUBSCRIBE, 3),
                                 asking("q")};
    submit(bench, begun, 3);
    uint64_t deadline = time_monotonic_ms() + PATIENCE_MS;
    while (!atomic_load(&hanging)) {
        assert_true(time_monotonic_ms() < deadline);
        poll(NULL, 0, 1);
    }
    /* And what nobody has looked at. */
    struct operation *unbegun[] = {message("q"), subscribing(bench, OPERATION_SUBSCRIBE, 4),
                                   subscribing(bench, OPERATION_UNSUBSCRIBE, 0), relieving(bench),
                                   asking("q")};
    submit(bench, unbegun, 5);
    zone_shut(bench->fixture->zone);
    pipeline_stop(bench->pipeline, false);
    unsigned back = bench->back_count, deliveries = bench->deliveries;
    leave_threads(bench);

    assert_int_equal(pipeline_state(bench->pipeline), PIPELINE_AWAY);
    take(bench);
    assert_int_equal(bench->back_count, back + 1);
    assert_ptr_equal(bench->back[back], begun[0]);
    assert_int_equal(begun[0]->status, FIBP_STORAGE_ERROR);
    assert_int_equal(bench->deliveries, deliveries);
    assert_int_equal(pipeline_outstanding(bench->pipeline), 7);

    bench->window.queued = 0; /* as sessions do */
    list_init(&bench->window.waiting);
    zone_slot_shed(bench->fixture->zone, 0, getpid());
    recover(bench);
    start(bench);
    UNTIL(bench, pipeline_outstanding(bench->pipeline) == 0);
    take(bench);
    for (unsigned i = 1; i < 3; i++)
        assert_int_equal(begun[i]->status, FIBP_OK);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(unbegun[i]->status, FIBP_OK);
    assert_int_equal(message_status(unbegun[0]), FIBP_OK);
    /* In the order of submission: what was in hand first. */
    assert_ptr_equal(bench->back[back + 1], begun[1]);
    /* 1, 3 and 4; none twice. */
    assert_int_equal(((struct operation_get_stats *)unbegun[4])->totals.consumers, 3);
    assert_int_equal(consumers(bench, "q"), 3);
    for (unsigned i = 1; i < 5; i += i == 1 ? 2 : 1)
        run_subscription(bench, OPERATION_UNSUBSCRIBE, i);
    assert_int_equal(consumers(bench, "q"), 0);
    stop(bench);

    message_free(before);
    for (unsigned i = 0; i < 3; i++)
        i == 0 ? message_free(begun[i]) : operation_free(begun[i]);
    for (unsigned i = 0; i < 5; i++)
        i == 0 ? message_free(unbegun[i]) : operation_free(unbegun[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(subscriptions_go_from_one_environment_to_the_next, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_failed_interval_flush_wakes_the_store_thread, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_comes_after_the_end_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(what_hung_is_sorted_and_goes_on, setup, teardown),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (!forked)
        return failed;
    /* Not by exit: what the threads that were left behind held is lost here, by design. */
    fflush(NULL);
    _exit(failed);
}
