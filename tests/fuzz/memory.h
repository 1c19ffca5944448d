/*
 * memory - a pipeline that executes operations at once against queues in memory, so that sessions
 * run without a store. Include it in one file of a program: it defines the functions of
 * worker/pipeline.h that sessions call.
 *
 * Ids are counted: message n has sixteen bytes n, so that an input can name them.
 */
#ifndef FILAD_TESTS_MEMORY_H
#define FILAD_TESTS_MEMORY_H

#include <string.h>

#include "core/buf.h"
#include "core/pool.h"
#include "fibp/framed.h"
#include "fibp/status.h"
#include "fuzz/fuzz.h"
#include "worker/pipeline.h"

#define MEMORY_QUEUES 8
#define MEMORY_MESSAGES 1024
#define MEMORY_SUBSCRIPTIONS 1024
#define MEMORY_CONFIGS 8
#define MEMORY_BATCH 4 /* messages in one delivery */

struct memory_message {
    struct uuid id;
    struct buf record, key;
    uint32_t weight, attempt;
    uint64_t token; /* of its lease; 0: ready */
    uint32_t queue;
};

struct memory_queue {
    bool used, paused;
    struct buf name;
};

struct memory_config {
    struct buf key, value;
};

struct memory {
    struct memory_config configs[MEMORY_CONFIGS]; /* in the order in which they came */
    size_t config_count;
    struct memory_queue queues[MEMORY_QUEUES];
    struct memory_message messages[MEMORY_MESSAGES]; /* oldest first */
    size_t message_count;
    struct subscription *subscriptions[MEMORY_SUBSCRIPTIONS];
    size_t subscription_count;
    uint64_t tokens;
    uint8_t ids;
    bool slow; /* operations wait until memory_execute_all */
    struct operation *submitted, **submitted_end;
    struct operation *finished, **finished_end;
};

static struct memory memory;

static inline void memory_init(bool slow)
{
    memset(&memory, 0, sizeof(memory));
    memory.slow = slow;
    memory.submitted_end = &memory.submitted;
    memory.finished_end = &memory.finished;
}

static inline void memory_finish(struct operation *operation)
{
    operation->next = NULL;
    *memory.finished_end = operation;
    memory.finished_end = &operation->next;
}

/* --- queues and messages --- */

/* MEMORY_QUEUES when there is none. */
static inline uint32_t memory_find(struct str name)
{
    for (uint32_t i = 0; i < MEMORY_QUEUES; i++)
        if (memory.queues[i].used && str_equal(buf_str(&memory.queues[i].name), name))
            return i;
    return MEMORY_QUEUES;
}

static inline void memory_remove(size_t at)
{
    buf_free(&memory.messages[at].record);
    buf_free(&memory.messages[at].key);
    memory.message_count--;
    memmove(&memory.messages[at], &memory.messages[at + 1],
            (memory.message_count - at) * sizeof(memory.messages[0]));
}

static inline enum fibp_status memory_create(struct str name)
{
    if (memory_find(name) < MEMORY_QUEUES)
        return FIBP_QUEUE_ALREADY_EXISTS;
    for (size_t i = 0; i < MEMORY_QUEUES; i++)
        if (!memory.queues[i].used) {
            memory.queues[i].used = true;
            memory.queues[i].paused = false;
            buf_init(&memory.queues[i].name, 0);
            buf_append_str(&memory.queues[i].name, name);
            return FIBP_OK;
        }
    return FIBP_STORAGE_ERROR;
}

/* Tells the subscriptions of a queue that is no more. */
static inline void memory_end_subscriptions(struct str name)
{
    for (size_t i = 0; i < memory.subscription_count; i++) {
        struct subscription *subscription = memory.subscriptions[i];
        if (!str_equal(subscription->queue, name) || subscription->store)
            continue;
        struct operation_ended *ended = calloc(1, sizeof(*ended));
        REQUIRE(ended);
        ended->operation.kind = OPERATION_SUBSCRIPTION_ENDED;
        ended->subscription = subscription;
        subscription->store = &memory; /* inert from now on */
        memory_finish(&ended->operation);
    }
}

