/* Who gets what when: room, turns, sizes, and lanes that are not counted yet. */
#include "unit/broker/fixture.h"

#include "keeper/maintenance.h"
#include "os/time.h"

static void set_max_unacked(struct fixture *fixture, uint32_t limit)
{
    fixture->max_unacked = fixture->broker->options.max_unacked = limit;
}

static void say_room(struct fixture *fixture, struct subscription *subscription)
{
    struct operation_room room = {.operation = {.kind = OPERATION_ROOM},
                                  .window = subscription->window};
    fixture_execute(fixture, &room.operation);
}

/* How many messages of what was emitted belong to a subscription. */
static uint32_t emitted_to(const struct fixture *fixture, const struct subscription *subscription)
{
    uint32_t count = 0;
    for (unsigned i = 0; i < fixture->emitted_count; i++) {
        const struct operation_delivery *delivery =
            (const struct operation_delivery *)fixture->emitted[i];
        if (fixture->emitted[i]->kind == OPERATION_DELIVERY &&
            delivery->subscription == subscription)
            count += delivery->count;
    }
    return count;
}

static void ack_all(struct fixture *fixture, const char *queue, const struct delivered *got,
                    unsigned count)
{
    if (!count)
        return;
    struct uuid *ids = calloc(count, sizeof(*ids));
    for (unsigned i = 0; i < count; i++)
        ids[i] = got[i].id;
    struct operation_settle *acks = fixture_settle_frame(OPERATION_ACK, queue, ids, count);
    fixture_execute(fixture, &acks->operation);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(acks->items[i].status, FIBP_OK);
    free(acks);
    free(ids);
}

/* --- room --- */

static void each_consumer_holds_max_unacked_and_no_more(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscriptions[3];
    struct delivered got[64];
    fixture_create(fixture, "q");
    set_max_unacked(fixture, 7);
    for (unsigned i = 0; i < 3; i++)
        fixture_subscribe(fixture, "q", &subscriptions[i]);
    fixture_enqueue(fixture, "q", "k", 1, 0, 100, NULL);
    fixture_deliver(fixture);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(emitted_to(fixture, &subscriptions[i]), 7);
    assert_int_equal(fixture_delivered(fixture, got, 64), 21);
    fixture_deliver(fixture);
    assert_int_equal(fixture->emitted_count, 0);
    /* An ack makes room for exactly one, for the consumer that had the message; it is not asked
     * for. */
    ack_all(fixture, "q", got, 1);
    fixture_deliver(fixture);
    struct delivered more[64];
    assert_int_equal(fixture_delivered(fixture, more, 64), 1);
    assert_int_equal(more[0].payload, 21);
    ack_all(fixture, "q", got + 1, 20);
    fixture_deliver(fixture);
    for (unsigned i = 0; i < 3; i++)
        assert_in_range(emitted_to(fixture, &subscriptions[i]), 6, 7);
    assert_int_equal(fixture_delivered(fixture, more, 64), 20);
    for (unsigned i = 0; i < 3; i++)
        fixture_unsubscribe(fixture, &subscriptions[i]);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 21);
}

static void consumers_take_turns(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscriptions[4];
    static struct delivered got[512];
    uint32_t total[4] = {0};
    fixture_create(fixture, "q");
    for (unsigned i = 0; i < 4; i++)
        fixture_subscribe(fixture, "q", &subscriptions[i]);
    for (unsigned round = 0; round < 40; round++) {
        fixture_enqueue(fixture, "q", "k", 1, round, 1 + round % 3, NULL);
        fixture_deliver(fixture);
        for (unsigned i = 0; i < 4; i++)
            total[i] += emitted_to(fixture, &subscriptions[i]);
        ack_all(fixture, "q", got, fixture_delivered(fixture, got, 512));
    }
    for (unsigned i = 0; i < 4; i++)
        assert_in_range(total[i], 79 / 4, 79 / 4 + 1);
    for (unsigned i = 0; i < 4; i++)
        fixture_unsubscribe(fixture, &subscriptions[i]);
}

