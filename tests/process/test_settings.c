/* Runtime configuration and settings of queues: durable and in force when answered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fila.h"
#include "process/support/fixture.h"

static struct fila *client_open(struct fixture *f)
{
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_options options;
    fila_options_init(&options);
    options.address = f->broker.unix_address;
    struct fila *client = fila_connect(&options, &error);
    if (!client)
        fail_msg("connect: %s", error.text);
    return client;
}

static void must_have(struct fila *client, const char *key, const char *expected)
{
    struct fila_error error = FILA_ERROR_INIT;
    char *value = NULL;
    if (fila_config_get(client, key, &value, &error) != 0)
        fail_msg("get %s: %s", key, error.text);
    assert_string_equal(value, expected);
    free(value);
}

static void must_set(struct fila *client, const char *key, const char *value)
{
    struct fila_error error = FILA_ERROR_INIT;
    if (fila_config_set(client, key, value, &error) != 0)
        fail_msg("set %s: %s", key, error.text);
}

static void test_config_is_durable(void **state)
{
    struct fixture *f = *state;
    struct fila_error error = FILA_ERROR_INIT;
    struct fila *client = client_open(f);
    struct fila_config_list *list;
    must_set(client, "region", "eu");
    must_set(client, "region.2", "\xc3\xa4");
    must_set(client, "other", "1");
    must_set(client, "other", "");
    assert_int_equal(fila_config_set(client, "", "1", &error), -1);
    assert_int_equal(error.code, FILA_INVALID_VALUE);
    assert_string_equal(error.text, "the key is empty");
    assert_int_equal(fila_config_set(client, "a\nb", "1", &error), -1);
    assert_int_equal(error.code, FILA_INVALID_VALUE);
    /* Killed right behind the answer. */
    must_set(client, "last", "word");
    broker_kill_all(&f->broker);
    fila_close(client);
    fixture_close_all(f);
    fixture_start(f);
    client = client_open(f);
    must_have(client, "region", "eu");
    must_have(client, "last", "word");
    must_have(client, "other", "");
    list = fila_config_list(client, "region", &error);
    assert_non_null(list);
    assert_int_equal(list->count, 2);
    assert_string_equal(list->entries[0].key, "region");
    assert_string_equal(list->entries[0].value, "eu");
    assert_string_equal(list->entries[1].key, "region.2");
    assert_string_equal(list->entries[1].value, "\xc3\xa4");
    fila_config_list_free(list);
    list = fila_config_list(client, NULL, &error);
    assert_non_null(list);
    assert_int_equal(list->count, 3);
    fila_config_list_free(list);
    fila_error_clear(&error);
    fila_close(client);
    f->passed = true;
}

#define MUST_SAY(f, text, ...)                                                                     \
    must_say(f, text, (const char *const[]){"--addr", (f)->broker.unix_address, __VA_ARGS__, NULL})

static void must_say(struct fixture *f, const char *text, const char *const *arguments)
{
    char output[4096];
    int status = broker_run(&f->broker, f->broker.fila, arguments, output, sizeof(output));
    if (status != 0 || strcmp(output, text) != 0)
        fail_msg("status %d: %s", status, output);
}

static void test_config_commands(void **state)
{
    struct fixture *f = *state;
    char output[1024];
    MUST_SAY(f, "No config entries found.\n", "config", "list");
    MUST_SAY(f, "Set \"tier\" = \"gold and silver\"\n", "config", "set", "tier", "gold and silver");
    MUST_SAY(f, "Set \"a\" = \"x\\x0ay\"\n", "config", "set", "a", "x\ny");
    MUST_SAY(f, "tier: gold and silver\n", "config", "get", "tier");
    MUST_SAY(f, "none: (not set)\n", "config", "get", "none");
    MUST_SAY(f, "KEY   VALUE\na     x\\x0ay\ntier  gold and silver\n", "config", "list");
    MUST_SAY(f, "KEY   VALUE\ntier  gold and silver\n", "config", "list", "--prefix", "t");
    MUST_SAY(f, "No config entries matching prefix \"x\".\n", "config", "list", "--prefix=x");
    MUST_SAY(f, "{\"key\": \"tier\", \"value\": \"gold and silver\"}\n", "--json", "config", "get",
             "tier");
    MUST_SAY(f, "{\"key\": \"none\", \"value\": null}\n", "--json", "config", "get", "none");
    MUST_SAY(f, "{\"entries\": [{\"key\": \"tier\", \"value\": \"gold and silver\"}]}\n", "--json",
             "config", "list", "--prefix", "t");
    MUST_SAY(f, "Set \"tier\" = \"\"\n", "config", "set", "tier", "");
    MUST_SAY(f, "tier: (not set)\n", "config", "get", "tier");
    const char *const refused[] = {"--addr", f->broker.unix_address, "config", "set", "", "1",
                                   NULL};
    assert_int_equal(broker_run(&f->broker, f->broker.fila, refused, output, sizeof(output)), 1);
    assert_string_equal(output, "fila: set \"\": the key is empty\n");
    f->passed = true;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_config_is_durable, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_config_commands, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
