/* Counting, purging and compacting while others work. */
#include "unit/broker/fixture.h"

#include <sys/stat.h>

#include "broker/move.h"
#include "hook/breaker.h"
#include "keeper/maintenance.h"
#include "os/log.h"
#include "os/time.h"

static const struct conf no_conf;

struct keeping {
    struct fixture *fixture; /* a worker */
    struct broker *broker;   /* the maintenance thread's */
    struct maintenance maintenance;
};

static void start(struct keeping *keeping, struct fixture *fixture)
{
    struct err err = {0};
    struct broker_options options = fixture->broker->options;
    options.slot = ZONE_SLOT_KEEPER;
    options.thread = ZONE_MAINTENANCE;
    keeping->fixture = fixture;
    keeping->broker = broker_open(&options, &err);
    assert_non_null(keeping->broker);
    assert_int_equal(broker_refresh(keeping->broker), 0);
    assert_int_equal(maintenance_init(&keeping->maintenance, keeping->broker, &no_conf, &err), 0);
}

static void stop(struct keeping *keeping)
{
    maintenance_free(&keeping->maintenance);
    broker_close(keeping->broker);
}

static bool counted(const struct fixture *fixture)
{
    const struct scheduler *scheduler = fixture->broker->scheduler;
    return atomic_load(&scheduler->count_done) == atomic_load(&scheduler->count_total);
}

static unsigned count_all(struct keeping *keeping)
{
    unsigned steps = 0;
    while (count_step(&keeping->maintenance) > 0)
        assert_true(++steps < 10000);
    return steps;
}

static void purge(struct keeping *keeping)
{
    assert_int_equal(purge_step(&keeping->maintenance), 0);
    while (purge_file_step(&keeping->maintenance) > 0)
        ;
    assert_true(list_empty(&keeping->maintenance.doomed));
}

/* --- counting --- */

/* What the store holds of a queue. */
static unsigned stored_messages(struct fixture *fixture, const char *name)
{
    struct local_queue *local = NULL;
    struct queue_db_bulk bulk;
    struct str key, value;
    DBC *cursor = NULL;
    uint8_t from[RECORD_KEY_MAX] = {RECORD_TAG_MESSAGE};
    size_t from_size = 1;
    unsigned count = 0;
    assert_int_equal(broker_find_queue(fixture->broker, str_from_c(name), &local), 0);
    assert_int_equal(queue_db_open(&fixture->broker->cache, &local->db, local->queue->id, true), 0);
    queue_db_bulk_init(&bulk);
    assert_int_equal(queue_db_cursor(local->db, &cursor), 0);
    while (queue_db_bulk_read(cursor, &bulk, str_of(from, from_size), 0) == 0) {
        while (queue_db_bulk_next(&bulk, &key, &value)) {
            memcpy(from, key.data, key.size);
            from_size = key.size;
            count++;
        }
        bytes_put_u64(from + 9, bytes_get_u64(from + 9) + 1);
    }
    queue_db_cursor_close(cursor);
    queue_db_bulk_free(&bulk);
    return count;
}

struct held {
    struct uuid ids[4096];
    unsigned count;
};

static void give_back(struct fixture *fixture, struct operation *operation)
{
    struct operation_delivery *delivery = (struct operation_delivery *)operation;
    atomic_fetch_sub(&fixture->window.queued, delivery->size);
    operation->kind = OPERATION_RETURN;
    fixture_execute(fixture, operation);
    operation_free(operation);
}

static void take(struct fixture *fixture, struct held *held, unsigned *seed)
{
    static struct delivered got[4096];
    assert_true(broker_deliver(fixture->broker, 1) >= 0);
    if (fixture->emitted_count && rand_r(seed) % 4 == 0)
        give_back(fixture, fixture->emitted[--fixture->emitted_count]);
    unsigned count = fixture_delivered(fixture, got, 4096);
    for (unsigned i = 0; i < count; i++)
        held->ids[held->count++] = got[i].id;
}

static void settle_some(struct fixture *fixture, struct held *held, unsigned *seed)
{
    for (unsigned i = (unsigned)rand_r(seed) % 20; i > 0 && held->count; i--) {
        unsigned which = (unsigned)rand_r(seed) % held->count;
        enum operation_kind kind = rand_r(seed) % 3 ? OPERATION_ACK : OPERATION_NACK;
        assert_int_equal(fixture_settle(fixture, kind, "q", &held->ids[which]), FIBP_OK);
        held->ids[which] = held->ids[--held->count];
    }
}

