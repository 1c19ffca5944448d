/* Dead letters: after max_attempts, whatever dies meanwhile; nothing twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "fila.h"
#include "os/time.h"
#include "process/support/fixture.h"

#define MESSAGES 300

static void create(struct fixture *f, const struct fila_queue_options *queue_options)
{
    struct fila_error error = FILA_ERROR_INIT;
    struct fila *client = fixture_client(f);
    if (fila_queue_create(client, "q", queue_options, &error) != 0)
        fail_msg("create: %s", error.text);
    fila_close(client);
}

static unsigned find(const struct uuid *ids, const struct uuid *id)
{
    for (unsigned i = 0; i < MESSAGES; i++)
        if (uuid_equal(&ids[i], id))
            return i;
    fail_msg("a message that nobody enqueued");
    return 0;
}

/* Nacks two of three messages and lets the leases of the others run out, for `ms`. */
static void fail_them(struct fixture *f, struct peer *peer, const struct uuid *ids, uint64_t ms)
{
    struct peer_delivery delivery;
    uint64_t end_ms = time_monotonic_ms() + ms;
    while (time_monotonic_ms() < end_ms) {
        int got = peer_receive(peer, 20, &delivery, &f->err);
        assert_true(got >= 0);
        if (got > 0 && find(ids, &delivery.id) % 3)
            (void)peer_nack(peer, "q", &delivery.id, &f->err); /* it may have expired */
    }
}

/* In the end each message is in the dead-letter queue, once, with the attempts that it may have. */
static void test_max_attempts_through_crashes(void **state)
{
    struct fixture *f = *state;
    static struct uuid ids[MESSAGES];
    static bool seen[MESSAGES];
    struct framed_stats stats = {.depth = 0};
    struct peer_delivery delivery;
    uint32_t subscription = 0;
    create(f, &(struct fila_queue_options){.max_attempts = 3, .visibility_timeout_ms = 300});
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_enqueue_run(peer, "q", "m", MESSAGES, ids, &f->err));
    MUST(f, peer_consume(peer, "q", &subscription, &f->err));
    for (unsigned round = 0; stats.depth < MESSAGES; round++) {
        assert_true(round < 100);
        fail_them(f, peer, ids, 200);
        if (round < 4) {
            fixture_crash(f);
            peer = fixture_peer(f);
            MUST(f, peer_consume(peer, "q", &subscription, &f->err));
        }
        MUST(f, peer_stats(peer, "q.dlq", &stats, &f->err));
    }
    MUST(f, peer_stats(peer, "q", &stats, &f->err));
    assert_int_equal(stats.depth, 0);
    fixture_crash(f);
    peer = fixture_peer(f);
    MUST(f, peer_consume(peer, "q.dlq", &subscription, &f->err));
    for (unsigned i = 0; i < MESSAGES; i++) {
        fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
        unsigned which = find(ids, &delivery.id);
        assert_false(seen[which]);
        seen[which] = true;
        assert_int_equal(delivery.attempt, 3);
        MUST(f, peer_ack(peer, "q.dlq", &delivery.id, &f->err));
    }
    fixture_wait_stats(f, peer, "q.dlq", 0, 0, UINT64_MAX);
    f->passed = true;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_max_attempts_through_crashes, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
