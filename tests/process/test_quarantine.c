/*
 * Queues whose files are damaged are set aside; all others are served, and the damaged ones can be
 * deleted, or repaired and put back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "process/support/files.h"
#include "process/support/fixture.h"

#define QUEUES 6
#define MESSAGES 200

/* Queue i has the odd id 2 i + 1; its dead-letter queue the next. */
static const char *const names[QUEUES] = {"q0", "q1", "q2", "q3", "q4", "q5"};

static void file_of(const struct fixture *f, const char *folder, unsigned queue,
                    char path[BROKER_PATH_SIZE])
{
    if (snprintf(path, BROKER_PATH_SIZE, "%s/%s/%u.db", f->broker.store, folder, 2 * queue + 1) >=
        BROKER_PATH_SIZE)
        fail();
}

static bool is_aside(const struct fixture *f, unsigned queue)
{
    char path[BROKER_PATH_SIZE];
    file_of(f, "quarantine", queue, path);
    return access(path, F_OK) == 0;
}

/* Writes `size` bytes of nonsense at an offset, or cuts the file there when there are none. */
static void damage(struct fixture *f, unsigned queue, off_t offset, size_t size)
{
    static uint8_t nonsense[65536];
    char path[BROKER_PATH_SIZE];
    file_of(f, "queues", queue, path);
    memset(nonsense, 0x5a, sizeof(nonsense));
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    if (size)
        assert_int_equal(pwrite(fd, nonsense, size, offset), size);
    else
        assert_int_equal(ftruncate(fd, offset), 0);
    close(fd);
}

static void copy(const char *from, const char *to)
{
    char command[2 * BROKER_PATH_SIZE + 32];
    snprintf(command, sizeof(command), "cp -p '%s' '%s'", from, to);
    assert_int_equal(system(command), 0);
}

static void prepare(struct fixture *f)
{
    struct peer *peer = fixture_peer(f);
    for (unsigned i = 0; i < QUEUES; i++) {
        MUST(f, peer_create_queue(peer, names[i], 0, &f->err));
        MUST(f, peer_enqueue_run(peer, names[i], names[i], MESSAGES, NULL, &f->err));
    }
}

static void expect_served(struct fixture *f, unsigned queue, uint64_t depth)
{
    struct peer *peer = fixture_peer(f);
    struct peer_delivery delivery;
    uint32_t request;
    if (is_aside(f, queue))
        fail_msg("%s was set aside", names[queue]);
    fixture_wait_stats(f, peer, names[queue], depth, 0, 0);
    MUST(f, peer_consume_limited(peer, names[queue], 1, &request, &f->err));
    fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
    MUST(f, peer_ack(peer, names[queue], &delivery.id, &f->err));
    MUST(f, peer_enqueue(peer, names[queue], "one for it", NULL, &f->err));
    fixture_close(f, peer, true);
}

static void expect_aside(struct fixture *f, unsigned queue)
{
    struct peer *peer = fixture_peer(f);
    struct framed_stats stats;
    uint8_t counted;
    uint32_t request;
    if (!is_aside(f, queue))
        fail_msg("%s was not set aside", names[queue]);
    MUST_GIVE(f, FIBP_STORAGE_ERROR, peer_enqueue(peer, names[queue], "m", NULL, &f->err));
    MUST_GIVE(f, FIBP_STORAGE_ERROR, peer_consume(peer, names[queue], &request, &f->err));
    assert_non_null(strstr(f->err.text, "set aside"));
    MUST(f, peer_stats_counted(peer, names[queue], &stats, &counted, &f->err));
    assert_int_equal(counted, FRAMED_COUNTED_QUARANTINE);
    assert_int_equal(stats.depth, 0);
    fixture_close(f, peer, true);
}

static void expect_words(struct fixture *f, unsigned quarantined)
{
    const char *const list[] = {"queue", "list", NULL};
    char output[8192];
    unsigned count = 0;
    assert_int_equal(broker_run(&f->broker, "fila", list, output, sizeof(output)), 0);
    for (const char *at = strstr(output, "quarantined"); at; at = strstr(at + 1, "quarantined"))
        count++;
    assert_int_equal(count, quarantined);
}

static void stop(struct fixture *f)
{
    fixture_close_all(f);
    MUST(f, broker_stop(&f->broker, 15, &f->err));
}

static void test_after_a_stop(void **state)
{
    struct fixture *f = *state;
    char path[BROKER_PATH_SIZE], kept[BROKER_PATH_SIZE + 8], aside[BROKER_PATH_SIZE];
    prepare(f);
    stop(f);
    file_of(f, "queues", 1, path);
    snprintf(kept, sizeof(kept), "%s.kept", path);
    copy(path, kept);
    damage(f, 0, 0, 65536);     /* all of it */
    damage(f, 1, 16384, 16384); /* the page behind the first */
    damage(f, 2, 100, 0);       /* cut within the first page */
    damage(f, 3, 0, 0);         /* empty */
    fixture_start(f);
    for (unsigned i = 0; i < 4; i++)
        expect_aside(f, i);
    expect_served(f, 4, MESSAGES);
    expect_served(f, 5, MESSAGES);
    expect_words(f, 4);
    assert_true(broker_logged(&f->broker, "queue \"q0\" cannot be read"));

    /* One is deleted, and its name is free. */
    MUST(f, peer_delete_queue(fixture_peer(f), names[0], &f->err));
    MUST(f, peer_create_queue(fixture_peer(f), names[0], 0, &f->err));
    MUST(f, peer_enqueue(fixture_peer(f), names[0], "m", NULL, &f->err));

    /* They stay aside, however the broker ends. */
    fixture_crash(f);
    expect_aside(f, 1);
    expect_aside(f, 2);
    expect_served(f, 4, MESSAGES);
    stop(f);

    /* One is repaired. */
    file_of(f, "quarantine", 1, aside);
    assert_int_equal(rename(kept, path), 0);
    assert_int_equal(unlink(aside), 0);
    fixture_start(f);
    expect_served(f, 1, MESSAGES);
    expect_aside(f, 2);
    expect_aside(f, 3);
    expect_served(f, 5, MESSAGES);
    expect_words(f, 2);
    f->passed = true;
}

/* The recovery itself meets the damage: the log has changes for all of them. */
static void test_after_a_crash(void **state)
{
    struct fixture *f = *state;
    prepare(f);
    fixture_close_all(f);
    broker_kill_all(&f->broker);
    MUST(f, broker_wait_end(&f->broker, BROKER_READY_MS, &f->err));
    damage(f, 0, 0, 65536);
    damage(f, 1, 0, 512);
    damage(f, 2, 100, 0);
    fixture_start(f);
    for (unsigned i = 0; i < 3; i++) {
        /* What the log had in full may be whole again; nothing may be half there. */
        if (is_aside(f, i))
            expect_aside(f, i);
        else
            expect_served(f, i, MESSAGES);
    }
    expect_served(f, 3, MESSAGES);
    expect_served(f, 4, MESSAGES);
    expect_served(f, 5, MESSAGES);
    stop(f);
    fixture_start(f);
    expect_served(f, 5, MESSAGES);
    f->passed = true;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_after_a_stop, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_after_a_crash, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
