/* count - how many messages each queue had before the zone was built; see struct queue_scan */
#include <errno.h>
#include <stdlib.h>

#include "keeper/maintenance.h"
#include "os/log.h"
#include "os/time.h"
#include "store/record.h"

#define STEP_MESSAGES 200 /* under one holding of the lock */
#define STEP_BYTES (64u << 10)
#define PERCENT_MAX 99 /* until all is counted */

/* The queue that is being counted. Its lanes stay while they are not scanned, so their addresses
 * do. */
struct counting {
    struct queue *queue;
    struct lane **lanes; /* those to be counted, by ascending id */
    size_t count;
};

void count_abandon(struct maintenance *maintenance)
{
    if (!maintenance->counting)
        return;
    free(maintenance->counting->lanes);
    free(maintenance->counting);
    maintenance->counting = NULL;
}

void count_forget_dead(struct maintenance *maintenance)
{
    if (!maintenance->counting || !atomic_load(&maintenance->counting->queue->dead))
        return;
    atomic_fetch_add(&maintenance->broker->scheduler->count_done, 1);
    count_abandon(maintenance);
}

static int compare_lanes(const void *a, const void *b)
{
    uint64_t x = (*(struct lane *const *)a)->id, y = (*(struct lane *const *)b)->id;
    return x < y ? -1 : x > y;
}

/* Under the queue's lock. */
static int collect_lanes(struct counting *counting)
{
    struct queue *queue = counting->queue;
    uint32_t bucket = 0;
    counting->lanes = malloc((queue->lane_count + 1) * sizeof(struct lane *));
    if (!counting->lanes)
        return ENOMEM;
    for (struct hash_link *link = hash_next(&queue->lanes, &bucket, NULL); link;
         link = hash_next(&queue->lanes, &bucket, link)) {
        struct lane *lane = CONTAINER_OF(link, struct lane, link);
        if (lane->unscanned)
            counting->lanes[counting->count++] = lane;
    }
    qsort(counting->lanes, counting->count, sizeof(struct lane *), compare_lanes);
    return 0;
}

/* Finds the next queue that is not counted. Returns with maintenance->counting NULL when all are.
 */
static int begin(struct maintenance *maintenance)
{
    struct scheduler *scheduler = maintenance->broker->scheduler;
    if (atomic_load(&scheduler->count_done) >= atomic_load(&scheduler->count_total))
        return 0;
    for (uint32_t i = 0; i < ZONE_QUEUES; i++) {
        /* Only this thread frees queues: what the table names stays for this step. */
        struct queue *queue = atomic_load(&scheduler->queues[i]);
        if (!queue || queue->scan.done || atomic_load(&queue->dead))
            continue;
        struct counting *counting = calloc(1, sizeof(*counting));
        if (!counting)
            return broker_fail(maintenance->broker, ENOMEM, "count messages");
        counting->queue = queue;
        maintenance->counting = counting;
        if (broker_lock(maintenance->broker, &queue->lock) != 0)
            return -1;
        int result = collect_lanes(counting);
        lock_release(&queue->lock);
        return result ? broker_fail(maintenance->broker, result, "count messages") : 0;
    }
    /* Those that are missing were deleted before their turn came. */
    atomic_store(&scheduler->count_done, atomic_load(&scheduler->count_total));
    return 0;
}

static struct lane *find_lane(const struct counting *counting, uint64_t id)
{
    struct lane probe = {.id = id}, *key = &probe;
    struct lane **found =
        bsearch(&key, counting->lanes, counting->count, sizeof(struct lane *), compare_lanes);
    return found ? *found : NULL;
}

static void count_message(struct counting *counting, uint64_t lane_id, uint64_t seq,
                          struct str value)
{
    struct queue *queue = counting->queue;
    struct record_message message;
    struct lane *lane = find_lane(counting, lane_id);
    if (!lane || seq >= queue->scan.limit || !record_message_parse(value, &message) ||
        queue_lease_find(queue, &message.id))
        return;
    queue_ready_add(queue, lane, 1);
    queue_lane_update(queue, lane, 0);
}

/* How far the scan has come, for statistics. It never goes back, though new messages make the rest
 * longer. */
static void note_progress(struct counting *counting, struct queue_db *db)
{
    struct queue_scan *scan = &counting->queue->scan;
    uint8_t key[RECORD_MESSAGE_KEY_SIZE];
    double before = 0, now = 0; /* share of the records in front of the messages, and so far */
    if (!scan->delayed_done)
        record_delayed_key(key, 0, 0);
    else
        record_message_key(key, 0, 0);
    if (queue_db_share_below(db, str_of(key, sizeof(key)), &before) != 0 || before >= 1)
        return;
    if (!scan->delayed_done)
        record_delayed_key(key, scan->due_ms, scan->due_seq);
    else
        record_message_key(key, scan->lane, scan->seq);
    if (queue_db_share_below(db, str_of(key, sizeof(key)), &now) != 0)
        return;
    double percent = (now - before) / (1 - before) * 100;
    if (percent > scan->percent)
        scan->percent = percent < PERCENT_MAX ? (uint8_t)percent : PERCENT_MAX;
}

