#include "broker/write.h"

#include <errno.h>

#include "broker/apart.h"
#include "broker/dead_letter.h"
#include "broker/decide.h"
#include "fibp/status.h"
#include "os/log.h"
#include "os/time.h"

#define BYTES_MAX (16u << 20)
#define CONFLICTS_MAX 100

struct write_group {
    struct write_group *next;
    struct local_queue *local;
    struct write_entry *first, **last;
};

static const struct write_method *const methods[WRITE_KINDS] = {
    [WRITE_ENQUEUE] = &write_enqueue,
    [WRITE_ACK] = &write_ack,
    [WRITE_RETRY] = &write_retry,
    [WRITE_PURGE] = &write_purge,
};

/* --- within a transaction --- */

/* Made by this transaction. */
static bool is_new(const struct write *write, const struct lane *lane)
{
    return lane->id >= write->queue->next_lane;
}

struct lane *write_stage_lane(struct write *write, struct str fairness_key, uint32_t weight,
                              uint16_t throttle_count, struct str throttle_keys)
{
    struct queue *queue = write->queue;
    struct lane *lane = queue_lane_find(queue, fairness_key, throttle_keys);
    if (!lane && !queue_has_room(queue))
        return NULL;
    if (!lane) {
        lane = queue_lane_create(queue, write->next_lane, weight, fairness_key, throttle_count,
                                 throttle_keys);
        if (!lane)
            return NULL;
        write->next_lane++;
    }
    lane->staged_weight = weight;
    if (!lane->staged && (is_new(write, lane) || weight != lane->stored_weight)) {
        lane->staged = true;
        lane->staged_next = write->lanes;
        write->lanes = lane;
    }
    return lane;
}

void write_stage_removal(struct write *write, struct lease *lease)
{
    struct lease_batch *batch = lease->batch;
    lease->staged = 1;
    if (batch && batch->staged_removals++ == 0) {
        batch->staged_next = write->batches;
        write->batches = batch;
    }
}

void write_undo_removal(struct write *write, struct lease *lease)
{
    (void)write;
    lease->staged = 0;
    if (lease->batch)
        lease->batch->staged_removals = 0;
}

static int put_lane(struct write *write, const struct lane *lane)
{
    uint8_t key[RECORD_LANE_KEY_SIZE];
    struct record_lane record = {
        .weight = lane->staged_weight,
        .fairness_key = str_of(lane->key->name, lane->key->name_size),
        .throttle_count = lane->throttle_count,
        .throttle_keys = str_of(lane->throttle_keys, lane->throttle_size),
    };
    struct buf *value = &write->broker->value;
    buf_clear(value);
    record_lane_append(value, &record);
    if (value->failed)
        return ENOMEM;
    record_lane_key(key, lane->id);
    return queue_db_put(write->local->db, write->txn, str_of(key, sizeof(key)), buf_str(value));
}

/* The records that follow from all items together: lanes, and batches whose last lease goes. */
int write_consequences(struct write *write)
{
    int result = 0;
    for (struct lane *lane = write->lanes; lane && !result; lane = lane->staged_next)
        if (is_new(write, lane) || lane->staged_weight != lane->stored_weight)
            result = put_lane(write, lane);
    for (struct lease_batch *batch = write->batches; batch && !result; batch = batch->staged_next) {
        uint8_t key[RECORD_LEASES_KEY_SIZE];
        if (batch->staged_removals < batch->remaining)
            continue;
        record_leases_key(key, batch->seq);
        result = queue_db_delete(write->local->db, write->txn, str_of(key, sizeof(key)));
        if (result == DB_NOTFOUND)
            result = 0;
    }
    return result;
}

static void undo_lanes(struct write *write)
{
    while (write->lanes) {
        struct lane *lane = write->lanes;
        write->lanes = lane->staged_next;
        lane->staged = false;
        if (is_new(write, lane))
            queue_lane_free(write->queue, lane);
    }
}

static void publish_lanes(struct write *write)
{
    for (struct lane *lane = write->lanes; lane; lane = lane->staged_next) {
        lane->staged = false;
        lane->stored_weight = lane->staged_weight;
        drr_set_weight(&write->queue->drr, &lane->key->drr, lane->staged_weight);
        queue_lane_update(write->queue, lane, write->monotonic_ms);
    }
    write->lanes = NULL;
}

void write_begin(struct write *write, DB_TXN *txn)
{
    write->txn = txn;
    write->ordinal = 0;
    write->next_seq = write->queue->next_seq;
    write->next_lane = write->queue->next_lane;
    write->lanes = NULL;
    write->batches = NULL;
    write->small_removed = 0;
    write->chunks_removed = 0;
}