static inline enum fibp_status memory_delete(struct str name)
{
    uint32_t queue = memory_find(name);
    if (queue == MEMORY_QUEUES)
        return FIBP_QUEUE_NOT_FOUND;
    for (size_t i = memory.message_count; i-- > 0;)
        if (memory.messages[i].queue == queue)
            memory_remove(i);
    memory_end_subscriptions(name);
    memory.queues[queue].used = false;
    buf_free(&memory.queues[queue].name);
    return FIBP_OK;
}

static inline void memory_enqueue(struct operation_enqueue_item *item)
{
    uint32_t queue = memory_find(item->queue);
    item->status = queue == MEMORY_QUEUES ? FIBP_QUEUE_NOT_FOUND : FIBP_STORAGE_ERROR;
    if (queue == MEMORY_QUEUES || memory.message_count == MEMORY_MESSAGES)
        return;
    struct memory_message *message = &memory.messages[memory.message_count++];
    *message = (struct memory_message){.queue = queue, .weight = item->weight};
    memset(message->id.bytes, ++memory.ids, sizeof(message->id.bytes));
    buf_init(&message->record, 0);
    buf_append_str(&message->record, item->record);
    buf_init(&message->key, 0);
    buf_append_str(&message->key, item->fairness_key);
    item->id = message->id;
    item->status = FIBP_OK;
}

static inline void memory_settle(struct operation_settle_item *item, bool nack)
{
    uint32_t queue = memory_find(item->queue);
    item->status = FIBP_MESSAGE_NOT_FOUND;
    for (size_t i = 0; item->id_valid && i < memory.message_count; i++) {
        struct memory_message *message = &memory.messages[i];
        if (message->queue != queue || !message->token || !uuid_equal(&message->id, &item->id))
            continue;
        item->status = FIBP_OK;
        if (!nack) {
            memory_remove(i);
        } else {
            message->token = 0;
            message->attempt++;
        }
        return;
    }
}

static inline void memory_return(const struct operation_delivery *delivery)
{
    for (uint32_t i = 0; i < delivery->count; i++)
        for (size_t k = 0; k < memory.message_count; k++)
            if (memory.messages[k].token == delivery->leases[i].token)
                memory.messages[k].token = 0;
}

static inline void memory_list(struct operation_list_queues *list)
{
    size_t names = 0;
    for (size_t i = 0; i < MEMORY_QUEUES; i++)
        names += memory.queues[i].used ? memory.queues[i].name.size : 0;
    list->rows = calloc(1, MEMORY_QUEUES * sizeof(*list->rows) + names);
    REQUIRE(list->rows);
    uint8_t *name = (uint8_t *)(list->rows + MEMORY_QUEUES);
    for (size_t i = 0; i < MEMORY_QUEUES; i++) {
        struct str from = buf_str(&memory.queues[i].name);
        if (!memory.queues[i].used)
            continue;
        if (from.size)
            memcpy(name, from.data, from.size);
        list->rows[list->count++] = (struct operation_queue_row){.name = str_of(name, from.size)};
        name += from.size;
    }
}

static inline void memory_stats(struct operation_get_stats *stats)
{
    uint32_t queue = memory_find(stats->name);
    if (queue == MEMORY_QUEUES)
        stats->operation.status = FIBP_QUEUE_NOT_FOUND;
    for (size_t i = 0; i < memory.message_count; i++) {
        stats->totals.depth += memory.messages[i].queue == queue;
        stats->totals.in_flight += memory.messages[i].queue == queue && memory.messages[i].token;
    }
}

static inline void memory_details(struct operation_queue_details *details)
{
    if (details->queue.size && memory_find(details->queue) == MEMORY_QUEUES)
        details->operation.status = FIBP_QUEUE_NOT_FOUND;
    details->rows = calloc(1, sizeof(*details->rows));
    REQUIRE(details->rows);
    details->rows[0].name = details->queue;
    details->count = 1;
}