static void a_full_window_pauses_until_room(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription, roomy;
    struct delivery_window window = {.limit = 1u << 20};
    static struct delivered got[64];
    fixture_create(fixture, "q");
    fixture->window.limit = 1;
    fixture_subscribe(fixture, "q", &subscription);
    fixture_enqueue(fixture, "q", "k", 1, 0, 40, NULL);
    fixture_deliver(fixture); /* one frame beyond the limit at most */
    unsigned first = fixture->emitted_count;
    assert_int_equal(first, 1);
    assert_true(atomic_load(&fixture->window.queued) > 0);
    assert_int_equal(atomic_load(&fixture->window.paused), 1);
    fixture_deliver(fixture);
    assert_int_equal(fixture->emitted_count, 1);
    unsigned count = fixture_delivered(fixture, got, 64);
    assert_int_equal(atomic_load(&fixture->window.queued), 0);
    while (count < 40) { /* now that the size of messages is known, one at a time */
        atomic_store(&fixture->window.paused, 0);
        say_room(fixture, &subscription);
        fixture_deliver(fixture);
        unsigned one = fixture_delivered(fixture, got + count, 64 - count);
        assert_int_equal(one, 1);
        count += one;
    }
    for (uint32_t i = 0; i < 40; i++)
        assert_int_equal(got[i].payload, i);
    /* A paused consumer does not hold up another one. */
    atomic_store(&fixture->window.queued, 100);
    fixture_subscribe(fixture, "q", &roomy);
    roomy.window = &window;
    fixture_enqueue(fixture, "q", "k", 1, 40, 10, NULL);
    fixture_deliver(fixture);
    assert_int_equal(emitted_to(fixture, &roomy), 10);
    assert_int_equal(emitted_to(fixture, &subscription), 0);
    fixture_unsubscribe(fixture, &subscription);
    fixture_unsubscribe(fixture, &roomy);
}

/* A frame may be as large as a pull: it must not be put on top of a window that is nearly full. */
static void a_window_is_filled_to_its_limit_and_one_message(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    static struct delivered got[64];
    fixture_create(fixture, "q");
    fixture_subscribe(fixture, "q", &subscription);
    fixture_enqueue(fixture, "q", "k", 1, 0, 1, NULL);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 64), 1);
    fixture->window.limit = 300;
    fixture_enqueue(fixture, "q", "k", 1, 0, 200, NULL);
    fixture_deliver(fixture);
    assert_in_range(atomic_load(&fixture->window.queued), 300, 300 + FRAME_MESSAGE - 1);
    assert_int_equal(atomic_load(&fixture->window.paused), 1);
    fixture_unsubscribe(fixture, &subscription);
}

/* Clients that are slow must not take all that a worker has for deliveries. */
static void those_who_do_not_read_leave_room_for_who_does(void **state)
{
    struct fixture *fixture = *state;
    struct delivery_window worker = {.limit = 8000}, windows[40] = {{0}};
    struct subscription slow[39], quick;
    uint64_t sum = 0;
    fixture_create(fixture, "slow");
    fixture_create(fixture, "quick");
    fixture_enqueue(fixture, "slow", "k", 1, 0, 2000, NULL);
    for (unsigned i = 0; i < 40; i++)
        windows[i] = (struct delivery_window){.limit = 1000, .worker = &worker};
    for (unsigned i = 0; i < 39; i++) {
        fixture_subscribe(fixture, "slow", &slow[i]);
        slow[i].window = &windows[i];
        fixture_deliver(fixture);
        sum += atomic_load(&windows[i].queued);
        assert_true(atomic_load(&windows[i].queued) > 0);
    }
    assert_int_equal(atomic_load(&worker.queued), sum);
    assert_int_equal(atomic_load(&worker.paused), 0);
    fixture_subscribe(fixture, "quick", &quick);
    quick.window = &windows[39];
    fixture_enqueue(fixture, "quick", "k", 1, 0, 3, NULL);
    fixture_deliver(fixture);
    assert_int_equal(emitted_to(fixture, &quick), 3);
    for (unsigned i = 0; i < 39; i++)
        fixture_unsubscribe(fixture, &slow[i]);
    fixture_unsubscribe(fixture, &quick);
}

