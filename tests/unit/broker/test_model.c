/* Random operations on a queue and its dead-letter queue against a model that knows of each message
 * where it is, in what state, how often it failed, and what stands before it in its lane.
 *
 * MODEL_SEED runs one seed, MODEL_STEPS more steps than the short form. */
#include "unit/broker/fixture.h"

#include "keeper/maintenance.h"
#include "os/log.h"
#include "os/time.h"

#define MESSAGES 20000u /* of a run */
#define ALIVE_MAX 800u  /* so that a peek sees all */
#define KEYS 5u
#define SOON_MS 1000000u
#define LATE_MS 2000000u

enum where { QUEUE, DLQ, GONE };

struct known {
    struct uuid id;
    enum where where;
    enum peek_state state;
    char key;
    uint32_t attempt;
    uint64_t position; /* in its lane; of equal ones nothing is known */
    uint64_t delay_ms;
};

struct model {
    struct fixture *fixture;
    struct known known[MESSAGES];
    uint32_t count, alive;
    unsigned random;
    uint64_t position; /* the last one that was given */
    bool paused[2];
    uint32_t max_attempts;
    uint64_t expiries; /* the clock of leases goes on with each */
};

static const char *const names[] = {"q", "q.dlq"};

static unsigned draw(struct model *model, unsigned limit)
{
    return (unsigned)rand_r(&model->random) % limit;
}

static bool is_in(const struct known *known, enum where where, enum peek_state state)
{
    return known->where == where && known->state == state;
}

static uint32_t count_in(const struct model *model, enum where where, enum peek_state state)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < model->count; i++)
        count += is_in(&model->known[i], where, state);
    return count;
}

/* --- what happens to messages --- */

static void let_go(struct model *model, struct known *known)
{
    known->where = GONE;
    model->alive--;
}

static void fail_once(struct model *model, struct known *known, uint64_t position)
{
    known->attempt++;
    known->state = PEEK_READY;
    known->position = position;
    if (known->where == QUEUE && model->max_attempts && known->attempt >= model->max_attempts)
        known->where = DLQ;
}

static void deliver(struct model *model, enum where where, uint32_t limit)
{
    static struct delivered got[ALIVE_MAX];
    struct fixture *fixture = model->fixture;
    struct subscription subscription;
    uint32_t ready = model->paused[where] ? 0 : count_in(model, where, PEEK_READY);
    fixture->broker->options.max_unacked = limit;
    fixture_subscribe(fixture, names[where], &subscription);
    fixture_deliver(fixture);
    uint32_t count = fixture_delivered(fixture, got, ALIVE_MAX);
    fixture_unsubscribe(fixture, &subscription);
    assert_int_equal(count, ready < limit ? ready : limit);
    for (uint32_t i = 0; i < count; i++) {
        struct known *known = &model->known[got[i].payload];
        assert_true(is_in(known, where, PEEK_READY));
        assert_true(uuid_equal(&known->id, &got[i].id));
        assert_int_equal(known->attempt, got[i].attempt);
        assert_int_equal(known->key, got[i].key);
        for (uint32_t j = 0; j < model->count; j++)
            if (is_in(&model->known[j], where, PEEK_READY) && model->known[j].key == known->key)
                assert_true(model->known[j].position >= known->position);
        known->state = PEEK_LEASED;
    }
}

static void settle(struct model *model, struct known *known, bool ack)
{
    assert_int_equal(fixture_settle(model->fixture, ack ? OPERATION_ACK : OPERATION_NACK,
                                    names[known->where], &known->id),
                     FIBP_OK);
    if (ack)
        let_go(model, known);
    else
        fail_once(model, known, ++model->position);
}

static void expire_all(struct model *model)
{
    fixture_expire(model->fixture, time_monotonic_ms() + 31000 + 10 * model->expiries++);
    model->position++;
    for (uint32_t i = 0; i < model->count; i++)
        if (model->known[i].where != GONE && model->known[i].state == PEEK_LEASED)
            fail_once(model, &model->known[i], model->position);
}

static void make_due(struct model *model, uint64_t delay_ms)
{
    fixture_due(model->fixture, time_wall_ms() + delay_ms + SOON_MS / 2);
    for (uint32_t i = 0; i < model->count; i++) {
        struct known *known = &model->known[i];
        if (known->where == GONE || known->state != PEEK_DELAYED || known->delay_ms > delay_ms)
            continue;
        known->state = PEEK_READY;
        known->position = model->position + known->delay_ms / SOON_MS;
    }
    model->position += LATE_MS / SOON_MS;
}

/* --- steps --- */

