#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include "conf/conf.h"
#include "config.h"

/* A section as a module would have it. */
struct extra {
    char *fairness;
    uint64_t every_ms;
};

static const struct schema_key extra_keys[] = {
    {"fairness", SCHEMA_STRING, .offset = offsetof(struct extra, fairness)},
    {"every", SCHEMA_TIME, .offset = offsetof(struct extra, every_ms), .initial = "5s",
     .max = 60000},
    {.type = SCHEMA_END},
};
static const struct conf_section sections[] = {
    {"extra", extra_keys, sizeof(struct extra)},
    {"header_key", extra_keys, sizeof(struct extra)},
};

static int setup(void **state)
{
    struct conf_errors *errors = malloc(sizeof(*errors));
    assert_non_null(errors);
    conf_errors_init(errors);
    *state = errors;
    return 0;
}

static int teardown(void **state)
{
    conf_errors_free(*state);
    free(*state);
    return 0;
}

static struct conf *load(struct conf_errors *errors, const char *text, const char *overlay)
{
    conf_errors_free(errors);
    return conf_load_text("f", str_from_c(text), "/prefix", overlay, sections, 2, errors);
}

static struct conf *load_fine(struct conf_errors *errors, const char *text, const char *overlay)
{
    struct conf *conf = load(errors, text, overlay);
    if (conf == NULL)
        fail_msg("%s", conf_errors_text(errors));
    return conf;
}

static void test_defaults(void **state)
{
    struct conf *conf = load_fine(*state, "", NULL);
    assert_string_equal(conf->user, FILAD_USER);
    assert_string_equal(conf->group, FILAD_GROUP);
    assert_in_range(conf->worker_processes, 1, CONF_WORKERS_MAX);
    assert_true(conf->daemon);
    assert_string_equal(conf->pid_file, FILAD_RUNSTATEDIR "/filad.pid");
    assert_string_equal(conf->error_log.path, FILAD_LOCALSTATEDIR "/log/filad/error.log");
    assert_int_equal(conf->error_log.level, LOG_INFO);
    assert_int_equal(conf->worker_rlimit_nofile, 65536);
    assert_int_equal(conf->worker_connections, 16384);
    assert_int_equal(conf->worker_shutdown_timeout_ms, 30000);
    assert_int_equal(conf->listen_count, 1);
    assert_string_equal(conf->listen[0].address, "0.0.0.0:5555");
    assert_false(conf->listen[0].tls);
    assert_int_equal(conf->listen[0].backlog, 511);
    assert_int_equal(conf->listen[0].numbering, CONF_NUMBERING_AUTO);
    assert_int_equal(conf->fibp.max_frame_size, 16 << 20);
    assert_int_equal(conf->fibp.max_message_size, 64 << 20);
    assert_int_equal(conf->fibp.max_pending_streams, 64);
    assert_int_equal(conf->fibp.handshake_timeout_ms, 10000);
    assert_int_equal(conf->fibp.keepalive_interval_ms, 30000);
    assert_int_equal(conf->fibp.delivery_window, 1 << 20);
    assert_string_equal(conf->store.path, FILAD_LOCALSTATEDIR "/lib/filad");
    assert_null(conf->store.regions);
    assert_int_equal(conf->store.reserve, 0);
    assert_int_equal(conf->store.cache_size, 256 << 20);
    assert_int_equal(conf->store.durability, CONF_DURABILITY_COMMIT);
    assert_int_equal(conf->store.sync_interval_ms, 100);
    assert_int_equal(conf->store.checkpoint.bytes, 64 << 20);
    assert_int_equal(conf->store.checkpoint.interval_ms, 60000);
    assert_int_equal(conf->shared_memory, 1 << 30);
    assert_int_equal(conf->scheduler.quantum, 1000);
    assert_int_equal(conf->scheduler.max_unacked, 10000);
    assert_int_equal(conf->scheduler.visibility_timeout_ms, 30000);
    conf_free(conf);
}