void write_undo(struct write *write)
{
    undo_lanes(write);
    write->batches = NULL;
}

void write_publish(struct write *write)
{
    write->queue->next_seq = write->next_seq;
    write->queue->next_lane = write->next_lane;
    atomic_fetch_add(&write->queue->chunks_removed, write->chunks_removed);
    for (struct lease_batch *batch = write->batches; batch; batch = batch->staged_next)
        batch->staged_removals = 0;
    write->batches = NULL;
    publish_lanes(write);
}

static void undo(struct write *write, struct write_entry *first, struct write_entry *end)
{
    for (struct write_entry *entry = first; entry != end; entry = entry->next) {
        if (entry->staged)
            methods[entry->kind]->undo(write, entry);
        entry->staged = false;
    }
    write_undo(write);
}

static void publish(struct write *write, struct write_entry *first, struct write_entry *end)
{
    write_publish(write);
    for (struct write_entry *entry = first; entry != end; entry = entry->next)
        if (entry->staged)
            methods[entry->kind]->publish(write, entry);
    queue_wake_waiters(write->queue);
}

int write_run(struct write *write, struct write_entry *first, struct write_entry *end)
{
    DB_TXN *txn = NULL;
    int result = env_begin(write->broker->env, &txn);
    if (result)
        return result;
    write_begin(write, txn);
    const struct operation *operation = NULL;
    bool any = false;
    for (struct write_entry *entry = first; entry != end && !result; entry = entry->next) {
        if (entry != first && entry->operation != operation)
            write->ordinal++;
        operation = entry->operation;
        entry->staged = false;
        result = methods[entry->kind]->stage(write, entry);
        any = any || entry->staged;
    }
    if (!result)
        result = write_consequences(write);
    if (result || !any) {
        int aborted = write->txn->abort(write->txn);
        undo(write, first, end);
        return result ? result : aborted;
    }
    result = env_commit(write->txn, write->broker->options.commit);
    if (result)
        undo(write, first, end);
    else
        publish(write, first, end);
    return result;
}

/* --- a batch, queue by queue --- */

static void set_status(struct write_entry *first, struct write_entry *end, uint8_t status)
{
    for (struct write_entry *entry = first; entry != end; entry = entry->next)
        methods[entry->kind]->set_status(entry, status);
}

int write_locked(struct broker *broker, struct local_queue *local, struct write_entry *first,
                 struct write_entry *end, int *result)
{
    struct queue *queue = local->queue;
    struct write write = {.broker = broker, .local = local, .queue = queue};
    *result = broker_open_db(broker, local, true);
    if (*result)
        return broker_is_fatal(*result) ? broker_fail(broker, *result, "open a queue") : 0;
    if (broker_lock(broker, &queue->lock) != 0)
        return -1;
    write.now_ns = time_wall_ns();
    write.monotonic_ms = time_monotonic_ms();
    if (atomic_load(&queue->dead)) {
        for (struct write_entry *entry = first; entry != end; entry = entry->next)
            methods[entry->kind]->set_status(entry, entry->kind == WRITE_ENQUEUE
                                                        ? FIBP_QUEUE_NOT_FOUND
                                                        : FIBP_MESSAGE_NOT_FOUND);
    } else {
        int tries = 0;
        do {
            *result = write_run(&write, first, end);
        } while ((env_is_conflict(*result) || broker_make_room(broker, *result)) &&
                 ++tries < CONFLICTS_MAX);
    }
    lock_release(&queue->lock);
    broker_note_lock(broker, queue, write.monotonic_ms);
    return broker_is_fatal(*result) ? broker_fail(broker, *result, "write to a queue") : 0;
}

static size_t entry_bytes(const struct write_entry *entry)
{
    if (entry->kind != WRITE_ENQUEUE)
        return 64;
    const struct operation_enqueue_item *item = entry->item.enqueue;
    return item->stored_in ? APART_PAYLOAD : item->record.size;
}

/* Records that an entry writes at most: message and lane; message and batch; message twice and
 * batch. A message stored apart has a marker or two chunks more. */
static size_t entry_records(const struct local_queue *local, const struct write_entry *entry)
{
    switch ((enum write_kind)entry->kind) {
    case WRITE_ENQUEUE:
        return entry->item.enqueue->record.size > APART_PAYLOAD ? 4 : 2;
    case WRITE_ACK:
        return atomic_load_explicit(&local->queue->has_apart, memory_order_relaxed) ? 4 : 2;
    default:
        return 3;
    }
}

/* Where the transaction that starts at `first` ends: at a border between operations when that is
 * not too far, at the limits otherwise. *single: it holds entries of one operation only. */
