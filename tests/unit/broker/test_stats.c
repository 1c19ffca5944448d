#include "unit/broker/fixture.h"

#include <poll.h>
#include <sys/syscall.h>

#include "os/thread.h"

static struct operation_queue_details *ask(struct fixture *fixture, const char *queue,
                                           const char *after, uint32_t limit)
{
    struct operation_queue_details *details = calloc(1, sizeof(*details));
    assert_non_null(details);
    details->operation.kind = OPERATION_QUEUE_DETAILS;
    details->queue = str_from_c(queue);
    details->after = str_from_c(after);
    details->limit = limit;
    details->histograms = true;
    fixture_execute(fixture, &details->operation);
    return details;
}

static void counters_follow_what_happens(void **state)
{
    enum { MESSAGES = 10 };
    struct fixture *fixture = *state;
    struct subscription subscription;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, MESSAGES, NULL);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    struct operation_queue_details *details = ask(fixture, "q", "", 0);
    assert_int_equal(details->operation.status, FIBP_OK);
    assert_int_equal(details->count, 1);
    const uint64_t *numbers = details->rows[0].numbers;
    assert_int_equal(numbers[DETAIL_DEPTH], MESSAGES);
    assert_int_equal(numbers[DETAIL_IN_FLIGHT], MESSAGES);
    assert_int_equal(numbers[DETAIL_READY], 0);
    assert_int_equal(numbers[DETAIL_CONSUMERS], 1);
    assert_int_equal(numbers[DETAIL_ENQUEUED], MESSAGES);
    assert_int_equal(numbers[DETAIL_DELIVERED], MESSAGES);
    assert_true(numbers[DETAIL_ENQUEUED_BYTES] > 0);
    assert_int_equal(numbers[DETAIL_DELIVERED_BYTES], numbers[DETAIL_ENQUEUED_BYTES]);
    assert_int_equal(numbers[DETAIL_WAIT_COUNT], MESSAGES);
    assert_int_equal(numbers[DETAIL_COUNTED_PERCENT], 100);
    assert_true(numbers[DETAIL_SINCE_MS] > 0);
    assert_true(numbers[DETAIL_SINCE_MS] <= details->broker[BROKER_NOW_MS]);
    assert_int_equal(histogram_count(&details->rows[0].waits), MESSAGES);
    assert_int_equal(details->broker[BROKER_QUEUES], 2);
    operation_free(&details->operation);

    /* Returned by their consumer and delivered again: one time in the queue, two deliveries. */
    fixture_unsubscribe(fixture, &subscription);
    details = ask(fixture, "q", "", 0);
    numbers = details->rows[0].numbers;
    assert_int_equal(numbers[DETAIL_WAIT_COUNT], MESSAGES);
    operation_free(&details->operation);
}

static void pages_follow_each_other(void **state)
{
    enum { QUEUES = 49 }; /* and as many dead-letter queues */
    struct fixture *fixture = *state;
    char name[32], after[32] = "";
    unsigned seen = 0;
    for (unsigned i = 0; i < QUEUES; i++) { /* not in the order of names */
        snprintf(name, sizeof(name), "q%03u", i * 5 % QUEUES);
        assert_int_equal(fixture_create(fixture, name), FIBP_OK);
    }
    for (bool more = true; more;) {
        struct operation_queue_details *details = ask(fixture, "", after, 7);
        assert_int_equal(details->operation.status, FIBP_OK);
        assert_true(details->count == 7 || !details->more);
        for (uint32_t i = 0; i < details->count; i++, seen++) {
            snprintf(name, sizeof(name), seen % 2 ? "q%03u.dlq" : "q%03u", seen / 2);
            assert_true(str_equal(details->rows[i].name, str_from_c(name)));
        }
        snprintf(after, sizeof(after), "%s", name);
        more = details->more;
        operation_free(&details->operation);
    }
    assert_int_equal(seen, 2 * QUEUES);
    struct operation_queue_details *details = ask(fixture, "", "zzz", 0);
    assert_int_equal(details->count, 0);
    assert_false(details->more);
    operation_free(&details->operation);
    details = ask(fixture, "", "", 2 * QUEUES); /* exactly all: nothing follows */
    assert_int_equal(details->count, 2 * QUEUES);
    assert_false(details->more);
    operation_free(&details->operation);
}

static void a_queue_that_is_not_there_is_said(void **state)
{
    struct operation_queue_details *details = ask(*state, "none", "", 0);
    assert_int_equal(details->operation.status, FIBP_QUEUE_NOT_FOUND);
    assert_int_equal(details->count, 0);
    operation_free(&details->operation);
}

