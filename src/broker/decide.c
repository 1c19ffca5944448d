#include "broker/decide.h"

#include <errno.h>
#include <stdlib.h>

#include "fibp/status.h"
#include "fibp/wire.h"
#include "store/record.h"

#define CONFLICTS_MAX 100

/* One slice in the making. */
struct slice {
    struct broker *broker;
    struct operation_settle *settle;
    struct operation_deciding *deciding;
    struct local_queue *locked; /* whose lock is held; NULL: none */
};

int decide_is_needed(struct broker *broker, struct operation_settle *settle, bool *needed)
{
    struct local_queue *local = NULL;
    *needed = false;
    for (uint32_t i = 0; i < settle->count && !*needed; i++) {
        struct str name = settle->items[i].queue;
        if (local && str_equal(local->queue->name, name))
            continue;
        if (broker_find_queue(broker, name, &local) != 0)
            return -1;
        *needed = local && atomic_load(&local->queue->has_on_failure);
    }
    return 0;
}

int decide_begin(struct broker *broker, struct operation_settle *settle)
{
    struct operation_deciding *deciding = calloc(1, sizeof(*deciding));
    if (!deciding)
        return broker_fail(broker, ENOMEM, "ask a script");
    deciding->generation = broker->options.generation;
    deciding->account = broker->options.deciding_bytes;
    buf_init(&deciding->headers, 0);
    settle->deciding = deciding;
    return 0;
}

void decide_check(const struct broker *broker, struct operation_settle *settle)
{
    struct operation_deciding *deciding = settle->deciding;
    if (deciding->generation == broker->options.generation)
        return;
    deciding->generation = broker->options.generation;
    deciding->to = deciding->from; /* nothing of it is done */
    deciding->count = 0;
}

const struct operation_decision *decide_of(const struct operation_settle *settle, uint32_t item,
                                           uint32_t *next)
{
    const struct operation_deciding *deciding = settle->deciding;
    while (*next < deciding->count && deciding->decisions[*next].item < item)
        (*next)++;
    return *next < deciding->count && deciding->decisions[*next].item == item
               ? &deciding->decisions[*next]
               : NULL;
}

/* --- reading --- */

static int get(struct slice *slice, struct str key)
{
    unsigned tries = 0;
    int result;
    do {
        result = queue_db_get(slice->locked->db, NULL, key, &slice->broker->value);
    } while (env_is_conflict(result) && ++tries < CONFLICTS_MAX);
    return result;
}

static bool parse_headers(struct str bytes, struct str *headers, uint16_t *count)
{
    struct wire_reader reader;
    wire_reader_init(&reader, bytes);
    reader.trusted = true;
    return wire_map(&reader, "headers", headers, count);
}

/* Headers that are large are apart, at the beginning of what is: as many chunks are read as they
 * need. */
static int read_apart(struct slice *slice, const struct record_message *message,
                      struct str *headers, uint16_t *count)
{
    struct buf *whole = &slice->broker->rewritten;
    int result = 0;
    buf_clear(whole);
    for (uint32_t i = 0; i < message->chunks && !result && whole->size <= DECIDE_HEADERS_MAX; i++) {
        uint8_t key[RECORD_CHUNK_KEY_SIZE];
        record_chunk_key(key, &message->id, i);
        result = get(slice, str_of(key, sizeof(key)));
        if (!result)
            buf_append_str(whole, buf_str(&slice->broker->value));
        if (whole->failed || (!result && parse_headers(buf_str(whole), headers, count)))
            break;
    }
    if (headers->size > DECIDE_HEADERS_MAX)
        *headers = str_of(NULL, 0);
    return result == DB_NOTFOUND ? 0 : result;
}

static struct operation_decision *add_decision(struct operation_deciding *deciding)
{
    if (deciding->count == deciding->capacity) {
        uint32_t capacity = deciding->capacity ? deciding->capacity * 2 : 16;
        struct operation_decision *more =
            realloc(deciding->decisions, capacity * sizeof(*deciding->decisions));
        if (!more)
            return NULL;
        deciding->decisions = more;
        deciding->capacity = capacity;
    }
    return &deciding->decisions[deciding->count];
}

/* Reads the message of a lease and takes the lease. One that is not there, or cannot be read, is
 * left to the retry, which says so. */
static int take_lease(struct slice *slice, uint32_t item, struct lease *lease)
{
    static const uint8_t none[2] = {0, 0}; /* an empty map */
    struct operation_deciding *deciding = slice->deciding;
    struct record_message message;
    struct str headers = {NULL, 0};
    uint16_t count = 0;
    uint8_t key[RECORD_MESSAGE_KEY_SIZE];
    record_message_key(key, lease->lane->id, lease->seq);
    int result = get(slice, str_of(key, sizeof(key)));
    if (!result && !record_message_parse(buf_str(&slice->broker->value), &message))
        result = DB_NOTFOUND;
    if (!result && !parse_headers(message.body, &headers, &count) && message.apart)
        result = read_apart(slice, &message, &headers, &count);
    if (result)
        return result == DB_NOTFOUND ? 0 : result;
    if (!headers.data) {
        headers = str_of(none, sizeof(none));
        count = 0;
    }
    struct operation_decision *decision = add_decision(deciding);
    if (decision)
        buf_append_str(&deciding->headers, headers);
    if (!decision || deciding->headers.failed)
        return ENOMEM;
    *decision = (struct operation_decision){
        .item = item,
        .attempts = record_message_next_attempt(&message),
        .token = queue_lease_token(lease),
        .header_count = count,
        .headers = str_of(NULL, headers.size), /* where they lie is known in the end */
    };
    deciding->count++;
    queue_lease_decide(slice->locked->queue, lease, slice->broker->options.slot);
    return 0;
}

