/*
 * Statistics against a model: what clients know to be true after any sequence of operations on
 * several workers is what GetStats and ListQueues say, at once and to the message.
 *
 * Subscriptions have limits, so that the model knows how many messages are out: as many as the
 * limits and the ready messages allow. STATISTICS_STEPS and STATISTICS_SEED choose longer runs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fibp/framed_details.h"
#include "os/time.h"
#include "process/support/fixture.h"

#define QUEUES 3
#define CLIENTS 6
#define SUBSCRIPTIONS 24
#define HELD_MAX 20000
#define STEPS 300
#define BRIEF "brief" /* the queue whose leases expire soon */
#define BRIEF_MS 700

static const char *const names[QUEUES] = {"q0", "q1", "q2"};

struct held {
    unsigned queue;
    struct uuid id;
};

struct subscribed {
    bool open;
    unsigned client, queue;
    uint32_t request, left; /* messages until the limit */
};

struct model {
    struct fixture *f;
    unsigned seed;
    unsigned depth[QUEUES], in_flight[QUEUES];
    /* since the broker's start */
    unsigned enqueued[QUEUES], delivered[QUEUES], acked[QUEUES], nacked[QUEUES];
    struct peer *clients[CLIENTS], *admin;
    struct subscribed subscriptions[SUBSCRIPTIONS];
    struct held held[HELD_MAX];
    unsigned held_count;
};

static unsigned draw(struct model *model, unsigned below)
{
    return (unsigned)rand_r(&model->seed) % below;
}

/* --- what must hold --- */

static unsigned wanted(const struct model *model, unsigned queue)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < SUBSCRIPTIONS; i++)
        if (model->subscriptions[i].open && model->subscriptions[i].queue == queue)
            sum += model->subscriptions[i].left;
    return sum;
}

static unsigned consumers(const struct model *model, unsigned queue)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < SUBSCRIPTIONS; i++)
        sum += model->subscriptions[i].open && model->subscriptions[i].queue == queue;
    return sum;
}

/* One message that is there already; false: there is none. */
static bool take(struct model *model, unsigned client_index)
{
    struct peer_delivery delivery;
    int status = peer_receive(model->clients[client_index], 0, &delivery, &model->f->err);
    if (status < 0)
        fail_msg("receive: %s", model->f->err.text);
    if (status == 0)
        return false;
    for (unsigned i = 0; i < SUBSCRIPTIONS; i++) {
        struct subscribed *sub = &model->subscriptions[i];
        if (!sub->open || sub->client != client_index || sub->request != delivery.subscription)
            continue;
        assert_true(sub->left > 0);
        assert_true(model->held_count < HELD_MAX);
        sub->left--;
        model->in_flight[sub->queue]++;
        model->delivered[sub->queue]++;
        model->held[model->held_count++] = (struct held){sub->queue, delivery.id};
        return true;
    }
    fail_msg("a delivery for a subscription that is not there");
    return false;
}

/* Receives all that the broker owes the consumers of a queue. */
static void collect(struct model *model, unsigned queue)
{
    uint64_t end_ms = time_monotonic_ms() + PEER_PATIENCE_MS;
    for (;;) {
        unsigned ready = model->depth[queue] - model->in_flight[queue];
        if (!ready || !wanted(model, queue))
            return;
        for (unsigned i = 0; i < CLIENTS; i++)
            while (take(model, i))
                ;
        if (time_monotonic_ms() > end_ms)
            fail_msg("%s: %u ready, %u wanted, and nothing comes", names[queue], ready,
                     wanted(model, queue));
    }
}

static void check_list(struct model *model)
{
    struct fixture *f = model->f;
    struct peer_frame *frame = NULL;
    struct framed_queue_info info;
    struct wire_reader reader;
    struct buf buf;
    uint32_t nodes, request = peer_next_request(model->admin);
    uint16_t count;
    uint8_t code;
    buf_init(&buf, 0);
    assert_int_equal(frame_empty(&buf, OPCODE_LIST_QUEUES, request), 0);
    MUST(f, peer_send(model->admin, buf_str(&buf), &f->err));
    buf_free(&buf);
    MUST_GIVE(f, 1, peer_answer(model->admin, request, PEER_PATIENCE_MS, &frame, &f->err));
    wire_reader_init(&reader, str_of(frame->body, frame->size));
    assert_true(framed_client_code(&reader, &code) && code == 0);
    assert_true(framed_client_list_queues_begin(&reader, &nodes, &count));
    for (unsigned i = 0; i < count; i++) {
        assert_true(framed_client_list_queues_next(&reader, &info));
        for (unsigned q = 0; q < QUEUES; q++) {
            if (!str_equal(info.name, str_from_c(names[q])))
                continue;
            assert_int_equal(info.depth, model->depth[q]);
            assert_int_equal(info.in_flight, model->in_flight[q]);
            assert_int_equal(info.active_consumers, consumers(model, q));
        }
    }
    free(frame);
}