static void test_values(void **state)
{
    struct conf *conf =
        load_fine(*state,
                  "worker_processes: 3\n"
                  "pid_file: run/filad.pid\n"
                  "error_log: {path: stderr, level: debug}\n"
                  "daemon: false\n"
                  "listen:\n"
                  "  - address: \"[::1]:6000\"\n"
                  "    numbering: s3\n"
                  "  - {address: unix:sock, backlog: 10}\n"
                  "  - {address: unix:/tmp/sock, tls: false}\n"
                  "store: {regions: /dev/shm/x, reserve: 2m, durability: interval}\n"
                  "load_module: []\n",
                  NULL);
    assert_int_equal(conf->worker_processes, 3);
    assert_string_equal(conf->pid_file, "/prefix/run/filad.pid");
    assert_string_equal(conf->error_log.path, "stderr");
    assert_int_equal(conf->error_log.level, LOG_DEBUG);
    assert_int_equal(conf->listen_count, 3);
    assert_string_equal(conf->listen[0].address, "[::1]:6000");
    assert_int_equal(conf->listen[0].numbering, CONF_NUMBERING_S3);
    assert_int_equal(conf->listen[0].backlog, 511);
    assert_string_equal(conf->listen[1].address, "unix:/prefix/sock");
    assert_int_equal(conf->listen[1].backlog, 10);
    assert_string_equal(conf->listen[2].address, "unix:/tmp/sock");
    assert_string_equal(conf->store.regions, "/dev/shm/x");
    assert_int_equal(conf->store.reserve, 2 << 20);
    assert_int_equal(conf->store.durability, CONF_DURABILITY_INTERVAL);
    assert_string_equal(conf->file, "f");
    assert_string_equal(conf->prefix, "/prefix");
    conf_free(conf);
}

static void test_overlay(void **state)
{
    struct conf_errors *errors = *state;
    struct conf *conf = load_fine(errors, "daemon: true\nstore: {cache_size: 32m, path: /a}\n",
                                  "{daemon: false, store: {path: b}, listen: "
                                  "[{address: 127.0.0.1:1}]}");
    assert_false(conf->daemon);
    assert_string_equal(conf->store.path, "/prefix/b");
    assert_int_equal(conf->store.cache_size, 32 << 20);
    assert_string_equal(conf->listen[0].address, "127.0.0.1:1");
    assert_string_equal(conf_place_of(conf, "store.path").file, "-g");
    assert_string_equal(conf_place_of(conf, "store.cache_size").file, "f");
    conf_free(conf);

    conf = load_fine(errors, "", "daemon: false");
    assert_false(conf->daemon);
    conf_free(conf);
    conf = load_fine(errors, "daemon: false", "");
    assert_false(conf->daemon);
    conf_free(conf);

    assert_null(load(errors, "daemon: 1", "{shared_memory: 1k}"));
    assert_string_equal(conf_errors_text(errors),
                        "f:1:9: `daemon` needs true or false, not `1`\n"
                        "-g:1:17: `shared_memory` must be between 64m and 1024g, not 1k\n");
    assert_null(load(errors, "", "[daemon]"));
    assert_string_equal(conf_errors_text(errors), "-g:1:1: needs a mapping of keys to values\n");
    /* Both texts are read before anything is said. */
    assert_null(load(errors, "a: &x 1", "b: *x"));
    assert_int_equal(errors->count, 2);
}

