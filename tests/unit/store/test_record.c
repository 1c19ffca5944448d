#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "store/record.h"

static void keys_sort_as_numbers(void **state)
{
    static const uint64_t numbers[] = {0, 1, 255, 256, 1ull << 40, (1ull << 40) + 1, UINT64_MAX};
    uint8_t last[RECORD_MESSAGE_KEY_SIZE] = {0}, key[RECORD_MESSAGE_KEY_SIZE];
    (void)state;
    for (unsigned i = 0; i < 7; i++) {
        for (unsigned j = 0; j < 7; j++) {
            record_message_key(key, numbers[i], numbers[j]);
            assert_true(memcmp(last, key, sizeof(key)) < 0);
            memcpy(last, key, sizeof(key));
            assert_int_equal(key[0], 'R');
        }
    }
}

static void a_message_is_read_as_written(void **state)
{
    struct record_message in = {.attempt = 7, .weight = UINT32_MAX, .enqueued_ms = 1ull << 45}, out;
    uint8_t whole[RECORD_MESSAGE_HEADER + RECORD_MESSAGE_REFERENCE] = {0}, *value = whole;
    size_t size = RECORD_MESSAGE_HEADER + 3;
    (void)state;
    memset(in.id.bytes, 0xa5, UUID_SIZE);
    assert_int_equal(record_message_header(value, &in), RECORD_MESSAGE_HEADER);
    memcpy(value + RECORD_MESSAGE_HEADER, "abc", 3);
    assert_true(record_message_parse(str_of(value, size), &out));
    assert_int_equal(out.apart, 0);
    assert_int_equal(out.attempt, 7);
    assert_int_equal(out.weight, UINT32_MAX);
    assert_int_equal(out.enqueued_ms, 1ull << 45);
    assert_true(uuid_equal(&in.id, &out.id));
    assert_true(str_equal(out.body, STR("abc")));
    record_message_set_attempt(value, 8);
    assert_true(record_message_parse(str_of(value, RECORD_MESSAGE_HEADER), &out));
    assert_int_equal(out.attempt, 8);
    assert_int_equal(out.body.size, 0);
    assert_false(record_message_parse(str_of(value, RECORD_MESSAGE_HEADER - 1), &out));
    value[0] = RECORD_MESSAGE_VERSION + 1;
    assert_false(record_message_parse(str_of(value, size), &out));
}

static void a_reference_is_read_as_written_and_only_when_it_can_be(void **state)
{
    enum { SIZE = RECORD_MESSAGE_HEADER + RECORD_MESSAGE_REFERENCE };
    struct record_message in = {.attempt = 7, .apart = 20u << 20, .chunks = 321}, out;
    uint8_t value[SIZE + 2] = {0};
    (void)state;
    assert_int_equal(record_message_header(value, &in), SIZE);
    memcpy(value + SIZE, "ab", 2);
    assert_true(record_message_parse(str_of(value, sizeof(value)), &out));
    assert_int_equal(out.apart, 20u << 20);
    assert_int_equal(out.chunks, 321);
    assert_true(str_equal(out.body, STR("ab")));
    record_message_set_attempt(value, 8);
    assert_true(record_message_parse(str_of(value, SIZE), &out));
    assert_int_equal(out.attempt, 8);
    assert_int_equal(out.apart, 20u << 20);
    for (size_t size = 0; size < SIZE; size++)
        assert_false(record_message_parse(str_of(value, size), &out));
    /* More than so many chunks can hold, less than a byte in each, and none at all. */
    static const struct record_message lies[] = {{.apart = RECORD_CHUNK_MAX + 1, .chunks = 1},
                                                 {.apart = 2, .chunks = 3},
                                                 {.apart = 1, .chunks = 0},
                                                 {.apart = UINT64_MAX, .chunks = UINT32_MAX}};
    for (unsigned i = 0; i < 4; i++) {
        (void)record_message_header(value, &lies[i]);
        assert_false(record_message_parse(str_of(value, sizeof(value)), &out));
    }
    (void)record_message_header(value, &in);
    value[1] |= 0x02; /* a flag of a later version */
    assert_false(record_message_parse(str_of(value, sizeof(value)), &out));
}

