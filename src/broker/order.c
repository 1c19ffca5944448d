#include "broker/order.h"

#include <errno.h>
#include <stdlib.h>

#include "os/time.h"

#define BUILD_STEP 500 /* lanes under one holding of the lock */
#define CONFLICTS_MAX 100

int order_begin(struct order *order, struct broker *broker, struct queue *queue)
{
    *order = (struct order){.heads = NULL};
    if (broker_lock(broker, &queue->lock) != 0)
        return -1;
    order->before = queue->next_seq;
    lock_release(&queue->lock);
    return 0;
}

void order_free(struct order *order)
{
    free(order->heads);
    *order = (struct order){.built = true};
}

/* --- the heap --- */

static void sift_down(struct order *order)
{
    struct order_head moving = order->heads[0];
    uint32_t at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child + 1 < order->count && order->heads[child + 1].seq < order->heads[child].seq)
            child++;
        if (child >= order->count || order->heads[child].seq >= moving.seq)
            break;
        order->heads[at] = order->heads[child];
        at = child;
    }
    order->heads[at] = moving;
}

static int add(struct order *order, struct order_head head)
{
    if (order->count == order->room) {
        uint32_t room = order->room ? order->room * 2 : 64;
        struct order_head *heads = realloc(order->heads, room * sizeof(*heads));
        if (!heads)
            return ENOMEM;
        order->heads = heads;
        order->room = room;
    }
    uint32_t at = order->count++;
    while (at > 0 && order->heads[(at - 1) / 2].seq > head.seq) {
        order->heads[at] = order->heads[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    order->heads[at] = head;
    return 0;
}

uint64_t order_turn(const struct order *order)
{
    uint64_t turn = order->before;
    for (uint32_t child = 1; child <= 2 && child < order->count; child++)
        if (order->heads[child].seq < turn)
            turn = order->heads[child].seq;
    return turn;
}

void order_advance(struct order *order, uint64_t seq)
{
    order->heads[0].seq = seq;
    sift_down(order);
}

void order_drop(struct order *order)
{
    order->heads[0] = order->heads[--order->count];
    if (order->count)
        sift_down(order);
}

/* --- building --- */

/* One seek per lane, from one lane to the next. */
static int build_step(struct order *order, struct local_queue *local)
{
    uint8_t from[RECORD_MESSAGE_KEY_SIZE], key[RECORD_MESSAGE_KEY_SIZE];
    DBC *cursor = NULL;
    int result = queue_db_cursor(local->db, &cursor);
    for (unsigned i = 0; i < BUILD_STEP && !result && !order->built; i++) {
        record_message_key(from, order->next_lane, 0);
        result = queue_db_seek(cursor, str_of(from, sizeof(from)), key);
        if (result == DB_NOTFOUND || (!result && key[0] != RECORD_TAG_MESSAGE)) {
            order->built = true;
            result = 0;
        } else if (!result) {
            struct order_head head = {.lane = bytes_get_u64(key + 1),
                                      .seq = bytes_get_u64(key + 9)};
            if (head.seq < order->before)
                result = add(order, head);
            order->next_lane = head.lane + 1;
        }
    }
    queue_db_cursor_close(cursor);
    return result;
}

int order_build(struct order *order, struct broker *broker, struct local_queue *local, int *result)
{
    unsigned tries = 0;
    *result = broker_open_db(broker, local, true);
    if (*result)
        return broker_is_fatal(*result) ? broker_fail(broker, *result, "open a queue") : 0;
    if (broker_lock(broker, &local->queue->lock) != 0)
        return -1;
    uint64_t began_ms = time_monotonic_ms();
    do {
        *result = build_step(order, local);
    } while (env_is_conflict(*result) && ++tries < CONFLICTS_MAX);
    lock_release(&local->queue->lock);
    broker_note_lock(broker, local->queue, began_ms);
    return broker_is_fatal(*result) ? broker_fail(broker, *result, "look at a queue") : 0;
}

struct lane *order_lane(struct broker *broker, struct local_queue *local, uint64_t id, int *result)
{
    uint8_t key[RECORD_LANE_KEY_SIZE];
    struct record_lane record;
    unsigned tries = 0;
    record_lane_key(key, id);
    do {
        *result = queue_db_get(local->db, NULL, str_of(key, sizeof(key)), &broker->value);
    } while (env_is_conflict(*result) && ++tries < CONFLICTS_MAX);
    if (*result == DB_NOTFOUND)
        *result = 0;
    else if (!*result && record_lane_parse(buf_str(&broker->value), &record)) {
        struct lane *lane =
            queue_lane_find(local->queue, record.fairness_key, record.throttle_keys);
        return lane && lane->id == id ? lane : NULL;
    }
    return NULL;
}