static void test_mistakes(void **state)
{
    static const struct {
        const char *text;
        const char *line;
    } cases[] = {
        {"tls: {certificate: a}", "f:1:1: `tls` is not in this build, which has no TLS\n"},
        {"auth: {}", "f:1:1: `auth` is not in this build, which has no authentication\n"},
        {"lua: {timeout: 1ms}", "f:1:1: `lua` is not in this build, which has no Lua module\n"},
        {"http:", "f:1:1: `http` is not in this build, which has no metrics module\n"},
        {"cluster: {}", "f:1:1: `cluster` is not in this build"},
        {"load_module: a.so", "f:1:14: `load_module` needs a list of paths"},
        {"load_module: [a.so, {b: c}]", "f:1:21: `load_module`"},
        {"load_module: ['']", "f:1:15: `load_module` must not be empty"},
        {"listen: [{address: \"1.2.3.4:1\", tls: true}]",
         "`listen.tls: true` is not in this build"},
        {"listen: [{address: \"1.2.3.4:1\", preface_profile: go}]",
         "`listen.preface_profile: go` is not in this build"},
        {"listen: []", "f:1:9: `listen` must have 1 to 64 items, not 0\n"},
        {"listen: [{}]", "f:1:10: `listen` needs `address`\n"},
        {"listen: [{address: localhost:1}]", "f:1:20: `listen.address` needs IPv4:PORT"},
        {"listen: [{address: \"1.2.3.4\"}]", "f:1:20: `listen.address` needs IPv4:PORT"},
        {"listen: [{address: \"1.2.3.4:0\"}]", "f:1:20: `listen.address` needs IPv4:PORT"},
        {"listen: [{address: \"1.2.3.4:65536\"}]", "f:1:20: `listen.address` needs IPv4:PORT"},
        {"listen: [{address: \"1.2.3.4:5x\"}]", "f:1:20: `listen.address` needs IPv4:PORT"},
        {"listen: [{address: \"::1:5\"}]", "f:1:20: `listen.address` needs IPv4:PORT"},
        {"listen: [{address: \"[::1]\"}]", "f:1:20: `listen.address` needs IPv4:PORT"},
        {"listen: [{address: \"[::1:5\"}]", "f:1:20: `listen.address` needs IPv4:PORT"},
        {"listen: [{address: \"unix:\"}]", "f:1:20: `listen.address` needs a path after `unix:`"},
        {"listen: [{address: \"1.2.3.4:1\"}, {address: \"1.2.3.4:1\"}]",
         "f:1:44: `listen.address` 1.2.3.4:1 twice, first at f:1:20\n"},
        {"listen: [{address: unix:a}, {address: unix:/prefix/a}]", " twice, first at f:1:20\n"},
        {"fibp: {max_frame_size: 17m}", "`fibp.max_frame_size` must be between 64k and 16m"},
        {"fibp: {max_message_size: 1m}",
         "f:1:26: `fibp.max_message_size` (1m) must be at least `fibp.max_frame_size` (16m)\n"},
        {"store: {cache_size: 7m}", "`store.cache_size` must be between 8m and 1024g, not 7m\n"},
        {"scheduler: {visibility_timeout: 0}", "must be between 1ms and 7d, not 0\n"},
        {"scheduler: {quantum: 1000001}", "must be between 1 and 1000000, not 1000001\n"},
        {"worker_processes: 33", "must be between 1 and 32, not 33\n"},
        {"store: {pth: x}", "f:1:9: unknown key `pth` in `store`, did you mean `path`?\n"},
        {"store: {}\nstore: {}\n", "f:2:1: duplicate key `store`, first at f:1:1\n"},
        {"extra: {every: 2m}", "f:1:16: `extra.every` must be between 0 and 1m, not 2m\n"},
        {"- a", "f:1:1: needs a mapping of keys to values\n"},
    };
    struct conf_errors *errors = *state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_null(load(errors, cases[i].text, NULL));
        const char *text = conf_errors_text(errors);
        if (errors->count != 1 || strstr(text, cases[i].line) == NULL)
            fail_msg("%s gives %s and not %s", cases[i].text, text, cases[i].line);
    }
}

static void test_long_socket_path(void **state)
{
    struct conf_errors *errors = *state;
    char text[256];
    /* "/prefix/" and the name make 107 bytes, which is what fits. */
    (void)snprintf(text, sizeof(text), "listen: [{address: \"unix:%0*d\"}]", 99, 0);
    conf_free(load_fine(errors, text, NULL));
    (void)snprintf(text, sizeof(text), "listen: [{address: \"unix:%0*d\"}]", 100, 0);
    assert_null(load(errors, text, NULL));
    assert_non_null(strstr(conf_errors_text(errors), "the path of a socket has at most 107"));
}

static void test_warnings(void **state)
{
    struct conf_errors *errors = *state;
    conf_free(load_fine(errors, "worker_connections: 65500\nerror_log: {path: stderr}\n", NULL));
    assert_int_equal(errors->warning_count, 2);
    assert_non_null(
        strstr(conf_errors_warnings(errors), "f:1:21: warning: `worker_connections` (65500)"));
    assert_non_null(
        strstr(conf_errors_warnings(errors), "f:2:19: warning: `error_log.path: stderr`"));
    conf_free(load_fine(errors, "daemon: false\nerror_log: {path: stderr}\n", NULL));
    assert_int_equal(errors->warning_count, 0);
}

static void test_sections_of_modules(void **state)
{
    struct conf_errors *errors = *state;
    struct conf *conf = load_fine(errors, "header_key: {fairness: tenant}\n", NULL);
    const struct extra *first = conf->modules[0], *second = conf->modules[1];
    assert_null(first->fairness);
    assert_int_equal(first->every_ms, 5000);
    assert_string_equal(second->fairness, "tenant");
    assert_int_equal(second->every_ms, 5000);
    conf_free(conf);

    /* The same key in a build without the module. */
    conf_errors_free(errors);
    assert_null(conf_load_text("f", STR("header_key: {fairness: tenant}\n"), "/p", NULL, sections,
                               1, errors));
    assert_string_equal(conf_errors_text(errors), "f:1:1: `header_key` is not in this build, "
                                                  "which has no header_key module\n");
    conf = conf_load_text("f", STR(""), "/p", NULL, NULL, 0, errors);
    assert_non_null(conf);
    assert_non_null(conf->modules);
    conf_free(conf);
}

