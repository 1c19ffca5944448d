#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "os/calls.h"
#include "os/io.h"
#include "os/sock.h"
#include "os/time.h"

#include "unit/os/scratch.h"

static int sock_teardown(void **state)
{
    os_calls_reset();
    return scratch_teardown(state);
}

static void test_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *canonical;
        enum sock_kind kind;
        uint16_t port;
    } cases[] = {
        {"0.0.0.0:5555", "0.0.0.0:5555", SOCK_KIND_IPV4, 5555},
        {"127.0.0.1:0", "127.0.0.1:0", SOCK_KIND_IPV4, 0},
        {"[::1]:65535", "[::1]:65535", SOCK_KIND_IPV6, 65535},
        {"[0:0::1]:00080", "[::1]:80", SOCK_KIND_IPV6, 80},
        {"localhost:1", "localhost:1", SOCK_KIND_NAME, 1},
        {"mq-1.example.org:5555", "mq-1.example.org:5555", SOCK_KIND_NAME, 5555},
        {"unix:/run/filad.sock", "unix:/run/filad.sock", SOCK_KIND_UNIX, 0},
        {"unix:a:b", "unix:a:b", SOCK_KIND_UNIX, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sock_address address;
        struct err err;
        char text[SOCK_TEXT_SIZE];
        assert_int_equal(sock_address_parse(str_from_c(cases[i].text), &address, &err), 0);
        assert_int_equal(address.kind, cases[i].kind);
        assert_int_equal(address.port, cases[i].port);
        sock_address_format(&address, text);
        assert_string_equal(text, cases[i].canonical);
    }
}

static void test_bad_addresses(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        ":",
        "5555",
        ":5555",
        "localhost",
        "localhost:",
        "a:65536",
        "a:-1",
        "a:1x",
        "a:123456",
        "a: 1",
        "[::1]",
        "[::1]5",
        "[::1:5",
        "[]:5",
        "[127.0.0.1]:5",
        "::1:5",
        "[:1",
        "[",
        "[:",
        "256.0.0.1:1",
        "1.2.3:1",
        "a b:1",
        "a/b:1",
        "unix:",
        "[::1]]:5",
        "unix:/0123456789012345678901234567890123456789012345678901234567890123456789"
        "01234567890123456789012345678901234567",
    };
    struct sock_address address;
    struct err err;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        err.text[0] = '\0';
        if (sock_address_parse(str_from_c(cases[i]), &address, &err) != -1)
            fail_msg("accepted \"%s\"", cases[i]);
        assert_true(err.text[0] != '\0');
    }
    assert_int_equal(sock_address_parse(STR("unix:/a\0b"), &address, &err), -1);
    assert_int_equal(sock_address_parse(STR("a\0b:1"), &address, &err), -1);
    char text[400];
    memset(text, 'a', sizeof(text));
    memcpy(text + sizeof(text) - 3, ":1", 3);
    assert_int_equal(sock_address_parse(str_from_c(text), &address, &err), -1);
}

static struct sock_address address_of(const char *text)
{
    struct sock_address address;
    struct err err;
    if (sock_address_parse(str_from_c(text), &address, &err) != 0)
        fail_msg("%s: %s", text, err.text);
    return address;
}

static int listen_on(const char *text)
{
    struct sock_address address = address_of(text);
    struct err err;
    int fd = sock_listen(&address, 16, &err);
    if (fd < 0)
        fail_msg("%s", err.text);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    return fd;
}

static int connect_to(const char *text)
{
    struct sock_address address = address_of(text);
    struct err err;
    int fd = sock_connect(&address, 5000, &err);
    if (fd < 0)
        fail_msg("%s", err.text);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    return fd;
}

