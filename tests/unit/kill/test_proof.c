/* What the checker says of histories, where brokers in memory cannot show it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "kill/policy.h"
#include "kill/proof.h"

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define VISIBILITY (3 * SECOND)

static struct message_event delivered(uint64_t lease_ms, uint32_t attempt)
{
    return (struct message_event){.kind = EVENT_DELIVERED,
                                  .time_ns = lease_ms * MS + MS,
                                  .other_ns = lease_ms * MS,
                                  .attempt = attempt};
}

static struct message_event nacked(uint64_t sent_ms, uint64_t answered_ms, uint8_t code)
{
    return (struct message_event){
        .kind = EVENT_NACK, .time_ns = sent_ms * MS, .other_ns = answered_ms * MS, .code = code};
}

static const char *judge(struct message_event *events, uint16_t count, uint64_t delay_ms)
{
    struct message message = {
        .sent_ns = 1000 * MS, .events = events, .event_count = count, .delivered = true};
    return proof_delay(&message, count - 1u, delay_ms * MS, VISIBILITY, policy_retry_delay_ms);
}

static void test_first_delivery(void **state)
{
    struct message_event early[] = {delivered(1290, 0)}, late[] = {delivered(1300, 0)};
    (void)state;
    assert_non_null(judge(early, 1, 300));
    assert_null(judge(early, 1, 0));
    assert_null(judge(late, 1, 300));
}

static void test_retry(void **state)
{
    /* The first nack brings the attempts to 1: 200 ms; the second to 2: none. */
    struct message_event early[] = {delivered(2000, 0), nacked(2010, 2020, DRIVER_OK),
                                    delivered(2150, 1)};
    struct message_event late[] = {delivered(2000, 0), nacked(2010, 2020, DRIVER_OK),
                                   delivered(2210, 1)};
    struct message_event second[] = {delivered(2000, 1), nacked(2010, 2020, DRIVER_OK),
                                     delivered(2021, 2)};
    (void)state;
    assert_int_equal(policy_retry_delay_ms(1), 200);
    assert_int_equal(policy_retry_delay_ms(2), 0);
    assert_non_null(judge(early, 3, 0));
    assert_null(judge(late, 3, 0));
    assert_null(judge(second, 3, 0));
}

/* Before the answer is read is too early as well. */
static void test_retry_before_the_answer(void **state)
{
    struct message_event events[] = {delivered(2000, 0), nacked(2010, 2500, DRIVER_OK),
                                     delivered(2100, 1)};
    (void)state;
    assert_non_null(judge(events, 3, 0));
}

/* Which delivery a nack ended has to be certain. */
static void test_doubt(void **state)
{
    struct message_event unanswered[] = {delivered(2000, 0), nacked(2010, 2020, JOURNAL_NO_ANSWER),
                                         delivered(2100, 1)};
    struct message_event expired[] = {delivered(2000, 0), nacked(4900, 5100, DRIVER_OK),
                                      delivered(5101, 2)};
    struct message_event two[] = {delivered(2000, 0), nacked(2005, 2030, DRIVER_OK),
                                  nacked(2010, 2020, DRIVER_OK), delivered(2100, 2)};
    (void)state;
    assert_null(judge(unanswered, 3, 0));
    assert_null(judge(expired, 3, 0));
    assert_null(judge(two, 4, 0));
}

static void test_attempts_and_redrives(void **state)
{
    struct message_event events[] = {delivered(2000, 2), nacked(2010, 2020, DRIVER_OK),
                                     delivered(2300, 0)};
    struct message_event many[] = {delivered(2000, 2), nacked(2010, 2020, DRIVER_OK),
                                   delivered(2300, 4)};
    struct message message = {.sent_ns = MS, .events = events, .event_count = 3};
    (void)state;
    message.forgotten = 1;
    assert_non_null(proof_attempt(&message, 2, VISIBILITY, false));
    assert_null(proof_attempt(&message, 2, VISIBILITY, true));
    message.events = many;
    assert_non_null(proof_attempt(&message, 2, VISIBILITY, true));
}

/* Two deliveries within the grain of the clock, dead-lettered and redriven between them: the
 * attempt does not tell which came first. */
static void test_a_quick_redrive(void **state)
{
    struct message_event events[] = {delivered(2000, 0),
                                     delivered(5334, 1),
                                     nacked(5335, 5335, DRIVER_OK),
                                     delivered(5335, 2),
                                     nacked(5337, 5338, DRIVER_OK),
                                     delivered(5336, 0)};
    struct message message = {.sent_ns = MS, .events = events, .event_count = 6};
    (void)state;
    assert_null(proof_attempt(&message, 5, VISIBILITY, true));
    assert_non_null(proof_attempt(&message, 5, VISIBILITY, false));
    events[5] = delivered(5337, 9); /* leased later, with too many */
    assert_non_null(proof_attempt(&message, 5, VISIBILITY, true));
}

static void test_policy(void **state)
{
    const struct journal_queue ordered = {.ordered = true}, shared = {.ordered = false};
    (void)state;
    assert_true(policy_rejects(5));
    assert_false(policy_rejects(6));
    assert_int_equal(policy_delay_ms(&shared, 13), 300);
    assert_int_equal(policy_delay_ms(&shared, 14), 0);
    assert_int_equal(policy_delay_ms(&ordered, 13), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_delivery),          cmocka_unit_test(test_retry),
        cmocka_unit_test(test_retry_before_the_answer), cmocka_unit_test(test_doubt),
        cmocka_unit_test(test_attempts_and_redrives),   cmocka_unit_test(test_policy),
        cmocka_unit_test(test_a_quick_redrive),
    };
    return cmocka_run_group_tests_name("proof", tests, NULL, NULL);
}