/* A connection's room is that of all its subscriptions, on whatever queues. */
static void room_of_a_connection_reopens_all_its_subscriptions(void **state)
{
    struct fixture *fixture = *state;
    static char names[20][8];
    struct subscription subscriptions[20];
    static struct delivered got[256];
    fixture->window.limit = 1;
    for (unsigned i = 0; i < 20; i++) {
        snprintf(names[i], sizeof(names[i]), "q%u", i);
        fixture_create(fixture, names[i]);
        fixture_subscribe(fixture, names[i], &subscriptions[i]);
        fixture_enqueue(fixture, names[i], "k", 1, i, 1, NULL);
    }
    unsigned count = 0;
    for (unsigned round = 0; round < 40 && count < 20; round++) {
        fixture_deliver(fixture);
        unsigned got_now = fixture_delivered(fixture, got + count, 256 - count);
        assert_true(got_now > 0);
        count += got_now;
        say_room(fixture, &subscriptions[0]);
    }
    assert_int_equal(count, 20);
    /* One that goes away while it waits is not asked again. */
    atomic_store(&fixture->window.queued, 100);
    fixture_enqueue(fixture, names[3], "k", 1, 0, 1, NULL);
    fixture_enqueue(fixture, names[4], "k", 1, 0, 1, NULL);
    fixture_deliver(fixture);
    assert_int_equal(fixture->emitted_count, 0);
    fixture_unsubscribe(fixture, &subscriptions[3]);
    atomic_store(&fixture->window.queued, 0);
    say_room(fixture, &subscriptions[4]);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 256), 1);
    for (unsigned i = 0; i < 20; i++)
        fixture_unsubscribe(fixture, &subscriptions[i]);
}

/* A pull that ends without a lease leaves its consumers as they were. */
static void a_full_zone_costs_no_consumer_its_turn(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscriptions[2];
    static struct delivered got[64];
    static void *taken[1u << 16];
    unsigned held = 0;
    fixture_create(fixture, "q");
    set_max_unacked(fixture, 3);
    /* With room for one and for three, the first is passed over when its turn comes again. */
    fixture_subscribe(fixture, "q", &subscriptions[0]);
    fixture_enqueue(fixture, "q", "k", 1, 0, 2, NULL);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 64), 2);
    fixture_subscribe(fixture, "q", &subscriptions[1]);
    fixture_enqueue(fixture, "q", "k", 1, 2, 8, NULL);
    for (size_t size = 65536; size >= 16; size -= size > 1024 ? 1024 : 16)
        while (held < sizeof(taken) / sizeof(taken[0]) &&
               (taken[held] = arena_alloc(fixture->broker->scheduler->arena, size)))
            held++;
    assert_true(held < sizeof(taken) / sizeof(taken[0]));
    fixture_deliver(fixture);
    assert_int_equal(fixture->emitted_count, 0);
    while (held)
        arena_free(fixture->broker->scheduler->arena, taken[--held]);
    fixture->broker->later_ms = 0;
    fixture_deliver(fixture);
    assert_int_equal(emitted_to(fixture, &subscriptions[0]), 1);
    assert_int_equal(emitted_to(fixture, &subscriptions[1]), 3);
    assert_int_equal(fixture_delivered(fixture, got, 64), 4);
    fixture_unsubscribe(fixture, &subscriptions[0]);
    fixture_unsubscribe(fixture, &subscriptions[1]);
}

/* --- turns of keys --- */

static void equal_keys_get_equal_shares(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    static struct delivered got[600];
    unsigned counts[3] = {0};
    fixture_create(fixture, "q");
    for (unsigned i = 0; i < 3; i++)
        fixture_enqueue(fixture, "q", (const char *[]){"a", "b", "c"}[i], 1, 0, 200, NULL);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 600), 600);
    for (unsigned i = 0; i < 600; i++) {
        assert_int_equal(got[i].payload, counts[got[i].key - 'a']++);
        assert_true(counts[0] - counts[1] + 1 <= 2 && counts[1] - counts[2] + 1 <= 2);
    }
    fixture_unsubscribe(fixture, &subscription);
}

static void a_thousand_keys_each_get_a_turn(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    static struct delivered got[3000];
    static unsigned turns[1000];
    static char keys[1000][8];
    static struct fixture_message messages[1000];
    memset(turns, 0, sizeof(turns));
    fixture_create(fixture, "q");
    set_max_unacked(fixture, 5000);
    for (uint32_t i = 0; i < 1000; i++) {
        snprintf(keys[i], sizeof(keys[i]), "%u", i);
        messages[i] = (struct fixture_message){"q", keys[i], 1, i, 4};
    }
    for (unsigned i = 0; i < 3; i++) {
        struct operation_enqueue *enqueue = fixture_frame(messages, 1000);
        fixture_execute(fixture, &enqueue->operation);
        for (unsigned j = 0; j < 1000; j++)
            assert_int_equal(enqueue->items[j].status, FIBP_OK);
        fixture_frame_free(enqueue);
    }
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 3000), 3000);
    for (unsigned i = 0; i < 3000; i++)
        assert_int_equal(turns[got[i].payload]++, i / 1000);
    fixture_unsubscribe(fixture, &subscription);
}

