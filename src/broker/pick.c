/* pick - who has room, and whose turn it is; see broker/pick.h */
#include "broker/pick.h"

#include "os/time.h"
#include "sched/hold.h"

#define HOLDS_MAX 512 /* lanes held by one pull */

/* --- room of consumers ---
 *
 * One without room is moved aside and not looked at again until something gives it room: the end of
 * a lease (queue_consumer_relieved), OPERATION_ROOM for its connection, or a pull that fails. So
 * neither an ack nor a pull costs more when many others wait. */

static uint64_t bytes_left(const struct delivery_window *window)
{
    uint64_t limit = delivery_window_limit(window), queued = atomic_load(&window->queued);
    return queued < limit ? limit - queued : 0;
}

/* The room of a window in bytes; the subscription waits for OPERATION_ROOM when there is none. */
static uint64_t window_room(struct delivery_window *window, struct local_subscription *sub)
{
    uint64_t left = bytes_left(window);
    if (left)
        return left;
    /* Said first, looked again after: the loop clears it when it has written enough. */
    atomic_store(&window->paused, 1);
    left = bytes_left(window);
    if (left)
        return left;
    if (!window->waiting.next)
        list_init(&window->waiting);
    list_append(&window->waiting, &sub->wait);
    return 0;
}

/* How many more messages fit into the windows; one goes beyond them. */
static uint64_t messages_left(const struct pull *pull, struct local_subscription *sub)
{
    struct delivery_window *window = sub->subscription->window;
    uint64_t left = window_room(window, sub);
    if (!left || (window->worker && !window_room(window->worker, sub)))
        return 0;
    if (!pull->record_size)
        return PULL_MESSAGES;
    uint64_t fitting = (left - 1) / pull->record_size + 1;
    sub->sated = fitting <= sub->assigned;
    return sub->sated ? 0 : fitting - sub->assigned;
}

static uint32_t consumer_room(const struct pull *pull, struct local_subscription *sub)
{
    uint32_t limit = pull->broker->options.max_unacked;
    uint64_t held = sub->consumer->unacked + sub->assigned;
    if (held >= limit) {
        sub->consumer->full = true;
        return 0;
    }
    uint64_t room = messages_left(pull, sub);
    room = room < limit - held ? room : limit - held;
    if (sub->subscription->limit) {
        uint32_t given = sub->subscription->delivered + sub->assigned;
        uint32_t left = sub->subscription->limit > given ? sub->subscription->limit - given : 0;
        room = room < left ? room : left;
    }
    return room > PULL_MESSAGES ? PULL_MESSAGES : (uint32_t)room;
}

static void reopen(struct local_subscription *sub)
{
    list_remove(&sub->link);
    list_append(&sub->local->open, &sub->link);
}

static void reopen_relieved(struct pull *pull)
{
    struct consumer *consumer;
    while ((consumer = queue_consumer_relieved(pull->queue, pull->broker->options.slot)))
        reopen(consumer->local);
}

void pick_find_room(struct pull *pull)
{
    reopen_relieved(pull);
    pull->room = 0;
    pull->record_size = pull->local->record_size;
    LIST_EACH_SAFE(&pull->local->open, entry)
    {
        uint32_t room = consumer_room(pull, CONTAINER_OF(entry, struct local_subscription, link));
        if (room == 0) {
            list_remove(entry);
            list_append(&pull->local->paused, entry);
        }
        pull->room += room;
        if (pull->room >= PULL_MESSAGES)
            break;
    }
    /* No more than the bytes of a pull allow, so that no lane uses up what others were given. */
    size_t fitting = pull->record_size ? PULL_BYTES / pull->record_size : PULL_MESSAGES;
    uint32_t most = fitting < PULL_MESSAGES ? (uint32_t)fitting : PULL_MESSAGES;
    if (pull->room > most)
        pull->room = most ? most : 1;
}

/* --- lanes --- */

static uint64_t lane_available(const struct pull *pull, const struct lane *lane)
{
    if (lane->unscanned && !lane->drained)
        return UINT64_MAX;
    for (uint32_t i = 0; i < pull->lane_count; i++)
        if (pull->lanes[i].lane == lane)
            return lane->ready - pull->lanes[i].wanted;
    return lane->ready;
}

/* The lanes that it passes over are all in the pull: settle() looks at them again. */
static struct lane *choose_lane(const struct pull *pull, const struct fairness_key *key)
{
    struct lane *lane = queue_key_first(key);
    while (lane && !lane_available(pull, lane)) {
        queue_key_skip(lane);
        lane = queue_key_first(key);
    }
    return lane;
}

static uint32_t pull_lane_index(struct pull *pull, struct lane *lane)
{
    for (uint32_t i = 0; i < pull->lane_count; i++)
        if (pull->lanes[i].lane == lane)
            return i;
    pull->lanes[pull->lane_count] =
        (struct pull_lane){.lane = lane, .next = lane->next, .returned = lane->returned.next};
    return pull->lane_count++;
}

static enum hold_result ask_throttles(struct pull *pull, struct lane *lane)
{
    if (!hold_concerns(pull->queue->scheduler, lane))
        return HOLD_GO;
    if (!pull->throttle_ns)
        pull->throttle_ns = time_monotonic_ns();
    return hold_take(pull->queue, lane, pull->throttle_ns);
}

void pick_lanes(struct pull *pull)
{
    struct drr *drr = &pull->queue->drr;
    unsigned holds = 0;
    while (pull->picks < pull->room) {
        struct drr_key *front = drr_front(drr);
        if (!front)
            break;
        struct lane *lane = choose_lane(pull, CONTAINER_OF(front, struct fairness_key, drr));
        if (!lane) { /* this pull has all of it; settle() looks again */
            drr_deactivate(drr, front);
            continue;
        }
        enum hold_result answer = ask_throttles(pull, lane);
        pull->zone_full = answer == HOLD_NO_ROOM;
        holds += answer == HOLD_HELD;
        pull->cut_short = holds == HOLDS_MAX;
        if (pull->zone_full || pull->cut_short)
            break;
        if (answer == HOLD_HELD)
            continue;
        uint32_t index = pull_lane_index(pull, lane);
        pull->lanes[index].wanted++;
        pull->order[pull->picks++] = index;
        drr_charge(drr, front);
    }
}

/* --- consumers of what was picked --- */

/* Consumers take turns, one message each. */
static struct local_subscription *next_consumer(struct pull *pull)
{
    struct list *open = &pull->local->open;
    while (!list_empty(open)) {
        struct list *entry = open->next;
        struct local_subscription *sub = CONTAINER_OF(entry, struct local_subscription, link);
        list_remove(entry);
        if (consumer_room(pull, sub)) {
            sub->assigned++;
            list_append(open, entry);
            return sub;
        }
        list_append(&pull->local->paused, entry);
    }
    return NULL;
}

void pick_consumers(struct pull *pull)
{
    for (uint32_t i = 0; i < pull->count; i++)
        pull->messages[i].consumer = next_consumer(pull);
    for (uint32_t i = 0; i < pull->count; i++) {
        struct local_subscription *sub = pull->messages[i].consumer;
        sub->assigned = 0;
        if (sub->sated) /* the next pull sees what has become of its window */
            reopen(sub);
        sub->sated = false;
    }
}

void pick_undo_consumers(struct pull *pull)
{
    for (uint32_t i = 0; i < pull->count; i++) {
        struct local_subscription *sub = pull->messages[i].consumer;
        sub->consumer->full = false;
        list_remove(&sub->wait);
        reopen(sub);
    }
    pull->count = 0;
}
