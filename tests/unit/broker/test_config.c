/* The runtime configuration in store and zone. */
#include "unit/broker/fixture.h"

#include "broker/config.h"
#include "os/time.h"
#include "sched/concurrency.h"

static uint8_t set(struct fixture *fixture, struct str key, struct str value)
{
    struct operation_set_config set = {
        .operation = {.kind = OPERATION_SET_CONFIG}, .key = key, .value = value};
    fixture_execute(fixture, &set.operation);
    assert_true(set.operation.wrote);
    return set.operation.status;
}

static void assert_value(struct fixture *fixture, struct str key, struct str value)
{
    struct operation_get_config *get = calloc(1, sizeof(*get));
    get->operation.kind = OPERATION_GET_CONFIG;
    get->key = key;
    fixture_execute(fixture, &get->operation);
    assert_int_equal(get->operation.status, FIBP_OK);
    assert_true(str_equal(buf_str(&get->value), value));
    operation_free(&get->operation);
}

/* "key=value;..." of what is listed, at most 200 bytes; *count: rows. */
static const char *listed(struct fixture *fixture, struct str prefix, uint32_t *count)
{
    static char text[201];
    struct operation_list_config *list = calloc(1, sizeof(*list));
    list->operation.kind = OPERATION_LIST_CONFIG;
    list->prefix = prefix;
    fixture_execute(fixture, &list->operation);
    assert_int_equal(list->operation.status, FIBP_OK);
    const uint8_t *row = list->rows.data;
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < list->count; i++) {
        uint32_t key = bytes_get_u32(row), value = bytes_get_u32(row + 4);
        if (used < sizeof(text) - 40)
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%.*s=%.*s;", (int)key,
                                     (const char *)row + 8, value > 9 ? 9 : (int)value,
                                     (const char *)row + 8 + key);
        row += 8 + key + value;
    }
    assert_ptr_equal(row, list->rows.data + list->rows.size);
    if (count)
        *count = list->count;
    operation_free(&list->operation);
    return text;
}

static void values_come_and_go(void **state)
{
    struct fixture *fixture = *state;
    struct scheduler *scheduler = fixture->broker->scheduler;
    uint64_t before = atomic_load(&fixture->zone->settings_generation);
    assert_value(fixture, STR("a"), STR(""));
    assert_int_equal(set(fixture, STR("a"), STR("1")), FIBP_OK);
    assert_int_equal(set(fixture, STR("ab"), STR("two")), FIBP_OK);
    assert_int_equal(set(fixture, STR("a"), STR("one")), FIBP_OK);
    assert_int_equal(atomic_load(&fixture->zone->settings_generation), before + 3);
    assert_int_equal(set(fixture, STR("a"), STR("one")), FIBP_OK); /* as it was: no change */
    assert_int_equal(set(fixture, STR("b"), STR("")), FIBP_OK);
    assert_int_equal(atomic_load(&fixture->zone->settings_generation), before + 3);
    assert_value(fixture, STR("a"), STR("one"));
    assert_string_equal(listed(fixture, STR(""), NULL), "a=one;ab=two;");
    assert_string_equal(listed(fixture, STR("ab"), NULL), "ab=two;");
    assert_true(scheduler->config_count == 2 && scheduler->config_bytes == 9);
    assert_int_equal(set(fixture, STR("a"), STR("")), FIBP_OK);
    assert_value(fixture, STR("a"), STR(""));
    assert_true(scheduler->config_count == 1 && scheduler->config_bytes == 5);
    const struct change *change = changes_get(&scheduler->changes, before + 4);
    assert_true(change && change->kind == CHANGE_CONFIG && str_equal(change->name, STR("a")));
    fixture_close(fixture);
    fixture_open(fixture);
    scheduler = fixture->broker->scheduler;
    assert_string_equal(listed(fixture, STR(""), NULL), "ab=two;");
    assert_true(scheduler->config_count == 1 && scheduler->config_bytes == 5);
    assert_int_equal(atomic_load(&fixture->zone->settings_generation), before + 5);
}

