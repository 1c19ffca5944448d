/*
 * The rate that a bucket lets through, by the real clock: workers that pull and ack on a store, and
 * the refill thread. THROTTLE_SECONDS=10 measures the whole table, with THROTTLE_SECONDS for each
 * row, or one more with THROTTLE_ROW=RATE,BURST,WORKERS,LANES. Without it two rows are looked at
 * for a moment, since the machine may have other work.
 */
#include <pthread.h>
#include <sys/resource.h>

#include "unit/broker/throttled.h"

#define WORKERS_MAX 4
#define FRAME 1000
#define LATE_S ((double)THROTTLE_LATE_NS / 1e9)

struct worker {
    struct fixture fixture;
    struct subscription sub;
    pthread_t thread;
    uint64_t delivered;
    bool failed;
};

static _Atomic bool stop;

static void *refill_run(void *context)
{
    struct fixture *fixture = context;
    struct scheduler *scheduler = fixture->broker->scheduler;
    while (!atomic_load(&stop)) {
        uint32_t seen = atomic_load(&fixture->zone->refill_wake);
        uint64_t now_ns = time_monotonic_ns(), when_ns = 0;
        if (hold_run(scheduler, now_ns, &when_ns) != LOCK_HELD)
            return context;
        uint64_t latest_ns = now_ns + UINT64_C(100000000);
        hold_sleep(scheduler, seen, when_ns < latest_ns ? when_ns : latest_ns);
    }
    return NULL;
}

/* Acks everything that was delivered since the last call. */
static void ack_all(struct worker *worker)
{
    struct fixture *fixture = &worker->fixture;
    for (unsigned i = 0; i < fixture->emitted_count; i++) {
        struct operation_delivery *delivery = (struct operation_delivery *)fixture->emitted[i];
        struct uuid ids[QUEUE_PULL];
        for (uint32_t j = 0; j < delivery->count; j++)
            ids[j] = delivery->leases[j].id;
        struct operation_settle *settle =
            fixture_settle_frame(OPERATION_ACK, "q", ids, delivery->count);
        struct operation *rest = &settle->operation;
        while (rest && !worker->failed)
            worker->failed = broker_execute(fixture->broker, rest, &rest) != 0;
        worker->delivered += delivery->count;
        atomic_fetch_sub(&fixture->window.queued, delivery->size);
        free(settle);
    }
    fixture_forget_emitted(fixture);
}

static void *worker_run(void *context)
{
    struct worker *worker = context;
    struct fixture *fixture = &worker->fixture;
    struct zone_slot *slot = &fixture->zone->slots[fixture->broker->options.slot];
    while (!atomic_load(&stop) && !worker->failed) {
        uint32_t seen = atomic_load(&slot->wake);
        int more = broker_deliver(fixture->broker, 4);
        worker->failed = more < 0;
        ack_all(worker);
        if (!more)
            zone_sleep(slot, seen, 100);
    }
    return NULL;
}