static void a_marker_is_read_as_written(void **state)
{
    struct record_marker in = {.work = 1ull << 40, .epoch = 9, .slot = 65, .thread = 1}, out;
    uint8_t value[RECORD_MARKER_SIZE];
    (void)state;
    record_marker_write(value, &in);
    assert_true(record_marker_parse(str_of(value, sizeof(value)), &out));
    assert_int_equal(out.work, in.work);
    assert_int_equal(out.epoch, 9);
    assert_int_equal(out.slot, 65);
    assert_int_equal(out.thread, 1);
    assert_false(record_marker_parse(str_of(value, sizeof(value) - 1), &out));
    value[0]++;
    assert_false(record_marker_parse(str_of(value, sizeof(value)), &out));
}

static void a_dead_letter_says_so_and_can_be_made_an_ordinary_message(void **state)
{
    struct record_message in = {.attempt = 3, .apart = 5000, .chunks = 1}, out;
    uint8_t header[RECORD_MESSAGE_HEADER + RECORD_MESSAGE_REFERENCE];
    uint8_t reason[RECORD_DEAD_REASON_MAX];
    struct record_dead dead = {.dead_ms = 1ull << 44, .origin = STR("orders")};
    struct buf plain, marked, again;
    (void)state;
    memset(reason, 'r', sizeof(reason));
    dead.reason = str_of(reason, sizeof(reason));
    buf_init(&plain, 0);
    buf_init(&marked, 0);
    buf_init(&again, 0);
    buf_append(&plain, header, record_message_header(header, &in));
    buf_append_str(&plain, STR("abc"));
    assert_true(record_message_parse(buf_str(&plain), &in));
    assert_false(in.is_dead);
    record_message_append(&marked, buf_str(&plain), &in, &dead);
    assert_true(record_message_parse(buf_str(&marked), &out));
    assert_true(out.is_dead);
    assert_int_equal(out.dead.dead_ms, dead.dead_ms);
    assert_true(str_equal(out.dead.reason, dead.reason));
    assert_true(str_equal(out.dead.origin, dead.origin));
    assert_true(str_equal(out.body, STR("abc")));
    assert_int_equal(out.apart, 5000);
    for (size_t size = 0; size < marked.size - 3; size++)
        assert_false(record_message_parse(str_of(marked.data, size), &in));
    /* What it says is replaced, not added to, and can be taken away. */
    dead.reason = STR("again");
    record_message_append(&again, buf_str(&marked), &out, &dead);
    assert_int_equal(again.size, marked.size - RECORD_DEAD_REASON_MAX + 5);
    buf_clear(&again);
    record_message_append(&again, buf_str(&marked), &out, NULL);
    assert_true(str_equal(buf_str(&again), buf_str(&plain)));
    bytes_put_u16(marked.data + RECORD_MESSAGE_HEADER + RECORD_MESSAGE_REFERENCE + 8, 1025);
    assert_false(record_message_parse(buf_str(&marked), &out));
    buf_free(&plain);
    buf_free(&marked);
    buf_free(&again);
}