static void what_may_not_be_set(void **state)
{
    struct fixture *fixture = *state;
    static char long_text[CONFIG_VALUE_MAX + 1];
    memset(long_text, 'x', sizeof(long_text));
    static const struct {
        struct str key, value;
    } refused[] = {
        {{(const uint8_t *)"", 0}, {(const uint8_t *)"1", 1}},
        {{(const uint8_t *)long_text, 1025}, {(const uint8_t *)"1", 1}},
        {{(const uint8_t *)"a\n", 2}, {(const uint8_t *)"1", 1}},
        {{(const uint8_t *)"a\0b", 3}, {(const uint8_t *)"1", 1}},
        {{(const uint8_t *)"a\x7f", 2}, {(const uint8_t *)"1", 1}},
        {{(const uint8_t *)"a\xff", 2}, {(const uint8_t *)"1", 1}},
        {{(const uint8_t *)"a", 1}, {(const uint8_t *)"\xc3", 1}},
        {{(const uint8_t *)"a", 1}, {(const uint8_t *)"1\0", 2}},
        {{(const uint8_t *)"a", 1}, {(const uint8_t *)long_text, CONFIG_VALUE_MAX + 1}},
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        assert_int_equal(set(fixture, refused[i].key, refused[i].value), FIBP_INVALID_CONFIG_VALUE);
    assert_string_equal(listed(fixture, STR(""), NULL), "");
    struct str longest = str_of(long_text, 1024);
    assert_int_equal(set(fixture, longest, str_of(long_text, CONFIG_VALUE_MAX)), FIBP_OK);
    assert_value(fixture, longest, str_of(long_text, CONFIG_VALUE_MAX));
    assert_int_equal(set(fixture, STR("\xc3\xa4"), STR("{\n\t\"\xc3\xb6\": 1\n}")), FIBP_OK);
    atomic_store(&fixture->broker->scheduler->space_low, 1);
    assert_int_equal(set(fixture, STR("b"), STR("1")), FIBP_STORAGE_ERROR);
    assert_int_equal(set(fixture, longest, STR("")), FIBP_OK); /* it makes room */
}

static bool is_in_force(struct scheduler *scheduler, enum throttle_kind kind, struct str key)
{
    struct throttle *throttle = throttle_acquire(scheduler, kind, key);
    if (throttle)
        throttle_release(scheduler, throttle);
    return throttle;
}

/* A full zone can leave a value that is stored without effect: who sets it again when there is room
 * must not be told that all is well while it is not. */
static void what_is_stored_already_is_put_in_force(void **state)
{
    struct fixture *fixture = *state;
    struct scheduler *scheduler = fixture->broker->scheduler;
    uint64_t now_ns = time_monotonic_ns();
    assert_int_equal(set(fixture, STR("throttle.a"), STR("1,2")), FIBP_OK);
    assert_int_equal(set(fixture, STR("concurrency.a"), STR("3")), FIBP_OK);
    uint64_t generation = atomic_load(&fixture->zone->settings_generation);
    assert_int_equal(throttle_remove(scheduler, STR("a"), now_ns), THROTTLE_DONE);
    assert_int_equal(concurrency_remove(scheduler, STR("a"), now_ns), THROTTLE_DONE);
    assert_int_equal(set(fixture, STR("throttle.a"), STR("1,2")), FIBP_OK);
    assert_int_equal(set(fixture, STR("concurrency.a"), STR("3")), FIBP_OK);
    assert_true(is_in_force(scheduler, THROTTLE_BUCKET, STR("a")));
    assert_true(is_in_force(scheduler, THROTTLE_LIMIT, STR("a")));
    assert_int_equal(atomic_load(&fixture->zone->settings_generation), generation);
}

/* All of it is in every worker's memory. */
static void there_is_an_end_of_it(void **state)
{
    struct fixture *fixture = *state;
    static char large[CONFIG_VALUE_MAX];
    struct scheduler *scheduler = fixture->broker->scheduler;
    char key[16];
    uint32_t count = 0;
    memset(large, 'v', sizeof(large));
    for (unsigned i = 0; i < 600; i++) {
        snprintf(key, sizeof(key), "k%05u", i);
        assert_int_equal(set(fixture, str_from_c(key), str_of(large, sizeof(large))), FIBP_OK);
    }
    /* The list ends at 32 MiB. */
    listed(fixture, STR(""), &count);
    assert_true(count > 500 && count < 513);
    scheduler->config_bytes = (64u << 20) - 10;
    assert_int_equal(set(fixture, STR("x"), STR("1234567890")), FIBP_CHANNEL_FULL);
    assert_int_equal(set(fixture, STR("x"), STR("123456789")), FIBP_OK);
    /* What takes the place of something else takes no more than the difference. */
    assert_true(scheduler->config_bytes == 64u << 20);
    assert_int_equal(set(fixture, STR("x"), STR("987654321")), FIBP_OK);
    assert_int_equal(set(fixture, STR("x"), STR("9876543210")), FIBP_CHANNEL_FULL);
    assert_value(fixture, STR("x"), STR("987654321"));
    assert_int_equal(set(fixture, STR("x"), STR("1")), FIBP_OK);
    assert_int_equal(set(fixture, STR("x"), STR("")), FIBP_OK);
}

/* Who makes room by letting more through must not need any for it. */
static void a_full_zone_lets_throttles_be_changed(void **state)
{
    struct fixture *fixture = *state;
    struct scheduler *scheduler = fixture->broker->scheduler;
    uint64_t size = arena_size(scheduler->arena);
    assert_int_equal(set(fixture, STR("throttle.a"), STR("1,2")), FIBP_OK);
    while (scheduler_room(scheduler))
        assert_non_null(arena_alloc(scheduler->arena, size / 16));
    assert_int_equal(set(fixture, STR("throttle.b"), STR("1,2")), FIBP_CHANNEL_FULL);
    assert_int_equal(set(fixture, STR("throttle.a"), STR("1000,2000")), FIBP_OK);
    assert_value(fixture, STR("throttle.a"), STR("1000,2000"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(values_come_and_go, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(what_may_not_be_set, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(what_is_stored_already_is_put_in_force, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(there_is_an_end_of_it, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_full_zone_lets_throttles_be_changed, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