static void step_enqueue(struct model *model)
{
    struct fixture_message messages[20];
    char key[2] = {(char)('a' + draw(model, KEYS)), 0};
    uint32_t count = 1 + draw(model, 20);
    enum where where = draw(model, 10) ? QUEUE : DLQ;
    if (model->alive + count > ALIVE_MAX || model->count + count > MESSAGES)
        return;
    for (uint32_t i = 0; i < count; i++)
        messages[i] = (struct fixture_message){names[where], key, 1, model->count + i, 4};
    struct operation_enqueue *enqueue = fixture_frame(messages, count);
    for (uint32_t i = 0; i < count; i++)
        enqueue->items[i].delay_ms = draw(model, 3) ? 0 : draw(model, 2) ? SOON_MS : LATE_MS;
    fixture_execute(model->fixture, &enqueue->operation);
    for (uint32_t i = 0; i < count; i++) {
        const struct operation_enqueue_item *item = &enqueue->items[i];
        assert_int_equal(item->status, FIBP_OK);
        model->known[model->count++] =
            (struct known){.id = item->id,
                           .where = where,
                           .state = item->delay_ms ? PEEK_DELAYED : PEEK_READY,
                           .key = key[0],
                           .position = ++model->position,
                           .delay_ms = item->delay_ms};
    }
    model->alive += count;
    fixture_frame_free(enqueue);
}

static void step_deliver(struct model *model)
{
    deliver(model, draw(model, 3) ? QUEUE : DLQ, 1 + draw(model, 30));
}

static void step_settle(struct model *model)
{
    for (uint32_t i = 0; i < model->count; i++) {
        struct known *known = &model->known[i];
        if (known->where != GONE && known->state == PEEK_LEASED && !draw(model, 4))
            settle(model, known, draw(model, 3) == 0);
    }
}

static void step_expire(struct model *model)
{
    expire_all(model);
}

static void step_due(struct model *model)
{
    make_due(model, draw(model, 2) ? SOON_MS : LATE_MS);
}

static void step_update(struct model *model)
{
    enum where where = draw(model, 2) ? QUEUE : DLQ;
    struct operation_update_queue update = {.operation = {.kind = OPERATION_UPDATE_QUEUE},
                                            .name = str_from_c(names[where])};
    if (where == QUEUE && draw(model, 2)) {
        update.sets_max_attempts = true;
        update.max_attempts = model->max_attempts = draw(model, 4);
    } else {
        update.sets_paused = true;
        update.paused = model->paused[where] = !model->paused[where];
    }
    fixture_execute(model->fixture, &update.operation);
    assert_int_equal(update.operation.status, FIBP_OK);
}

/* Notes in `there` which messages a queue has, which must be those of the model in their states;
 * with `model` NULL only that. */
static uint32_t look(struct fixture *fixture, enum where where, const struct model *model,
                     bool *there)
{
    struct operation_peek *peek = calloc(1, sizeof(*peek));
    *peek = (struct operation_peek){.operation = {.kind = OPERATION_PEEK_QUEUE},
                                    .name = str_from_c(names[where]),
                                    .limit = 1000,
                                    .payload_max = 4};
    fixture_execute(fixture, &peek->operation);
    assert_int_equal(peek->operation.status, FIBP_OK);
    assert_true(peek->ended);
    for (const struct peek_row *row = peek->rows; row; row = row->next) {
        uint32_t number = bytes_get_u32(row->payload.data);
        assert_true(number < MESSAGES && !there[number]);
        there[number] = true;
        if (!model)
            continue;
        assert_true(is_in(&model->known[number], where, row->state));
        assert_int_equal(row->attempt, model->known[number].attempt);
    }
    uint32_t count = peek->count;
    operation_free(&peek->operation);
    return count;
}

/* Those with the lowest numbers of all lanes went, in their order. */
static void step_redrive(struct model *model)
{
    static bool there[MESSAGES];
    static uint32_t moved[ALIVE_MAX], positions[ALIVE_MAX]; /* those behind what there is */
    uint32_t ready = count_in(model, DLQ, PEEK_READY), limit = draw(model, 3) ? draw(model, 40) : 0;
    uint32_t count = 0;
    uint64_t last = 0;
    struct operation_redrive redrive = {
        .operation = {.kind = OPERATION_REDRIVE}, .name = STR("q.dlq"), .limit = limit};
    fixture_execute(model->fixture, &redrive.operation);
    assert_int_equal(redrive.operation.status, FIBP_OK);
    assert_int_equal(redrive.moved, limit && limit < ready ? limit : ready);
    memset(there, 0, sizeof(there));
    look(model->fixture, DLQ, NULL, there);
    for (uint32_t i = 0; i < model->count; i++) {
        if (!is_in(&model->known[i], DLQ, PEEK_READY) || there[i])
            continue;
        moved[count++] = i;
        last = model->known[i].position > last ? model->known[i].position : last;
    }
    assert_int_equal(count, redrive.moved);
    for (uint32_t i = 0; i < model->count; i++)
        if (is_in(&model->known[i], DLQ, PEEK_READY) && there[i])
            assert_true(model->known[i].position >= last);
    for (uint32_t i = 0; i < count; i++) {
        positions[i] = 1;
        for (uint32_t j = 0; j < count; j++)
            positions[i] += model->known[moved[j]].position < model->known[moved[i]].position;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct known *known = &model->known[moved[i]];
        known->where = QUEUE;
        known->attempt = 0;
        known->position = model->position + positions[i];
    }
    model->position += count;
}

