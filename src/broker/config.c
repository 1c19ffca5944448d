/* config - the runtime configuration; spec/broker.md section 10 */
#include <errno.h>

#include "broker/broker.h"
#include "broker/config.h"
#include "core/utf8.h"
#include "fibp/status.h"
#include "os/log.h"
#include "sched/config_rule.h"

#define CONFLICTS_MAX 100
#define MANY_KEYS 10000u /* the log says so: every worker keeps all of them in memory */
#define ALL_BYTES (UINT64_C(64) << 20) /* of all keys and values */
#define LISTED_MAX 10000u
#define LISTED_BYTES (32u << 20) /* no more rows are listed beyond it */

const char *config_fault(struct str key, struct str value)
{
    if (key.size == 0)
        return "the key is empty";
    if (key.size > CATALOG_CONFIG_KEY_MAX)
        return "the key is longer than 1024 bytes";
    if (value.size > CONFIG_VALUE_MAX)
        return "the value is longer than 65535 bytes";
    if (utf8_has_control(key))
        return "the key holds a control character";
    if (!utf8_valid(key) || !utf8_valid(value))
        return "the text is not UTF-8";
    if (value.size && memchr(value.data, 0, value.size))
        return "the value holds a NUL byte";
    return config_rule_fault(key, value);
}

/* What is there before a change. */
struct present {
    bool found;
    size_t size; /* of the value */
    bool same;   /* nothing would change */
};

/* Under the catalog lock, which all who write it have. */
static int look(struct broker *broker, struct str key, struct str value, struct present *present)
{
    struct buf *there = &broker->value;
    int result, tries = 0;
    do {
        result = catalog_get_config(broker->catalog, NULL, key, there);
    } while (env_is_conflict(result) && ++tries < CONFLICTS_MAX);
    if (result && result != DB_NOTFOUND)
        return result;
    present->found = !result;
    present->size = there->size;
    present->same = present->found ? str_equal(buf_str(there), value) : value.size == 0;
    return 0;
}

static int change_once(struct broker *broker, struct str key, struct str value)
{
    DB_TXN *txn = NULL;
    int result = env_begin(broker->env, &txn);
    if (result)
        return result;
    result = value.size ? catalog_put_config(broker->catalog, txn, key, value)
                        : catalog_delete_config(broker->catalog, txn, key);
    if (!result)
        return env_commit(txn, broker->options.commit);
    (void)txn->abort(txn);
    return result;
}

static int change(struct broker *broker, struct str key, struct str value)
{
    int result, tries = 0;
    do {
        result = change_once(broker, key, value);
    } while (env_is_conflict(result) && ++tries < CONFLICTS_MAX);
    return result;
}

static void count(struct scheduler *scheduler, struct str key, struct str value,
                  const struct present *before)
{
    if (before->found) {
        scheduler->config_count--;
        scheduler->config_bytes -= key.size + before->size;
    }
    if (value.size == 0)
        return;
    scheduler->config_count++;
    scheduler->config_bytes += key.size + value.size;
    if (!before->found && scheduler->config_count == MANY_KEYS)
        log_write(LOG_WARN, "store", "the runtime configuration has %u keys now", MANY_KEYS);
}

/* NULL, or why there is no room for a value that is not the one before. */
static const char *shortage(const struct scheduler *scheduler, struct str key, struct str value,
                            const struct present *before)
{
    uint64_t before_bytes = before->found ? key.size + before->size : 0;
    if (value.size == 0)
        return NULL;
    if (!before->found && !scheduler_room(scheduler))
        return "no room for more configuration: shared_memory is full";
    if (key.size + value.size > before_bytes &&
        scheduler->config_bytes - before_bytes + key.size + value.size > ALL_BYTES)
        return "no room for more configuration: there are 64 MiB of it";
    return NULL;
}

