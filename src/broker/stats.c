/* stats - what there is and what is counted: ListQueues, GetStats, QueueDetails; spec/broker.md
 * section 12 */
#include <stdlib.h>

#include "broker/broker.h"
#include "fibp/status.h"
#include "os/time.h"
#include "sched/hold.h"

#define DLQ_SUFFIX STR(".dlq")

/* --- list and statistics --- */

/* Under the queue's lock. */
static void totals_locked(const struct queue *queue, struct operation_queue_row *row)
{
    row->depth = queue->ready + queue->leased + queue->delayed;
    row->in_flight = queue->leased;
    row->consumers = queue_consumer_count(queue);
    row->counted = queue->scan.done ? FRAMED_COUNTED_ALL : queue->scan.percent;
    if (queue->quarantined)
        row->counted = FRAMED_COUNTED_QUARANTINE;
    else if (atomic_load(&queue->paused))
        row->counted |= FRAMED_COUNTED_PAUSED;
}

static int fill_totals(struct broker *broker, struct queue *queue, struct operation_queue_row *row)
{
    if (broker_lock(broker, &queue->lock) != 0)
        return -1;
    totals_locked(queue, row);
    lock_release(&queue->lock);
    return 0;
}

static int compare_rows(const void *a, const void *b)
{
    return str_compare(((const struct operation_queue_row *)a)->name,
                       ((const struct operation_queue_row *)b)->name);
}

/* The catalog lock is held only while queues are looked up, not while each one's lock is waited
 * for: everybody who does not know a queue yet needs it. A queue that is deleted meanwhile is not
 * freed before this thread has acted on that (broker_refresh). */

/* Under the catalog lock: a row for each queue, with its name, and the queues. */
static struct queue **find_all(struct broker *broker, struct operation_list_queues *list)
{
    struct scheduler *scheduler = broker->scheduler;
    struct queue **queues = malloc((scheduler->queue_count + 1) * sizeof(struct queue *));
    size_t names = 0;
    uint32_t count = 0;
    for (uint32_t i = 0; queues && i < ZONE_QUEUES && count < scheduler->queue_count; i++) {
        struct queue *queue = atomic_load_explicit(&scheduler->queues[i], memory_order_relaxed);
        if (!queue || atomic_load(&queue->dead))
            continue;
        queues[count++] = queue;
        names += queue->name.size;
    }
    list->rows = queues ? malloc(count * sizeof(*list->rows) + names + 1) : NULL;
    if (!list->rows) {
        free(queues);
        return NULL;
    }
    uint8_t *name = (uint8_t *)(list->rows + count);
    for (; list->count < count; list->count++) {
        struct str from = queues[list->count]->name;
        memcpy(name, from.data, from.size);
        list->rows[list->count].name = str_of(name, from.size);
        name += from.size;
    }
    return queues;
}

int broker_list_queues(struct broker *broker, struct operation *operation)
{
    struct operation_list_queues *list = (struct operation_list_queues *)operation;
    int status = 0;
    free(list->rows); /* of a first try that a recovery cut short */
    list->rows = NULL;
    list->count = 0;
    operation->status = FIBP_OK;
    if (broker_lock(broker, &broker->scheduler->catalog_lock) != 0)
        return -1;
    struct queue **queues = find_all(broker, list);
    lock_release(&broker->scheduler->catalog_lock);
    if (!queues) {
        operation->status = FIBP_CHANNEL_FULL;
        return 0;
    }
    for (uint32_t i = 0; i < list->count && status == 0; i++)
        status = fill_totals(broker, queues[i], &list->rows[i]);
    free(queues);
    qsort(list->rows, list->count, sizeof(*list->rows), compare_rows);
    return status;
}

#define KEY_ROWS_MAX 65535

static void copy_key(struct operation_get_stats *stats, const struct fairness_key *key,
                     uint8_t **names)
{
    memcpy(*names, key->name, key->name_size);
    stats->keys[stats->key_count++] =
        (struct operation_key_row){.key = str_of(*names, key->name_size),
                                   .pending = key->ready,
                                   .deficit = key->drr.deficit,
                                   .weight = key->drr.weight};
    *names += key->name_size;
}

static const struct fairness_key *key_of_ring(const struct list *entry)
{
    return CONTAINER_OF(CONTAINER_OF(entry, struct drr_key, ring), struct fairness_key, drr);
}

