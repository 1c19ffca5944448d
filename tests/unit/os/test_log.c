#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/un.h>

#include "os/log.c"

#include "unit/os/scratch.h"

/* The whole file, NUL-terminated, owned by the caller. */
static char *slurp(const char *path)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *text = calloc(1, 1 << 20);
    size_t size = fread(text, 1, (1 << 20) - 1, file);
    fclose(file);
    assert_int_equal(strlen(text), size);
    return text;
}

static int setup(void **state)
{
    struct err err;
    if (scratch_setup(state) != 0)
        return -1;
    log_set_process("");
    return log_open(scratch_path(*state, "log"), LOG_INFO, &err);
}

static int teardown(void **state)
{
    struct err err;
    int result = log_open("stderr", LOG_INFO, &err);
    return scratch_teardown(state) != 0 ? -1 : result;
}

static void test_form_of_a_line(void **state)
{
    char *text, expected[128];
    log_set_process("worker 0");
    log_errno(LOG_ERROR, "store", ENOSPC, "open %s", "queues/7.db");
    log_write(LOG_DEBUG, "store", "not at this level");
    text = slurp(scratch_path(*state, "log"));
    unsigned year, month, day, hour, minute, second, ms;
    int end = 0;
    assert_int_equal(sscanf(text, "%4u-%2u-%2uT%2u:%2u:%2u.%3uZ%n", &year, &month, &day, &hour,
                            &minute, &second, &ms, &end),
                     7);
    assert_int_equal(end, 24);
    struct tm tm = {.tm_year = (int)year - 1900,
                    .tm_mon = (int)month - 1,
                    .tm_mday = (int)day,
                    .tm_hour = (int)hour,
                    .tm_min = (int)minute,
                    .tm_sec = (int)second};
    assert_in_range(time_wall_ms() / 1000 - (uint64_t)timegm(&tm), 0, 60);
    snprintf(expected, sizeof(expected),
             " [error] %d#worker0 store: open queues/7.db: No space left on device\n", getpid());
    assert_string_equal(text + 24, expected);
    free(text);
}

static void test_dates(void **state)
{
    (void)state;
    for (uint64_t days = 0; days < 200000; days += 13) {
        time_t seconds = (time_t)days * 86400;
        struct tm tm;
        unsigned year, month, day;
        gmtime_r(&seconds, &tm);
        civil_date(days, &year, &month, &day);
        assert_int_equal(year, tm.tm_year + 1900);
        assert_int_equal(month, tm.tm_mon + 1);
        assert_int_equal(day, tm.tm_mday);
    }
}

/* What comes after "subsystem: " of the only line. */
static char *logged(struct scratch *scratch)
{
    char *text = slurp(scratch_path(scratch, "log"));
    char *body = strstr(text, " x: ");
    assert_non_null(body);
    body = strdup(body + 4);
    free(text);
    assert_int_equal(truncate(scratch->path, 0), 0);
    return body;
}