static void what_a_hook_rejects_or_fails_at_is_counted(void **state)
{
    struct fixture *fixture = *state;
    struct operation_enqueue *enqueue = calloc(1, sizeof(*enqueue) + 2 * sizeof(enqueue->items[0]));
    static const uint8_t record[] = {0, 0, 0, 0, 0, 1, 'x'};
    fixture_create(fixture, "q");
    enqueue->operation.kind = OPERATION_ENQUEUE;
    enqueue->count = 2;
    for (unsigned i = 0; i < 2; i++)
        enqueue->items[i] = (struct operation_enqueue_item){
            .queue = STR("q"), .record = str_of(record, sizeof(record)), .weight = 1};
    enqueue->items[0].rejected = STR("no");
    enqueue->items[1].hook_failed = true;
    fixture_execute(fixture, &enqueue->operation);
    assert_int_equal(enqueue->items[0].status, FIBP_FORBIDDEN);
    assert_int_equal(enqueue->items[1].status, FIBP_OK);
    operation_free(&enqueue->operation);
    struct operation_queue_details *details = ask(fixture, "q", "", 0);
    assert_int_equal(details->rows[0].numbers[DETAIL_REJECTED], 1);
    assert_int_equal(details->rows[0].numbers[DETAIL_HOOK_ERRORS], 1);
    assert_int_equal(details->rows[0].numbers[DETAIL_ENQUEUED], 1);
    assert_int_equal(details->rows[0].numbers[DETAIL_ENQUEUED_BYTES], sizeof(record));
    operation_free(&details->operation);
}

/* --- locks --- */

struct asking {
    struct fixture *fixture;
    struct operation *operation;
    _Atomic pid_t thread;
};

static void ask_on_thread(void *argument)
{
    struct asking *asking = argument;
    atomic_store(&asking->thread, (pid_t)syscall(SYS_gettid));
    fixture_execute(asking->fixture, asking->operation);
}

/* A thread that runs nothing but that sleeps in a lock. */
static bool sleeps(pid_t thread)
{
    char path[64], line[512] = "";
    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)thread);
    FILE *file = fopen(path, "r");
    if (!file)
        return false;
    bool read = fgets(line, sizeof(line), file) != NULL;
    fclose(file);
    const char *name_end = read ? strrchr(line, ')') : NULL;
    return name_end && name_end[2] == 'S';
}

/* Whether the catalog lock is free while a queue's lock is waited for. */
static bool leaves_catalog_alone(struct fixture *fixture, struct operation *operation)
{
    struct scheduler *scheduler = fixture->broker->scheduler;
    struct asking asking = {.fixture = fixture, .operation = operation};
    struct thread thread;
    struct err err;
    struct queue *queue = fixture_queue(fixture, "q");
    assert_int_equal(scheduler_lock(scheduler, &queue->lock), LOCK_HELD);
    assert_int_equal(thread_create(&thread, "asking", ask_on_thread, &asking, &err), 0);
    while (!atomic_load(&asking.thread) || !sleeps(asking.thread))
        poll(NULL, 0, 1);
    bool is_free = pthread_mutex_trylock(&scheduler->catalog_lock.mutex) == 0;
    if (is_free)
        lock_release(&scheduler->catalog_lock);
    lock_release(&queue->lock);
    thread_join(&thread);
    return is_free;
}

static void nobody_waits_for_the_catalog_meanwhile(void **state)
{
    struct fixture *fixture = *state;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q.dlq", "k", 1, 0, 3, NULL);
    struct operation_queue_details *details = calloc(1, sizeof(*details));
    details->operation.kind = OPERATION_QUEUE_DETAILS;
    assert_true(leaves_catalog_alone(fixture, &details->operation));
    assert_int_equal(details->count, 2);
    assert_int_equal(details->rows[0].numbers[DETAIL_DEAD_LETTERS], 3);
    operation_free(&details->operation);
    struct operation_list_queues *list = calloc(1, sizeof(*list));
    list->operation.kind = OPERATION_LIST_QUEUES;
    assert_true(leaves_catalog_alone(fixture, &list->operation));
    assert_int_equal(list->count, 2);
    assert_true(str_equal(list->rows[1].name, STR("q.dlq")));
    assert_int_equal(list->rows[1].depth, 3);
    operation_free(&list->operation);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(counters_follow_what_happens),
        TEST(pages_follow_each_other),
        TEST(a_queue_that_is_not_there_is_said),
        TEST(nobody_waits_for_the_catalog_meanwhile),
        TEST(what_a_hook_rejects_or_fails_at_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