/* Two keys of one weight with large messages: neither runs ahead by more than a pull or two. */
static void large_messages_keep_the_shares(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    static struct delivered got[64];
    int lead = 0, longest = 0;
    fixture_create(fixture, "q");
    for (uint32_t i = 0; i < 30; i++) {
        assert_int_equal(
            fixture_enqueue_one(fixture, (struct fixture_message){"q", "a", 1, i, 300u << 10}), 0);
        assert_int_equal(
            fixture_enqueue_one(fixture, (struct fixture_message){"q", "b", 1, i, 300u << 10}), 0);
    }
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 64), 60);
    for (unsigned i = 0; i < 60; i++) {
        lead += got[i].key == 'a' ? 1 : -1;
        longest = abs(lead) > longest ? abs(lead) : longest;
    }
    assert_in_range(longest, 1, 8);
    fixture_unsubscribe(fixture, &subscription);
}

/* --- sizes --- */

static size_t checked_bytes;

static bool check_add(const struct subscription *subscription, struct buf *out,
                      const struct delivery_message *message)
{
    uint8_t *data = fixture_record(message);
    assert_non_null(data);
    uint32_t payload = bytes_get_u32(data + 2);
    assert_int_equal(message->record.size + message->rest, 6 + payload);
    for (uint32_t i = 4; i < payload; i += 997)
        assert_int_equal(data[6 + i], 0);
    assert_true(str_equal(message->queue, subscription->queue));
    checked_bytes += payload;
    free(data);
    return fixture_add(subscription, out, message);
}

static const struct delivery_encoder checking_encoder = {fixture_begin, check_add, fixture_end};

static void payloads_of_any_size_arrive_whole(void **state)
{
    static const size_t sizes[] = {4,         5u << 20,  100,      3900, 8100,     8200,
                                   32u << 10, 65u << 10, 1u << 20, 4,    5u << 20, 4};
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[32];
    size_t sum = 0;
    fixture_create(fixture, "q");
    for (uint32_t i = 0; i < 12; i++) {
        assert_int_equal(
            fixture_enqueue_one(fixture, (struct fixture_message){"q", "k", 1, i, sizes[i]}), 0);
        sum += sizes[i];
    }
    fixture_subscribe(fixture, "q", &subscription);
    subscription.encoder = &checking_encoder;
    checked_bytes = 0;
    fixture_deliver(fixture);
    assert_true(fixture->emitted_count >= 3); /* a pull ends after a MiB */
    unsigned count = fixture_delivered(fixture, got, 32);
    assert_int_equal(count, 12);
    for (uint32_t i = 0; i < 12; i++)
        assert_int_equal(got[i].payload, i);
    assert_int_equal(checked_bytes, sum);
    ack_all(fixture, "q", got, count);
    assert_int_equal(fixture_stats(fixture, "q").depth, 0);
    fixture_unsubscribe(fixture, &subscription);
}

/* --- going on --- */

static void a_queue_filled_while_it_drains_loses_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    static struct delivered got[4096];
    static bool seen[4000];
    uint32_t next[3] = {0}, made = 0, had = 0;
    unsigned seed = 7;
    memset(seen, 0, sizeof(seen));
    fixture_create(fixture, "q");
    fixture_subscribe(fixture, "q", &subscription);
    while (had < 4000) {
        uint32_t count = (uint32_t)rand_r(&seed) % 50;
        if (made + count > 4000)
            count = 4000 - made;
        for (uint32_t i = 0; i < count; i++, made++)
            fixture_enqueue(fixture, "q", (const char *[]){"a", "b", "c"}[rand_r(&seed) % 3], 2,
                            made, 1, NULL);
        assert_true(broker_deliver(fixture->broker, 1) >= 0);
        unsigned got_now = fixture_delivered(fixture, got, 4096);
        for (unsigned i = 0; i < got_now; i++) {
            uint32_t payload = got[i].payload;
            assert_true(payload < 4000 && !seen[payload]);
            assert_true(payload + 1 > next[got[i].key - 'a']);
            next[got[i].key - 'a'] = payload + 1;
            seen[payload] = true;
        }
        ack_all(fixture, "q", got, got_now);
        had += got_now;
        assert_true(count || got_now || made < 4000);
    }
    assert_int_equal(fixture_stats(fixture, "q").depth, 0);
    fixture_unsubscribe(fixture, &subscription);
}

