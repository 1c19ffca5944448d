#include "event/conn.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    struct loop *loop;
    struct conn conn;
    struct chunk_account account;
    int peer;
};

/* A piece that counts what became of it. */
struct piece {
    struct conn_piece piece;
    size_t *finished, *dropped;
};

static void piece_done(struct conn_piece *base)
{
    struct piece *piece = CONTAINER_OF(base, struct piece, piece);

    (*(base->sent == base->size ? piece->finished : piece->dropped))++;
    free(piece);
}

static struct conn_piece *piece_create(struct str bytes, size_t *finished, size_t *dropped)
{
    struct piece *piece = malloc(sizeof(*piece));

    assert_non_null(piece);
    *piece = (struct piece){.piece = {.data = bytes.data, .size = bytes.size, .done = piece_done},
                            .finished = finished,
                            .dropped = dropped};
    return &piece->piece;
}

static void ignore(struct conn *conn)
{
    (void)conn;
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    struct err err;
    int fds[2];

    assert_non_null(fixture);
    fixture->loop = loop_create(&err);
    assert_non_null(fixture->loop);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    fixture->conn.readable = fixture->conn.writable = fixture->conn.broken = ignore;
    assert_int_equal(conn_open(&fixture->conn, fixture->loop, fds[0], &fixture->account, &err), 0);
    fixture->peer = fds[1];
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    conn_close(&fixture->conn);
    conn_close(&fixture->conn);
    assert_int_equal(fixture->account.bytes, 0);
    if (fixture->peer >= 0)
        close(fixture->peer);
    loop_destroy(fixture->loop);
    free(fixture);
    return 0;
}

static void peer_says(struct fixture *fixture, const char *text)
{
    assert_int_equal(send(fixture->peer, text, strlen(text), 0), (ssize_t)strlen(text));
}

static void test_output_keeps_its_order(void **state)
{
    struct fixture *fixture = *state;
    struct conn *conn = &fixture->conn;
    size_t finished = 0, dropped = 0;
    uint64_t sent = 0;
    char got[64];

    buf_append_c(conn_answers(conn), "one ");
    assert_int_equal(conn_send(conn, piece_create(STR("two "), &finished, &dropped)), 0);
    buf_append_c(conn_answers(conn), "three ");
    buf_append_c(conn_answers(conn), "four ");
    struct conn_piece *recalled = piece_create(STR("never "), &finished, &dropped);
    assert_int_equal(conn_send(conn, recalled), 0);
    assert_int_equal(conn_send(conn, piece_create(STR("five"), &finished, &dropped)), 0);
    assert_int_equal(conn_unsent(conn), 29);
    assert_int_equal(conn_unsent_answers(conn), 15);
    assert_true(conn_take_back(conn, recalled));
    recalled->done(recalled);
    assert_int_equal(dropped, 1);
    assert_int_equal(conn_flush(conn, &sent), 0);
    assert_int_equal(sent, 23);
    assert_int_equal(finished, 2);
    assert_int_equal(conn_unsent(conn), 0);
    assert_int_equal(recv(fixture->peer, got, sizeof(got), 0), 23);
    assert_memory_equal(got, "one two three four five", 23);
}

/* Through a socket that is full again and again, every byte arrives once and in order. */
static void test_output_through_a_full_socket(void **state)
{
    enum { PIECES = 40, SIZE = 50000 };
    static uint8_t bytes[PIECES * SIZE * 2], got[sizeof(bytes)];
    struct fixture *fixture = *state;
    struct conn *conn = &fixture->conn;
    size_t finished = 0, dropped = 0, received = 0;
    uint64_t sent = 0;

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 31 + i / 977);
    for (size_t i = 0; i < PIECES; i++) {
        const uint8_t *at = bytes + i * SIZE * 2;

        buf_append(conn_answers(conn), at, SIZE);
        assert_int_equal(
            conn_send(conn, piece_create(str_of(at + SIZE, SIZE), &finished, &dropped)), 0);
    }
    assert_int_equal(conn_unsent(conn), sizeof(bytes));
    assert_int_equal(conn_unsent_answers(conn), sizeof(bytes) / 2);
    while (received < sizeof(bytes)) {
        assert_int_equal(conn_flush(conn, &sent), 0);
        assert_int_equal(conn->writing, conn_unsent(conn) > 0);
        ssize_t part = recv(fixture->peer, got + received, 7001, MSG_DONTWAIT);
        assert_true(part > 0);
        received += (size_t)part;
    }
    assert_int_equal(sent, sizeof(bytes));
    assert_memory_equal(got, bytes, sizeof(bytes));
    assert_int_equal(finished, PIECES);
    assert_int_equal(dropped, 0);
    assert_int_equal(conn_unsent_answers(conn), 0);
}

