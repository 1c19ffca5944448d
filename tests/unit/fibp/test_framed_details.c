#include "fibp/framed_client.h"
#include "fibp/framed_details.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct str body_of(const struct buf *buf)
{
    return str_of(buf->data + FRAME_OVERHEAD, buf->size - FRAME_OVERHEAD);
}

static void requests_come_as_they_were_sent(void **state)
{
    const struct framed_details_request requests[] = {
        {STR("orders"), STR(""), 0, true},
        {STR(""), STR("orders"), 77, false},
    };
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct framed_details_request got;
        struct wire_reader reader;
        struct buf buf;
        buf_init(&buf, 0);
        assert_int_equal(framed_client_details(&buf, 9, &requests[i]), 0);
        wire_reader_init(&reader, body_of(&buf));
        assert_true(framed_details(&reader, &got));
        assert_true(str_equal(got.queue, requests[i].queue));
        assert_true(str_equal(got.after, requests[i].after));
        assert_int_equal(got.limit, requests[i].limit);
        assert_int_equal(got.histograms, requests[i].histograms);
        for (size_t cut = 0; cut + FRAME_OVERHEAD < buf.size; cut++) {
            wire_reader_init(&reader, str_of(buf.data + FRAME_OVERHEAD, cut));
            assert_false(framed_details(&reader, &got));
        }
        buf_free(&buf);
    }
}

static void make_answer(struct buf *buf)
{
    uint64_t broker[BROKER_DETAILS], first[DETAILS], second[DETAILS] = {0};
    struct histogram commits = {0}, waits = {0};
    struct framed_limit limit = {STR("acme"), 4, 3, 2};
    struct framed_list list;
    for (unsigned i = 0; i < BROKER_DETAILS; i++)
        broker[i] = 1000 + i;
    for (unsigned i = 0; i < DETAILS; i++)
        first[i] = 2000 + i;
    histogram_record(&commits, 100);
    histogram_record(&commits, 100);
    histogram_record(&commits, 7);
    histogram_record(&waits, UINT64_MAX);
    framed_details_begin(buf, 5, broker, &commits, true, &list);
    framed_details_add(buf, &list, STR("a"), first, &waits);
    framed_details_add(buf, &list, STR("b"), second, NULL);
    framed_details_limits(buf, &list);
    framed_details_add_limit(buf, &list, &limit);
    assert_int_equal(framed_list_end(buf, &list, FRAME_LENGTH_MAX), 0);
}

/* All of the answer; false where it does not decode. With `check` it must be that of make_answer.
 */
static bool decode(struct str body, bool check)
{
    struct framed_number number;
    struct framed_bucket bucket = {0, 0, 0};
    struct framed_limit limit;
    struct wire_reader reader;
    uint16_t count, fields, buckets;
    struct str name;
    uint64_t value;
    uint8_t code;
    bool more;
    wire_reader_init(&reader, body);
    if (!framed_client_code(&reader, &code) || !framed_client_details_count(&reader, &count))
        return false;
    assert_true(!check || count == BROKER_DETAILS);
    for (unsigned i = 0; i < count; i++) {
        if (!framed_client_details_number(&reader, &number))
            return false;
        assert_true(!check || number.value == 1000 + i);
        assert_true(!check || number.name.size > 0);
    }
    if (!framed_client_details_buckets(&reader, &buckets))
        return false;
    assert_true(!check || buckets == 2);
    for (unsigned i = 0; i < buckets; i++)
        if (!framed_client_details_bucket(&reader, &bucket))
            return false;
    assert_true(!check || (bucket.from <= 100 && bucket.below > 100 && bucket.count == 2));
    if (!framed_client_details_count(&reader, &fields))
        return false;
    for (unsigned i = 0; i < fields; i++) {
        if (!framed_client_details_name(&reader, &number))
            return false;
        assert_true(!check || number.name.size > 0);
        assert_true(!check || i != DETAIL_ENQUEUED || number.kind == DETAIL_COUNTER);
        assert_true(!check || i != DETAIL_DEPTH || number.kind == DETAIL_GAUGE);
    }
    if (!framed_client_details_queues(&reader, fields, &more, &count))
        return false;
    assert_true(!check || (more && count == 2));
    for (unsigned i = 0; i < count; i++) {
        if (!framed_client_details_queue(&reader, &name))
            return false;
        for (unsigned j = 0; j < fields; j++) {
            if (!framed_client_details_value(&reader, &value))
                return false;
            assert_true(!check || value == (i ? 0 : 2000 + j));
        }
        if (!framed_client_details_buckets(&reader, &buckets))
            return false;
        assert_true(!check || buckets == (i ? 0 : 1));
        for (unsigned j = 0; j < buckets; j++)
            if (!framed_client_details_bucket(&reader, &bucket))
                return false;
    }
    if (!framed_client_details_limits(&reader, &count))
        return false;
    for (unsigned i = 0; i < count; i++)
        if (!framed_client_details_limit(&reader, &limit))
            return false;
    assert_true(!check || (count == 1 && str_equal(limit.key, STR("acme")) && limit.most == 4 &&
                           limit.in_flight == 3 && limit.waiting == 2));
    return true;
}

static void answers_come_as_they_were_sent(void **state)
{
    struct buf buf;
    (void)state;
    buf_init(&buf, 0);
    make_answer(&buf);
    assert_true(decode(body_of(&buf), true));
    buf_free(&buf);
}

static void answers_that_are_cut_or_damaged_are_refused_or_harmless(void **state)
{
    struct buf buf;
    (void)state;
    buf_init(&buf, 0);
    make_answer(&buf);
    struct str body = body_of(&buf);
    for (size_t cut = 0; cut < body.size; cut++) {
        uint8_t *copy = malloc(cut ? cut : 1); /* exactly so long, for sanitizers */
        assert_non_null(copy);
        memcpy(copy, body.data, cut);
        assert_false(decode(str_of(copy, cut), false));
        free(copy);
    }
    for (size_t at = 0; at < body.size; at++) {
        uint8_t was = buf.data[FRAME_OVERHEAD + at];
        buf.data[FRAME_OVERHEAD + at] = 0xff;
        (void)decode(body, false);
        buf.data[FRAME_OVERHEAD + at] = was;
    }
    buf_free(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_come_as_they_were_sent),
        cmocka_unit_test(answers_come_as_they_were_sent),
        cmocka_unit_test(answers_that_are_cut_or_damaged_are_refused_or_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