static void check_number(const struct model *model, unsigned queue, struct str name, uint64_t value)
{
    const struct {
        const char *name;
        unsigned expected;
    } rows[] = {
        {"depth", model->depth[queue]},
        {"in_flight", model->in_flight[queue]},
        {"ready", model->depth[queue] - model->in_flight[queue]},
        {"consumers", consumers(model, queue)},
        {"enqueued_total", model->enqueued[queue]},
        {"delivered_total", model->delivered[queue]},
        {"acked_total", model->acked[queue]},
        {"nacked_total", model->nacked[queue]},
        {"expired_total", 0},
        {"dead_lettered_total", 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (str_equal(name, str_from_c(rows[i].name)) && value != rows[i].expected)
            fail_msg("%s: %s is %llu, not %u", names[queue], rows[i].name,
                     (unsigned long long)value, rows[i].expected);
}

/* QueueDetails of one queue. */
static void check_details(struct model *model, unsigned queue)
{
    struct fixture *f = model->f;
    struct framed_details_request request = {.queue = str_from_c(names[queue])};
    struct framed_number number, fields[2 * DETAILS];
    struct framed_bucket bucket;
    struct peer_frame *frame = NULL;
    struct wire_reader reader;
    struct str name;
    struct buf buf;
    uint16_t count;
    uint64_t value;
    uint8_t code;
    bool more;
    uint32_t id = peer_next_request(model->admin);
    buf_init(&buf, 0);
    assert_int_equal(framed_client_details(&buf, id, &request), 0);
    MUST(f, peer_send(model->admin, buf_str(&buf), &f->err));
    buf_free(&buf);
    MUST_GIVE(f, 1, peer_answer(model->admin, id, PEER_PATIENCE_MS, &frame, &f->err));
    assert_int_equal(frame->opcode, OPCODE_QUEUE_DETAILS_RESULT);
    wire_reader_init(&reader, str_of(frame->body, frame->size));
    assert_true(framed_client_code(&reader, &code) && code == 0);
    assert_true(framed_client_details_count(&reader, &count));
    for (unsigned i = 0; i < count; i++)
        assert_true(framed_client_details_number(&reader, &number));
    assert_true(framed_client_details_buckets(&reader, &count));
    for (unsigned i = 0; i < count; i++)
        assert_true(framed_client_details_bucket(&reader, &bucket));
    assert_true(framed_client_details_count(&reader, &count));
    assert_in_range(count, 1, 2 * DETAILS);
    unsigned field_count = count;
    for (unsigned i = 0; i < field_count; i++)
        assert_true(framed_client_details_name(&reader, &fields[i]));
    assert_true(framed_client_details_queues(&reader, field_count, &more, &count));
    assert_int_equal(count, 1);
    assert_true(framed_client_details_queue(&reader, &name));
    assert_true(str_equal(name, str_from_c(names[queue])));
    for (unsigned i = 0; i < field_count; i++) {
        assert_true(framed_client_details_value(&reader, &value));
        check_number(model, queue, fields[i].name, value);
    }
    free(frame);
}

/* At once: nothing is waited for. */
static void check(struct model *model, const char *after)
{
    struct framed_stats stats;
    uint8_t counted;
    for (unsigned q = 0; q < QUEUES; q++) {
        struct peer *peer = model->clients[draw(model, CLIENTS)];
        MUST(model->f, peer_stats_counted(peer, names[q], &stats, &counted, &model->f->err));
        if (stats.depth == model->depth[q] && stats.in_flight == model->in_flight[q] &&
            stats.active_consumers == consumers(model, q) && counted == FRAMED_COUNTED_ALL)
            continue;
        fail_msg("after %s: %s has depth %llu, %llu in flight, %u consumers, %u %% counted; the "
                 "model %u, %u, %u",
                 after, names[q], (unsigned long long)stats.depth,
                 (unsigned long long)stats.in_flight, stats.active_consumers, counted,
                 model->depth[q], model->in_flight[q], consumers(model, q));
    }
    check_list(model);
    check_details(model, draw(model, QUEUES));
}

/* --- steps --- */

static void enqueue(struct model *model)
{
    static const char *const tenants[] = {NULL, "a", "b", "c", "d"};
    struct peer_message messages[100];
    unsigned count = 1 + draw(model, 100), queue = draw(model, QUEUES);
    struct peer *peer = model->clients[draw(model, CLIENTS)];
    struct peer_frame *frame = NULL;
    struct framed_client_result result;
    struct wire_reader reader;
    uint32_t request, results;
    for (unsigned i = 0; i < count; i++)
        messages[i] = (struct peer_message){
            .queue = names[queue], .tenant = tenants[draw(model, 5)], .payload = STR("m")};
    MUST(model->f, peer_enqueue_send(peer, messages, count, &request, &model->f->err));
    MUST_GIVE(model->f, 1, peer_answer(peer, request, PEER_PATIENCE_MS, &frame, &model->f->err));
    wire_reader_init(&reader, str_of(frame->body, frame->size));
    assert_int_equal(frame->opcode, OPCODE_ENQUEUE_RESULT);
    assert_true(framed_client_enqueue_result_begin(&reader, &results));
    for (uint32_t i = 0; i < results; i++) {
        assert_true(framed_client_enqueue_result_next(&reader, &result));
        assert_int_equal(result.code, 0);
    }
    free(frame);
    model->depth[queue] += count;
    model->enqueued[queue] += count;
    collect(model, queue);
}

static void subscribe(struct model *model)
{
    unsigned client = draw(model, CLIENTS), queue = draw(model, QUEUES);
    uint32_t limit = 1 + draw(model, 150);
    for (unsigned i = 0; i < SUBSCRIPTIONS; i++) {
        struct subscribed *sub = &model->subscriptions[i];
        if (sub->open)
            continue;
        uint32_t request = 0;
        MUST(model->f, peer_consume_limited(model->clients[client], names[queue], limit, &request,
                                            &model->f->err));
        *sub = (struct subscribed){true, client, queue, request, limit};
        collect(model, queue);
        return;
    }
}

static void cancel(struct model *model)
{
    struct subscribed *sub = &model->subscriptions[draw(model, SUBSCRIPTIONS)];
    if (!sub->open)
        return;
    MUST(model->f, peer_cancel(model->clients[sub->client], sub->request, &model->f->err));
    sub->open = false;
    fixture_wait_stats(model->f, model->admin, names[sub->queue], UINT64_MAX, UINT64_MAX,
                       consumers(model, sub->queue));
}

static void settle(struct model *model, bool nack)
{
    struct uuid ids[50];
    unsigned wish = 1 + draw(model, 50), count = 0, queue = draw(model, QUEUES);
    struct peer *peer = model->clients[draw(model, CLIENTS)];
    struct peer_frame *frame = NULL;
    struct wire_reader reader;
    uint32_t request, results;
    uint8_t code;
    for (unsigned tries = 0; tries < 200 && count < wish && model->held_count; tries++) {
        unsigned which = draw(model, model->held_count);
        if (model->held[which].queue != queue)
            continue;
        ids[count++] = model->held[which].id;
        model->held[which] = model->held[--model->held_count];
    }
    if (!count)
        return;
    MUST(model->f,
         peer_settle_send(peer, nack, names[queue], ids, count, &request, &model->f->err));
    MUST_GIVE(model->f, 1, peer_answer(peer, request, PEER_PATIENCE_MS, &frame, &model->f->err));
    wire_reader_init(&reader, str_of(frame->body, frame->size));
    assert_true(framed_client_ack_result_begin(&reader, &results));
    assert_int_equal(results, count);
    for (unsigned i = 0; i < count; i++) {
        assert_true(framed_client_ack_result_next(&reader, &code));
        assert_int_equal(code, 0);
    }
    free(frame);
    model->in_flight[queue] -= count;
    *(nack ? &model->nacked[queue] : &model->acked[queue]) += count;
    if (!nack)
        model->depth[queue] -= count;
    collect(model, queue);
}

static void ack(struct model *model)
{
    settle(model, false);
}

static void nack(struct model *model)
{
    settle(model, true);
}

static void replace_client(struct model *model, unsigned client)
{
    struct fixture *f = model->f;
    for (unsigned i = 0; i < f->peer_count; i++)
        if (f->peers[i] == model->clients[client])
            f->peers[i] = f->peers[--f->peer_count];
    peer_abort(model->clients[client]);
    model->clients[client] = fixture_peer(f);
    for (unsigned i = 0; i < SUBSCRIPTIONS; i++)
        if (model->subscriptions[i].client == client)
            model->subscriptions[i].open = false;
}

/* What it holds stays leased. */
static void kill_client(struct model *model)
{
    replace_client(model, draw(model, CLIENTS));
    for (unsigned q = 0; q < QUEUES; q++)
        fixture_wait_stats(model->f, model->admin, names[q], UINT64_MAX, UINT64_MAX,
                           consumers(model, q));
}

/* Leases of the brief queue end, acks that come too late change nothing. */
static void expire(struct model *model)
{
    struct fixture *f = model->f;
    struct peer *peer = model->clients[draw(model, CLIENTS)];
    struct uuid ids[20];
    struct peer_delivery delivery;
    struct framed_stats stats;
    uint32_t request, count = 1 + draw(model, 20);
    MUST(f, peer_stats(peer, BRIEF, &stats, &f->err));
    assert_int_equal(stats.in_flight, 0);
    uint64_t depth = stats.depth + count;
    MUST(f, peer_enqueue_run(peer, BRIEF, "m", count, NULL, &f->err));
    MUST(f, peer_consume_limited(model->admin, BRIEF, count, &request, &f->err));
    for (unsigned i = 0; i < count; i++) {
        fixture_receive(f, model->admin, PEER_PATIENCE_MS, &delivery);
        ids[i] = delivery.id;
    }
    fixture_wait_stats(f, peer, BRIEF, depth, 0, 1);
    MUST_GIVE(f, FIBP_MESSAGE_NOT_FOUND, peer_ack(peer, BRIEF, &ids[0], &f->err));
    MUST(f, peer_cancel(model->admin, request, &f->err));
    fixture_wait_stats(f, peer, BRIEF, depth, 0, 0);
}

/* --- the tests --- */

static void prepare(struct model *model, struct fixture *f, unsigned seed)
{
    model->f = f;
    model->seed = seed;
    model->admin = fixture_peer(f);
    for (unsigned i = 0; i < CLIENTS; i++)
        model->clients[i] = fixture_peer(f);
}

/* All connections are new, and the model's subscriptions with them. */
static void reconnect(struct model *model)
{
    fixture_close_all(model->f);
    memset(model->subscriptions, 0, sizeof(model->subscriptions));
    prepare(model, model->f, model->seed);
}

static bool all_counted(void *context)
{
    struct model *model = context;
    struct framed_stats stats;
    for (unsigned q = 0; q < QUEUES; q++) {
        uint8_t counted = 0;
        MUST(model->f,
             peer_stats_counted(model->admin, names[q], &stats, &counted, &model->f->err));
        if (counted < FRAMED_COUNTED_ALL || stats.active_consumers)
            return false;
    }
    return true;
}

static void crash(struct model *model)
{
    if (draw(model, 2)) {
        fixture_crash(model->f); /* of the master, too: counters begin anew */
        for (unsigned q = 0; q < QUEUES; q++)
            model->enqueued[q] = model->delivered[q] = model->acked[q] = model->nacked[q] = 0;
    } else {
        struct broker_process victim = {BROKER_WORKER,
                                        broker_find(&model->f->broker, BROKER_WORKER)};
        broker_kill(&model->f->broker, &victim, 1);
        fixture_close_all(model->f);
        fixture_wait_service(model->f, BRIEF, BROKER_READY_MS);
    }
    reconnect(model);
    assert_true(wait_until(all_counted, model, PEER_PATIENCE_MS));
    fixture_wait_stats(model->f, model->admin, BRIEF, UINT64_MAX, 0, 0);
}

static unsigned number(const char *variable, unsigned otherwise)
{
    const char *text = getenv(variable);
    return text ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

static void test_model(void **state)
{
    static const struct {
        void (*run)(struct model *);
        const char *name;
        unsigned share;
    } steps[] = {
        {enqueue, "an enqueue", 30}, {subscribe, "a subscription", 20},
        {cancel, "a cancel", 10},    {ack, "acks", 25},
        {nack, "nacks", 10},         {kill_client, "the death of a client", 4},
        {expire, "an expiry", 2},    {crash, "a crash", 1},
    };
    struct fixture *f = *state;
    struct model *model = calloc(1, sizeof(*model));
    unsigned seed = number("STATISTICS_SEED", (unsigned)time_monotonic_ns());
    unsigned total = 0, crashes = 0;
    assert_non_null(model);
    print_message("STATISTICS_SEED=%u\n", seed);
    prepare(model, f, seed);
    for (unsigned q = 0; q < QUEUES; q++)
        MUST(f, peer_create_queue(model->admin, names[q], 3600000, &f->err));
    MUST(f, peer_create_queue(model->admin, BRIEF, BRIEF_MS, &f->err));
    for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        total += steps[i].share;
    for (unsigned n = number("STATISTICS_STEPS", STEPS); n > 0; n--) {
        unsigned which = 0, at = draw(model, total);
        while (at >= steps[which].share)
            at -= steps[which++].share;
        if (n == STEPS / 2 && !crashes) /* one at least in every short run */
            which = sizeof(steps) / sizeof(steps[0]) - 1;
        crashes += steps[which].run == crash;
        steps[which].run(model);
        check(model, steps[which].name);
    }
    free(model);
    f->passed = true;
}

#define LARGE 65536
#define LARGE_COUNT 120
#define LARGE_BATCH 6 /* acked before their leases end, on a slow machine too */

/* A client that takes nothing off its socket dies: what never reached it comes back at once, the
 * rest with the end of its leases; nothing is counted twice or lost. */
static void test_returned(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f), *deaf = NULL;
    static uint8_t payload[LARGE];
    struct peer_message message = {.queue = "large", .payload = str_of(payload, LARGE)};
    struct framed_stats stats = {0};
    struct peer_delivery delivery;
    uint32_t request;
    MUST(f, peer_create_queue(peer, "large", 3000, &f->err));
    for (unsigned i = 0; i < LARGE_COUNT; i++) {
        struct peer_frame *frame = NULL;
        MUST(f, peer_enqueue_send(peer, &message, 1, &request, &f->err));
        MUST_GIVE(f, 1, peer_answer(peer, request, PEER_PATIENCE_MS, &frame, &f->err));
        free(frame);
    }
    deaf = peer_open(f->broker.unix_address, &f->err);
    assert_non_null(deaf);
    MUST(f, peer_consume(deaf, "large", &request, &f->err));
    uint64_t end_ms = time_monotonic_ms() + PEER_PATIENCE_MS;
    while (!stats.in_flight && time_monotonic_ms() < end_ms)
        MUST(f, peer_stats(peer, "large", &stats, &f->err));
    assert_true(stats.in_flight > 0);
    assert_int_equal(stats.depth, LARGE_COUNT);
    peer_abort(deaf);
    fixture_wait_stats(f, peer, "large", LARGE_COUNT, 0, 0);
    for (unsigned i = 0; i < LARGE_COUNT; i++) {
        if (i % LARGE_BATCH == 0)
            MUST(f, peer_consume_limited(peer, "large", LARGE_BATCH, &request, &f->err));
        fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
        MUST(f, peer_ack(peer, "large", &delivery.id, &f->err));
        MUST(f, peer_stats(peer, "large", &stats, &f->err));
        assert_in_range(stats.in_flight, 0, LARGE_BATCH - 1 - i % LARGE_BATCH);
        assert_int_equal(stats.depth, LARGE_COUNT - 1 - i);
        if (i % LARGE_BATCH == LARGE_BATCH - 1)
            MUST(f, peer_cancel(peer, request, &f->err));
    }
    fixture_wait_stats(f, peer, "large", 0, 0, 0);
    f->passed = true;
}

static int setup(void **state)
{
    const struct broker_options options = {.workers = 3};
    return fixture_setup_with(state, &options, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_model, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_returned, setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
