/*
 * Three processes work on one store without any socket: they enqueue, lease, ack and nack messages
 * small and large, and all of them are killed at a random moment, again and again. After each
 * recovery the store holds what was flushed before it was called confirmed, whole, and nothing
 * whose ack was; and when the keeper has swept it, nothing else.
 */
#include "unit/broker/large.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "keeper/maintenance.h"
#include "os/time.h"

#define PROCESSES 3
#define ROUNDS 12
#define NUMBERS (1u << 20) /* messages of all rounds */
#define LEASE_MS 60000

/* What the processes have seen of each message, in memory that outlives them. */
enum seen { SENT = 1, CONFIRMED = 2, ACKING = 4, ACKED = 8 };

struct journal {
    _Atomic uint32_t next;
    _Atomic uint8_t seen[NUMBERS];
};

/* Closing an environment may hang on what the killed held: it stays open to the end, and here is
 * where the leak checker finds it. */
static struct fixture kept[ROUNDS] __attribute__((used));
static unsigned orphans; /* chunks without a message, after all kills */

struct actor {
    struct fixture *fixture;
    struct journal *journal;
    struct subscription subscriptions[2];
    unsigned seed;
};

static void open_actor(struct actor *actor, unsigned slot)
{
    struct fixture *fixture = actor->fixture;
    struct err err = {0};
    struct env_options options = {
        .path = fixture->path, .regions = fixture->regions, .cache_size = 16u << 20};
    fixture->emitted_count = 0;
    fixture->env = env_open(&options, &err);
    if (!fixture->env)
        _exit(2);
    fixture_open_broker(fixture, slot);
    fixture_subscribe(fixture, "q", &actor->subscriptions[0]);
    large_subscribe(fixture, "large", &actor->subscriptions[1]);
}

static void enqueue_some(struct actor *actor)
{
    uint32_t count = 1 + (uint32_t)rand_r(&actor->seed) % 20;
    uint32_t first = atomic_fetch_add(&actor->journal->next, count);
    char key[2] = {(char)('a' + rand_r(&actor->seed) % 5), '\0'};
    if (first + count >= NUMBERS)
        _exit(3);
    for (uint32_t i = first; i < first + count; i++)
        atomic_fetch_or(&actor->journal->seen[i], SENT);
    fixture_enqueue(actor->fixture, "q", key, 1, first, count, NULL);
    if (env_flush(actor->fixture->env) != 0)
        _exit(4);
    for (uint32_t i = first; i < first + count; i++)
        atomic_fetch_or(&actor->journal->seen[i], CONFIRMED);
}

/* One of up to 3 MiB, in slices and steps. */
static void enqueue_large(struct actor *actor)
{
    uint32_t number = atomic_fetch_add(&actor->journal->next, 1);
    if (number >= NUMBERS)
        _exit(3);
    atomic_fetch_or(&actor->journal->seen[number], SENT);
    if (large_enqueue(actor->fixture, "large", number,
                      4 + (size_t)rand_r(&actor->seed) % (3u << 20)) != FIBP_OK)
        _exit(7);
    if (env_flush(actor->fixture->env) != 0)
        _exit(4);
    atomic_fetch_or(&actor->journal->seen[number], CONFIRMED);
}

static void settle_some(struct actor *actor)
{
    struct delivered got[256];
    bool acked[256] = {false};
    if (broker_deliver(actor->fixture->broker, 2) < 0)
        _exit(6);
    unsigned count = fixture_delivered(actor->fixture, got, 256);
    for (unsigned i = 0; i < count; i++) {
        const char *queue = got[i].key == 'k' ? "large" : "q";
        if (rand_r(&actor->seed) % 4 == 0) {
            (void)fixture_settle(actor->fixture, OPERATION_NACK, queue, &got[i].id);
            continue;
        }
        atomic_fetch_or(&actor->journal->seen[got[i].payload], ACKING);
        if (fixture_settle(actor->fixture, OPERATION_ACK, queue, &got[i].id) != FIBP_OK)
            _exit(5);
        acked[i] = true;
    }
    if (env_flush(actor->fixture->env) != 0)
        _exit(4);
    for (unsigned i = 0; i < count; i++)
        if (acked[i])
            atomic_fetch_or(&actor->journal->seen[got[i].payload], ACKED);
}

static void run_actor(struct fixture *fixture, struct journal *journal, unsigned number,
                      unsigned round)
{
    struct actor actor = {.fixture = fixture, .journal = journal, .seed = round * 7 + number};
    open_actor(&actor, number + 1);
    for (;;) {
        enqueue_some(&actor);
        if (rand_r(&actor.seed) % 4 == 0)
            enqueue_large(&actor);
        settle_some(&actor);
    }
}