/* As count_locked for delayed messages, which stand before all others. */
static int count_delayed(struct maintenance *maintenance, DBC *cursor)
{
    struct queue *queue = maintenance->counting->queue;
    struct queue_scan *scan = &queue->scan;
    struct queue_db_bulk *bulk = &maintenance->broker->bulk;
    uint8_t from[RECORD_DELAYED_KEY_SIZE];
    struct str key, value;
    record_delayed_key(from, scan->due_ms, scan->due_seq);
    int result = queue_db_bulk_read(cursor, bulk, str_of(from, sizeof(from)), STEP_BYTES);
    if (result == DB_NOTFOUND)
        scan->delayed_done = true;
    for (unsigned i = 0; !result && i < STEP_MESSAGES && queue_db_bulk_next(bulk, &key, &value);
         i++) {
        uint64_t due_ms = key.size == sizeof(from) ? bytes_get_u64(key.data + 1) : 0;
        scan->delayed_done = key.size != sizeof(from) || key.data[0] != RECORD_TAG_DELAYED ||
                             due_ms == RECORD_DELAYED_NEVER;
        if (scan->delayed_done)
            break;
        uint64_t seq = bytes_get_u64(key.data + 9);
        queue->delayed += seq < scan->limit;
        scan->due_ms = due_ms;
        scan->due_seq = seq + 1;
    }
    return result == DB_NOTFOUND ? 0 : result;
}

static void finish(struct maintenance *maintenance)
{
    struct counting *counting = maintenance->counting;
    uint64_t now_ms = time_monotonic_ms();
    counting->queue->scan.done = true;
    for (size_t i = 0; i < counting->count; i++) {
        counting->lanes[i]->unscanned = counting->lanes[i]->drained = false;
        queue_lane_update(counting->queue, counting->lanes[i], now_ms);
    }
    atomic_fetch_add(&maintenance->broker->scheduler->count_done, 1);
}

/* Counts one step's messages; *done: the end was met. Berkeley DB's value. */
static int count_locked(struct maintenance *maintenance, DBC *cursor, bool *done)
{
    struct counting *counting = maintenance->counting;
    struct queue_scan *scan = &counting->queue->scan;
    struct queue_db_bulk *bulk = &maintenance->broker->bulk;
    uint8_t from[RECORD_MESSAGE_KEY_SIZE];
    struct str key, value;
    record_message_key(from, scan->lane, scan->seq);
    int result = queue_db_bulk_read(cursor, bulk, str_of(from, sizeof(from)), STEP_BYTES);
    *done = result == DB_NOTFOUND;
    for (unsigned i = 0; !result && i < STEP_MESSAGES && queue_db_bulk_next(bulk, &key, &value);
         i++) {
        if (key.size != sizeof(from) || key.data[0] != RECORD_TAG_MESSAGE) {
            *done = true;
            break;
        }
        uint64_t lane = bytes_get_u64(key.data + 1), seq = bytes_get_u64(key.data + 9);
        count_message(counting, lane, seq, value);
        scan->lane = lane;
        scan->seq = seq + 1;
    }
    return result == DB_NOTFOUND ? 0 : result;
}

int count_step(struct maintenance *maintenance)
{
    struct broker *broker = maintenance->broker;
    struct local_queue *local = NULL;
    DBC *cursor = NULL;
    bool done = false;
    if (!maintenance->counting && begin(maintenance) != 0)
        return -1;
    if (!maintenance->counting)
        return 0;
    struct queue *queue = maintenance->counting->queue;
    count_forget_dead(maintenance);
    if (!maintenance->counting)
        return 1;
    if (broker_local(broker, queue, &local) != 0)
        return -1;
    int result = broker_open_db(broker, local, false);
    if (result)
        return broker_is_fatal(result) ? broker_fail(broker, result, "count messages") : 0;
    if (broker_lock(broker, &queue->lock) != 0)
        return -1;
    uint64_t began_ms = time_monotonic_ms();
    result = queue_db_cursor(local->db, &cursor);
    if (!result && !queue->scan.delayed_done)
        result = count_delayed(maintenance, cursor);
    else if (!result)
        result = count_locked(maintenance, cursor, &done);
    queue_db_cursor_close(cursor);
    if (!result && done)
        finish(maintenance);
    else if (!result)
        note_progress(maintenance->counting, local->db);
    queue_wake_waiters(queue);
    lock_release(&queue->lock);
    broker_note_lock(broker, queue, began_ms);
    if (done)
        count_abandon(maintenance);
    if (broker_is_fatal(result))
        return broker_fail(broker, result, "count messages");
    if (result && !env_is_conflict(result)) {
        log_write(LOG_ERROR, "store", "count the messages of queue \"%.*s\": %s",
                  STR_PRINT(queue->name), db_strerror(result));
        return 0; /* once more in a second */
    }
    return 1;
}