static void a_consumer_of_another_worker_is_told(void **state)
{
    struct fixture *fixture = *state;
    static struct fixture other;
    struct subscription subscription;
    static struct delivered held[3], got[64];
    fixture_create(fixture, "q");
    fixture_join(&other, fixture, 5);
    fixture_subscribe(&other, "q", &subscription);
    fixture_deliver(&other); /* finds nothing and waits */
    struct zone_slot *slot = &fixture->zone->slots[5];
    uint32_t wake = atomic_load(&slot->wake);
    fixture_enqueue(fixture, "q", "k", 1, 0, 3, NULL);
    assert_true(atomic_load(&slot->wake) != wake);
    fixture_deliver(&other);
    assert_int_equal(fixture_delivered(&other, held, 3), 3);
    /* It has more than it may hold, waits for room, and an ack by another worker makes some. */
    other.broker->options.max_unacked = 3;
    fixture_enqueue(fixture, "q", "k", 1, 3, 3, NULL);
    fixture_deliver(&other);
    assert_int_equal(other.emitted_count, 0);
    wake = atomic_load(&slot->wake);
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &held[0].id), FIBP_OK);
    assert_true(atomic_load(&slot->wake) != wake);
    fixture_deliver(&other);
    assert_int_equal(fixture_delivered(&other, got, 64), 1);
    ack_all(fixture, "q", held + 1, 2);
    /* A nack by anybody comes back too. */
    fixture_deliver(&other);
    assert_int_equal(fixture_delivered(&other, got, 64), 2);
    assert_int_equal(fixture_settle(fixture, OPERATION_NACK, "q", &got[1].id), FIBP_OK);
    fixture_deliver(&other);
    assert_int_equal(fixture_delivered(&other, got + 2, 62), 1);
    assert_int_equal(got[2].payload, got[1].payload);
    assert_int_equal(got[2].attempt, 1);
    fixture_unsubscribe(&other, &subscription);
    fixture_leave(&other);
}

/* --- faults --- */

static void a_full_disk_delivers_nothing_and_loses_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[32];
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "a", 1, 0, 5, NULL);
    fixture_enqueue(fixture, "q", "b", 2, 10, 5, NULL);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_fill_disk();
    assert_true(broker_deliver(fixture->broker, 4) >= 0);
    os_calls_reset();
    assert_int_equal(fixture->emitted_count, 0);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 0);
    assert_int_equal(fixture_stats(fixture, "q").depth, 10);
    unsigned count = 0;
    uint64_t end_ms = time_monotonic_ms() + 10000;
    while (!count && time_monotonic_ms() < end_ms) { /* nobody asks for it: it tries by itself */
        assert_true(broker_deliver(fixture->broker, 4) >= 0);
        usleep(1000);
        count = fixture_delivered(fixture, got, 32);
    }
    assert_int_equal(count, 10);
    ack_all(fixture, "q", got, count);
    assert_int_equal(fixture_stats(fixture, "q").depth, 0);
    fixture_unsubscribe(fixture, &subscription);
}

/* --- lanes that are not counted yet --- */

static void make_backlog(struct fixture *fixture, struct delivered *held)
{
    struct subscription subscription;
    fixture_create(fixture, "q");
    for (unsigned i = 0; i < 5; i++)
        fixture_enqueue(fixture, "q", (const char *[]){"a", "b", "c", "d", "e"}[i], 1, i * 100, 100,
                        NULL);
    set_max_unacked(fixture, 32);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, held, 64), 32);
    fixture_unsubscribe(fixture, &subscription);
    fixture_close(fixture);
    fixture->max_unacked = 1000;
    fixture_open(fixture);
}

static void uncounted_lanes_deliver_all_but_what_is_leased(void **state)
{
    struct fixture *fixture = *state;
    static struct delivered got[600], held[64];
    static bool seen[600];
    struct subscription subscription;
    memset(seen, 0, sizeof(seen));
    make_backlog(fixture, held);
    fixture_enqueue(fixture, "q", "c", 1, 500, 50, NULL);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 600), 550 - 32);
    for (unsigned i = 0; i < 32; i++)
        seen[held[i].payload] = true;
    for (unsigned i = 0; i < 550 - 32; i++) {
        assert_false(seen[got[i].payload]);
        seen[got[i].payload] = true;
    }
    fixture_deliver(fixture);
    assert_int_equal(fixture->emitted_count, 0);
    ack_all(fixture, "q", got, 550 - 32);
    ack_all(fixture, "q", held, 32);
    /* Nothing is left: neither in the zone nor for the count. */
    struct maintenance maintenance;
    struct conf conf = {0};
    struct err err = {0};
    assert_int_equal(maintenance_init(&maintenance, fixture->broker, &conf, &err), 0);
    while (count_step(&maintenance) > 0)
        ;
    maintenance_free(&maintenance);
    assert_int_equal(fixture_stats(fixture, "q").depth, 0);
    fixture_unsubscribe(fixture, &subscription);
}