/* The keys of the round robin in its order, then those of which all is held. */
static void copy_keys(const struct queue *queue, struct operation_get_stats *stats,
                      struct fairness_key *const *held, uint32_t held_count)
{
    size_t names = 0;
    uint32_t count = 0;
    stats->key_count = 0;
    const struct list *ring = &queue->drr.active, *entry = ring->next;
    for (; entry != ring && count < KEY_ROWS_MAX; entry = entry->next, count++)
        names += key_of_ring(entry)->name_size;
    for (uint32_t i = 0; i < held_count && count < KEY_ROWS_MAX; i++, count++)
        names += held[i]->name_size;
    stats->keys = malloc(count * sizeof(*stats->keys) + names + 1);
    if (!stats->keys)
        return;
    uint8_t *bytes = (uint8_t *)(stats->keys + count);
    for (entry = ring->next; entry != ring && stats->key_count < count; entry = entry->next)
        copy_key(stats, key_of_ring(entry), &bytes);
    for (uint32_t i = 0; stats->key_count < count; i++)
        copy_key(stats, held[i], &bytes);
}

static void stats_locked(const struct queue *queue, struct operation_get_stats *stats)
{
    uint32_t held_count = 0;
    struct fairness_key **held = hold_keys(queue, &held_count);
    free(stats->keys); /* of a first try that a recovery cut short */
    free(stats->throttles);
    totals_locked(queue, &stats->totals);
    stats->active_keys = queue->drr.count + held_count;
    stats->quantum = queue->drr.quantum;
    copy_keys(queue, stats, held, held_count);
    stats->throttles =
        hold_rows(queue, THROTTLE_BUCKET, time_monotonic_ns(), &stats->throttle_count);
    free(held);
}

int broker_get_stats(struct broker *broker, struct operation *operation)
{
    struct operation_get_stats *stats = (struct operation_get_stats *)operation;
    struct local_queue *local = NULL;
    operation->status = FIBP_QUEUE_NOT_FOUND;
    if (broker_find_queue(broker, stats->name, &local) != 0)
        return -1;
    if (!local)
        return 0;
    if (broker_lock(broker, &local->queue->lock) != 0)
        return -1;
    stats_locked(local->queue, stats);
    lock_release(&local->queue->lock);
    operation->status = FIBP_OK;
    return 0;
}

/* --- details --- */

/* Under the queue's lock. */
static void numbers_locked(const struct queue *queue, uint64_t numbers[DETAILS])
{
    const struct queue_counters *counters = queue->counters;
    struct operation_queue_row row;
    uint32_t held_keys = 0;
    totals_locked(queue, &row);
    numbers[DETAIL_DEPTH] = row.depth;
    numbers[DETAIL_READY] = queue->ready;
    numbers[DETAIL_IN_FLIGHT] = row.in_flight;
    numbers[DETAIL_DELAYED] = queue->delayed;
    numbers[DETAIL_HELD] = queue->held;
    numbers[DETAIL_CONSUMERS] = row.consumers;
    if (queue->held_lanes)
        free(hold_keys(queue, &held_keys));
    numbers[DETAIL_FAIRNESS_KEYS] = queue->drr.count + held_keys;
    numbers[DETAIL_LANES] = queue->lane_count;
    numbers[DETAIL_HELD_LANES] = queue->held_lanes;
    uint8_t counted = row.counted & (uint8_t)~FRAMED_COUNTED_PAUSED;
    numbers[DETAIL_COUNTED_PERCENT] = counted < FRAMED_COUNTED_ALL ? counted : FRAMED_COUNTED_ALL;
    numbers[DETAIL_QUARANTINED] = queue->quarantined;
    numbers[DETAIL_PAUSED] = atomic_load(&queue->paused);
    numbers[DETAIL_MAX_ATTEMPTS] = atomic_load(&queue->max_attempts);
    numbers[DETAIL_VISIBILITY_TIMEOUT_MS] = atomic_load(&queue->visibility_timeout_ms);
    numbers[DETAIL_SINCE_MS] = queue->statistics->since_ms;
    numbers[DETAIL_ENQUEUED] = counters->enqueued;
    numbers[DETAIL_DELIVERED] = counters->delivered;
    numbers[DETAIL_ACKED] = counters->acked;
    numbers[DETAIL_NACKED] = counters->nacked;
    numbers[DETAIL_EXPIRED] = counters->expired;
    numbers[DETAIL_RETURNED] = counters->returned;
    numbers[DETAIL_DELAYED_TOTAL] = counters->delayed;
    numbers[DETAIL_DEAD_LETTERED] = counters->dead_lettered;
    numbers[DETAIL_REDRIVEN] = counters->redriven;
    numbers[DETAIL_PURGED] = counters->purged;
    numbers[DETAIL_REJECTED] = counters->rejected;
    numbers[DETAIL_HOOK_ERRORS] = counters->hook_errors;
    numbers[DETAIL_THROTTLE_HOLDS] = counters->throttle_holds;
    numbers[DETAIL_ENQUEUED_BYTES] = counters->enqueued_bytes;
    numbers[DETAIL_DELIVERED_BYTES] = counters->delivered_bytes;
}

