/* The example module, and through it what hook offers to those that show pages and statistics. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fibp/wire.h"
#include "hook/tally.h"
#include "example/example.c"

static const struct hook_module *const modules[] = {&example_module, NULL};

struct fixture {
    struct example_conf settings;
    void *sections[2];
    struct conf conf;
    struct tally *tally;
    struct hook_set *sets[2]; /* of two workers */
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    struct hook_services services = {0};
    struct err err;

    assert_non_null(fixture);
    fixture->settings =
        (struct example_conf){(char *)(uintptr_t) "tenant", (char *)(uintptr_t) "-"};
    fixture->sections[0] = &fixture->settings;
    fixture->conf.modules = fixture->sections;
    fixture->tally = tally_create(4, &err);
    assert_non_null(fixture->tally);
    assert_int_equal(tally_enter(fixture->tally, modules, &err), 0);
    services.tally = fixture->tally;
    for (unsigned i = 0; i < 2; i++) {
        services.slot = i + 1;
        fixture->sets[i] = hook_set_create(modules, &fixture->conf, &services, &err);
        assert_non_null(fixture->sets[i]);
    }
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    hook_set_destroy(fixture->sets[0]);
    hook_set_destroy(fixture->sets[1]);
    tally_destroy(fixture->tally);
    free(fixture);
    return 0;
}

/* Asks worker `worker` about a message with one header. */
static void enqueue(struct fixture *fixture, unsigned worker, const char *name, const char *value,
                    const char *expected)
{
    const struct wire_pair pair = {str_from_c(name), str_from_c(value)};
    struct hook_message message = {.queue = STR("orders"), .header_count = 1};
    struct hook_memory memory = {0};
    struct hook_verdict verdict;
    struct buf map;

    buf_init(&map, 0);
    wire_put_map(&map, &pair, 1);
    message.headers = buf_str(&map);
    hook_set_on_enqueue(fixture->sets[worker], &message, &memory, &verdict);
    assert_int_equal(verdict.fairness_key.size, strlen(expected));
    assert_memory_equal(verdict.fairness_key.data, expected, strlen(expected));
    hook_memory_free(&memory);
    buf_free(&map);
}

static void test_the_key_is_what_stands_before_the_separator(void **state)
{
    enqueue(*state, 0, "tenant", "acme-eu-1", "acme");
    enqueue(*state, 0, "tenant", "acme", "acme");
    enqueue(*state, 0, "tenant", "-acme", "");
    enqueue(*state, 0, "tenant", "", "default");
    enqueue(*state, 0, "other", "acme-eu-1", "default");
}

struct seen {
    size_t count;
    uint64_t values[8];
};

static void see(void *context, const struct hook_module *module, const struct hook_statistic *row,
                uint64_t value)
{
    struct seen *seen = context;

    assert_ptr_equal(module, &example_module);
    assert_ptr_equal(row, &example_statistics[seen->count]);
    seen->values[seen->count++] = value;
}

static void expect(const struct tally *tally, uint64_t messages, uint64_t stamped, uint64_t queues)
{
    struct seen seen = {0};

    tally_visit(tally, see, &seen);
    assert_int_equal(seen.count, 3);
    assert_int_equal(seen.values[EXAMPLE_MESSAGES], messages);
    assert_int_equal(seen.values[EXAMPLE_STAMPED], stamped);
    assert_int_equal(seen.values[EXAMPLE_SEEN_QUEUES], queues);
}

static void test_statistics_are_the_sum_of_all_workers(void **state)
{
    static const struct hook_module *const none[] = {NULL};
    struct fixture *fixture = *state;
    struct seen seen = {0};
    struct err err;

    expect(fixture->tally, 0, 0, 0);
    enqueue(fixture, 0, "tenant", "a", "a");
    enqueue(fixture, 1, "tenant", "b", "b");
    enqueue(fixture, 1, "other", "b", "default");
    expect(fixture->tally, 3, 2, 2);
    /* What it counted stays, what it said of itself goes. */
    tally_ended(fixture->tally, 2);
    expect(fixture->tally, 3, 2, 1);
    /* A reload without the module, and one with it again. */
    assert_int_equal(tally_enter(fixture->tally, none, &err), 0);
    tally_visit(fixture->tally, see, &seen);
    assert_int_equal(seen.count, 0);
    assert_int_equal(tally_enter(fixture->tally, modules, &err), 0);
    expect(fixture->tally, 3, 2, 1);
}

static void test_the_page(void **state)
{
    struct fixture *fixture = *state;
    struct hook_http_request request = {.method = STR("GET"), .path = STR("/example")};
    struct hook_http_response response = {.status = 0};

    enqueue(fixture, 0, "tenant", "a", "a");
    buf_init(&response.body, 1000);
    assert_true(hook_set_answer(fixture->sets[0], &request, &response));
    assert_int_equal(response.status, 200);
    assert_true(str_equal(buf_str(&response.body), STR("orders 1\n")));
    request.method = STR("POST");
    assert_true(hook_set_answer(fixture->sets[0], &request, &response));
    assert_int_equal(response.status, 405);
    request.path = STR("/example/");
    assert_false(hook_set_answer(fixture->sets[0], &request, &response));
    buf_free(&response.body);
}

static void test_commands(void **state)
{
    struct fixture *fixture = *state;
    struct buf answer;
    struct err err;
    struct hook_processes *processes =
        hook_processes_start(HOOK_MASTER, modules, &fixture->conf, &err);

    assert_non_null(processes);
    buf_init(&answer, 1000);
    assert_int_equal(hook_processes_command(processes, STR("example.show"), &answer, &err), 0);
    assert_true(str_equal(buf_str(&answer), STR("the key is what stands before - in tenant")));
    assert_int_equal(hook_processes_command(processes, STR("example.show x"), &answer, &err), -1);
    assert_string_equal(err.text, "show takes no argument");
    assert_int_equal(hook_processes_command(processes, STR("example.nothing"), &answer, &err), -1);
    assert_string_equal(err.text, "example.nothing: module example has no such command");
    assert_int_equal(hook_processes_command(processes, STR("example"), &answer, &err), -1);
    assert_int_equal(hook_processes_command(processes, STR("nothing x"), &answer, &err), -1);
    assert_string_equal(err.text, "nothing: no such command");
    assert_int_equal(hook_processes_command(processes, STR("\xff.show"), &answer, &err), -1);
    assert_int_equal(hook_processes_command(processes, STR(""), &answer, &err), -1);
    assert_int_equal(hook_processes_command(processes, STR("example.show \xff"), &answer, &err),
                     -1);
    buf_free(&answer);
    hook_processes_exit(processes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_key_is_what_stands_before_the_separator, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_statistics_are_the_sum_of_all_workers, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_the_page, setup, teardown),
        cmocka_unit_test_setup_teardown(test_commands, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