static void test_close_drops_the_rest(void **state)
{
    static uint8_t bytes[3 << 20];
    struct fixture *fixture = *state;
    struct conn *conn = &fixture->conn;
    size_t finished = 0, dropped = 0;
    uint64_t sent = 0;

    for (int i = 0; i < 3; i++)
        assert_int_equal(
            conn_send(conn, piece_create(str_of(bytes + (i << 20), 1 << 20), &finished, &dropped)),
            0);
    assert_int_equal(conn_flush(conn, &sent), 0);
    assert_true(sent > 0 && sent < sizeof(bytes));
    struct conn_piece *head = CONTAINER_OF(conn->output.next, struct conn_piece, list);
    assert_true(head->sent > 0);
    assert_false(conn_take_back(conn, head));
    conn_close(conn);
    assert_int_equal(finished + dropped, 3);
    assert_true(dropped >= 1);
}

static void test_write_to_a_gone_peer(void **state)
{
    struct fixture *fixture = *state;
    uint64_t sent = 0;

    close(fixture->peer);
    fixture->peer = -1;
    buf_append_c(conn_answers(&fixture->conn), "x");
    assert_int_equal(conn_flush(&fixture->conn, &sent), -1);
}

static void test_input(void **state)
{
    struct fixture *fixture = *state;
    struct conn *conn = &fixture->conn;

    assert_int_equal(conn_read(conn, 0), CONN_AGAIN);
    assert_null(conn->input);
    peer_says(fixture, "hello");
    assert_int_equal(conn_read(conn, 0), CONN_DATA);
    assert_true(str_equal(conn_input(conn), STR("hello")));
    conn_consume(conn, 2);
    peer_says(fixture, " world");
    assert_int_equal(conn_read(conn, 0), CONN_DATA);
    assert_true(str_equal(conn_input(conn), STR("llo world")));
    conn_consume(conn, 9);
    assert_null(conn->input); /* an idle connection keeps no memory */
    shutdown(fixture->peer, SHUT_WR);
    assert_int_equal(conn_read(conn, 0), CONN_EOF);
}

/* A pinned chunk stays as it is while reading goes on in its rest and in others. */
static void test_pinned_input(void **state)
{
    struct fixture *fixture = *state;
    struct conn *conn = &fixture->conn;
    char text[3001];

    memset(text, 'a', 3000);
    text[3000] = '\0';
    peer_says(fixture, text);
    assert_int_equal(conn_read(conn, 0), CONN_DATA);
    struct chunk *first = conn->input;
    struct str slice = conn_input(conn);
    chunk_pin(first);
    assert_int_equal(fixture->account.bytes, first->capacity);
    conn_consume(conn, 3000);
    for (char letter = 'b'; letter < 'h'; letter++) {
        memset(text, letter, 3000);
        peer_says(fixture, text);
        for (size_t size = 0; size < 3000;
             size += conn_input(conn).size, conn_consume(conn, conn_input(conn).size))
            assert_int_equal(conn_read(conn, 0), CONN_DATA);
    }
    assert_int_equal(slice.size, 3000);
    for (size_t i = 0; i < slice.size; i++)
        assert_int_equal(slice.data[i], 'a');
    chunk_unpin(first);
    conn_trim(conn);
    assert_null(conn->input);
    assert_int_equal(fixture->account.bytes, 0);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_output_keeps_its_order),
        TEST(test_output_through_a_full_socket),
        TEST(test_close_drops_the_rest),
        TEST(test_write_to_a_gone_peer),
        TEST(test_input),
        TEST(test_pinned_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