/* --- slices --- */

static void unlock(struct slice *slice)
{
    if (slice->locked)
        lock_release(&slice->locked->queue->lock);
    slice->locked = NULL;
}

/* Has the lock of an item's queue when that asks a script (slice->locked); *asks tells. */
static int lock_queue(struct slice *slice, struct str name, bool *found, bool *asks)
{
    struct local_queue *local = slice->locked;
    *found = *asks = true;
    if (local && str_equal(local->queue->name, name))
        return 0;
    unlock(slice);
    if (broker_find_queue(slice->broker, name, &local) != 0)
        return -1;
    *found = local != NULL;
    *asks = local && atomic_load(&local->queue->has_on_failure);
    if (!*asks)
        return 0;
    int result = broker_open_db(slice->broker, local, true);
    if (broker_is_fatal(result))
        return broker_fail(slice->broker, result, "open a queue");
    *asks = !result; /* otherwise the retry says what is wrong */
    if (!*asks)
        return 0;
    if (broker_lock(slice->broker, &local->queue->lock) != 0)
        return -1;
    slice->locked = local;
    return 0;
}

static int take_item(struct slice *slice, uint32_t index)
{
    struct operation_settle_item *item = &slice->settle->items[index];
    bool found = false, asks = false;
    item->status = FIBP_MESSAGE_NOT_FOUND;
    if (!item->id_valid)
        return 0;
    if (lock_queue(slice, item->queue, &found, &asks) != 0)
        return -1;
    if (found && !asks)
        item->status = FIBP_STORAGE_ERROR; /* until it is done */
    if (!asks || atomic_load(&slice->locked->queue->dead))
        return 0;
    struct queue *queue = slice->locked->queue;
    struct lease *lease = queue_lease_find(queue, &item->id);
    if (!lease || lease->state == LEASE_RETURNED || queue_lease_deciding(queue, lease))
        return 0;
    item->status = FIBP_STORAGE_ERROR;
    int result = take_lease(slice, index, lease);
    return broker_is_fatal(result) ? broker_fail(slice->broker, result, "read a message") : 0;
}

/* Lets go of a lease about which what was decided could not be done. */
static int release(struct broker *broker, const struct operation_settle_item *item, uint64_t token)
{
    struct local_queue *local = NULL;
    if (broker_find_queue(broker, item->queue, &local) != 0)
        return -1;
    if (!local)
        return 0;
    struct queue *queue = local->queue;
    if (broker_lock(broker, &queue->lock) != 0)
        return -1;
    struct lease *lease = atomic_load(&queue->dead) ? NULL : queue_lease_find(queue, &item->id);
    if (lease && queue_lease_token(lease) == token &&
        queue_lease_decided_by(queue, lease, broker->options.slot))
        queue_lease_undecide(lease);
    lock_release(&queue->lock);
    return 0;
}

static int release_failed(struct broker *broker, const struct operation_settle *settle)
{
    const struct operation_deciding *deciding = settle->deciding;
    int status = 0;
    for (uint32_t i = 0; i < deciding->count && status == 0; i++) {
        const struct operation_settle_item *item = &settle->items[deciding->decisions[i].item];
        if (item->status != FIBP_OK)
            status = release(broker, item, deciding->decisions[i].token);
    }
    return status;
}

/* The headers have their place now. */
static void place_headers(struct operation_deciding *deciding)
{
    size_t at = 0;
    for (uint32_t i = 0; i < deciding->count; i++) {
        deciding->decisions[i].headers.data = deciding->headers.data + at;
        at += deciding->decisions[i].headers.size;
    }
}

static bool has_room(const struct operation_deciding *deciding)
{
    uint64_t all = deciding->account ? atomic_load(deciding->account) : 0;
    return deciding->to - deciding->from < DECIDE_ITEMS && deciding->headers.size < DECIDE_BYTES &&
           all + deciding->headers.size < DECIDE_BYTES_ALL;
}

int decide_next(struct broker *broker, struct operation_settle *settle)
{
    struct operation_deciding *deciding = settle->deciding;
    struct slice slice = {.broker = broker, .settle = settle, .deciding = deciding};
    int status = release_failed(broker, settle);
    operation_forget_decisions(settle);
    deciding->from = deciding->to;
    while (status == 0 && deciding->to < settle->count && has_room(deciding))
        status = take_item(&slice, deciding->to++);
    unlock(&slice);
    place_headers(deciding);
    deciding->bytes = deciding->headers.size;
    if (deciding->account)
        atomic_fetch_add(deciding->account, deciding->bytes);
    settle->operation.undecided = deciding->from < settle->count;
    return status;
}
