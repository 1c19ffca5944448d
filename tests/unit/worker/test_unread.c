/* Answers that nobody reads: what they may take in a worker, and who has to go. */
#include "unit/worker/harness.h"

static struct session *newest_session(void)
{
    return CONTAINER_OF(harness->sessions.all.prev, struct session, list);
}

/* Connects a client that sends requests and takes no answers until the server stops to read, or
 * gives it up. Returns its end of the connection. */
static int flood(void)
{
    static const uint8_t unknown[] = {0, 0, 0, 6, 0x7e, 0, 0, 0, 0, 9};
    struct buf burst;

    harness_connect();
    harness_handshake();
    struct session *session = newest_session();
    buf_init(&burst, 0);
    for (int i = 0; i < 1000; i++)
        buf_append(&burst, unknown, sizeof(unknown));
    for (int i = 0; !session->paused; i++) {
        assert_true(i < 10000);
        harness_send(buf_str(&burst));
        harness_tick();
    }
    buf_free(&burst);
    return harness->client;
}

/* What the client has not taken is left in its socket when the server closes. */
static bool is_closed(int client)
{
    uint8_t bytes[65536];
    ssize_t got;

    do {
        got = recv(client, bytes, sizeof(bytes), MSG_DONTWAIT);
    } while (got > 0);
    return got == 0 || errno == ECONNRESET;
}

static void setup_clients(uint64_t unread_max)
{
    harness->sessions.unread_max = unread_max;
    harness_hang_up();
    HARNESS_UNTIL(list_empty(&harness->sessions.all));
}

static void test_the_longest_silence_ends(void **state)
{
    (void)state;
    setup_clients(2 * SESSION_ANSWERS_MAX - 1);
    int first = flood();
    assert_true(harness->sessions.unread_bytes >= SESSION_ANSWERS_MAX);
    int second = flood();
    assert_true(harness->sessions.unread_bytes < harness->sessions.unread_max);
    assert_int_equal(harness->sessions.count, 1);
    assert_true(is_closed(first));
    assert_false(is_closed(second));
    harness_tick();
    close(first);
    close(second);
    harness->client = -1;
    HARNESS_UNTIL(list_empty(&harness->sessions.all));
    assert_int_equal(harness->sessions.unread_bytes, 0);
    assert_true(list_empty(&harness->sessions.unread));
}

static void test_who_reads_is_spared(void **state)
{
    uint8_t bytes[65536];

    (void)state;
    setup_clients(3 * SESSION_ANSWERS_MAX - (1u << 20));
    int reads = flood();
    int silent = flood();
    struct session *reader = CONTAINER_OF(harness->sessions.all.next, struct session, list);
    uint64_t left = reader->unread_bytes;
    while (reader->unread_bytes == left) {
        assert_true(recv(reads, bytes, sizeof(bytes), MSG_DONTWAIT) > 0);
        harness_tick();
    }
    int third = flood();
    assert_int_equal(harness->sessions.count, 2);
    assert_true(is_closed(silent));
    assert_false(is_closed(reads));
    assert_false(is_closed(third));
    close(reads);
    close(silent);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_the_longest_silence_ends),
        TEST(test_who_reads_is_spared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