static void a_delayed_message_has_its_lane_with_it(void **state)
{
    const struct record_lane lane = {.weight = 4,
                                     .fairness_key = STR("tenant"),
                                     .throttle_count = 1,
                                     .throttle_keys = STR("\0\2ab")};
    struct record_message message = {.attempt = 1};
    struct record_delayed out;
    uint8_t header[RECORD_MESSAGE_HEADER + RECORD_MESSAGE_REFERENCE];
    struct buf value;
    (void)state;
    buf_init(&value, 0);
    record_delayed_begin(&value, &lane);
    size_t start = value.size;
    buf_append(&value, header, record_message_header(header, &message));
    buf_append_str(&value, STR("abc"));
    assert_true(record_delayed_parse(buf_str(&value), &out));
    assert_true(str_equal(out.lane.fairness_key, lane.fairness_key));
    assert_true(str_equal(out.lane.throttle_keys, lane.throttle_keys));
    assert_int_equal(out.lane.weight, 4);
    assert_true(str_equal(out.value, str_of(value.data + start, value.size - start)));
    assert_true(str_equal(out.message.body, STR("abc")));
    for (size_t size = 0; size < start + RECORD_MESSAGE_HEADER; size++)
        assert_false(record_delayed_parse(str_of(value.data, size), &out));
    bytes_put_u32(value.data + 4, UINT32_MAX);
    assert_false(record_delayed_parse(buf_str(&value), &out));
    buf_free(&value);
}

static void a_lane_is_read_as_written_and_only_whole(void **state)
{
    const struct str throttle = STR("\0\1x\0\0\0\3abc");
    struct record_lane in = {.weight = 3,
                             .fairness_key = STR("tenant"),
                             .throttle_count = 3,
                             .throttle_keys = throttle},
                       out;
    struct buf buf;
    (void)state;
    buf_init(&buf, 0);
    record_lane_append(&buf, &in);
    assert_true(record_lane_parse(buf_str(&buf), &out));
    assert_int_equal(out.weight, 3);
    assert_true(str_equal(out.fairness_key, in.fairness_key));
    assert_true(str_equal(out.throttle_keys, throttle));
    assert_int_equal(out.throttle_count, 3);
    struct str keys = out.throttle_keys;
    assert_true(str_equal(record_throttle_next(&keys), STR("x")));
    assert_int_equal(record_throttle_next(&keys).size, 0);
    assert_true(str_equal(record_throttle_next(&keys), STR("abc")));
    assert_int_equal(keys.size, 0);
    for (size_t size = 0; size < buf.size; size++) {
        uint8_t *exact = malloc(size ? size : 1); /* so that a read beyond it shows */
        memcpy(exact, buf.data, size);
        assert_false(record_lane_parse(str_of(exact, size), &out));
        free(exact);
    }
    buf_append_u8(&buf, 0);
    assert_false(record_lane_parse(buf_str(&buf), &out));
    buf_free(&buf);
}

static void a_batch_is_read_as_written_and_only_whole(void **state)
{
    uint8_t value[RECORD_LEASES_HEADER + 2 * RECORD_POSITION_SIZE];
    struct record_leases leases;
    uint64_t lane = 0, seq = 0;
    (void)state;
    record_leases_header(value, 2, 99);
    for (unsigned i = 0; i < 4; i++)
        bytes_put_u64(value + RECORD_LEASES_HEADER + i * 8, i + 1);
    assert_true(record_leases_parse(str_of(value, sizeof(value)), &leases));
    assert_int_equal(leases.expires_ms, 99);
    record_leases_position(&leases, 1, &lane, &seq);
    assert_int_equal(lane, 3);
    assert_int_equal(seq, 4);
    for (size_t size = 0; size < sizeof(value); size++)
        assert_false(record_leases_parse(str_of(value, size), &leases));
    record_leases_header(value, 0, 99);
    assert_false(record_leases_parse(str_of(value, RECORD_LEASES_HEADER), &leases));
    record_leases_header(value, RECORD_LEASES_MAX + 1, 99);
    assert_false(record_leases_parse(str_of(value, sizeof(value)), &leases));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_sort_as_numbers),
        cmocka_unit_test(a_message_is_read_as_written),
        cmocka_unit_test(a_reference_is_read_as_written_and_only_when_it_can_be),
        cmocka_unit_test(a_marker_is_read_as_written),
        cmocka_unit_test(a_dead_letter_says_so_and_can_be_made_an_ordinary_message),
        cmocka_unit_test(a_delayed_message_has_its_lane_with_it),
        cmocka_unit_test(a_lane_is_read_as_written_and_only_whole),
        cmocka_unit_test(a_batch_is_read_as_written_and_only_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