static void enqueue(struct fixture *fixture, unsigned lanes, uint64_t messages)
{
    char keys[FRAME][12];
    struct fixture_message frame[FRAME];
    struct str throttle_key = STR("x");
    for (uint64_t done = 0; done < messages;) {
        uint32_t count = messages - done < FRAME ? (uint32_t)(messages - done) : FRAME;
        for (uint32_t i = 0; i < count; i++) {
            snprintf(keys[i], sizeof(keys[i]), "%u", (unsigned)((done + i) % lanes));
            frame[i] = (struct fixture_message){"q", keys[i], 1, i, 4};
        }
        struct operation_enqueue *operation = fixture_frame(frame, count);
        for (uint32_t i = 0; i < count; i++) {
            operation->items[i].throttle_keys = &throttle_key;
            operation->items[i].throttle_count = 1;
        }
        fixture_execute(fixture, &operation->operation);
        assert_int_equal(operation->items[0].status, FIBP_OK);
        fixture_frame_free(operation);
        done += count;
    }
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Delivered in a second, without the burst that was there at the beginning. */
static double measure(struct fixture *fixture, double rate, double burst, unsigned workers,
                      unsigned lanes, double seconds)
{
    static struct worker all[WORKERS_MAX];
    pthread_t refill;
    char value[64];
    void *failed = NULL;
    snprintf(value, sizeof(value), "%.17g,%.17g", rate, burst);
    enqueue(fixture, lanes, (uint64_t)(rate * (seconds + 1) + burst) + 10);
    throttled_set(fixture, "throttle.x", value);
    atomic_store(&stop, false);
    for (unsigned i = 0; i < workers; i++) {
        memset(&all[i], 0, sizeof(all[i]));
        fixture_join(&all[i].fixture, fixture, i + 1);
        all[i].fixture.window.limit = 64u << 20;
        fixture_subscribe(&all[i].fixture, "q", &all[i].sub);
    }
    double cpu = cpu_seconds();
    uint64_t began_ns = time_monotonic_ns();
    assert_int_equal(pthread_create(&refill, NULL, refill_run, fixture), 0);
    for (unsigned i = 0; i < workers; i++)
        assert_int_equal(pthread_create(&all[i].thread, NULL, worker_run, &all[i]), 0);
    while ((double)(time_monotonic_ns() - began_ns) < seconds * 1e9)
        usleep(1000);
    atomic_store(&stop, true);
    uint64_t delivered = 0;
    for (unsigned i = 0; i < workers; i++) {
        zone_wake(&fixture->zone->slots[i + 1]);
        pthread_join(all[i].thread, NULL);
        delivered += all[i].delivered;
        assert_false(all[i].failed);
    }
    double passed = (double)(time_monotonic_ns() - began_ns) / 1e9;
    zone_wake_refill(fixture->zone);
    pthread_join(refill, &failed);
    assert_null(failed);
    cpu = cpu_seconds() - cpu;
    for (unsigned i = 0; i < workers; i++) {
        fixture_unsubscribe(&all[i].fixture, &all[i].sub);
        fixture_leave(&all[i].fixture);
    }
    double most = burst + rate * (passed + LATE_S) + 1;
    if ((double)delivered > most)
        fail_msg("rate %g, burst %g: %llu in %.3f s", rate, burst, (unsigned long long)delivered,
                 passed);
    double measured = ((double)delivered - burst) / passed;
    print_message(
        "rate %6g burst %6g workers %u lanes %5u: %7llu of %9.1f, %+6.2f %%, cpu %4.1f %%\n", rate,
        burst, workers, lanes, (unsigned long long)delivered, burst + rate * passed,
        (measured / rate - 1) * 100, cpu / passed * 100);
    return measured;
}

static int setup(void **state)
{
    return fixture_setup_sized(state, UINT64_C(512) << 20, 100);
}

static void one_row(void **state, double rate, double burst, unsigned workers, unsigned lanes,
                    double seconds, double least)
{
    assert_int_equal(setup(state), 0);
    struct fixture *fixture = *state;
    assert_int_equal(fixture_create(fixture, "q"), FIBP_OK);
    double measured = measure(fixture, rate, burst, workers, lanes, seconds);
    fixture_teardown(state);
    if (measured < rate * least)
        fail_msg("rate %g, burst %g, %u workers, %u lanes: %g", rate, burst, workers, lanes,
                 measured);
}

static void the_configured_rate_is_held(void **state)
{
    static const double rates[] = {1, 10, 100, 1000, 10000, 50000};
    const char *text = getenv("THROTTLE_SECONDS");
    double seconds = text ? strtod(text, NULL) : 0;
    const char *row = getenv("THROTTLE_ROW");
    double rate, burst;
    unsigned row_workers, row_lanes;
    if (row && sscanf(row, "%lf,%lf,%u,%u", &rate, &burst, &row_workers, &row_lanes) == 4) {
        assert_in_range(row_workers, 1, WORKERS_MAX);
        one_row(state, rate, burst, row_workers, row_lanes, seconds, 0);
        return;
    }
    if (seconds <= 0) {
        one_row(state, 100, 1, 1, 3, 0.5, 0.6);
        one_row(state, 5000, 1, 2, 100, 0.5, 0.6);
        return;
    }
    for (unsigned workers = 1; workers <= 2; workers++)
        for (unsigned i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
            one_row(state, rates[i], 1, workers, 1, seconds, 0);
            one_row(state, rates[i], 10, workers, 1, seconds, 0);
            one_row(state, rates[i], rates[i], workers, 1, seconds, 0);
        }
    one_row(state, 1000, 1, 2, 10000, seconds, 0);
    one_row(state, 10000, 1, 2, 10000, seconds, 0);
    one_row(state, 50000, 1, 2, 10000, seconds, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_configured_rate_is_held)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
