/* A purge that loses races for locks of the store. */
#include "unit/broker/fixture.h"

#include "store/queue_db.c"

static unsigned calls_before, conflicts;
static int (*real_get)(DB *, DB_TXN *, DBT *, DBT *, u_int32_t);

static int losing_get(DB *db, DB_TXN *txn, DBT *key, DBT *value, u_int32_t flags)
{
    if (calls_before)
        calls_before--;
    else if (conflicts) {
        conflicts--;
        return DB_LOCK_DEADLOCK;
    }
    return real_get(db, txn, key, value, flags);
}

/* The second lane of a batch cannot be looked up, more often than a reader tries. */
static void no_message_is_passed_over(void **state)
{
    struct fixture *fixture = *state;
    struct local_queue *local = NULL;
    struct operation_purge purge = {.operation = {.kind = OPERATION_PURGE_QUEUE}, .name = STR("q")};
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "a", 1, 0, 5, NULL);
    fixture_enqueue(fixture, "q", "b", 1, 5, 5, NULL);
    assert_int_equal(broker_find_queue(fixture->broker, STR("q"), &local), 0);
    assert_non_null(local->db);
    real_get = local->db->db->get;
    local->db->db->get = losing_get;
    calls_before = 1;
    conflicts = 150;
    fixture_execute(fixture, &purge.operation);
    assert_int_equal(conflicts, 0);
    assert_int_equal(purge.operation.status, FIBP_OK);
    assert_int_equal(purge.purged, 10);
    assert_int_equal(fixture_stats(fixture, "q").depth, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_message_is_passed_over, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