static void test_control_and_invalid_bytes_are_escaped(void **state)
{
    static const char *const cases[][2] = {
        {"a\nb", "a\\x0ab\n"},
        {"a\r\t\x1b[1m\x7f", "a\\x0d\\x09\\x1b[1m\\x7f\n"},
        {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9d\x84\x9e",
         "caf\xc3\xa9 \xe2\x82\xac \xf0\x9d\x84\x9e\n"},
        {"\xff \xc3( \xe2\x82", "\\xff \\xc3( \\xe2\\x82\n"},
        {"\xc2\x9b"
         "31m",
         "\\xc2\\x9b31m\n"}, /* a control sequence in one character */
        {"\xed\xa0\x80", "\\xed\\xa0\\x80\n"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        log_write(LOG_INFO, "x", "%s", cases[i][0]);
        char *body = logged(*state);
        assert_string_equal(body, cases[i][1]);
        free(body);
    }
}

static void test_long_texts_are_cut(void **state)
{
    char text[10000];
    for (int escaped = 0; escaped < 2; escaped++) {
        memset(text, escaped ? 1 : 'y', sizeof(text));
        text[sizeof(text) - 1] = '\0';
        log_write(LOG_INFO, "x", "%s", text);
        char *body = logged(*state);
        size_t size = strlen(body);
        assert_true(size > 2500 && size < LINE_SIZE);
        assert_int_equal(body[size - 1], '\n');
        if (escaped)
            assert_string_equal(body + size - 8, "\\x01...\n");
        free(body);

        log_errno(LOG_INFO, "x", EACCES, "%s", text);
        body = logged(*state);
        if (!escaped)
            assert_non_null(strstr(body, "y: Permission denied\n"));
        free(body);
    }
}

static void test_errno_is_kept(void **state)
{
    (void)state;
    errno = EBADF;
    log_write(LOG_INFO, "x", "y");
    log_errno(LOG_INFO, "x", ENOENT, "y");
    assert_int_equal(errno, EBADF);
}

static void test_seldom_counts_what_it_leaves_out(void **state)
{
    struct err err;
    struct log_limit limit = {0}, other = {0};
    assert_int_equal(log_open(scratch_path(*state, "log"), LOG_INFO, &err), 0);
    for (int i = 0; i < 1000; i++)
        log_errno_seldom(&limit, LOG_ERROR, "x", EMFILE, "accept");
    log_errno_seldom(&other, LOG_ERROR, "x", EMFILE, "listen");
    char *text = slurp(scratch_path(*state, "log"));
    char *first = strstr(text, "x: accept: Too many open files\n");
    assert_non_null(first);
    assert_null(strstr(first + sizeof("x: accept"), "accept"));
    assert_non_null(strstr(text, "x: listen: Too many open files\n"));
    free(text);
    limit.next_ms = 0; /* a minute later */
    log_errno_seldom(&limit, LOG_ERROR, "x", EMFILE, "accept");
    log_errno_seldom(&limit, LOG_ERROR, "x", EMFILE, "accept");
    text = slurp(scratch_path(*state, "log"));
    assert_non_null(strstr(text, "x: accept (and 999 times before): Too many open files\n"));
    assert_int_equal(limit.left_out, 1);
    free(text);
}

static void test_levels(void **state)
{
    (void)state;
    enum log_level level;
    for (int i = LOG_ERROR; i <= LOG_DEBUG; i++) {
        assert_true(log_level_parse(str_from_c(log_level_name((enum log_level)i)), &level));
        assert_int_equal(level, i);
    }
    assert_false(log_level_parse(STR("Error"), &level));
    assert_false(log_level_parse(STR(""), &level));
    log_set_level(LOG_WARN);
    assert_true(log_enabled(LOG_WARN));
    assert_false(log_enabled(LOG_NOTICE));
}

static void test_reopen_after_rename(void **state)
{
    struct scratch *scratch = *state;
    char old[PATH_MAX], path[PATH_MAX];
    struct err err;
    snprintf(path, sizeof(path), "%s", scratch_path(scratch, "log"));
    snprintf(old, sizeof(old), "%s", scratch_path(scratch, "log.1"));
    int fd = atomic_load(&log_fd);
    log_write(LOG_INFO, "x", "first");
    assert_int_equal(rename(path, old), 0);
    log_write(LOG_INFO, "x", "second");
    assert_int_equal(log_reopen(&err), 0);
    log_write(LOG_INFO, "x", "third");
    assert_int_equal(atomic_load(&log_fd), fd);
    char *text = slurp(old);
    assert_non_null(strstr(text, "x: second\n"));
    assert_null(strstr(text, "third"));
    free(text);
    text = slurp(path);
    assert_non_null(strstr(text, "x: third\n"));
    assert_null(strstr(text, "second"));
    free(text);
}

static void test_failed_open_keeps_the_old_file(void **state)
{
    struct err err;
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s", scratch_path(*state, "missing/log"));
    assert_int_equal(log_open(path, LOG_DEBUG, &err), -1);
    assert_int_equal(err.code, ENOENT);
    assert_non_null(strstr(err.text, path));
    assert_false(log_enabled(LOG_DEBUG));
    log_write(LOG_INFO, "x", "still here");
    char *body = logged(*state);
    assert_string_equal(body, "still here\n");
    free(body);
}

/* Otherwise the user of the workers, whose directory it is, has root write to any file. */
static void test_links_of_others_are_not_followed(void **state)
{
    struct err err;
    char target[PATH_MAX], path[PATH_MAX];
    snprintf(target, sizeof(target), "%s", scratch_path(*state, "target"));
    snprintf(path, sizeof(path), "%s", scratch_path(*state, "link"));
    const char *directory = ((struct scratch *)*state)->dir;
    for (int hard = 0; hard < 2; hard++) {
        FILE *file = fopen(target, "w");
        assert_non_null(file);
        fclose(file);
        assert_int_equal(hard ? link(target, path) : symlink(target, path), 0);
        assert_int_equal(chmod(directory, 0777), 0);
        assert_int_equal(log_open(path, LOG_INFO, &err), -1);
        assert_int_equal(err.code, ELOOP);
        assert_non_null(strstr(err.text, "others may write"));
        assert_int_equal(chmod(directory, 01777), 0);
        assert_int_equal(log_open(path, LOG_INFO, &err), 0);
        assert_int_equal(chmod(directory, 0755), 0);
        assert_int_equal(log_reopen(&err), 0);
        log_write(LOG_INFO, "x", "followed");
        char *text = slurp(target);
        assert_non_null(strstr(text, "x: followed\n"));
        free(text);
        assert_int_equal(unlink(path), 0);
    }
}

static void test_log_is_given_away(void **state)
{
    struct err err;
    struct stat file;
    if (geteuid() != 0)
        skip();
    assert_int_equal(log_give(4711, 4712, &err), 0);
    assert_int_equal(stat(scratch_path(*state, "log"), &file), 0);
    assert_int_equal(file.st_uid, 4711);
    assert_int_equal(file.st_gid, 4712);
}

enum { WRITERS = 4, RECORDS = 1000 };

static void *write_records(void *argument)
{
    for (int i = 0; i < RECORDS; i++)
        log_write(LOG_INFO, "x", "writer %d record %d", *(int *)argument, i);
    return NULL;
}

static void test_lines_of_threads_stay_whole(void **state)
{
    pthread_t threads[WRITERS];
    int numbers[WRITERS], next[WRITERS] = {0};
    for (int i = 0; i < WRITERS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, write_records, &numbers[i]), 0);
    }
    struct err err;
    for (int i = 0; i < 50; i++)
        assert_int_equal(log_reopen(&err), 0);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    char *text = slurp(scratch_path(*state, "log")), *rest = text, *line;
    while ((line = strsep(&rest, "\n")) && *line) {
        int writer, record;
        line = strstr(line, " x: ");
        assert_non_null(line);
        assert_int_equal(sscanf(line, " x: writer %d record %d", &writer, &record), 2);
        assert_int_equal(record, next[writer]++);
    }
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(next[i], RECORDS);
    free(text);
}