static void enqueue_some(struct fixture *fixture, unsigned *seed)
{
    char key[2] = {(char)('a' + rand_r(seed) % 7), 0};
    fixture_enqueue(fixture, "q", key, 1 + (uint32_t)rand_r(seed) % 3, 0,
                    1 + (uint32_t)rand_r(seed) % 20, NULL);
}

static void move_some(struct fixture *fixture, unsigned *seed)
{
    struct local_queue *from = NULL, *to = NULL;
    uint32_t moved = 0;
    uint8_t status = 0;
    bool back = rand_r(seed) % 2;
    assert_int_equal(broker_find_queue(fixture->broker, STR("q"), &from), 0);
    assert_int_equal(broker_find_queue(fixture->broker, STR("q.dlq"), &to), 0);
    struct order order;
    struct local_queue *source = back ? to : from, *target = back ? from : to;
    assert_int_equal(order_begin(&order, fixture->broker, source->queue), 0);
    assert_int_equal(move_ready(fixture->broker, source, target, &order, 10, &moved, &status), 0);
    order_free(&order);
    assert_int_equal(status, FIBP_OK);
    pool_reset(fixture->broker->scratch);
}

static unsigned take_all(struct fixture *fixture, struct subscription *subscription)
{
    static struct delivered got[4096];
    struct operation_room room = {.operation = {.kind = OPERATION_ROOM},
                                  .window = subscription->window};
    fixture_execute(fixture, &room.operation);
    fixture_deliver(fixture);
    unsigned count = fixture_delivered(fixture, got, 4096);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[i].id), FIBP_OK);
    return count;
}

static void one_interleaving(struct fixture *fixture, unsigned seed)
{
    static struct held held;
    struct keeping keeping;
    struct subscription subscription;
    held.count = 0;
    for (unsigned i = 0; i < 40; i++)
        enqueue_some(fixture, &seed);
    fixture_subscribe(fixture, "q", &subscription);
    for (unsigned i = 0; i < 4; i++)
        take(fixture, &held, &seed);
    fixture_close(fixture);
    fixture_open(fixture);
    fixture->broker->options.max_unacked = 200;
    held.count = 0; /* what was held is leased on, and expires in the end */
    start(&keeping, fixture);
    fixture_subscribe(fixture, "q", &subscription);
    bool counting = true;
    for (unsigned i = 0; i < 150; i++) {
        switch (rand_r(&seed) % 6) {
        case 0:
            enqueue_some(fixture, &seed);
            break;
        case 1:
        case 2:
            take(fixture, &held, &seed);
            break;
        case 3:
            settle_some(fixture, &held, &seed);
            break;
        case 4:
            move_some(fixture, &seed);
            break;
        default:
            if (counting && rand_r(&seed) % 3 == 0)
                counting = count_step(&keeping.maintenance) > 0;
        }
    }
    count_all(&keeping);
    assert_true(counted(fixture));
    assert_int_equal(fixture_stats(fixture, "q").depth, stored_messages(fixture, "q"));
    assert_int_equal(fixture_stats(fixture, "q.dlq").depth, stored_messages(fixture, "q.dlq"));
    fixture_expire(fixture, time_monotonic_ms() + 31000);
    struct operation_queue_row totals = fixture_stats(fixture, "q");
    assert_int_equal(totals.in_flight, 0);
    assert_int_equal(totals.depth, stored_messages(fixture, "q"));
    fixture->broker->options.max_unacked = 5000;
    uint64_t had = 0, more = 1;
    for (; more; had += more)
        more = take_all(fixture, &subscription);
    assert_int_equal(had, totals.depth);
    assert_int_equal(fixture_stats(fixture, "q").depth, 0);
    fixture_unsubscribe(fixture, &subscription);
    stop(&keeping);
}

static void counts_are_exact_for_any_interleaving(void **state)
{
    struct fixture *fixture = *state;
    fixture_create(fixture, "q");
    for (unsigned seed = 1; seed <= 12; seed++)
        one_interleaving(fixture, seed);
}

