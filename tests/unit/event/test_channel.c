/* Unit tests of src/event/channel.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "event/channel.h"
#include "os/sock.h"

#define HEADER offsetof(struct channel_message, text)

static int fds[2];

static int setup(void **state)
{
    struct err err;

    (void)state;
    return channel_pair(fds, &err);
}

static int teardown(void **state)
{
    (void)state;
    close(fds[0]);
    if (fds[1] >= 0)
        close(fds[1]);
    return 0;
}

static void test_messages_arrive_whole(void **state)
{
    struct channel_message message;
    struct err err;

    (void)state;
    assert_int_equal(channel_receive(fds[1], &message, &err), 0);
    assert_int_equal(channel_send(fds[0], CHANNEL_READY, 7, NULL, &err), 0);
    assert_int_equal(channel_send(fds[0], CHANNEL_FAILED, 0, "no room", &err), 0);
    assert_int_equal(channel_receive(fds[1], &message, &err), 1);
    assert_int_equal(message.type, CHANNEL_READY);
    assert_int_equal(message.value, 7);
    assert_string_equal(message.text, "");
    assert_int_equal(channel_receive(fds[1], &message, &err), 1);
    assert_int_equal(message.type, CHANNEL_FAILED);
    assert_string_equal(message.text, "no room");
    assert_int_equal(channel_receive(fds[1], &message, &err), 0);
}

static void test_long_text_is_cut(void **state)
{
    char text[2 * CHANNEL_TEXT_SIZE];
    struct channel_message message;
    struct err err;

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(channel_send(fds[0], CHANNEL_FAILED, 0, text, &err), 0);
    assert_int_equal(channel_receive(fds[1], &message, &err), 1);
    assert_int_equal(strlen(message.text), CHANNEL_TEXT_SIZE - 1);
}

static void test_end_of_the_peer(void **state)
{
    struct channel_message message;
    struct err err;

    (void)state;
    assert_int_equal(channel_send(fds[1], CHANNEL_PONG, 3, NULL, &err), 0);
    close(fds[1]);
    fds[1] = -1;
    assert_int_equal(channel_receive(fds[0], &message, &err), 1);
    assert_int_equal(channel_receive(fds[0], &message, &err), -1);
    assert_int_equal(err.code, 0);
    assert_int_equal(channel_send(fds[0], CHANNEL_PING, 0, NULL, &err), -1);
    assert_int_equal(err.code, EPIPE);
}

static void test_last_words_of_a_peer_that_did_not_read(void **state)
{
    struct channel_message message;
    struct err err;

    (void)state;
    assert_int_equal(channel_send(fds[0], CHANNEL_STORE_OPEN, 1, NULL, &err), 0);
    assert_int_equal(channel_send(fds[1], CHANNEL_FAILED, 0, "a reason", &err), 0);
    close(fds[1]);
    fds[1] = -1;
    assert_int_equal(channel_receive(fds[0], &message, &err), 1);
    assert_string_equal(message.text, "a reason");
    assert_int_equal(channel_receive(fds[0], &message, &err), -1);
    assert_int_equal(err.code, 0);
}

static void test_full_buffer_is_an_error(void **state)
{
    struct err err;
    int sent = 0;

    (void)state;
    while (channel_send(fds[0], CHANNEL_PING, 0, NULL, &err) == 0)
        assert_true(++sent < 1000000);
    assert_int_equal(err.code, EAGAIN);
    assert_true(sent > 50);
}

static void expect_rubbish(const void *data, size_t size)
{
    struct channel_message message;
    struct err err;

    assert_int_equal(sock_send(fds[0], data, size, NULL, 0), 0);
    assert_int_equal(channel_receive(fds[1], &message, &err), -1);
    assert_int_equal(err.code, EPROTO);
}

static void test_rubbish_is_refused(void **state)
{
    struct channel_message message = {.version = CHANNEL_VERSION, .type = CHANNEL_READY};
    char longer[sizeof message + 1] = {0};

    (void)state;
    expect_rubbish(&message, HEADER - 1);
    message.version = CHANNEL_VERSION + 1;
    expect_rubbish(&message, HEADER);
    message.version = CHANNEL_VERSION;
    message.type = 0;
    expect_rubbish(&message, HEADER);
    message.type = CHANNEL_TYPES;
    expect_rubbish(&message, HEADER);
    message.type = CHANNEL_READY;
    message.text_size = 5;
    expect_rubbish(&message, HEADER + 4);
    expect_rubbish(&message, HEADER + 6);
    message.text_size = CHANNEL_TEXT_SIZE;
    expect_rubbish(&message, sizeof message);
    memcpy(longer, &message, sizeof message);
    expect_rubbish(longer, sizeof longer);
}

/* The lowest free descriptor tells whether one was left open. */
static int lowest_free(void)
{
    int fd = dup(fds[0]);

    close(fd);
    return fd;
}

static void test_stray_descriptor_is_refused_and_closed(void **state)
{
    struct channel_message message = {.version = CHANNEL_VERSION, .type = CHANNEL_READY};
    struct err err;
    int before = lowest_free();

    (void)state;
    assert_int_equal(sock_send(fds[0], &message, HEADER, fds, 2), 0);
    assert_int_equal(channel_receive(fds[1], &message, &err), -1);
    assert_int_equal(err.code, EPROTO);
    assert_int_equal(lowest_free(), before);
}

static void test_ends_are_closed_by_exec(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
        assert_true(fcntl(fds[i], F_GETFL) & O_NONBLOCK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_messages_arrive_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_text_is_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(test_end_of_the_peer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_last_words_of_a_peer_that_did_not_read, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_full_buffer_is_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rubbish_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stray_descriptor_is_refused_and_closed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_ends_are_closed_by_exec, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