static void test_syslog_datagram(void **state)
{
    struct err err;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char path[PATH_MAX], got[512], expected[128];
    snprintf(path, sizeof(path), "%s", scratch_path(*state, "devlog"));
    assert_true(strlen(path) < sizeof(address.sun_path));
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    syslog_path = path;
    assert_int_equal(log_open("syslog", LOG_INFO, &err), 0);
    log_set_process("keeper");
    log_write(LOG_WARN, "store", "low\nspace");
    ssize_t size = recv(fd, got, sizeof(got) - 1, 0);
    assert_true(size > 0);
    got[size] = '\0';
    snprintf(expected, sizeof(expected), "<28>filad[%d]: keeper store: low\\x0aspace", getpid());
    assert_string_equal(got, expected);
    assert_int_equal(log_reopen(&err), 0);
    close(fd);
    log_write(LOG_WARN, "store", "nobody listens"); /* must neither block nor fail */
    syslog_path = "/dev/log";
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_form_of_a_line, setup, teardown),
        cmocka_unit_test(test_dates),
        cmocka_unit_test_setup_teardown(test_control_and_invalid_bytes_are_escaped, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_long_texts_are_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errno_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_seldom_counts_what_it_leaves_out, setup, teardown),
        cmocka_unit_test_setup_teardown(test_levels, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reopen_after_rename, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed_open_keeps_the_old_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_links_of_others_are_not_followed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_log_is_given_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lines_of_threads_stay_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_syslog_datagram, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
