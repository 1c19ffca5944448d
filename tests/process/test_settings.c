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
    struct fila *client = fixture_client(f);
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
    fixture_start(f);
    client = fixture_client(f);
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

/* ---- settings of queues ---- */

#define UPDATE(client, queue, ...)                                                                 \
    must_update(client, queue, &(const struct fila_queue_changes){__VA_ARGS__})

static void must_update(struct fila *client, const char *queue,
                        const struct fila_queue_changes *changes)
{
    struct fila_error error = FILA_ERROR_INIT;
    if (fila_queue_update(client, queue, changes, &error) != 0)
        fail_msg("update %s: %s", queue, error.text);
}

static void must_pause(struct fila *client, const char *queue, bool paused)
{
    struct fila_error error = FILA_ERROR_INIT;
    if (fila_queue_pause(client, queue, paused, &error) != 0)
        fail_msg("pause %s: %s", queue, error.text);
}

static void assert_settings(struct fila *client, const char *queue, uint64_t timeout_ms,
                            uint32_t max_attempts, bool headers, bool paused)
{
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_queue_settings *settings = fila_queue_settings(client, queue, &error);
    if (!settings)
        fail_msg("settings of %s: %s", queue, error.text);
    assert_int_equal(settings->visibility_timeout_ms, timeout_ms);
    assert_int_equal(settings->max_attempts, max_attempts);
    assert_int_equal(settings->dead_letter_headers, headers);
    assert_int_equal(settings->paused, paused);
    assert_true(settings->created_ms > 0);
    fila_queue_settings_free(settings);
}

static void test_update_is_durable(void **state)
{
    struct fixture *f = *state;
    struct fila_error error = FILA_ERROR_INIT;
    struct fila *client = fixture_client(f);
    struct fila_queue_options options = {
        .visibility_timeout_ms = 5000, .max_attempts = 3, .dead_letter_headers = true};
    uint64_t timeout_ms = 7000;
    uint32_t attempts = 9;
    assert_int_equal(fila_queue_create(client, "q", &options, &error), 0);
    assert_settings(client, "q", 5000, 3, true, false);
    assert_settings(client, "q.dlq", 30000, 0, false, false);
    UPDATE(client, "q", .visibility_timeout_ms = &timeout_ms);
    assert_settings(client, "q", 7000, 3, true, false);
    assert_int_equal(fila_queue_update(client, "none",
                                       &(struct fila_queue_changes){.max_attempts = &attempts},
                                       &error),
                     -1);
    assert_int_equal(error.code, FILA_QUEUE_NOT_FOUND);
    assert_int_equal(fila_queue_pause(client, "none", true, &error), -1);
    assert_int_equal(error.code, FILA_QUEUE_NOT_FOUND);
    assert_null(fila_queue_settings(client, "none", &error));
    assert_int_equal(error.code, FILA_QUEUE_NOT_FOUND);
    must_pause(client, "q.dlq", true);
    /* Killed right behind the answer. */
    UPDATE(client, "q", .max_attempts = &attempts, .dead_letter_headers = &(bool){false});
    broker_kill_all(&f->broker);
    fila_close(client);
    fixture_start(f);
    client = fixture_client(f);
    assert_settings(client, "q", 7000, 9, false, false);
    assert_settings(client, "q.dlq", 30000, 0, false, true);
    fila_error_clear(&error);
    fila_close(client);
    f->passed = true;
}

/* The visibility timeout holds for what any worker delivers from the answer on, on connections that
 * were there before. */
static void test_update_reaches_all_workers(void **state)
{
    struct fixture *f = *state;
    struct fila_error error = FILA_ERROR_INIT;
    struct fila *client = fixture_client(f);
    struct peer *consumers[8];
    uint32_t subscription;
    uint64_t timeout_ms = 600000;
    assert_int_equal(fila_queue_create(client, "q",
                                       &(struct fila_queue_options){.visibility_timeout_ms = 1000},
                                       &error),
                     0);
    for (unsigned i = 0; i < 8; i++) {
        consumers[i] = fixture_peer(f);
        MUST(f, peer_consume_limited(consumers[i], "q", 1, &subscription, &f->err));
    }
    UPDATE(client, "q", .visibility_timeout_ms = &timeout_ms);
    for (unsigned i = 0; i < 8; i++)
        MUST(f, peer_enqueue(consumers[i], "q", "message", NULL, &f->err));
    for (unsigned i = 0; i < 8; i++) {
        struct peer_delivery delivery;
        fixture_receive(f, consumers[i], 20000, &delivery);
        assert_int_equal(delivery.attempt, 0);
    }
    /* With the old timeout they would come back to this one. */
    struct peer *late = fixture_peer(f);
    MUST(f, peer_consume(late, "q", &subscription, &f->err));
    fixture_receive_nothing(f, late, 1500);
    fila_close(client);
    f->passed = true;
}