static void fill_waits(uint64_t numbers[DETAILS], const struct histogram *waits)
{
    numbers[DETAIL_WAIT_COUNT] = histogram_count(waits);
    numbers[DETAIL_WAIT_SUM_MS] = atomic_load(&waits->sum);
    numbers[DETAIL_WAIT_P50_MS] = histogram_quantile(waits, 500);
    numbers[DETAIL_WAIT_P90_MS] = histogram_quantile(waits, 900);
    numbers[DETAIL_WAIT_P99_MS] = histogram_quantile(waits, 990);
    numbers[DETAIL_WAIT_MAX_MS] = atomic_load(&waits->max);
}

/* The dead-letter queue of a queue, or NULL. Under the catalog lock. */
static struct queue *find_dlq(const struct broker *broker, struct str name)
{
    uint8_t text[512];
    if (name.size + DLQ_SUFFIX.size > sizeof(text) || str_ends_with(name, DLQ_SUFFIX))
        return NULL;
    memcpy(text, name.data, name.size);
    memcpy(text + name.size, DLQ_SUFFIX.data, DLQ_SUFFIX.size);
    return scheduler_find(broker->scheduler, str_of(text, name.size + DLQ_SUFFIX.size));
}

/* `dlq` may be NULL. */
static int fill_details(struct broker *broker, struct queue *queue, struct queue *dlq,
                        struct operation_queue_details *details, struct operation_details_row *row)
{
    struct histogram waits;
    struct operation_queue_row letters = {.depth = 0};
    if (broker_lock(broker, &queue->lock) != 0)
        return -1;
    numbers_locked(queue, row->numbers);
    statistics_waits(queue->statistics, &waits);
    if (details->queue.size)
        details->limits =
            hold_rows(queue, THROTTLE_LIMIT, time_monotonic_ns(), &details->limit_count);
    lock_release(&queue->lock);
    fill_waits(row->numbers, &waits);
    if (details->histograms)
        row->waits = waits;
    if (dlq && fill_totals(broker, dlq, &letters) != 0)
        return -1;
    row->numbers[DETAIL_DEAD_LETTERS] = letters.depth;
    return 0;
}

static int compare_queues(const void *a, const void *b)
{
    return str_compare((*(struct queue *const *)a)->name, (*(struct queue *const *)b)->name);
}

/* The first `limit` queues by name behind details->after, without sorting all there are: as soon as
 * twice as many are gathered, the larger half goes. */
static uint32_t choose_page(const struct scheduler *scheduler,
                            const struct operation_queue_details *details, uint32_t limit,
                            struct queue **chosen)
{
    uint32_t count = 0;
    const struct queue *last = NULL; /* none behind it is of interest */
    for (uint32_t i = 0; i < ZONE_QUEUES; i++) {
        struct queue *queue = atomic_load_explicit(&scheduler->queues[i], memory_order_relaxed);
        if (!queue || atomic_load(&queue->dead) ||
            (details->after.size && str_compare(queue->name, details->after) <= 0) ||
            (last && str_compare(queue->name, last->name) > 0))
            continue;
        chosen[count++] = queue;
        if (count < 2 * limit)
            continue;
        qsort(chosen, count, sizeof(*chosen), compare_queues);
        count = limit;
        last = chosen[limit - 1];
    }
    qsort(chosen, count, sizeof(*chosen), compare_queues);
    return count;
}