static void several_queues_are_counted_one_after_the_other(void **state)
{
    struct fixture *fixture = *state;
    struct keeping keeping;
    fixture_create(fixture, "a");
    fixture_create(fixture, "b");
    fixture_create(fixture, "c");
    fixture_enqueue(fixture, "a", "k", 1, 0, 1000, NULL);
    fixture_enqueue(fixture, "c", "k", 1, 0, 3, NULL);
    fixture_close(fixture);
    fixture_open(fixture);
    start(&keeping, fixture);
    assert_int_equal(atomic_load(&fixture->broker->scheduler->count_total), 2);
    assert_int_equal(fixture_stats(fixture, "a").counted, 0);
    assert_int_equal(fixture_stats(fixture, "b").counted, 100);
    for (unsigned done = 200; done < 1000; done += 200) {
        assert_int_equal(count_step(&keeping.maintenance), 1);
        struct operation_queue_row now = fixture_stats(fixture, "a");
        assert_int_equal(now.depth, done);
        assert_in_range(now.counted, done / 10 - 10, done / 10 + 10);
        assert_int_equal(fixture_stats(fixture, "c").counted, 0);
    }
    assert_true(count_all(&keeping) >= 2);
    assert_true(counted(fixture));
    assert_int_equal(fixture_stats(fixture, "a").counted, 100);
    assert_int_equal(fixture_stats(fixture, "c").counted, 100);
    assert_int_equal(fixture_stats(fixture, "a").depth, 1000);
    assert_int_equal(fixture_stats(fixture, "b").depth, 0);
    assert_int_equal(fixture_stats(fixture, "c").depth, 3);
    stop(&keeping);
}

/* A queue that goes before its turn, or in the middle of it, does not leave the count unfinished.
 */
static void deleting_ends_the_count(void **state)
{
    struct fixture *fixture = *state;
    struct keeping keeping;
    fixture_create(fixture, "a");
    fixture_create(fixture, "b");
    fixture_enqueue(fixture, "a", "k", 1, 0, 1000, NULL);
    fixture_enqueue(fixture, "b", "k", 1, 0, 1000, NULL);
    fixture_close(fixture);
    fixture_open(fixture);
    start(&keeping, fixture);
    assert_int_equal(count_step(&keeping.maintenance), 1);
    assert_int_equal(fixture_delete(fixture, "a"), FIBP_OK);
    assert_int_equal(fixture_delete(fixture, "b"), FIBP_OK);
    count_all(&keeping);
    assert_true(counted(fixture));
    stop(&keeping);
}

/* --- purging --- */

static bool file_exists(const struct fixture *fixture, uint64_t id)
{
    char path[128];
    struct stat info;
    snprintf(path, sizeof(path), "%s/queues/%llu.db", fixture->path, (unsigned long long)id);
    return stat(path, &info) == 0;
}

static void purge_removes_the_file_when_all_have_let_go(void **state)
{
    struct fixture *fixture = *state;
    struct keeping keeping;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 10, NULL);
    start(&keeping, fixture);
    uint64_t id = fixture_queue(fixture, "q")->id;
    assert_true(file_exists(fixture, id));
    purge(&keeping);
    assert_true(file_exists(fixture, id));
    assert_int_equal(fixture_delete(fixture, "q"), FIBP_OK);
    purge(&keeping);
    assert_true(file_exists(fixture, id)); /* the worker has it open */
    assert_int_equal(broker_refresh(fixture->broker), 0);
    assert_int_equal(broker_refresh(keeping.broker), 0);
    purge(&keeping);
    assert_false(file_exists(fixture, id));
    assert_true(list_empty(&fixture->broker->scheduler->dead));
    /* A new one of the name has a file of its own. */
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 1, NULL);
    assert_true(fixture_queue(fixture, "q")->id > id);
    purge(&keeping);
    assert_int_equal(fixture_stats(fixture, "q").depth, 1);
    stop(&keeping);
}

static unsigned syncs;

static int count_sync(int fd)
{
    syncs++;
    return fdatasync(fd);
}