static struct write_entry *transaction_end(const struct local_queue *local,
                                           struct write_entry *first, bool *single)
{
    struct write_entry *border = NULL, *entry = first;
    size_t records = 0, bytes = 0;
    while (entry && (entry == first || (records + entry_records(local, entry) <= ENV_MAX_RECORDS &&
                                        bytes + entry_bytes(entry) <= BYTES_MAX))) {
        records += entry_records(local, entry);
        bytes += entry_bytes(entry);
        if (entry->next && entry->next->operation != entry->operation)
            border = entry->next;
        entry = entry->next;
    }
    struct write_entry *end = entry && border ? border : entry;
    *single = true;
    for (entry = first; entry != end; entry = entry->next)
        *single = *single && entry->operation == first->operation;
    return end;
}

static void log_refusal(const struct local_queue *local, int result)
{
    if (local->queue->quarantined) /* said when the store was opened */
        return;
    log_write(LOG_ERROR, "store", "write to queue \"%.*s\": %s", STR_PRINT(local->queue->name),
              db_strerror(result));
}

/* After a transaction of several operations has failed: each alone. */
static int run_one_by_one(struct broker *broker, struct local_queue *local,
                          struct write_entry *first, struct write_entry *end)
{
    while (first != end) {
        struct write_entry *next = first;
        int result = 0;
        while (next != end && next->operation == first->operation)
            next = next->next;
        if (write_locked(broker, local, first, next, &result) != 0)
            return -1;
        if (result) {
            log_refusal(local, result);
            set_status(first, next, FIBP_STORAGE_ERROR);
        }
        first = next;
    }
    return 0;
}

/* Without the lock: large parts whose message is gone, or never came. */
static int tidy_up(struct broker *broker, struct local_queue *local, struct write_entry *first,
                   struct write_entry *end)
{
    int status = 0;
    for (struct write_entry *entry = first; entry != end && status == 0; entry = entry->next) {
        const struct operation_enqueue_item *item = entry->item.enqueue;
        if (entry->kind == WRITE_ENQUEUE && item->status != FIBP_OK &&
            item->stored_in == local->queue->id)
            status = apart_discard(broker, local, &item->id);
        else if (entry->kind == WRITE_ACK && entry->leftover)
            status = apart_discard(broker, local, &entry->item.settle->id);
    }
    return status;
}

static int group_execute(struct broker *broker, struct write_group *group)
{
    struct write_entry *first = group->first;
    while (first) {
        bool single = false;
        int result = 0;
        struct write_entry *end = transaction_end(group->local, first, &single);
        if (write_locked(broker, group->local, first, end, &result) != 0)
            return -1;
        if (result && single) {
            log_refusal(group->local, result);
            set_status(first, end, FIBP_STORAGE_ERROR);
        } else if (result && run_one_by_one(broker, group->local, first, end) != 0) {
            return -1;
        }
        if (tidy_up(broker, group->local, first, end) != 0 ||
            dead_letter_entries(broker, group->local, first, end) != 0)
            return -1;
        first = end;
    }
    return 0;
}

struct grouping {
    struct broker *broker;
    struct write_group *groups, **last;
    struct local_queue *recent; /* most frames name one queue: a comparison instead of a search */
};

/* Adds an item to its queue's group; one whose queue is missing gets `missing` as its status. */
static int add_entry(struct grouping *grouping, struct write_entry *entry, struct str name,
                     uint8_t missing)
{
    struct broker *broker = grouping->broker;
    struct local_queue *local = grouping->recent;
    if (!local || !str_equal(local->queue->name, name)) {
        if (broker_find_queue(broker, name, &local) != 0)
            return -1;
        if (!local) {
            methods[entry->kind]->set_status(entry, missing);
            return 0;
        }
        grouping->recent = local;
    }
    if (!local->group) {
        struct write_group *group = pool_zalloc(broker->scratch, sizeof(*group));
        if (!group) {
            methods[entry->kind]->set_status(entry, FIBP_STORAGE_ERROR);
            return 0;
        }
        group->local = local;
        group->last = &group->first;
        *grouping->last = group;
        grouping->last = &group->next;
        local->group = group;
    }
    *local->group->last = entry;
    local->group->last = &entry->next;
    return 0;
}

/* What a hook rejected leaves nothing but a count. */
static int count_rejected(struct broker *broker, struct str name)
{
    struct local_queue *local = NULL;
    if (broker_find_queue(broker, name, &local) != 0)
        return -1;
    if (!local)
        return 0;
    if (broker_lock(broker, &local->queue->lock) != 0)
        return -1;
    local->queue->counters->rejected++;
    lock_release(&local->queue->lock);
    return 0;
}