static void test_pause_and_resume(void **state)
{
    struct fixture *f = *state;
    struct fila *client = fixture_client(f);
    struct peer *producer = fixture_peer(f), *consumers[4];
    struct peer_delivery delivery;
    uint32_t subscription;
    unsigned got = 0;
    MUST(f, peer_create_queue(producer, "q", 0, &f->err));
    for (unsigned i = 0; i < 4; i++) {
        consumers[i] = fixture_peer(f);
        MUST(f, peer_consume(consumers[i], "q", &subscription, &f->err));
    }
    must_pause(client, "q", true);
    MUST(f, peer_enqueue_run(producer, "q", "m", 100, NULL, &f->err));
    for (unsigned i = 0; i < 4; i++)
        fixture_receive_nothing(f, consumers[i], 50);
    fixture_wait_stats(f, producer, "q", 100, 0, 4);
    MUST_SAY(f,
             "NAME     DEPTH  IN_FLIGHT  CONSUMERS\n"
             "q          100          0          4  paused\n"
             "q.dlq        0          0          0\n",
             "queue", "list");
    must_pause(client, "q", false);
    for (unsigned i = 0; got < 100; i++)
        while (peer_receive(consumers[i % 4], 20, &delivery, &f->err) > 0) {
            MUST(f, peer_ack(consumers[i % 4], "q", &delivery.id, &f->err));
            got++;
        }
    fixture_wait_stats(f, producer, "q", 0, 0, 4);
    /* It stays so over a crash. */
    must_pause(client, "q", true);
    MUST(f, peer_enqueue(producer, "q", "later", NULL, &f->err));
    fila_close(client);
    fixture_crash(f);
    client = fixture_client(f);
    consumers[0] = fixture_peer(f);
    MUST(f, peer_consume(consumers[0], "q", &subscription, &f->err));
    fixture_receive_nothing(f, consumers[0], 100);
    must_pause(client, "q", false);
    fixture_receive(f, consumers[0], 20000, &delivery);
    fila_close(client);
    f->passed = true;
}

static void test_settings_commands(void **state)
{
    struct fixture *f = *state;
    char output[1024];
    MUST_SAY(f, "Created queue \"q\"\n", "queue", "create", "q", "--max-attempts", "4",
             "--dead-letter-headers");
    MUST_SAY(f, "Updated queue \"q\"\n", "queue", "update", "q", "--visibility-timeout", "1500",
             "--no-dead-letter-headers");
    MUST_SAY(f, "Paused queue \"q\"\n", "queue", "pause", "q");
    MUST_SAY(f,
             "Queue: q\n"
             "  Visibility timeout:   1500 ms\n"
             "  Maximum attempts:     4\n"
             "  Dead-letter headers:  off\n"
             "  Paused:               yes\n",
             "queue", "settings", "q");
    MUST_SAY(f, "Resumed queue \"q\"\n", "queue", "resume", "q");
    MUST_SAY(f, "{\"queue\": \"q\"}\n", "--json", "queue", "update", "q", "--max-attempts", "0");
    const char *const refused[] = {"--addr", f->broker.unix_address, "queue", "pause", "r", NULL};
    assert_int_equal(broker_run(&f->broker, f->broker.fila, refused, output, sizeof(output)), 1);
    assert_string_equal(output, "fila: pause queue \"r\": queue not found\n");
    const char *const unknown[] = {"--addr", f->broker.unix_address, "queue", "settings", "r",
                                   NULL};
    assert_int_equal(broker_run(&f->broker, f->broker.fila, unknown, output, sizeof(output)), 1);
    assert_string_equal(output, "fila: read the settings of queue \"r\": queue not found\n");
    const char *const both[] = {"--addr",
                                f->broker.unix_address,
                                "queue",
                                "update",
                                "q",
                                "--dead-letter-headers",
                                "--no-dead-letter-headers",
                                NULL};
    assert_int_equal(broker_run(&f->broker, f->broker.fila, both, output, sizeof(output)), 2);
    assert_string_equal(output, "fila: queue update: --dead-letter-headers and "
                                "--no-dead-letter-headers exclude each other\n");
    const char *const none[] = {"--addr", f->broker.unix_address, "queue", "update", "q", NULL};
    assert_int_equal(broker_run(&f->broker, f->broker.fila, none, output, sizeof(output)), 2);
    assert_string_equal(output,
                        "fila: queue update: nothing to change; see 'fila queue update --help'\n");
    const char *const few[] = {"--addr", f->broker.unix_address, "queue", "peek", "q", "-n", "0",
                               NULL};
    assert_int_equal(broker_run(&f->broker, f->broker.fila, few, output, sizeof(output)), 2);
    assert_string_equal(output, "fila: queue peek: --count must be at least 1\n");
    f->passed = true;
}