static inline void memory_redrive(struct operation_redrive *redrive)
{
    uint32_t from = memory_find(redrive->name);
    uint32_t to = redrive->name.size > 4
                      ? memory_find(str_of(redrive->name.data, redrive->name.size - 4))
                      : MEMORY_QUEUES;
    if (from == MEMORY_QUEUES)
        redrive->operation.status = FIBP_QUEUE_NOT_FOUND;
    else if (!str_ends_with(redrive->name, STR(".dlq")))
        redrive->operation.status = FIBP_NOT_A_DLQ;
    else if (to == MEMORY_QUEUES)
        redrive->operation.status = FIBP_PARENT_QUEUE_NOT_FOUND;
    for (size_t i = 0; redrive->operation.status == FIBP_OK && i < memory.message_count; i++) {
        struct memory_message *message = &memory.messages[i];
        if (message->queue != from || message->token ||
            (redrive->limit && redrive->moved == redrive->limit))
            continue;
        message->queue = to;
        message->attempt = 0;
        redrive->moved++;
    }
}

static inline void memory_purge(struct operation_purge *purge)
{
    uint32_t queue = memory_find(purge->name);
    if (queue == MEMORY_QUEUES)
        purge->operation.status = FIBP_QUEUE_NOT_FOUND;
    for (size_t i = memory.message_count; i-- > 0 && queue < MEMORY_QUEUES;)
        if (memory.messages[i].queue == queue && !memory.messages[i].token) {
            memory_remove(i);
            purge->purged++;
        }
}

static inline void memory_peek(struct operation_peek *peek)
{
    uint32_t queue = memory_find(peek->name);
    struct peek_row **last = &peek->rows;
    if (queue == MEMORY_QUEUES)
        peek->operation.status = FIBP_QUEUE_NOT_FOUND;
    peek->memory = pool_create(4096);
    REQUIRE(peek->memory);
    peek->ended = true;
    for (size_t i = 0; i < memory.message_count && queue < MEMORY_QUEUES; i++) {
        const struct memory_message *message = &memory.messages[i];
        struct str headers, payload;
        if (message->queue != queue || i < peek->position.seq ||
            !framed_record_split(buf_str(&message->record), &headers, &payload))
            continue;
        if (peek->count == peek->limit) {
            peek->ended = false;
            break;
        }
        struct peek_row *row = pool_zalloc(peek->memory, sizeof(*row));
        REQUIRE(row);
        row->id = message->id;
        row->state = message->token ? PEEK_LEASED : PEEK_READY;
        row->headers = pool_str(peek->memory, headers);
        row->payload_size = payload.size;
        row->payload = pool_str(peek->memory, str_of(payload.data, payload.size < peek->payload_max
                                                                       ? payload.size
                                                                       : peek->payload_max));
        row->is_dead = message->attempt > 1;
        *last = row;
        last = &row->next;
        peek->count++;
        peek->position.seq = i + 1;
    }
}

/* --- deliveries --- */

static inline bool memory_wants(struct subscription *subscription)
{
    uint32_t queue = memory_find(subscription->queue);
    if (subscription->store || (queue < MEMORY_QUEUES && memory.queues[queue].paused) ||
        (subscription->limit && subscription->delivered >= subscription->limit))
        return false;
    if (atomic_load(&subscription->window->queued) < subscription->window->limit)
        return true;
    atomic_store(&subscription->window->paused, 1);
    return false;
}

static inline void memory_add(struct operation_delivery *delivery, struct memory_message *message,
                              struct buf *frame)
{
    static const struct str throttle_keys[] = {{(const uint8_t *)"t", 1}};
    struct subscription *subscription = delivery->subscription;
    struct delivery_message out = {
        .id = message->id,
        .queue = subscription->queue,
        .record = buf_str(&message->record),
        .fairness_key = buf_str(&message->key),
        .throttle_keys = throttle_keys,
        .throttle_count = message->attempt % 2,
        .weight = message->weight,
        .attempt = message->attempt,
    };
    message->token = ++memory.tokens;
    delivery->leases[delivery->count++] =
        (struct delivery_lease){.id = message->id, .token = message->token};
    subscription->delivered++;
    subscription->encoder->add(subscription, frame, &out);
}

