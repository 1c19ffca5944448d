/* pick - who has room, and whose turn it is; see broker/pick.h */
#include "broker/pick.h"

#include "os/log.h"
#include "os/time.h"
#include "sched/hold.h"

#define HOLDS_MAX 512 /* lanes held by one pull */
#define LOOKS_MAX 512 /* pull.looks */

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

void pick_lane_ended(struct queue *queue, struct lane *lane)
{
    if (lane->unscanned) {
        lane->drained = true;
    } else if (lane->ready && list_empty(&lane->returned)) {
        log_write(LOG_ERROR, "broker", "queue \"%.*s\": a lane counted %llu messages too many",
                  STR_PRINT(queue->name), (unsigned long long)lane->ready);
        queue_ready_add(queue, lane, -(int64_t)lane->ready);
    }
}

static struct pull_lane *part_of(struct pull *pull, const struct lane *lane)
{
    for (uint32_t i = 0; i < pull->lane_count; i++)
        if (pull->lanes[i].lane == lane)
            return &pull->lanes[i];
    return NULL;
}

static uint64_t lane_available(const struct lane *lane, const struct pull_lane *part)
{
    if (lane->unscanned && !lane->drained)
        return UINT64_MAX;
    return lane->ready - (part ? part->wanted : 0);
}

/* Looks for the first ready message of a lane from *seq on: *known when that is its place,
 * UINT64_MAX when there is none; otherwise a better bound. Passes over what reading would. */
static int look_for_head(struct pull *pull, const struct lane *lane, uint64_t *seq, bool *known)
{
    struct buf *value = &pull->broker->value;
    int result = pull->cursor ? 0 : queue_db_cursor(pull->local->db, &pull->cursor);
    while (!result && !*known && pull->looks++ < LOOKS_MAX) {
        uint8_t from[RECORD_MESSAGE_KEY_SIZE], key[RECORD_KEY_MAX];
        size_t key_size = 0;
        struct record_message message;
        record_message_key(from, lane->id, *seq);
        result =
            queue_db_read_first(pull->cursor, str_of(from, sizeof(from)), key, &key_size, value);
        if (result == DB_NOTFOUND ||
            (!result && (key_size != sizeof(from) || memcmp(key, from, 9) != 0))) {
            *seq = UINT64_MAX;
            *known = true;
            return 0;
        }
        if (result)
            break;
        *seq = bytes_get_u64(key + 9);
        *known = record_message_parse(buf_str(value), &message) &&
                 (*seq >= lane->leased_below || !queue_lease_find(pull->queue, &message.id));
        if (!*known)
            ++*seq;
    }
    return result;
}

/* Finds out where the next message of the lane that is not picked yet stands. */
static int find_head(struct pull *pull, struct lane *lane, struct pull_lane *part, uint64_t *head)
{
    const struct list *returned = part ? part->unpicked : lane->returned.next;
    bool known = part ? part->head_is_known : lane->next_is_known;
    *head = part ? part->head : lane->next;
    if (returned != &lane->returned) {
        *head = CONTAINER_OF(returned, struct lease, wheel.list)->seq;
        return 0;
    }
    int result = known ? 0 : look_for_head(pull, lane, head, &known);
    if (part && !result) {
        part->head = *head;
        part->head_is_known = known;
    } else if (!result && *head != UINT64_MAX) {
        lane->next = *head;
        lane->next_is_known = known;
    }
    return result;
}

/* None of the lane is left to be picked; false: it is worth a try all the same. */
static bool leave_out(struct pull *pull, struct lane *lane, const struct pull_lane *part)
{
    if (part) {
        queue_key_skip(lane); /* the next pull finds it out */
        return true;
    }
    pick_lane_ended(pull->queue, lane);
    queue_lane_update(pull->queue, lane, pull->monotonic_ms);
    return !queue_lane_runnable(lane);
}

/* The lane whose next message is the oldest of the key; NULL: none has any, or, with cut_short, it
 * takes too long to find out. Where a lane stands in its key's order is only a bound for its next
 * message, and with several of them the messages decide. The lanes that it passes over are all in
 * the pull: settle() looks at them again. */
static int choose_lane(struct pull *pull, const struct fairness_key *key, struct lane **chosen)
{
    int result = 0;
    *chosen = NULL;
    for (;;) {
        struct lane *lane = queue_key_first(key);
        struct pull_lane *part = lane ? part_of(pull, lane) : NULL;
        uint64_t head = 0;
        if (lane && !lane_available(lane, part)) {
            queue_key_skip(lane);
            continue;
        }
        if (lane && !queue_key_has_only(lane)) {
            result = find_head(pull, lane, part, &head);
            pull->cut_short = pull->looks > LOOKS_MAX;
            if (result || pull->cut_short)
                return result;
            if (head == UINT64_MAX ? leave_out(pull, lane, part) : queue_key_place(lane, head))
                continue;
        }
        *chosen = lane;
        return 0;
    }
}

static void pick(struct pull *pull, struct lane *lane)
{
    struct pull_lane *part = part_of(pull, lane);
    if (!part) {
        part = &pull->lanes[pull->lane_count++];
        *part = (struct pull_lane){.lane = lane,
                                   .next = lane->next,
                                   .returned = lane->returned.next,
                                   .unpicked = lane->returned.next,
                                   .head = lane->next,
                                   .head_is_known = lane->next_is_known};
    }
    part->wanted++;
    pull->order[pull->picks++] = (uint32_t)(part - pull->lanes);
    if (part->unpicked != &lane->returned) {
        part->unpicked = part->unpicked->next;
    } else if (part->head != UINT64_MAX) {
        part->head++;
        part->head_is_known = false;
    }
    if (!queue_key_has_only(lane))
        (void)queue_key_place(lane,
                              part->unpicked != &lane->returned
                                  ? CONTAINER_OF(part->unpicked, struct lease, wheel.list)->seq
                                  : part->head);
}

void pick_advance(const struct pull_lane *part)
{
    struct lane *lane = part->lane;
    bool known = part->read == part->wanted && part->head_is_known && part->head != UINT64_MAX &&
                 part->head >= part->next;
    lane->next = known ? part->head : part->next;
    lane->next_is_known = known;
}

static enum hold_result ask_throttles(struct pull *pull, struct lane *lane)
{
    if (!hold_concerns(pull->queue->scheduler, lane))
        return HOLD_GO;
    if (!pull->throttle_ns)
        pull->throttle_ns = time_monotonic_ns();
    return hold_take(pull->queue, lane, pull->throttle_ns);
}

int pick_lanes(struct pull *pull)
{
    struct drr *drr = &pull->queue->drr;
    unsigned holds = 0;
    while (pull->picks < pull->room) {
        struct drr_key *front = drr_front(drr);
        struct lane *lane = NULL;
        if (!front)
            break;
        int result = choose_lane(pull, CONTAINER_OF(front, struct fairness_key, drr), &lane);
        if (result)
            return result;
        if (pull->cut_short)
            break;
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
        pick(pull, lane);
        drr_charge(drr, front);
    }
    return 0;
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