/* ---- scripts ---- */

/* False when this build has no Lua. */
static bool create_scripted(struct fila *client, const char *queue, const char *on_enqueue)
{
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_queue_options options = {.on_enqueue = on_enqueue};
    int status = fila_queue_create(client, queue, &options, &error);
    bool none = status != 0 && strstr(error.text, "no Lua module");
    if (status != 0 && !none)
        fail_msg("create %s: %s", queue, error.text);
    fila_error_clear(&error);
    return !none;
}

/* Each producer's message, whichever worker it talks to, gets this fairness key. */
static void assert_keys(struct fixture *f, struct peer *const *producers, unsigned count,
                        struct peer *consumer, const char *key)
{
    struct peer_delivery delivery;
    for (unsigned i = 0; i < count; i++)
        MUST(f, peer_enqueue(producers[i], "q", "message", NULL, &f->err));
    for (unsigned i = 0; i < count; i++) {
        fixture_receive(f, consumer, 20000, &delivery);
        assert_string_equal(delivery.fairness_key, key);
        MUST(f, peer_ack(consumer, "q", &delivery.id, &f->err));
    }
}

#define KEY_FROM_CONFIG                                                                            \
    "function on_enqueue(msg) return { fairness_key = fila.get('key') or 'none' } end"

/* What was answered is in force in all workers. */
static void test_scripts_and_config_in_all_workers(void **state)
{
    struct fixture *f = *state;
    struct fila_error error = FILA_ERROR_INIT;
    struct fila *client = fixture_client(f);
    struct peer *producers[8], *consumer = fixture_peer(f);
    uint32_t subscription;
    char text[128];
    f->passed = true;
    if (!create_scripted(client, "q", KEY_FROM_CONFIG)) {
        fila_close(client);
        skip();
    }
    f->passed = false;
    for (unsigned i = 0; i < 8; i++)
        producers[i] = fixture_peer(f);
    MUST(f, peer_consume(consumer, "q", &subscription, &f->err));
    assert_keys(f, producers, 8, consumer, "none");
    for (unsigned round = 0; round < 20; round++) {
        snprintf(text, sizeof(text), "%u", round);
        must_set(client, "key", text);
        assert_keys(f, producers, 8, consumer, text);
    }
    for (unsigned round = 0; round < 20; round++) {
        char key[32];
        snprintf(key, sizeof(key), "script-%u", round);
        snprintf(text, sizeof(text), "function on_enqueue(msg) return { fairness_key = '%s' } end",
                 key);
        UPDATE(client, "q", .on_enqueue = text);
        assert_keys(f, producers, 8, consumer, key);
    }
    /* One that does not compile changes nothing. */
    assert_int_equal(
        fila_queue_update(client, "q",
                          &(struct fila_queue_changes){.on_enqueue = "function on_enqueue("},
                          &error),
        -1);
    assert_int_equal(error.code, FILA_SCRIPT_ERROR);
    assert_keys(f, producers, 8, consumer, "script-19");
    /* A queue of the same name is another one. */
    assert_int_equal(fila_queue_delete(client, "q", &error), 0);
    assert_int_equal(fila_queue_create(client, "q", NULL, &error), 0);
    MUST(f, peer_consume(consumer, "q", &subscription, &f->err));
    assert_keys(f, producers, 8, consumer, "default");
    UPDATE(client, "q", .on_enqueue = KEY_FROM_CONFIG);
    assert_keys(f, producers, 8, consumer, "19");
    UPDATE(client, "q", .on_enqueue = "");
    assert_keys(f, producers, 8, consumer, "default");
    fila_error_clear(&error);
    fila_close(client);
    f->passed = true;
}