static void test_places(void **state)
{
    struct conf *conf = load_fine(*state,
                                  "daemon: true\nlisten:\n- address: 1.2.3.4:1\n"
                                  "- address: 1.2.3.4:2\n",
                                  NULL);
    struct conf_place place = conf_place_of(conf, "listen.1.address");
    assert_int_equal(place.line, 4);
    assert_int_equal(place.column, 12);
    place = conf_place_of(conf, "listen.2.address");
    assert_string_equal(place.file, "f");
    assert_int_equal(place.line, 1);
    place = conf_place_of(conf, "store.path");
    assert_int_equal(place.line, 1);
    assert_int_equal(place.column, 1);
    conf_free(conf);
}

static void dump(const struct conf *conf, struct buf *out)
{
    buf_init(out, 0);
    conf_dump(conf, out);
    buf_append_u8(out, 0);
    assert_false(out->failed);
}

static void test_dump_gives_the_same_configuration(void **state)
{
    static const char *const texts[] = {
        "",
        "user: \"a b\"\ngroup: \"'\"\nworker_processes: 1\ndaemon: false\npid_file: \"x: #\"\n"
        "error_log: {path: syslog, level: warn}\nworker_rlimit_nofile: 20000\n"
        "worker_shutdown_timeout: 1500\n"
        "listen: [{address: \"[::]:1\"}, {address: \"unix:s s\", backlog: 9, numbering: s3},\n"
        "  {address: \"[::]:2\", numbering: s2}, {address: \"[::]:3\", numbering: s1}]\n"
        "fibp: {max_frame_size: 65537, keepalive_interval: 90s}\n"
        "store: {regions: auto/x, reserve: 1025k, durability: interval, checkpoint: {bytes: 3m}}\n"
        "shared_memory: 64m\nscheduler: {visibility_timeout: 1d}\n"
        "extra: {fairness: \"\xc3\xbc\"}\nheader_key: {every: 0}\n",
    };
    struct conf_errors *errors = *state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct buf first, second;
        struct conf *conf = load_fine(errors, texts[i], NULL);
        dump(conf, &first);
        /* Another prefix: what is printed does not depend on it. */
        struct conf *again = conf_load_text("g", str_from_c((const char *)first.data), "/other",
                                            NULL, sections, 2, errors);
        if (again == NULL)
            fail_msg("%s", conf_errors_text(errors));
        dump(again, &second);
        assert_string_equal((char *)first.data, (char *)second.data);
        assert_string_equal(conf->user, again->user);
        assert_string_equal(conf->pid_file, again->pid_file);
        assert_string_equal(conf->error_log.path, again->error_log.path);
        assert_string_equal(conf->listen[conf->listen_count - 1].address,
                            again->listen[again->listen_count - 1].address);
        assert_int_equal(conf->fibp.max_frame_size, again->fibp.max_frame_size);
        assert_int_equal(conf->store.reserve, again->store.reserve);
        assert_int_equal(conf->store.regions == NULL, again->store.regions == NULL);
        assert_int_equal(((struct extra *)conf->modules[1])->every_ms,
                         ((struct extra *)again->modules[1])->every_ms);
        conf_free(conf);
        conf_free(again);
        buf_free(&first);
        buf_free(&second);
    }
}

static void test_prefix(void **state)
{
    struct conf_errors *errors = *state;
    char directory[4096], expected[8192];
    assert_non_null(getcwd(directory, sizeof(directory)));

    struct conf *conf = conf_load_text("f", STR("pid_file: p"), "sub/", NULL, NULL, 0, errors);
    assert_non_null(conf);
    (void)snprintf(expected, sizeof(expected), "%s/sub/p", directory);
    assert_string_equal(conf->pid_file, expected);
    conf_free(conf);
    conf = conf_load_text("f", STR("pid_file: p"), NULL, NULL, NULL, 0, errors);
    assert_non_null(conf);
    assert_string_equal(conf->pid_file, FILAD_PREFIX "/p");
    conf_free(conf);
    assert_null(conf_load_text("f", STR(""), "", NULL, NULL, 0, errors));
    assert_null(conf_load_text("f", STR(""), "/a\nb", NULL, NULL, 0, errors));
    assert_null(conf_load_text("f", STR(""), "/a\xff", NULL, NULL, 0, errors));
    assert_int_equal(errors->count, 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_defaults),
        TEST(test_values),
        TEST(test_overlay),
        TEST(test_mistakes),
        TEST(test_long_socket_path),
        TEST(test_warnings),
        TEST(test_sections_of_modules),
        TEST(test_places),
        TEST(test_dump_gives_the_same_configuration),
        TEST(test_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