static void step_purge(struct model *model)
{
    enum where where = draw(model, 2) ? QUEUE : DLQ;
    struct operation_purge purge = {.operation = {.kind = OPERATION_PURGE_QUEUE},
                                    .name = str_from_c(names[where])};
    uint64_t expected = count_in(model, where, PEEK_READY) + count_in(model, where, PEEK_DELAYED);
    fixture_execute(model->fixture, &purge.operation);
    assert_int_equal(purge.operation.status, FIBP_OK);
    assert_int_equal(purge.purged, expected);
    for (uint32_t i = 0; i < model->count; i++)
        if (model->known[i].where == where && model->known[i].state != PEEK_LEASED)
            let_go(model, &model->known[i]);
}

/* A new environment and zone, in which all is counted as the keeper does. */
static void step_restart(struct model *model)
{
    fixture_close(model->fixture);
    fixture_open(model->fixture);
    model->expiries = 0;
    struct maintenance maintenance = {.broker = model->fixture->broker};
    list_init(&maintenance.doomed);
    while (count_step(&maintenance) > 0)
        ;
    count_abandon(&maintenance);
}

/* --- the run --- */

static void check(struct model *model, bool whole)
{
    static bool there[MESSAGES];
    for (enum where where = QUEUE; where <= DLQ; where++) {
        uint32_t leased = count_in(model, where, PEEK_LEASED);
        uint32_t depth =
            leased + count_in(model, where, PEEK_READY) + count_in(model, where, PEEK_DELAYED);
        struct operation_queue_row totals = fixture_stats(model->fixture, names[where]);
        assert_int_equal(totals.in_flight, leased);
        assert_int_equal(totals.depth, depth);
        if (!whole)
            continue;
        memset(there, 0, sizeof(there));
        assert_int_equal(look(model->fixture, where, model, there), depth);
    }
}

static const struct {
    void (*run)(struct model *model);
    unsigned share;
} steps[] = {
    {step_enqueue, 30}, {step_deliver, 30}, {step_settle, 20}, {step_expire, 4},  {step_due, 5},
    {step_update, 6},   {step_redrive, 6},  {step_purge, 1},   {step_restart, 2},
};

/* All that is left comes, once. */
static void drain(struct model *model)
{
    while (model->paused[QUEUE] || model->paused[DLQ])
        step_update(model);
    make_due(model, LATE_MS);
    expire_all(model);
    for (enum where where = QUEUE; where <= DLQ; where++) {
        deliver(model, where, ALIVE_MAX);
        for (uint32_t i = 0; i < model->count; i++)
            if (model->known[i].where == where)
                settle(model, &model->known[i], true);
    }
    assert_int_equal(model->alive, 0);
    check(model, true);
}

static void run(struct fixture *fixture, unsigned seed, unsigned count)
{
    struct model *model = calloc(1, sizeof(*model));
    assert_non_null(model);
    model->fixture = fixture;
    model->random = seed;
    print_message("MODEL_SEED=%u\n", seed);
    for (unsigned n = 0; n < count; n++) {
        unsigned which = 0, at = draw(model, 104);
        while (at >= steps[which].share)
            at -= steps[which++].share;
        steps[which].run(model);
        check(model, n % 8 == 0);
    }
    drain(model);
    free(model);
}

static void messages_are_where_the_model_has_them(void **state)
{
    struct fixture *fixture = *state;
    const char *seed = getenv("MODEL_SEED"), *count = getenv("MODEL_STEPS");
    unsigned number = count ? (unsigned)strtoul(count, NULL, 10) : 300;
    log_set_level(LOG_ERROR);
    fixture_create(fixture, "q");
    if (seed)
        run(fixture, (unsigned)strtoul(seed, NULL, 10), number);
    for (unsigned i = 1; !seed && i <= 6; i++) {
        run(fixture, i, number);
        assert_int_equal(fixture_delete(fixture, "q"), FIBP_OK);
        assert_int_equal(broker_refresh(fixture->broker), 0);
        assert_int_equal(fixture_create(fixture, "q"), FIBP_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(messages_are_where_the_model_has_them, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
