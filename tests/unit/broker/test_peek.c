/* A peek without memory: an answer is whole or an error. */
#include <stdlib.h>

static unsigned allowed; /* blocks that may still be taken, counted while `counting` */
static int counting;

static void *scarce_malloc(size_t size)
{
    if (counting && !allowed)
        return NULL;
    allowed -= counting ? 1 : 0;
    return malloc(size);
}

#define malloc scarce_malloc
#include "core/pool.c"
#undef malloc

#include "unit/broker/fixture.h"

#define MESSAGES 200u
#define KEY_SIZE 1000u

static void enqueue(struct fixture *fixture)
{
    static struct fixture_message messages[MESSAGES];
    static uint8_t key[KEY_SIZE];
    const struct str throttle_key = str_of(key, sizeof(key));
    memset(key, 't', KEY_SIZE);
    for (uint32_t i = 0; i < MESSAGES; i++)
        messages[i] = (struct fixture_message){"q", "k", 1, i, i % 5 * 100};
    struct operation_enqueue *enqueue = fixture_frame(messages, MESSAGES);
    for (uint32_t i = 0; i < MESSAGES; i++) {
        enqueue->items[i].throttle_count = 1;
        enqueue->items[i].throttle_keys = &throttle_key;
    }
    fixture_execute(fixture, &enqueue->operation);
    assert_int_equal(enqueue->items[MESSAGES - 1].status, FIBP_OK);
    fixture_frame_free(enqueue);
}

/* Looks with so many blocks; the status. Each row must be whole. */
static uint8_t look(struct fixture *fixture, unsigned blocks)
{
    uint32_t rows = 0;
    struct operation_peek *peek = calloc(1, sizeof(*peek));
    *peek = (struct operation_peek){.operation = {.kind = OPERATION_PEEK_QUEUE},
                                    .name = STR("q"),
                                    .limit = MESSAGES,
                                    .payload_max = 1000};
    struct operation *rest = &peek->operation, *finished = NULL;
    bool more = true;
    assert_int_equal(broker_execute(fixture->broker, rest, &rest), 0);
    allowed = blocks;
    counting = 1;
    while (!finished)
        assert_int_equal(broker_step(fixture->broker, &finished, &more), 0);
    counting = 0;
    for (const struct peek_row *row = peek->rows; row; row = row->next, rows++) {
        assert_int_equal(row->throttle_count, 1);
        assert_int_equal(row->throttle_keys.size, 2 + KEY_SIZE);
        assert_true(str_equal(row->fairness_key, STR("k")));
        assert_int_equal(row->payload.size, row->payload_size);
    }
    uint8_t status = peek->operation.status;
    assert_true(status == FIBP_STORAGE_ERROR || rows == MESSAGES);
    operation_free(&peek->operation);
    return status;
}

static void a_row_is_whole_or_not_there(void **state)
{
    struct fixture *fixture = *state;
    unsigned blocks = 0;
    fixture_create(fixture, "q");
    enqueue(fixture);
    while (look(fixture, blocks) != FIBP_OK)
        assert_true(++blocks < 100);
    assert_true(blocks > 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_row_is_whole_or_not_there, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