/* A connection through `listener` carries bytes; the text of the peer as the server sees it. */
static void check_connection(int listener, const char *to, char peer[SOCK_TEXT_SIZE])
{
    struct sockaddr_storage from;
    socklen_t from_size;
    int client = connect_to(to);
    struct pollfd entry = {.fd = listener, .events = POLLIN};
    assert_int_equal(poll(&entry, 1, 5000), 1);
    int server = sock_accept(listener, &from, &from_size);
    assert_true(server >= 0);
    assert_int_equal(fcntl(server, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    assert_int_equal(fcntl(server, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    sock_text((struct sockaddr *)&from, from_size, peer);
    assert_int_equal(sock_set_nodelay(server), 0);
    assert_int_equal(sock_set_user_timeout(server, 60000), 0);
    assert_int_equal(sock_set_nonblocking(server, false), 0);
    char data[4];
    assert_int_equal(io_write_all(client, "ping", 4), 0);
    assert_int_equal(io_read_all(server, data, 4), 4);
    assert_memory_equal(data, "ping", 4);
    assert_int_equal(sock_accept(listener, NULL, NULL), -1);
    assert_int_equal(errno, EAGAIN);
    close(client);
    close(server);
}

static void test_tcp(void **state)
{
    (void)state;
    static const char *const hosts[] = {"127.0.0.1", "[::1]"};
    for (size_t i = 0; i < 2; i++) {
        char text[64], peer[SOCK_TEXT_SIZE];
        snprintf(text, sizeof(text), "%s:0", hosts[i]);
        struct sock_address any = address_of(text);
        struct err err;
        int listener = sock_listen(&any, 16, &err);
        if (listener < 0 && err.code == EADDRNOTAVAIL)
            continue; /* a machine without IPv6 */
        assert_true(listener >= 0);
        uint16_t port = sock_port(listener);
        assert_true(port > 0);
        snprintf(text, sizeof(text), "%s:%u", hosts[i], port);
        check_connection(listener, text, peer);
        assert_memory_equal(peer, hosts[i], strlen(hosts[i]));
        struct sock_address taken = address_of(text);
        assert_int_equal(sock_listen(&taken, 16, &err), -1);
        assert_int_equal(err.code, EADDRINUSE);
        assert_non_null(strstr(err.text, text));
        close(listener);
        close(listen_on(text)); /* at once, in spite of TIME_WAIT */
    }
}

static void test_name_tries_every_address(void **state)
{
    (void)state;
    char text[64], peer[SOCK_TEXT_SIZE];
    int listener = listen_on("127.0.0.1:0");
    snprintf(text, sizeof(text), "localhost:%u", sock_port(listener));
    check_connection(listener, text, peer);
    close(listener);
    struct sock_address address = address_of(text);
    struct err err;
    assert_int_equal(sock_connect(&address, 5000, &err), -1);
    assert_int_equal(err.code, ECONNREFUSED);
    assert_int_equal(sock_listen(&address, 16, &err), -1);
    assert_non_null(strstr(err.text, "numeric"));
}

static void test_both_families_on_one_port(void **state)
{
    (void)state;
    struct err err;
    struct sock_address any6 = address_of("[::]:0");
    int six = sock_listen(&any6, 16, &err);
    if (six < 0)
        return; /* a machine without IPv6 */
    char text[32];
    snprintf(text, sizeof(text), "0.0.0.0:%u", sock_port(six));
    int four = listen_on(text);
    close(four);
    close(six);
}

/* The backlog is full and nobody accepts: the attempt ends when it should. */
static void test_connect_times_out(void **state)
{
    char text[SOCK_TEXT_SIZE];
    struct err err;
    snprintf(text, sizeof(text), "unix:%s", scratch_path(*state, "sock"));
    struct sock_address address = address_of(text);
    int listener = sock_listen(&address, 0, &err), first = connect_to(text);
    uint64_t start = time_monotonic_ms();
    assert_int_equal(sock_connect(&address, 50, &err), -1);
    assert_int_equal(err.code, ETIMEDOUT);
    assert_in_range(time_monotonic_ms() - start, 50, 5000);
    close(first);
    close(listener);

    struct sock_address any = address_of("127.0.0.1:0");
    listener = sock_listen(&any, 0, &err);
    assert_true(listener >= 0);
    snprintf(text, sizeof(text), "127.0.0.1:%u", sock_port(listener));
    address = address_of(text);
    int fds[16], count = 0, fd;
    while (count < 16 && (fd = sock_connect(&address, 50, &err)) >= 0)
        fds[count++] = fd;
    assert_in_range(count, 1, 15);
    assert_int_equal(err.code, ETIMEDOUT);
    while (count > 0)
        close(fds[--count]);
    close(listener);
}

static void test_unix_listener(void **state)
{
    struct scratch *scratch = *state;
    char text[SOCK_TEXT_SIZE], peer[SOCK_TEXT_SIZE];
    struct stat st;
    struct err err;
    uid_t uid = 12345;
    umask(077);
    snprintf(text, sizeof(text), "unix:%s", scratch_path(scratch, "sock"));
    int listener = listen_on(text);
    umask(022);
    assert_int_equal(stat(scratch->path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 0777, 0666);
    check_connection(listener, text, peer);
    assert_string_equal(peer, "unix:");
    assert_int_equal(sock_port(listener), 0);

    int client = connect_to(text), server = sock_accept(listener, NULL, NULL);
    assert_int_equal(sock_peer_uid(server, &uid), 0);
    assert_int_equal(uid, geteuid());
    close(client);
    close(server);

    struct sock_address address = address_of(text);
    assert_int_equal(sock_listen(&address, 16, &err), -1); /* somebody answers */
    assert_int_equal(err.code, EADDRINUSE);
    close(sock_accept(listener, NULL, NULL)); /* the probe of the refused one */
    check_connection(listener, text, peer);
    close(listener);
    listener = listen_on(text); /* the file is there, nobody answers */
    check_connection(listener, text, peer);
    close(listener);
}

static void test_unix_listener_spares_other_files(void **state)
{
    struct scratch *scratch = *state;
    char text[SOCK_TEXT_SIZE];
    struct err err;
    struct stat st;
    snprintf(text, sizeof(text), "unix:%s", scratch_path(scratch, "file"));
    close(open(scratch->path, O_WRONLY | O_CREAT, 0600));
    struct sock_address address = address_of(text);
    assert_int_equal(sock_listen(&address, 16, &err), -1);
    assert_int_equal(stat(scratch->path, &st), 0);
    assert_true(S_ISREG(st.st_mode));
    assert_int_equal(st.st_mode & 0777, 0600);
}

static unsigned accept_failures;

static int failing_accept(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
    static const int errors[] = {ECONNABORTED, EINTR, EMFILE};
    (void)fd;
    (void)address;
    (void)size;
    (void)flags;
    errno = errors[accept_failures++];
    return -1;
}

static void test_accept_skips_what_is_gone(void **state)
{
    (void)state;
    accept_failures = 0;
    os_calls.accept4 = failing_accept;
    assert_int_equal(sock_accept(0, NULL, NULL), -1);
    assert_int_equal(errno, EMFILE);
    assert_int_equal(accept_failures, 3);
}

static void test_text_of_addresses(void **state)
{
    (void)state;
    char text[SOCK_TEXT_SIZE];
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
    assert_int_equal(inet_pton(AF_INET6, "2001:db8::1", &in6.sin6_addr), 1);
    sock_text((struct sockaddr *)&in6, sizeof(in6), text);
    assert_string_equal(text, "[2001:db8::1]:80");
    assert_int_equal(inet_pton(AF_INET6, "::ffff:192.0.2.7", &in6.sin6_addr), 1);
    sock_text((struct sockaddr *)&in6, sizeof(in6), text);
    assert_string_equal(text, "192.0.2.7:80");

    struct sockaddr_un un = {.sun_family = AF_UNIX};
    memset(un.sun_path, 'p', sizeof(un.sun_path)); /* no NUL: allowed */
    sock_text((struct sockaddr *)&un, sizeof(un), text);
    assert_int_equal(strlen(text), 5 + sizeof(un.sun_path));
    sock_text((struct sockaddr *)&un, offsetof(struct sockaddr_un, sun_path) + 2, text);
    assert_string_equal(text, "unix:pp");
}

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void test_messages_with_descriptors(void **state)
{
    (void)state;
    int pair[2], pipe_fds[2], got[8];
    char data[16];
    unsigned before = open_descriptors(), count = 8;
    assert_int_equal(sock_pair(pair), 0);
    assert_int_equal(pipe(pipe_fds), 0);
    assert_int_equal(sock_receive(pair[1], data, sizeof(data), got, &count), -1);
    assert_int_equal(errno, EAGAIN);

    assert_int_equal(sock_send(pair[0], "one", 3, pipe_fds, 2), 0);
    assert_int_equal(sock_send(pair[0], "two", 3, NULL, 0), 0);
    count = 8;
    assert_int_equal(sock_receive(pair[1], data, sizeof(data), got, &count), 3);
    assert_memory_equal(data, "one", 3);
    assert_int_equal(count, 2);
    assert_int_equal(fcntl(got[0], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(write(got[1], "x", 1), 1);
    assert_int_equal(read(pipe_fds[0], data, 1), 1);
    close(got[0]);
    close(got[1]);
    count = 8;
    assert_int_equal(sock_receive(pair[1], data, sizeof(data), got, &count), 3);
    assert_memory_equal(data, "two", 3);
    assert_int_equal(count, 0);

    /* Too many descriptors, too many bytes: lost, nothing leaks, and the next one is whole. */
    assert_int_equal(sock_send(pair[0], "fds", 3, pipe_fds, 2), 0);
    assert_int_equal(sock_send(pair[0], "0123456789abcdefg", 17, pipe_fds, 2), 0);
    assert_int_equal(sock_send(pair[0], "next", 4, NULL, 0), 0);
    count = 1;
    assert_int_equal(sock_receive(pair[1], data, sizeof(data), got, &count), -1);
    assert_int_equal(errno, EMSGSIZE);
    count = 8;
    assert_int_equal(sock_receive(pair[1], data, sizeof(data), got, &count), -1);
    assert_int_equal(errno, EMSGSIZE);
    assert_int_equal(count, 0);
    count = 8;
    assert_int_equal(sock_receive(pair[1], data, sizeof(data), got, &count), 4);

    assert_int_equal(open_descriptors(), before + 4);
    close(pair[0]);
    count = 8;
    assert_int_equal(sock_receive(pair[1], data, sizeof(data), got, &count), 0);
    assert_int_equal(sock_send(pair[1], "x", 1, NULL, 0), -1);
    assert_int_equal(errno, EPIPE);
    close(pair[1]);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    assert_int_equal(open_descriptors(), before);
}

static void test_most_descriptors_at_once(void **state)
{
    (void)state;
    int pair[2], many[SOCK_FDS_MAX + 1], got[SOCK_FDS_MAX];
    unsigned before = open_descriptors(), count = SOCK_FDS_MAX;
    char byte;
    assert_int_equal(sock_pair(pair), 0);
    for (unsigned i = 0; i <= SOCK_FDS_MAX; i++)
        many[i] = pair[0];
    assert_int_equal(sock_send(pair[0], "x", 1, many, SOCK_FDS_MAX + 1), -1);
    assert_int_equal(sock_send(pair[0], "x", 1, many, SOCK_FDS_MAX), 0);
    assert_int_equal(sock_receive(pair[1], &byte, 1, got, &count), 1);
    assert_int_equal(count, SOCK_FDS_MAX);
    while (count > 0)
        close(got[--count]);
    close(pair[0]);
    close(pair[1]);
    assert_int_equal(open_descriptors(), before);
}

#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_setup, sock_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_bad_addresses),
        cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_name_tries_every_address),
        cmocka_unit_test(test_both_families_on_one_port),
        WITH_SCRATCH(test_connect_times_out),
        WITH_SCRATCH(test_unix_listener),
        WITH_SCRATCH(test_unix_listener_spares_other_files),
        WITH_SCRATCH(test_accept_skips_what_is_gone),
        cmocka_unit_test(test_text_of_addresses),
        cmocka_unit_test(test_messages_with_descriptors),
        cmocka_unit_test(test_most_descriptors_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