/* The death of a worker, and of everything, leaves no worker without the settings. */
static void test_scripts_after_deaths(void **state)
{
    struct fixture *f = *state;
    struct fila *client = fixture_client(f);
    struct peer *producers[8], *consumer;
    uint32_t subscription;
    f->passed = true;
    if (!create_scripted(client, "q", KEY_FROM_CONFIG)) {
        fila_close(client);
        skip();
    }
    f->passed = false;
    for (unsigned round = 0; round < 3; round++) {
        char key[32];
        snprintf(key, sizeof(key), "round-%u", round);
        must_set(client, "key", key);
        fila_close(client);
        fixture_close_all(f);
        if (round == 2) {
            broker_kill_all(&f->broker);
            fixture_start(f);
        } else {
            struct broker_process victim = {BROKER_WORKER, broker_find(&f->broker, BROKER_WORKER)};
            broker_kill(&f->broker, &victim, 1);
            fixture_wait_service(f, "q", 20000);
        }
        client = fixture_client(f);
        consumer = fixture_peer(f);
        MUST(f, peer_consume(consumer, "q", &subscription, &f->err));
        for (unsigned i = 0; i < 8; i++)
            producers[i] = fixture_peer(f);
        if (round < 2) { /* the message that showed the service */
            struct peer_delivery delivery;
            fixture_receive(f, consumer, 20000, &delivery);
            assert_string_equal(delivery.fairness_key, key);
            MUST(f, peer_ack(consumer, "q", &delivery.id, &f->err));
        }
        assert_keys(f, producers, 8, consumer, key);
    }
    fila_close(client);
    f->passed = true;
}

static void test_rejected_messages(void **state)
{
    struct fixture *f = *state;
    struct fila_error error = FILA_ERROR_INIT;
    struct fila *client = fixture_client(f);
    struct fila_message messages[3];
    struct fila_enqueue_result results[3];
    struct framed_stats stats;
    f->passed = true;
    if (!create_scripted(client, "q",
                         "function on_enqueue(msg)\n"
                         "  if msg.payload_size > 5 then return { reject = 'too long' } end\n"
                         "end")) {
        fila_close(client);
        skip();
    }
    f->passed = false;
    static const char *const payloads[] = {"short", "longer", "short"};
    for (unsigned i = 0; i < 3; i++)
        messages[i] =
            (struct fila_message){.queue = fila_text("q"), .payload = fila_text(payloads[i])};
    assert_int_equal(fila_enqueue_many(client, messages, 3, results, &error), 0);
    assert_int_equal(results[0].code, FILA_OK);
    assert_int_equal(results[1].code, FILA_FORBIDDEN);
    assert_string_equal(results[1].reason, "too long");
    assert_int_equal(results[2].code, FILA_OK);
    assert_int_equal(fila_enqueue(client, &messages[1], NULL, &error), -1);
    assert_int_equal(error.code, FILA_FORBIDDEN);
    assert_string_equal(error.text, "too long");
    MUST(f, peer_stats(fixture_peer(f), "q", &stats, &f->err));
    assert_int_equal(stats.depth, 2);
    fila_error_clear(&error);
    fila_close(client);
    f->passed = true;
}

static int setup_four_workers(void **state)
{
    return fixture_setup_with(state, &(struct broker_options){.workers = 4}, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_config_is_durable, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_config_commands, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_update_is_durable, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_update_reaches_all_workers, setup_four_workers,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_pause_and_resume, setup_four_workers,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_settings_commands, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_scripts_and_config_in_all_workers, setup_four_workers,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_scripts_after_deaths, setup_four_workers,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_rejected_messages, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