static void counting_between_deliveries_changes_nothing(void **state)
{
    struct fixture *fixture = *state;
    static struct delivered got[600], held[64];
    static bool seen[600];
    struct subscription subscription;
    struct maintenance maintenance;
    struct conf conf = {0};
    struct err err = {0};
    unsigned had = 0;
    memset(seen, 0, sizeof(seen));
    make_backlog(fixture, held);
    assert_int_equal(maintenance_init(&maintenance, fixture->broker, &conf, &err), 0);
    fixture_subscribe(fixture, "q", &subscription);
    for (unsigned turn = 0; turn < 100; turn++) {
        assert_true(broker_deliver(fixture->broker, 1) >= 0);
        unsigned count = fixture_delivered(fixture, got, 600);
        for (unsigned i = 0; i < count; i++) {
            assert_false(seen[got[i].payload]);
            seen[got[i].payload] = true;
        }
        had += count;
        ack_all(fixture, "q", got, count);
        if (turn % 3 == 1)
            assert_true(count_step(&maintenance) >= 0);
    }
    assert_int_equal(had, 500 - 32);
    assert_int_equal(fixture_stats(fixture, "q").depth, 32);
    maintenance_free(&maintenance);
    fixture_unsubscribe(fixture, &subscription);
}

static void a_limited_subscription_gets_no_more_than_its_limit(void **state)
{
    struct fixture *fixture = *state;
    struct subscription limited, open;
    struct delivered got[64];
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 10, NULL);
    fixture_subscribe(fixture, "q", &limited);
    limited.limit = 3;
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 64), 3);
    assert_int_equal(fixture_settle(fixture, OPERATION_NACK, "q", &got[0].id), FIBP_OK);
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[1].id), FIBP_OK);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 64), 0);
    fixture_subscribe(fixture, "q", &open);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 64), 8);
    fixture_unsubscribe(fixture, &limited);
    fixture_unsubscribe(fixture, &open);
}

/* Of two workers that wait, with one consumer and with three, the second is woken three times as
 * often: it does not matter which of them has the producer. */
static void waiting_workers_are_woken_in_turns(void **state)
{
    struct fixture *fixture = *state;
    struct fixture other;
    struct subscription mine, theirs[3];
    struct delivered got[64];
    unsigned counts[2] = {0};
    fixture_create(fixture, "q");
    fixture_subscribe(fixture, "q", &mine);
    fixture_join(&other, fixture, 1);
    for (unsigned i = 0; i < 3; i++)
        fixture_subscribe(&other, "q", &theirs[i]);
    fixture_deliver(fixture);
    fixture_deliver(&other);
    for (uint32_t i = 0; i < 40; i++) {
        fixture_enqueue(fixture, "q", "k", 1, i, 1, NULL);
        fixture_deliver(fixture);
        fixture_deliver(&other);
        counts[0] += fixture_delivered(fixture, got, 64);
        counts[1] += fixture_delivered(&other, got, 64);
    }
    assert_int_equal(counts[0], 10);
    assert_int_equal(counts[1], 30);
    fixture_unsubscribe(fixture, &mine);
    for (unsigned i = 0; i < 3; i++)
        fixture_unsubscribe(&other, &theirs[i]);
    fixture_leave(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_consumer_holds_max_unacked_and_no_more, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(consumers_take_turns, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(room_of_a_connection_reopens_all_its_subscriptions,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_full_zone_costs_no_consumer_its_turn, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_full_window_pauses_until_room, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_window_is_filled_to_its_limit_and_one_message,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(those_who_do_not_read_leave_room_for_who_does,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(equal_keys_get_equal_shares, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_thousand_keys_each_get_a_turn, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(large_messages_keep_the_shares, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(payloads_of_any_size_arrive_whole, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_queue_filled_while_it_drains_loses_nothing, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_consumer_of_another_worker_is_told, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_delivers_nothing_and_loses_nothing,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(uncounted_lanes_deliver_all_but_what_is_leased,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(counting_between_deliveries_changes_nothing, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_limited_subscription_gets_no_more_than_its_limit,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(waiting_workers_are_woken_in_turns, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