/* Under the catalog lock. 0 with the operation's status set, or Berkeley DB's value. */
static int set_locked(struct broker *broker, struct operation_set_config *set)
{
    struct scheduler *scheduler = broker->scheduler;
    struct present before;
    int result = look(broker, set->key, set->value, &before);
    if (result)
        return result;
    set->operation.reason = before.same ? NULL : shortage(scheduler, set->key, set->value, &before);
    if (set->operation.reason) {
        set->operation.status = FIBP_CHANNEL_FULL;
        return 0;
    }
    if (!before.same && (result = change(broker, set->key, set->value)) != 0)
        return result;
    if (!before.same)
        count(scheduler, set->key, set->value, &before);
    /* Also what is stored already: there may have been no room for it then. */
    if (!config_rule_apply(scheduler, set->key, set->value)) {
        log_write(LOG_ERROR, "store", "configuration \"%.*s\" is not in force: the zone is full",
                  STR_PRINT(set->key));
        set->operation.status = FIBP_CHANNEL_FULL;
        set->operation.reason = "stored, but not in force: shared_memory is full";
    }
    if (!before.same)
        scheduler_settings_changed(scheduler, CHANGE_CONFIG, set->key);
    return 0;
}

int broker_set_config(struct broker *broker, struct operation *operation)
{
    struct operation_set_config *set = (struct operation_set_config *)operation;
    operation->wrote = true;
    operation->status = FIBP_OK;
    operation->reason = config_fault(set->key, set->value);
    if (operation->reason) {
        operation->status = FIBP_INVALID_CONFIG_VALUE;
        return 0;
    }
    if (set->value.size && atomic_load(&broker->scheduler->space_low)) {
        operation->status = FIBP_STORAGE_ERROR;
        operation->reason = "the disk is full";
        return 0;
    }
    if (broker_lock(broker, &broker->scheduler->catalog_lock) != 0)
        return -1;
    int result = set_locked(broker, set);
    lock_release(&broker->scheduler->catalog_lock);
    return broker_finish(broker, operation, result, "write the runtime configuration");
}

int broker_get_config(struct broker *broker, struct operation *operation)
{
    struct operation_get_config *get = (struct operation_get_config *)operation;
    operation->status = FIBP_OK;
    if (broker_lock(broker, &broker->scheduler->catalog_lock) != 0)
        return -1;
    int result = catalog_get_config(broker->catalog, NULL, get->key, &get->value);
    lock_release(&broker->scheduler->catalog_lock);
    return broker_finish(broker, operation, result == DB_NOTFOUND ? 0 : result,
                         "read the runtime configuration");
}

static int add_row(void *context, struct str key, struct str value, struct err *err)
{
    struct operation_list_config *list = context;
    size_t size = 8 + key.size + value.size;
    (void)err;
    if (list->count == LISTED_MAX || list->rows.size + size > LISTED_BYTES)
        return 1;
    if (!buf_reserve(&list->rows, size))
        return 1;
    buf_append_u32(&list->rows, (uint32_t)key.size);
    buf_append_u32(&list->rows, (uint32_t)value.size);
    buf_append_str(&list->rows, key);
    buf_append_str(&list->rows, value);
    list->count++;
    return 0;
}

int broker_list_config(struct broker *broker, struct operation *operation)
{
    struct operation_list_config *list = (struct operation_list_config *)operation;
    struct err err = {0};
    buf_clear(&list->rows); /* of a first try that a recovery cut short */
    list->count = 0;
    operation->status = FIBP_OK;
    if (broker_lock(broker, &broker->scheduler->catalog_lock) != 0)
        return -1;
    int status = catalog_each_config(broker->catalog, list->prefix, add_row, list, &err);
    lock_release(&broker->scheduler->catalog_lock);
    if (list->rows.failed) {
        operation->status = FIBP_CHANNEL_FULL;
        return 0;
    }
    if (status >= 0)
        return 0;
    log_write(LOG_ERROR, "store", "%s", err.text);
    operation->status = FIBP_STORAGE_ERROR;
    if (!broker_is_fatal(err.code))
        return 0;
    broker->failure = err;
    return -1;
}
