/* Fairness by keys and weights that come from headers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "process/support/fixture.h"

/* `count` messages of a tenant. */
static void enqueue_as(struct fixture *f, struct peer *peer, const char *queue, const char *tenant,
                       const char *weight, unsigned count)
{
    struct peer_message messages[100];
    struct peer_frame *frame = NULL;
    uint32_t request;
    for (unsigned done = 0; done < count; done += 100) {
        unsigned now = count - done < 100 ? count - done : 100;
        for (unsigned i = 0; i < now; i++)
            messages[i] = (struct peer_message){
                .queue = queue, .tenant = tenant, .weight = weight, .payload = STR("m")};
        MUST(f, peer_enqueue_send(peer, messages, now, &request, &f->err));
        MUST_GIVE(f, 1, peer_answer(peer, request, PEER_PATIENCE_MS, &frame, &f->err));
        assert_int_equal(frame->opcode, OPCODE_ENQUEUE_RESULT);
        free(frame);
    }
}

/* Of the next `sample` deliveries, how many have this key. */
static unsigned count_key(struct fixture *f, struct peer *peer, unsigned sample, const char *key)
{
    struct peer_delivery delivery;
    unsigned count = 0;
    for (unsigned i = 0; i < sample; i++) {
        fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
        count += strcmp(delivery.fairness_key, key) == 0;
    }
    return count;
}

static void test_weights_3_to_1(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f), *consumer = fixture_peer(f);
    uint32_t subscription;
    MUST(f, peer_create_queue(peer, "weighted", 120000, &f->err));
    enqueue_as(f, peer, "weighted", "heavy", "3", 400);
    enqueue_as(f, peer, "weighted", "light", "1", 400);
    MUST(f, peer_consume(consumer, "weighted", &subscription, &f->err));
    unsigned heavy = count_key(f, consumer, 400, "heavy");
    assert_in_range(heavy, 280, 320); /* 300, and 5 % */
    f->passed = true;
}

static void test_equal_keys(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f), *consumer = fixture_peer(f);
    struct peer_delivery delivery;
    uint32_t subscription;
    unsigned counts[3] = {0};
    MUST(f, peer_create_queue(peer, "equal", 120000, &f->err));
    /* Ten times as many of the first, all of them there before the others. */
    enqueue_as(f, peer, "equal", "a", NULL, 300);
    enqueue_as(f, peer, "equal", "b", NULL, 30);
    enqueue_as(f, peer, "equal", "c", NULL, 30);
    MUST(f, peer_consume(consumer, "equal", &subscription, &f->err));
    for (unsigned i = 0; i < 90; i++) {
        fixture_receive(f, consumer, PEER_PATIENCE_MS, &delivery);
        assert_in_range(delivery.fairness_key[0], 'a', 'c');
        counts[delivery.fairness_key[0] - 'a']++;
    }
    for (unsigned i = 0; i < 3; i++)
        assert_in_range(counts[i], 28, 32);
    /* A key that ran dry does not stop the others. */
    assert_in_range(count_key(f, consumer, 200, "a"), 195, 200);
    f->passed = true;
}

static void test_new_key_gets_its_share_at_once(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f), *consumer = fixture_peer(f);
    struct peer_delivery delivery;
    uint32_t subscription;
    int position = -1;
    MUST(f, peer_create_queue(peer, "newcomer", 120000, &f->err));
    enqueue_as(f, peer, "newcomer", "crowd", NULL, 3000);
    MUST(f, peer_consume(consumer, "newcomer", &subscription, &f->err));
    for (unsigned i = 0; i < 100; i++)
        fixture_receive(f, consumer, PEER_PATIENCE_MS, &delivery);
    MUST(f, peer_cancel(consumer, subscription, &f->err));
    fixture_wait_stats(f, peer, "newcomer", 3000, UINT64_MAX, 0);
    enqueue_as(f, peer, "newcomer", "single", NULL, 1);
    MUST(f, peer_consume(consumer, "newcomer", &subscription, &f->err));
    for (int i = 0; position < 0 && i < 2900; i++) {
        fixture_receive(f, consumer, PEER_PATIENCE_MS, &delivery);
        if (delivery.subscription != subscription)
            i--; /* sent before the first subscription ended */
        else if (strcmp(delivery.fairness_key, "single") == 0)
            position = i;
    }
    assert_in_range(position, 0, 5);
    f->passed = true;
}

static void test_odd_weights_count_as_one(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f), *consumer = fixture_peer(f);
    uint32_t subscription;
    MUST(f, peer_create_queue(peer, "odd", 120000, &f->err));
    enqueue_as(f, peer, "odd", "zero", "0", 100);
    enqueue_as(f, peer, "odd", "word", "many", 100);
    MUST(f, peer_consume(consumer, "odd", &subscription, &f->err));
    assert_in_range(count_key(f, consumer, 100, "zero"), 45, 55);
    f->passed = true;
}

static void test_many_keys_after_a_crash(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f), *consumer;
    struct peer_delivery delivery;
    uint32_t subscription;
    char key[24];
    unsigned seen[40] = {0};
    MUST(f, peer_create_queue(peer, "keys", 120000, &f->err));
    for (unsigned i = 0; i < 40; i++) {
        snprintf(key, sizeof key, "key%u", i);
        enqueue_as(f, peer, "keys", key, i % 2 ? "2" : "1", 20);
    }
    fixture_crash(f);
    consumer = fixture_peer(f);
    MUST(f, peer_consume(consumer, "keys", &subscription, &f->err));
    for (unsigned i = 0; i < 600; i++) { /* ten rounds: 20 keys with 1, 20 with 2 */
        fixture_receive(f, consumer, PEER_PATIENCE_MS, &delivery);
        unsigned number = (unsigned)atoi(delivery.fairness_key + 3);
        assert_in_range(number, 0, 39);
        assert_int_equal(delivery.weight, number % 2 ? 2 : 1);
        seen[number]++;
    }
    for (unsigned i = 0; i < 40; i++)
        assert_in_range(seen[i], i % 2 ? 18 : 9, i % 2 ? 20 : 12);
    f->passed = true;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_BROKER(test_weights_3_to_1),
        WITH_BROKER(test_equal_keys),
        WITH_BROKER(test_new_key_gets_its_share_at_once),
        WITH_BROKER(test_odd_weights_count_as_one),
        WITH_BROKER(test_many_keys_after_a_crash),
    };
    return cmocka_run_group_tests_name("fairness", tests, NULL, NULL);
}
