/* What the loop learns of the store: settings on their way up. */
#include "unit/broker/fixture.h"

#include "broker/settings.h"

#include "store/catalog.c"

static unsigned conflicts; /* calls that still lose a race for a lock */
static int (*real_get)(DB *, DB_TXN *, DBT *, DBT *, u_int32_t);
static int (*real_cursor)(DB *, DB_TXN *, DBC **, u_int32_t);

static int losing_get(DB *db, DB_TXN *txn, DBT *key, DBT *value, u_int32_t flags)
{
    if (!conflicts)
        return real_get(db, txn, key, value, flags);
    conflicts--;
    return DB_LOCK_DEADLOCK;
}

static int losing_cursor(DB *db, DB_TXN *txn, DBC **made, u_int32_t flags)
{
    if (!conflicts)
        return real_cursor(db, txn, made, flags);
    conflicts--;
    return DB_LOCK_DEADLOCK;
}

static void put_conflicts_in(struct fixture *fixture)
{
    DB *db = fixture->broker->catalog->db;
    real_get = db->get;
    real_cursor = db->cursor;
    db->get = losing_get;
    db->cursor = losing_cursor;
}

static void set(struct fixture *fixture, struct str key, struct str value)
{
    struct operation_set_config set = {
        .operation = {.kind = OPERATION_SET_CONFIG}, .key = key, .value = value};
    fixture_execute(fixture, &set.operation);
    assert_int_equal(set.operation.status, FIBP_OK);
}

/* Takes what was emitted: exactly `a` = `value`, and the present generation. */
static void assert_emitted(struct fixture *fixture, struct str value)
{
    unsigned found = 0;
    uint64_t generation = 0;
    for (unsigned i = 0; i < fixture->emitted_count; i++) {
        struct operation_settings *settings = (struct operation_settings *)fixture->emitted[i];
        assert_int_equal(settings->operation.kind, OPERATION_SETTINGS);
        for (struct setting *setting = settings->first; setting; setting = setting->next) {
            assert_true(str_equal(setting->name, STR("a")));
            assert_true(str_equal(setting->value, value));
            found++;
        }
        generation = settings->generation;
    }
    assert_int_equal(found, 1);
    assert_int_equal(generation, atomic_load(&fixture->zone->settings_generation));
    fixture_forget_emitted(fixture);
}

static void conflicts_are_no_end(void **state)
{
    struct fixture *fixture = *state;
    put_conflicts_in(fixture);
    set(fixture, STR("a"), STR("1"));
    conflicts = 3; /* all of it is read at first */
    assert_int_equal(broker_send_settings(fixture->broker), 0);
    assert_int_equal(conflicts, 0);
    assert_emitted(fixture, STR("1"));
    set(fixture, STR("a"), STR("2"));
    conflicts = 3; /* now what has changed */
    assert_int_equal(broker_send_settings(fixture->broker), 0);
    assert_int_equal(conflicts, 0);
    assert_emitted(fixture, STR("2"));
}

static void many_conflicts_leave_it_to_the_next_turn(void **state)
{
    struct fixture *fixture = *state;
    put_conflicts_in(fixture);
    set(fixture, STR("a"), STR("1"));
    conflicts = 1000;
    assert_int_equal(broker_send_settings(fixture->broker), 0);
    assert_int_equal(fixture->emitted_count, 0);
    conflicts = 0;
    assert_int_equal(broker_send_settings(fixture->broker), 0);
    assert_emitted(fixture, STR("1"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(conflicts_are_no_end),
        TEST(many_conflicts_leave_it_to_the_next_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