static struct operation_details_row *make_rows(struct queue *const *queues, uint32_t count)
{
    size_t names = 0;
    for (uint32_t i = 0; i < count; i++)
        names += queues[i]->name.size;
    struct operation_details_row *rows = calloc(1, count * sizeof(*rows) + names + 1);
    if (!rows)
        return NULL;
    uint8_t *name = (uint8_t *)(rows + count);
    for (uint32_t i = 0; i < count; i++) {
        memcpy(name, queues[i]->name.data, queues[i]->name.size);
        rows[i].name = str_of(name, queues[i]->name.size);
        name += queues[i]->name.size;
    }
    return rows;
}

/* Queues of an answer and their dead-letter queues or NULL. */
struct details_page {
    struct queue *chosen[2 * (FRAMED_DETAILS_PAGE + 1)];
    struct queue *dlqs[FRAMED_DETAILS_PAGE];
};

/* Under the catalog lock. */
static void find_page(struct broker *broker, struct operation_queue_details *details,
                      struct details_page *page)
{
    uint32_t limit = details->limit && details->limit < FRAMED_DETAILS_PAGE ? details->limit
                                                                            : FRAMED_DETAILS_PAGE;
    uint32_t count = 0;
    if (details->queue.size) {
        page->chosen[0] = scheduler_find(broker->scheduler, details->queue);
        count = page->chosen[0] != NULL;
        if (!count)
            details->operation.status = FIBP_QUEUE_NOT_FOUND;
    } else { /* one more: `more` */
        count = choose_page(broker->scheduler, details, limit + 1, page->chosen);
    }
    details->more = !details->queue.size && count > limit;
    count = details->more ? limit : count;
    details->rows = make_rows(page->chosen, count);
    if (!details->rows)
        details->operation.status = FIBP_CHANNEL_FULL;
    details->count = details->rows ? count : 0;
    details->broker[BROKER_QUEUES] = broker->scheduler->queue_count;
    for (uint32_t i = 0; i < details->count; i++)
        page->dlqs[i] = find_dlq(broker, page->chosen[i]->name);
}

static void fill_broker(const struct broker *broker, struct operation_queue_details *details)
{
    const struct zone *zone = broker->scheduler->zone;
    const struct histogram *commits = &details->commits;
    uint64_t *numbers = details->broker, connections = 0;
    statistics_all_commits(zone->statistics, &details->commits);
    for (unsigned i = 0; i < ZONE_WORKERS; i++)
        connections += atomic_load(&zone->slots[i].connections);
    numbers[BROKER_NOW_MS] = time_wall_ms();
    numbers[BROKER_SINCE_MS] = statistics_since_ms(zone->statistics);
    numbers[BROKER_CONNECTIONS] = connections;
    numbers[BROKER_MEMORY_BYTES] = arena_size(broker->scheduler->arena);
    numbers[BROKER_MEMORY_USED_BYTES] = arena_used(broker->scheduler->arena);
    numbers[BROKER_LOCKS_HELD_LONG] = atomic_load(&zone->locks_held_long);
    numbers[BROKER_COMMIT_COUNT] = histogram_count(commits);
    numbers[BROKER_COMMIT_SUM_US] = atomic_load(&commits->sum);
    numbers[BROKER_COMMIT_P50_US] = histogram_quantile(commits, 500);
    numbers[BROKER_COMMIT_P90_US] = histogram_quantile(commits, 900);
    numbers[BROKER_COMMIT_P99_US] = histogram_quantile(commits, 990);
    numbers[BROKER_COMMIT_MAX_US] = atomic_load(&commits->max);
}

int broker_queue_details(struct broker *broker, struct operation *operation)
{
    struct operation_queue_details *details = (struct operation_queue_details *)operation;
    struct details_page page;
    int status = 0;
    free(details->rows); /* of a first try that a recovery cut short */
    free(details->limits);
    details->rows = NULL;
    details->limits = NULL;
    details->count = details->limit_count = 0;
    operation->status = FIBP_OK;
    fill_broker(broker, details);
    if (broker_lock(broker, &broker->scheduler->catalog_lock) != 0)
        return -1;
    find_page(broker, details, &page);
    lock_release(&broker->scheduler->catalog_lock);
    for (uint32_t i = 0; i < details->count && status == 0; i++)
        status = fill_details(broker, page.chosen[i], page.dlqs[i], details, &details->rows[i]);
    return status;
}