/* A crash must not bring a queue back without its messages. */
static void a_file_goes_after_its_deletion_is_on_the_disk(void **state)
{
    struct fixture *fixture = *state;
    struct keeping keeping;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 10, NULL);
    start(&keeping, fixture);
    uint64_t id = fixture_queue(fixture, "q")->id;
    assert_int_equal(fixture_delete(fixture, "q"), FIBP_OK);
    assert_int_equal(broker_refresh(fixture->broker), 0);
    assert_int_equal(broker_refresh(keeping.broker), 0);
    os_calls.fdatasync = count_sync;
    syncs = 0;
    assert_int_equal(purge_step(&keeping.maintenance), 0);
    assert_true(file_exists(fixture, id));
    assert_true(syncs > 0);
    purge(&keeping);
    assert_false(file_exists(fixture, id));
    syncs = 0;
    purge(&keeping); /* nothing to do, nothing to sync */
    assert_int_equal(syncs, 0);
    stop(&keeping);
}

static void purge_goes_on_after_a_restart(void **state)
{
    struct fixture *fixture = *state;
    struct keeping keeping;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 10, NULL);
    uint64_t id = fixture_queue(fixture, "q")->id;
    assert_int_equal(fixture_delete(fixture, "q"), FIBP_OK);
    fixture_close(fixture);
    fixture_open(fixture);
    assert_true(file_exists(fixture, id));
    start(&keeping, fixture);
    purge(&keeping);
    assert_false(file_exists(fixture, id));
    purge(&keeping);
    stop(&keeping);
}

/* The maintenance thread may know the queue itself, and even be counting it. */
static void purge_lets_go_of_what_it_counts(void **state)
{
    struct fixture *fixture = *state;
    struct keeping keeping;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 1000, NULL);
    fixture_close(fixture);
    fixture_open(fixture);
    start(&keeping, fixture);
    assert_int_equal(count_step(&keeping.maintenance), 1);
    uint64_t id = fixture_queue(fixture, "q")->id;
    assert_int_equal(fixture_delete(fixture, "q"), FIBP_OK);
    assert_int_equal(broker_refresh(fixture->broker), 0);
    /* Deleted and let go by the worker after this thread looked and before it purges. */
    purge(&keeping);
    /* Its memory may be another queue's now. */
    fixture_create(fixture, "r");
    fixture_enqueue(fixture, "r", "k", 1, 0, 5, NULL);
    count_all(&keeping);
    assert_true(counted(fixture));
    assert_int_equal(broker_refresh(keeping.broker), 0);
    LIST_EACH(&keeping.broker->locals, entry)
    {
        assert_null(CONTAINER_OF(entry, struct local_queue, link)->db);
    }
    purge(&keeping);
    assert_false(file_exists(fixture, id));
    assert_int_equal(fixture_stats(fixture, "r").depth, 5);
    stop(&keeping);
}

/* A worker that runs a queue's script until it hears of the deletion takes a place anew after the
 * deletion. More such queues come and go than there are places. */
static void breakers_of_deleted_queues_are_freed(void **state)
{
    struct fixture *fixture = *state;
    struct zone *zone = fixture->zone;
    struct keeping keeping;
    uint64_t kept, ids[50];
    char name[16];
    log_set_level(LOG_NOTICE);
    start(&keeping, fixture);
    fixture_create(fixture, "kept.dlq");
    kept = fixture_queue(fixture, "kept.dlq")->id;
    atomic_store(&breaker_of(zone, kept)->failures, 2);
    for (unsigned round = 0; round < ZONE_BREAKERS / 50 + 2; round++) {
        for (unsigned i = 0; i < 50; i++) {
            snprintf(name, sizeof(name), "%u.dlq", i); /* these have no other with them */
            assert_int_equal(fixture_create(fixture, name), FIBP_OK);
            ids[i] = fixture_queue(fixture, name)->id;
            struct hook_breaker *breaker = breaker_of(zone, ids[i]);
            assert_non_null(breaker);
            assert_int_equal(atomic_load(&breaker->failures), 0);
            atomic_store(&breaker->failures, 3);
            assert_int_equal(fixture_delete(fixture, name), FIBP_OK);
        }
        for (unsigned i = 0; i < 50; i++)
            (void)breaker_of(zone, ids[i]);
        assert_int_equal(broker_refresh(fixture->broker), 0);
        purge(&keeping);
    }
    assert_int_equal(atomic_load(&breaker_of(zone, kept)->failures), 2);
    stop(&keeping);
    log_set_level(LOG_INFO);
}

