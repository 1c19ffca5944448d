#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/conf.h"
#include "conf/yaml.h"
#include "config.h"

struct fixture {
    char directory[64];
    struct conf_errors errors;
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    strcpy(fixture->directory, "/tmp/filad-test-XXXXXX");
    assert_non_null(mkdtemp(fixture->directory));
    conf_errors_init(&fixture->errors);
    *state = fixture;
    return 0;
}

static void path_in(const struct fixture *fixture, const char *name, char path[256])
{
    (void)snprintf(path, 256, "%s/%s", fixture->directory, name);
}

static int teardown(void **state)
{
    static const char *const names[] = {"filad.yaml", "file", "log"};
    struct fixture *fixture = *state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[256];
        path_in(fixture, names[i], path);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(fixture->directory), 0);
    conf_errors_free(&fixture->errors);
    free(fixture);
    return 0;
}

static void write_file(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void test_load_from_file(void **state)
{
    struct fixture *fixture = *state;
    char path[256];
    path_in(fixture, "filad.yaml", path);
    write_file(path, "daemon: false\n", 14);
    struct conf *conf = conf_load(path, NULL, NULL, NULL, 0, &fixture->errors);
    assert_non_null(conf);
    assert_false(conf->daemon);
    assert_string_equal(conf->file, path);
    conf_free(conf);

    write_file(path, "daemon: x\n", 10);
    assert_null(conf_load(path, NULL, NULL, NULL, 0, &fixture->errors));
    char expected[512];
    (void)snprintf(expected, sizeof(expected), "%s:1:9: `daemon` needs true or false, not `x`\n",
                   path);
    assert_string_equal(conf_errors_text(&fixture->errors), expected);
}

static void test_unreadable_files(void **state)
{
    struct fixture *fixture = *state;
    char path[256], expected[512];
    path_in(fixture, "filad.yaml", path);
    assert_null(conf_load(path, NULL, NULL, NULL, 0, &fixture->errors));
    (void)snprintf(expected, sizeof(expected), "%s: No such file or directory\n", path);
    assert_string_equal(conf_errors_text(&fixture->errors), expected);

    conf_errors_free(&fixture->errors);
    assert_null(conf_load(fixture->directory, NULL, NULL, NULL, 0, &fixture->errors));
    assert_non_null(strstr(conf_errors_text(&fixture->errors), ": Is a directory\n"));
}

/* No place in a file that is not there. */
static void test_places_without_a_file(void **state)
{
    struct fixture *fixture = *state;
    if (access(FILAD_SYSCONFDIR "/filad/filad.yaml", F_OK) == 0)
        skip();
    struct conf *conf = conf_load(NULL, NULL, "user: no-such-user", NULL, 0, &fixture->errors);
    assert_non_null(conf);
    assert_true(conf->missing);
    struct conf_place place = conf_place_of(conf, "group");
    assert_string_equal(place.file, "filad");
    assert_int_equal(place.line, 0);
    place = conf_place_of(conf, "user");
    assert_string_equal(place.file, "-g");
    assert_int_equal(place.column, 7);
    conf_free(conf);
}

static void test_size_limit(void **state)
{
    struct fixture *fixture = *state;
    char path[256];
    path_in(fixture, "filad.yaml", path);
    char *text = malloc(YAML_SIZE_MAX + 1);
    assert_non_null(text);
    memset(text, '#', YAML_SIZE_MAX + 1);
    write_file(path, text, YAML_SIZE_MAX);
    struct conf *conf = conf_load(path, NULL, NULL, NULL, 0, &fixture->errors);
    assert_non_null(conf);
    conf_free(conf);
    write_file(path, text, YAML_SIZE_MAX + 1);
    free(text);
    assert_null(conf_load(path, NULL, NULL, NULL, 0, &fixture->errors));
    assert_non_null(strstr(conf_errors_text(&fixture->errors), ": larger than 1048576 bytes\n"));
}

/* Checks a configuration whose relative paths are below the fixture's directory; users that exist
 * everywhere, so that the test runs as root too. */
static int check(struct fixture *fixture, const char *text, const char *overlay)
{
    char merged[1024];
    (void)snprintf(merged, sizeof(merged),
                   "user: nobody\ngroup: root\npid_file: run/filad.pid\n"
                   "error_log: {path: log/error.log}\nstore: {path: data/store}\n%s",
                   text);
    conf_errors_free(&fixture->errors);
    struct conf *conf = conf_load_text("f", str_from_c(merged), fixture->directory, overlay, NULL,
                                       0, &fixture->errors);
    if (conf == NULL)
        fail_msg("%s", conf_errors_text(&fixture->errors));
    int result = conf_check_files(conf, &fixture->errors);
    conf_free(conf);
    return result;
}

static void test_missing_directories_are_fine_and_not_made(void **state)
{
    struct fixture *fixture = *state;
    if (check(fixture, "listen: [{address: unix:a/b/socket}]\n", NULL) != 0)
        fail_msg("%s", conf_errors_text(&fixture->errors));
    char path[256];
    path_in(fixture, "data", path);
    assert_int_equal(access(path, F_OK), -1);
    path_in(fixture, "log", path);
    assert_int_equal(access(path, F_OK), -1);
}

static void test_files_in_the_way(void **state)
{
    struct fixture *fixture = *state;
    char path[256];
    path_in(fixture, "file", path);
    write_file(path, "x", 1);
    static const struct {
        const char *overlay;
        const char *line;
    } cases[] = {
        {"store: {path: file}", "-g:1:15: `store.path`: "},
        {"store: {path: file/data}", "-g:1:15: `store.path`: "},
        {"store: {regions: file/data}", "-g:1:18: `store.regions`: "},
        {"pid_file: file/pid", "-g:1:11: `pid_file`: "},
        {"pid_file: .", "-g:1:11: `pid_file`: "},
        {"error_log: {path: file/log}", "-g:1:19: `error_log.path`: "},
        {"error_log: {path: .}", "-g:1:19: `error_log.path`: "},
        {"listen: [{address: unix:file/socket}]", "-g:1:20: `listen.0.address`: "},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(check(fixture, "", cases[i].overlay), -1);
        const char *text = conf_errors_text(&fixture->errors);
        if (fixture->errors.count != 1 || strncmp(text, cases[i].line, strlen(cases[i].line)) != 0)
            fail_msg("%s gives %s and not %s", cases[i].overlay, text, cases[i].line);
    }
    /* A file that can be written is fine, and a stream is no file. */
    assert_int_equal(check(fixture, "", "{pid_file: file, error_log: {path: file}}"), 0);
    assert_int_equal(check(fixture, "", "error_log: {path: syslog}"), 0);
}

static void test_unwritable_directory(void **state)
{
    struct fixture *fixture = *state;
    if (geteuid() == 0)
        skip(); /* nothing is closed to root */
    assert_int_equal(chmod(fixture->directory, 0500), 0);
    assert_int_equal(check(fixture, "", NULL), -1);
    assert_int_equal(fixture->errors.count, 3);
    assert_non_null(strstr(conf_errors_text(&fixture->errors), "Permission denied"));
    assert_int_equal(chmod(fixture->directory, 0700), 0);
}

static void test_users(void **state)
{
    struct fixture *fixture = *state;
    int result = check(fixture, "", "{user: no-such-user, group: no-such-group}");
    if (geteuid() != 0) {
        assert_int_equal(result, 0);
        return;
    }
    assert_int_equal(result, -1);
    assert_string_equal(conf_errors_text(&fixture->errors),
                        "-g:1:8: `user`: no-such-user: no such user; make it with `useradd "
                        "--system no-such-user`, or set `user`\n"
                        "-g:1:29: `group`: no-such-group: no such group; make it with `groupadd "
                        "--system no-such-group`, or set `group`\n");
    assert_int_equal(check(fixture, "", "{user: no-such-user, group: no-such-user}"), -1);
    assert_int_equal(fixture->errors.count, 1);
    assert_int_equal(check(fixture, "", "user: root"), 0);
    assert_int_equal(fixture->errors.warning_count, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_load_from_file),
        TEST(test_unreadable_files),
        TEST(test_places_without_a_file),
        TEST(test_size_limit),
        TEST(test_missing_directories_are_fine_and_not_made),
        TEST(test_files_in_the_way),
        TEST(test_unwritable_directory),
        TEST(test_users),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
