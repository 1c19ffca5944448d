/* What `filad -x` makes of answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#undef fail /* the source has one of its own */
#include "master/tell.c"

/* What becomes of an answer of `size` bytes, its end included; nothing is shown of it. */
static int told(size_t size)
{
    static char answer[CONTROL_LINE_MAX + 1];
    struct options options = {.command = "example.say"};
    struct tell tell = {
        .options = &options, .signal = &execute, .deadline = time_monotonic_ms() + 20000};
    int fds[2], room = 1 << 20, saved[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room), 0);
    memset(answer, 'x', size - 1);
    memcpy(answer, "ok: ", 4);
    answer[size - 1] = '\n';
    assert_int_equal(send(fds[1], answer, size, MSG_DONTWAIT), size);
    int nowhere = open("/dev/null", O_WRONLY);
    fflush(NULL);
    for (int i = 0; i < 2; i++) {
        saved[i] = dup(i + 1);
        assert_int_equal(dup2(nowhere, i + 1), i + 1);
    }
    int status = tell_by_control(&tell, fds[0]);
    fflush(NULL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(dup2(saved[i], i + 1), i + 1);
        close(saved[i]);
    }
    close(nowhere);
    close(fds[0]);
    close(fds[1]);
    return status;
}

/* The master sends no longer one. */
static void the_longest_answer_is_taken(void **state)
{
    (void)state;
    assert_int_equal(told(100), EXIT_SUCCESS);
    assert_int_equal(told(CONTROL_LINE_MAX - 1), EXIT_SUCCESS);
    assert_int_equal(told(CONTROL_LINE_MAX), EXIT_SUCCESS);
    assert_int_equal(told(CONTROL_LINE_MAX + 1), EXIT_FAILURE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_longest_answer_is_taken)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