/* Until the processes have done something, and a random time more. */
static void let_them_work(const struct journal *journal, unsigned *seed)
{
    uint32_t start = atomic_load(&journal->next);
    while (atomic_load(&journal->next) < start + 200)
        usleep(1000);
    usleep((useconds_t)(rand_r(seed) % 200000));
}

static void kill_all(struct fixture *fixture, pid_t *children)
{
    /* All at one moment: who notices that another one died with a lock ends by himself. */
    for (unsigned i = 0; i < PROCESSES; i++)
        kill(children[i], SIGSTOP);
    for (unsigned i = 0; i < PROCESSES; i++)
        kill(children[i], SIGKILL);
    for (unsigned i = 0; i < PROCESSES; i++) {
        int status = 0;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        zone_slot_release(fixture->zone, i + 1);
    }
}

/* What the killed had begun is marked, and gone when it was swept. */
static void check_leftovers(struct fixture *fixture)
{
    static const struct conf no_conf;
    struct maintenance maintenance;
    struct err err = {0};
    struct large_stored stored = large_look(fixture, "large");
    assert_true(stored.markers <= PROCESSES && (stored.markers || !stored.orphans));
    orphans += stored.orphans;
    assert_int_equal(maintenance_init(&maintenance, fixture->broker, &no_conf, &err), 0);
    while (sweep_step(&maintenance, time_monotonic_ms()) > 0)
        continue;
    maintenance_free(&maintenance);
    stored = large_look(fixture, "large");
    assert_int_equal(stored.orphans, 0);
    assert_int_equal(stored.markers, 0);
}

/* Takes out everything the store holds and compares it with the journal. */
static void check_store(struct fixture *fixture, const struct journal *journal)
{
    struct subscription subscription, large;
    static struct delivered got[EMITTED_MAX * 32];
    static uint8_t found[NUMBERS];
    uint32_t end = atomic_load(&journal->next);
    memset(found, 0, sizeof(found));
    fixture->broker->options.max_unacked = UINT32_MAX;
    fixture->window.limit = UINT64_MAX;
    fixture_expire(fixture, time_monotonic_ms() + 2 * LEASE_MS);
    fixture_subscribe(fixture, "q", &subscription);
    large_subscribe(fixture, "large", &large);
    fixture_deliver(fixture);
    unsigned count = fixture_delivered(fixture, got, EMITTED_MAX * 32);
    for (unsigned i = 0; i < count; i++) {
        assert_true(got[i].payload < end && !found[got[i].payload]);
        found[got[i].payload] = 1;
    }
    for (uint32_t i = 0; i < end; i++) {
        uint8_t seen = atomic_load(&journal->seen[i]);
        if ((seen & CONFIRMED) && !(seen & ACKING) && !found[i])
            fail_msg("message %u was confirmed and is gone", i);
        if ((seen & ACKED) && found[i])
            fail_msg("message %u was acked and is back", i);
        if (!(seen & SENT) && found[i])
            fail_msg("message %u was never sent", i);
    }
    assert_int_equal(fixture_stats(fixture, "q").depth + fixture_stats(fixture, "large").depth,
                     count);
    fixture_unsubscribe(fixture, &subscription);
    fixture_unsubscribe(fixture, &large);
    check_leftovers(fixture);
}

static void what_was_flushed_survives_every_kill(void **state)
{
    struct fixture *fixture = *state;
    unsigned seed = 42;
    struct journal *journal =
        mmap(NULL, sizeof(*journal), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(journal != MAP_FAILED);
    fixture_create(fixture, "q");
    fixture_create(fixture, "large");
    assert_int_equal(env_flush(fixture->env), 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        pid_t children[PROCESSES];
        for (unsigned i = 0; i < PROCESSES; i++) {
            zone_slot_prepare(fixture->zone, i + 1);
            children[i] = fork();
            assert_true(children[i] >= 0);
            if (children[i] == 0)
                run_actor(fixture, journal, i, round);
        }
        let_them_work(journal, &seed);
        kill_all(fixture, children);
        kept[round] = *fixture;
        zone_shut(fixture->zone);
        fixture_open(fixture);
        check_store(fixture, journal);
        fixture_close(fixture);
        fixture_open(fixture);
    }
    fprintf(stderr, "%u messages, %u times three processes killed, %u chunks swept\n",
            atomic_load(&journal->next), ROUNDS, orphans);
    munmap(journal, sizeof(*journal));
}

static int setup(void **state)
{
    int status = fixture_setup(state);
    if (status == 0)
        ((struct fixture *)*state)->timeout_ms = LEASE_MS;
    return status;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_flushed_survives_every_kill, setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