/* As above, but a death came before the freeing. */
static void breakers_of_forgotten_queues_are_freed(void **state)
{
    struct fixture *fixture = *state;
    struct zone *zone = fixture->zone;
    unsigned taken = 0;
    fixture_create(fixture, "q");
    uint64_t id = fixture_queue(fixture, "q")->id;
    for (uint64_t gone = id + ZONE_BREAKERS; breaker_of(zone, gone); gone += ZONE_BREAKERS)
        taken++;
    assert_true(taken > 0);
    fixture_close(fixture);
    fixture_open(fixture);
    assert_null(breaker_of(zone, id));
    breaker_sweep(zone, fixture->broker->scheduler);
    assert_non_null(breaker_of(zone, id));
    atomic_store(&breaker_of(zone, id)->failures, 2);
    breaker_sweep(zone, fixture->broker->scheduler);
    assert_int_equal(atomic_load(&breaker_of(zone, id)->failures), 2);
}

/* --- compacting --- */

static void a_drained_queue_shrinks(void **state)
{
    struct fixture *fixture = *state;
    struct keeping keeping;
    struct subscription subscription;
    static struct delivered got[2000];
    static struct fixture_message messages[1500];
    fixture_create(fixture, "q");
    fixture->broker->options.max_unacked = 2000;
    for (uint32_t i = 0; i < 1500; i++)
        messages[i] = (struct fixture_message){"q", i % 2 ? "a" : "b", 1, i, 6000};
    struct operation_enqueue *enqueue = fixture_frame(messages, 1500);
    fixture_execute(fixture, &enqueue->operation);
    fixture_frame_free(enqueue);
    start(&keeping, fixture);
    assert_int_equal(compact_step(&keeping.maintenance), 0);
    uint64_t full = fixture_file_size(fixture, "q");
    fixture_subscribe(fixture, "q", &subscription);
    fixture->window.limit = 64u << 20;
    fixture_deliver(fixture);
    unsigned count = fixture_delivered(fixture, got, 2000);
    assert_int_equal(count, 1500);
    unsigned steps = 0;
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[i].id), FIBP_OK);
        if (i == 1200)
            assert_int_equal(compact_step(&keeping.maintenance), 0); /* not while it has messages */
        if (i == 1300) { /* but when there is hardly any room on the disk */
            atomic_store(&fixture->broker->scheduler->space_low, 1);
            while (compact_step(&keeping.maintenance) > 0)
                assert_true(++steps < 10000);
            atomic_store(&fixture->broker->scheduler->space_low, 0);
            assert_true(fixture_file_size(fixture, "q") < full / 2);
        }
    }
    steps = 0;
    fixture_enqueue(fixture, "q", "a", 1, 7, 1100, NULL); /* much has to go since the last time */
    fixture_deliver(fixture);
    count = fixture_delivered(fixture, got, 2000);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[i].id), FIBP_OK);
    assert_int_equal(compact_step(&keeping.maintenance), 0); /* nor while something goes */
    while (compact_step(&keeping.maintenance) > 0) {
        assert_true(++steps < 10000);
        if (steps == 2) /* it is not alone */
            fixture_enqueue(fixture, "q", "a", 1, 7, 1, NULL);
    }
    assert_true(steps > 0);
    assert_true(fixture_file_size(fixture, "q") < full / 4);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 2000), 1);
    assert_int_equal(got[0].payload, 7);
    fixture_unsubscribe(fixture, &subscription);
    stop(&keeping);
}

static void fill_and_drain(struct fixture *fixture, const char *name)
{
    static struct delivered got[2000];
    static struct fixture_message messages[1500];
    struct subscription subscription;
    fixture_create(fixture, name);
    fixture->broker->options.max_unacked = 2000;
    fixture->window.limit = 64u << 20;
    for (uint32_t i = 0; i < 1500; i++)
        messages[i] = (struct fixture_message){name, "a", 1, i, 1000};
    struct operation_enqueue *enqueue = fixture_frame(messages, 1500);
    fixture_execute(fixture, &enqueue->operation);
    fixture_frame_free(enqueue);
    fixture_subscribe(fixture, name, &subscription);
    fixture_deliver(fixture);
    unsigned count = fixture_delivered(fixture, got, 2000);
    assert_int_equal(count, 1500);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, name, &got[i].id), FIBP_OK);
    fixture_unsubscribe(fixture, &subscription);
}

static void compact_all(struct keeping *keeping)
{
    unsigned steps = 0;
    for (unsigned looks = 0; looks < 4; looks++) /* two are needed to see that nothing goes */
        while (compact_step(&keeping->maintenance) > 0)
            assert_true(++steps < 10000);
}