/* Gives up to MEMORY_BATCH ready messages to a subscription. */
static inline void memory_deliver(struct subscription *subscription)
{
    uint32_t queue = memory_find(subscription->queue);
    struct operation_delivery *delivery =
        calloc(1, sizeof(*delivery) + MEMORY_BATCH * sizeof(delivery->leases[0]));
    struct buf frame;

    REQUIRE(delivery);
    delivery->operation.kind = OPERATION_DELIVERY;
    delivery->subscription = subscription;
    buf_init(&frame, 0);
    subscription->encoder->begin(subscription, &frame);
    for (size_t i = 0; i < memory.message_count && delivery->count < MEMORY_BATCH; i++)
        if (memory.messages[i].queue == queue && !memory.messages[i].token &&
            (!subscription->limit || subscription->delivered < subscription->limit))
            memory_add(delivery, &memory.messages[i], &frame);
    subscription->encoder->end(subscription, &frame, delivery->count);
    REQUIRE(!frame.failed);
    if (delivery->count == 0) {
        buf_free(&frame);
        free(delivery);
        return;
    }
    delivery->frame = frame.data;
    delivery->size = frame.size;
    atomic_fetch_add(&subscription->window->queued, delivery->size);
    memory_finish(&delivery->operation);
}

static inline void memory_deliver_all(void)
{
    for (size_t i = 0; i < memory.subscription_count; i++)
        if (memory_wants(memory.subscriptions[i]))
            memory_deliver(memory.subscriptions[i]);
}

/* --- runtime configuration --- */

static inline struct memory_config *memory_config(struct str key)
{
    for (size_t i = 0; i < memory.config_count; i++)
        if (str_equal(buf_str(&memory.configs[i].key), key))
            return &memory.configs[i];
    return NULL;
}

static inline enum fibp_status memory_set_config(const struct operation_set_config *set)
{
    struct memory_config *config = memory_config(set->key);
    if (set->key.size == 0 || (!config && memory.config_count == MEMORY_CONFIGS))
        return set->key.size == 0 ? FIBP_INVALID_CONFIG_VALUE : FIBP_CHANNEL_FULL;
    if (!config) {
        config = &memory.configs[memory.config_count++];
        buf_init(&config->key, 0);
        buf_init(&config->value, 0);
        buf_append_str(&config->key, set->key);
    }
    buf_clear(&config->value);
    buf_append_str(&config->value, set->value);
    return FIBP_OK;
}

static inline void memory_get_config(struct operation_get_config *get)
{
    const struct memory_config *config = memory_config(get->key);
    if (config)
        buf_append_str(&get->value, buf_str(&config->value));
}

static inline void memory_list_config(struct operation_list_config *list)
{
    for (size_t i = 0; i < memory.config_count; i++) {
        struct str key = buf_str(&memory.configs[i].key);
        struct str value = buf_str(&memory.configs[i].value);
        if (!str_starts_with(key, list->prefix))
            continue;
        buf_append_u32(&list->rows, (uint32_t)key.size);
        buf_append_u32(&list->rows, (uint32_t)value.size);
        buf_append_str(&list->rows, key);
        buf_append_str(&list->rows, value);
        list->count++;
    }
}

/* --- settings of queues --- */

static inline void memory_update(struct operation_update_queue *update)
{
    uint32_t queue = memory_find(update->name);
    if (queue == MEMORY_QUEUES)
        update->operation.status = FIBP_QUEUE_NOT_FOUND;
    else if (update->sets_paused)
        memory.queues[queue].paused = update->paused;
}

static inline void memory_settings(struct operation_get_settings *get)
{
    uint32_t queue = memory_find(get->name);
    if (queue == MEMORY_QUEUES)
        get->operation.status = FIBP_QUEUE_NOT_FOUND;
    else
        get->paused = memory.queues[queue].paused;
}

/* --- operations --- */

static inline void memory_subscribe(struct operation_subscription *operation)
{
    struct subscription *subscription = operation->subscription;
    if (memory_find(subscription->queue) == MEMORY_QUEUES)
        operation->operation.status = FIBP_QUEUE_NOT_FOUND;
    else if (memory.subscription_count == MEMORY_SUBSCRIPTIONS)
        operation->operation.status = FIBP_STORAGE_ERROR;
    else
        memory.subscriptions[memory.subscription_count++] = subscription;
}

static inline void memory_unsubscribe(const struct subscription *subscription)
{
    for (size_t i = 0; i < memory.subscription_count; i++)
        if (memory.subscriptions[i] == subscription) {
            memory.subscriptions[i] = memory.subscriptions[--memory.subscription_count];
            return;
        }
}

