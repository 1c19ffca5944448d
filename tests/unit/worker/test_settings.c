/* What the loop knows: tables that messages keep up to date. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/settings.h"
#include "hook/breaker.h"
#include "worker/settings.h"

static uint64_t gone[16];
static unsigned gone_count;

static void note_gone(void *state, uint64_t queue_id)
{
    (void)state;
    gone[gone_count++] = queue_id;
}

static const struct hook_signature signature = HOOK_SIGNATURE;
static const struct hook_module module = {
    .signature = &signature, .name = "noting", .queue_gone = note_gone};

struct known {
    struct zone *zone;
    struct settings *settings;
    struct hook_set *hooks;
    struct conf conf;
};

static int setup(void **state)
{
    static const struct hook_module *const modules[] = {&module, NULL};
    struct known *known = calloc(1, sizeof(*known));
    struct hook_services services;
    struct err err = {0};
    known->zone = zone_map(8u << 20, &err);
    known->settings = settings_create(known->zone, &err);
    services = settings_services(known->settings);
    known->hooks = hook_set_create(modules, &known->conf, &services, &err);
    assert_non_null(known->hooks);
    gone_count = 0;
    *state = known;
    return 0;
}

static int teardown(void **state)
{
    struct known *known = *state;
    hook_set_destroy(known->hooks);
    settings_destroy(known->settings);
    zone_unmap(known->zone);
    free(known);
    return 0;
}

static struct setting *config(const char *key, const char *value)
{
    struct setting *setting = calloc(1, sizeof(*setting));
    setting->kind = CHANGE_CONFIG;
    setting->gone = !value;
    setting->name = str_from_c(key);
    setting->value = str_from_c(value);
    return setting;
}

static struct setting *queue(const char *name, uint64_t id, uint64_t version)
{
    struct setting *setting = calloc(1, sizeof(*setting));
    setting->kind = CHANGE_QUEUE;
    setting->gone = !id;
    setting->name = str_from_c(name);
    setting->queue = (struct hook_queue){.id = id, .version = version, .name = setting->name};
    return setting;
}

static void take(struct known *known, bool anew, uint64_t generation, struct setting *a,
                 struct setting *b)
{
    struct operation_settings settings = {.operation = {.kind = OPERATION_SETTINGS},
                                          .anew = anew,
                                          .generation = generation,
                                          .first = a};
    if (a)
        a->next = b;
    settings_take(known->settings, &settings, known->hooks);
    assert_null(settings.first);
}

static void assert_config(const struct known *known, const char *key, const char *value)
{
    struct str found;
    assert_int_equal(settings_config(known->settings, str_from_c(key), &found), value != NULL);
    assert_true(str_equal(found, str_from_c(value)));
}

static void changes_are_followed(void **state)
{
    struct known *known = *state;
    assert_false(settings_is_current(known->settings));
    take(known, true, 0, config("a", "1"), queue("q", 7, 1));
    assert_false(settings_is_current(known->settings)); /* more follows */
    take(known, false, 1, config("b", "2"), NULL);
    assert_true(settings_is_current(known->settings));
    assert_config(known, "a", "1");
    assert_config(known, "b", "2");
    assert_config(known, "q", NULL);
    const struct hook_queue *q = settings_queue(known->settings, STR("q"));
    assert_true(q && q->id == 7 && q->version == 1);
    assert_null(settings_queue(known->settings, STR("a")));
    atomic_store(&known->zone->settings_generation, 3);
    assert_false(settings_is_current(known->settings));
    take(known, false, 3, config("a", NULL), config("b", "3"));
    assert_true(settings_is_current(known->settings));
    assert_config(known, "a", NULL);
    assert_config(known, "b", "3");
    assert_ptr_equal(settings_queue(known->settings, STR("q")), q);
    assert_int_equal(gone_count, 0);
}

static void queues_stay_where_they_are_until_they_change(void **state)
{
    struct known *known = *state;
    take(known, true, 1, queue("q", 7, 1), queue("r", 8, 1));
    const struct hook_queue *q = settings_queue(known->settings, STR("q"));
    take(known, false, 2, queue("q", 7, 1), NULL);
    assert_ptr_equal(settings_queue(known->settings, STR("q")), q);
    take(known, false, 3, queue("q", 7, 2), NULL);
    assert_int_equal(settings_queue(known->settings, STR("q"))->version, 2);
    assert_int_equal(gone_count, 0); /* the same queue with other scripts */
    take(known, false, 4, queue("q", 9, 1), queue("r", 0, 0));
    assert_int_equal(settings_queue(known->settings, STR("q"))->id, 9);
    assert_null(settings_queue(known->settings, STR("r")));
    assert_true(gone_count == 2 && gone[0] == 7 && gone[1] == 8);
}

/* A store thread that was left behind may have told a part of it. */
static void everything_may_come_anew(void **state)
{
    struct known *known = *state;
    take(known, true, 1, queue("q", 7, 1), config("a", "1"));
    take(known, false, 2, queue("r", 8, 1), config("b", "1"));
    const struct hook_queue *r = settings_queue(known->settings, STR("r"));
    take(known, true, 0, config("b", "1"), NULL);
    take(known, true, 0, queue("r", 8, 1), NULL);
    assert_int_equal(gone_count, 0);
    take(known, false, 5, config("c", "1"), NULL);
    assert_config(known, "a", NULL);
    assert_config(known, "b", NULL);
    assert_config(known, "c", "1");
    assert_null(settings_queue(known->settings, STR("q")));
    assert_ptr_equal(settings_queue(known->settings, STR("r")), r);
    assert_true(gone_count == 1 && gone[0] == 7);
}

static void breakers_are_found_and_freed(void **state)
{
    struct known *known = *state;
    struct hook_services services = settings_services(known->settings);
    struct hook_breaker *breaker = services.breaker(services.context, 7);
    assert_non_null(breaker);
    atomic_store(&breaker->failures, 2);
    assert_ptr_equal(services.breaker(services.context, 7), breaker);
    /* Others that want the same places: sixteen in all have one. */
    for (uint64_t i = 1; i < 16; i++)
        assert_non_null(services.breaker(services.context, 7 + i * ZONE_BREAKERS));
    assert_null(services.breaker(services.context, 7 + 16 * UINT64_C(32768)));
    breaker_free(known->zone, 7);
    assert_ptr_equal(services.breaker(services.context, 7 + 16 * UINT64_C(32768)), breaker);
    assert_int_equal(atomic_load(&breaker->failures), 0);
    breaker_free(known->zone, 7); /* there is none */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(changes_are_followed, setup, teardown),
        cmocka_unit_test_setup_teardown(queues_stay_where_they_are_until_they_change, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(everything_may_come_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(breakers_are_found_and_freed, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