/* Counters of before tell that a queue whose file was set aside should be compacted. */
static void a_queue_in_quarantine_keeps_no_other_from_shrinking(void **state)
{
    struct fixture *fixture = *state;
    struct keeping keeping;
    fixture_create(fixture, "aside");
    fixture_queue(fixture, "aside")->counters->acked = 5000;
    fixture_queue(fixture, "aside")->quarantined = true;
    fill_and_drain(fixture, "q");
    uint64_t full = fixture_file_size(fixture, "q");
    start(&keeping, fixture);
    compact_all(&keeping);
    assert_true(fixture_file_size(fixture, "q") < full / 4);
    stop(&keeping);
}

/* Nor does one whose file cannot be opened. */
static void a_queue_without_its_file_keeps_no_other_from_shrinking(void **state)
{
    struct fixture *fixture = *state;
    struct keeping keeping;
    fixture_create(fixture, "lost");
    fixture_queue(fixture, "lost")->counters->acked = 5000;
    fill_and_drain(fixture, "q");
    uint64_t full = fixture_file_size(fixture, "q");
    start(&keeping, fixture);
    compact_all(&keeping);
    assert_true(fixture_file_size(fixture, "q") < full / 4);
    stop(&keeping);
}

/* --- space --- */

#define RESERVE (16u << 20)

static uint64_t free_bytes;

static int limited_statvfs(const char *path, struct statvfs *result)
{
    int status = statvfs(path, result);
    result->f_bavail = free_bytes / result->f_frsize;
    return status;
}

static off_t ballast_size(const struct fixture *fixture)
{
    struct stat info;
    char path[96];
    snprintf(path, sizeof(path), "%s/ballast", fixture->path);
    return stat(path, &info) == 0 ? info.st_size : -1;
}

static void look_at_space(struct keeping *keeping)
{
    uint64_t wait_ms = 0;
    keeping->maintenance.next_tick_ms = 0;
    assert_true(maintenance_step(&keeping->maintenance, time_monotonic_ms(), &wait_ms) >= 0);
}

/* A flush of the log that meets a full disk ends in a recovery, and no commit need have met it
 * before. */
static void the_reserve_is_given_up_before_the_disk_is_full(void **state)
{
    struct fixture *fixture = *state;
    struct keeping keeping;
    struct conf conf = {.store = {.path = fixture->path, .reserve = RESERVE}};
    _Atomic uint32_t *low = &fixture->broker->scheduler->space_low;
    start(&keeping, fixture);
    keeping.maintenance.conf = &conf;
    keeping.maintenance.reserve = RESERVE;
    os_calls.statvfs = limited_statvfs;
    free_bytes = 64u << 20;
    look_at_space(&keeping);
    assert_int_equal(ballast_size(fixture), RESERVE);
    assert_int_equal(atomic_load(low), 0);
    free_bytes = 3u << 20; /* less than a quarter of it */
    look_at_space(&keeping);
    assert_int_equal(ballast_size(fixture), RESERVE);
    assert_int_equal(atomic_load(low), 1);
    free_bytes = 1u << 20;
    look_at_space(&keeping);
    assert_int_equal(ballast_size(fixture), 0);
    free_bytes += RESERVE; /* it is not taken back at once */
    look_at_space(&keeping);
    assert_int_equal(ballast_size(fixture), 0);
    assert_int_equal(atomic_load(low), 1);
    free_bytes = 64u << 20;
    look_at_space(&keeping);
    assert_int_equal(ballast_size(fixture), RESERVE);
    assert_int_equal(atomic_load(low), 0);
    os_calls_reset();
    stop(&keeping);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(counts_are_exact_for_any_interleaving, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(several_queues_are_counted_one_after_the_other,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(deleting_ends_the_count, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(purge_removes_the_file_when_all_have_let_go, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_file_goes_after_its_deletion_is_on_the_disk,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(purge_goes_on_after_a_restart, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(purge_lets_go_of_what_it_counts, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(breakers_of_deleted_queues_are_freed, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(breakers_of_forgotten_queues_are_freed, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(the_reserve_is_given_up_before_the_disk_is_full,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_drained_queue_shrinks, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_queue_in_quarantine_keeps_no_other_from_shrinking,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_queue_without_its_file_keeps_no_other_from_shrinking,
                                        fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