static inline void memory_execute(struct operation *operation)
{
    struct operation_enqueue *enqueue = (struct operation_enqueue *)operation;
    struct operation_settle *settle = (struct operation_settle *)operation;

    switch ((enum operation_kind)operation->kind) {
    case OPERATION_ENQUEUE:
        for (uint32_t i = 0; i < enqueue->count; i++)
            memory_enqueue(&enqueue->items[i]);
        break;
    case OPERATION_ACK:
    case OPERATION_NACK:
        for (uint32_t i = 0; i < settle->count; i++)
            memory_settle(&settle->items[i], operation->kind == OPERATION_NACK);
        break;
    case OPERATION_SUBSCRIBE:
        memory_subscribe((struct operation_subscription *)operation);
        break;
    case OPERATION_UNSUBSCRIBE:
        memory_unsubscribe(((struct operation_subscription *)operation)->subscription);
        break;
    case OPERATION_CREATE_QUEUE:
        operation->status =
            (uint8_t)memory_create(((struct operation_create_queue *)operation)->name);
        break;
    case OPERATION_DELETE_QUEUE:
        operation->status =
            (uint8_t)memory_delete(((struct operation_delete_queue *)operation)->name);
        break;
    case OPERATION_LIST_QUEUES:
        memory_list((struct operation_list_queues *)operation);
        break;
    case OPERATION_REDRIVE:
        memory_redrive((struct operation_redrive *)operation);
        break;
    case OPERATION_PEEK_QUEUE:
        memory_peek((struct operation_peek *)operation);
        break;
    case OPERATION_PURGE_QUEUE:
        memory_purge((struct operation_purge *)operation);
        break;
    case OPERATION_GET_STATS:
        memory_stats((struct operation_get_stats *)operation);
        break;
    case OPERATION_SET_CONFIG:
        operation->status = (uint8_t)memory_set_config((struct operation_set_config *)operation);
        break;
    case OPERATION_GET_CONFIG:
        memory_get_config((struct operation_get_config *)operation);
        break;
    case OPERATION_LIST_CONFIG:
        memory_list_config((struct operation_list_config *)operation);
        break;
    case OPERATION_QUEUE_DETAILS:
        memory_details((struct operation_queue_details *)operation);
        break;
    case OPERATION_UPDATE_QUEUE:
        memory_update((struct operation_update_queue *)operation);
        break;
    case OPERATION_GET_SETTINGS:
        memory_settings((struct operation_get_settings *)operation);
        break;
    case OPERATION_RETURN:
        memory_return((struct operation_delivery *)operation);
        break;
    default:
        break;
    }
    memory_finish(operation);
}

static inline void memory_execute_all(void)
{
    struct operation *operation = memory.submitted, *next;
    memory.submitted = NULL;
    memory.submitted_end = &memory.submitted;
    for (; operation; operation = next) {
        next = operation->next;
        memory_execute(operation);
    }
    memory_deliver_all();
}

void pipeline_submit(struct pipeline *pipeline, struct operation *first)
{
    (void)pipeline;
    *memory.submitted_end = first;
    while (*memory.submitted_end)
        memory.submitted_end = &(*memory.submitted_end)->next;
    if (!memory.slow)
        memory_execute_all();
}

struct operation *pipeline_take(struct pipeline *pipeline)
{
    struct operation *first = memory.finished;
    (void)pipeline;
    memory.finished = NULL;
    memory.finished_end = &memory.finished;
    return first;
}

/* When the sessions are gone. */
static inline void memory_clear(void)
{
    REQUIRE(!memory.submitted && !memory.finished && memory.subscription_count == 0);
    while (memory.message_count > 0)
        memory_remove(memory.message_count - 1);
    for (size_t i = 0; i < memory.config_count; i++) {
        buf_free(&memory.configs[i].key);
        buf_free(&memory.configs[i].value);
    }
    memory.config_count = 0;
    for (size_t i = 0; i < MEMORY_QUEUES; i++)
        if (memory.queues[i].used)
            buf_free(&memory.queues[i].name);
}

#endif