static int add_enqueue(struct grouping *grouping, struct operation_enqueue *enqueue)
{
    struct write_entry *entries =
        pool_zalloc(grouping->broker->scratch, enqueue->count * sizeof(*entries));
    for (uint32_t i = 0; i < enqueue->count; i++) {
        bool rejected = enqueue->items[i].rejected.data;
        enqueue->items[i].status = rejected ? FIBP_FORBIDDEN : FIBP_STORAGE_ERROR;
        if (rejected && count_rejected(grouping->broker, enqueue->items[i].queue) != 0)
            return -1;
        if (!entries || rejected)
            continue;
        entries[i].kind = WRITE_ENQUEUE;
        entries[i].operation = &enqueue->operation;
        entries[i].item.enqueue = &enqueue->items[i];
        if (add_entry(grouping, &entries[i], enqueue->items[i].queue, FIBP_QUEUE_NOT_FOUND) != 0)
            return -1;
    }
    return 0;
}

static int add_settle(struct grouping *grouping, struct operation_settle *settle, uint8_t kind)
{
    struct write_entry *entries =
        pool_zalloc(grouping->broker->scratch, settle->count * sizeof(*entries));
    for (uint32_t i = 0; i < settle->count; i++) {
        struct operation_settle_item *item = &settle->items[i];
        item->status = item->id_valid ? FIBP_STORAGE_ERROR : FIBP_MESSAGE_NOT_FOUND;
        if (!entries || !item->id_valid)
            continue;
        entries[i].kind = kind;
        entries[i].operation = &settle->operation;
        entries[i].item.settle = item;
        if (add_entry(grouping, &entries[i], item->queue, FIBP_MESSAGE_NOT_FOUND) != 0)
            return -1;
    }
    return 0;
}

/* The slice of a nack that was decided. What has a status already is not looked at. */
static int add_decided(struct grouping *grouping, struct operation_settle *settle)
{
    const struct operation_deciding *deciding = settle->deciding;
    uint32_t count = deciding->to - deciding->from, next = 0;
    struct write_entry *entries = pool_zalloc(grouping->broker->scratch, count * sizeof(*entries));
    for (uint32_t i = 0; entries && i < count; i++) {
        struct operation_settle_item *item = &settle->items[deciding->from + i];
        if (item->status == FIBP_MESSAGE_NOT_FOUND)
            continue;
        entries[i].kind = WRITE_RETRY;
        entries[i].operation = &settle->operation;
        entries[i].item.settle = item;
        entries[i].decision = decide_of(settle, deciding->from + i, &next);
        if (add_entry(grouping, &entries[i], item->queue, FIBP_MESSAGE_NOT_FOUND) != 0)
            return -1;
    }
    return 0;
}

static int add_nack(struct grouping *grouping, struct operation_settle *settle)
{
    bool needed = settle->deciding != NULL;
    settle->operation.undecided = false;
    if (needed)
        decide_check(grouping->broker, settle);
    else if (decide_is_needed(grouping->broker, settle, &needed) != 0 ||
             (needed && decide_begin(grouping->broker, settle) != 0))
        return -1;
    if (!needed)
        return add_settle(grouping, settle, WRITE_RETRY);
    settle->deciding->wrote = settle->deciding->wrote || settle->deciding->to > 0;
    settle->operation.wrote = settle->deciding->wrote;
    return add_decided(grouping, settle);
}

static int add_operation(struct grouping *grouping, struct operation *operation)
{
    operation->status = FIBP_OK;
    operation->wrote = true;
    if (operation->kind == OPERATION_ENQUEUE)
        return add_enqueue(grouping, (struct operation_enqueue *)operation);
    if (operation->kind == OPERATION_NACK)
        return add_nack(grouping, (struct operation_settle *)operation);
    return add_settle(grouping, (struct operation_settle *)operation, WRITE_ACK);
}

/* Those that are not done go up with what is to be decided next. */
static int go_on_deciding(struct broker *broker, struct operation *first,
                          const struct operation *end)
{
    for (; first != end; first = first->next) {
        struct operation_settle *settle = (struct operation_settle *)first;
        if (first->kind == OPERATION_NACK && settle->deciding && decide_next(broker, settle) != 0)
            return -1;
    }
    return 0;
}

int write_execute(struct broker *broker, struct operation *first, struct operation *end)
{
    struct grouping grouping = {.broker = broker, .last = &grouping.groups};
    int status = 0;
    for (struct operation *operation = first; operation != end && status == 0;
         operation = operation->next)
        status = add_operation(&grouping, operation);
    for (struct write_group *group = grouping.groups; group; group = group->next) {
        group->local->group = NULL;
        *group->last = NULL;
        if (status == 0)
            status = group_execute(broker, group);
    }
    return status == 0 ? go_on_deciding(broker, first, end) : status;
}
