#include "broker/operation.h"

#include <stdlib.h>

#include "broker/settings.h"
#include "core/pool.h"
#include "fibp/status.h"

#define RECORD_COST 512u
#define OTHER_COST 4096u
#define WINDOW_SHARE 8 /* of what the worker's window has left, for one connection */

bool operation_changes_store(const struct operation *operation)
{
    switch (operation->kind) {
    case OPERATION_ENQUEUE:
    case OPERATION_ACK:
    case OPERATION_NACK:
    case OPERATION_CREATE_QUEUE:
    case OPERATION_DELETE_QUEUE:
    case OPERATION_SET_CONFIG:
    case OPERATION_UPDATE_QUEUE:
    case OPERATION_REDRIVE:
    case OPERATION_PURGE_QUEUE:
        return true;
    default:
        return false;
    }
}

uint64_t operation_cost(const struct operation *operation)
{
    if (operation->kind == OPERATION_ENQUEUE) {
        const struct operation_enqueue *enqueue = (const struct operation_enqueue *)operation;
        uint64_t cost = (uint64_t)enqueue->count * RECORD_COST;
        for (uint32_t i = 0; i < enqueue->count; i++)
            cost += enqueue->items[i].record.size;
        return cost;
    }
    if (operation->kind == OPERATION_ACK || operation->kind == OPERATION_NACK)
        return (uint64_t)((const struct operation_settle *)operation)->count * RECORD_COST;
    return OTHER_COST;
}

void operation_reset(struct operation *operation)
{
    operation->status = FIBP_OK;
    operation->wrote = operation->undecided = operation->later = false;
    operation->reason = NULL;
    if (operation->kind == OPERATION_PEEK_QUEUE) {
        struct operation_peek *peek = (struct operation_peek *)operation;
        peek->rows = NULL;
        peek->memory = NULL;
        peek->count = 0;
        peek->ended = false;
    } else if (operation->kind == OPERATION_NACK) {
        ((struct operation_settle *)operation)->deciding = NULL;
    } else if (operation->kind == OPERATION_LIST_QUEUES) {
        struct operation_list_queues *list = (struct operation_list_queues *)operation;
        list->rows = NULL;
        list->count = 0;
    } else if (operation->kind == OPERATION_GET_STATS) {
        struct operation_get_stats *stats = (struct operation_get_stats *)operation;
        stats->keys = NULL;
        stats->throttles = NULL;
        stats->throttle_count = 0;
        stats->key_count = 0;
    } else if (operation->kind == OPERATION_QUEUE_DETAILS) {
        struct operation_queue_details *details = (struct operation_queue_details *)operation;
        details->rows = NULL;
        details->count = 0;
        details->limits = NULL;
        details->limit_count = 0;
    } else if (operation->kind == OPERATION_GET_CONFIG) {
        buf_init(&((struct operation_get_config *)operation)->value, 0);
    } else if (operation->kind == OPERATION_GET_SETTINGS) {
        buf_init(&((struct operation_get_settings *)operation)->scripts, 0);
    } else if (operation->kind == OPERATION_LIST_CONFIG) {
        struct operation_list_config *list = (struct operation_list_config *)operation;
        buf_init(&list->rows, 0);
        list->count = 0;
    }
}

/* The account is written anew when a process has shed its threads: it may know less than this. */
static void discharge(_Atomic uint64_t *account, uint64_t bytes)
{
    uint64_t all = atomic_load(account);
    while (!atomic_compare_exchange_weak(account, &all, all > bytes ? all - bytes : 0))
        ;
}

void operation_forget_decisions(struct operation_settle *settle)
{
    struct operation_deciding *deciding = settle->deciding;
    if (deciding->account)
        discharge(deciding->account, deciding->bytes);
    buf_free(&deciding->headers);
    buf_init(&deciding->headers, 0);
    deciding->bytes = 0;
    deciding->count = deciding->next = 0;
}

static void free_deciding(struct operation_settle *settle)
{
    if (!settle->deciding)
        return;
    operation_forget_decisions(settle);
    free(settle->deciding->decisions);
    free(settle->deciding);
    settle->deciding = NULL;
}

void operation_free(struct operation *operation)
{
    if (!operation)
        return;
    switch (operation->kind) {
    case OPERATION_NACK:
        free_deciding((struct operation_settle *)operation);
        break;
    case OPERATION_LIST_QUEUES:
        free(((struct operation_list_queues *)operation)->rows);
        break;
    case OPERATION_GET_STATS:
        free(((struct operation_get_stats *)operation)->keys);
        free(((struct operation_get_stats *)operation)->throttles);
        break;
    case OPERATION_QUEUE_DETAILS:
        free(((struct operation_queue_details *)operation)->rows);
        free(((struct operation_queue_details *)operation)->limits);
        break;
    case OPERATION_GET_CONFIG:
        buf_free(&((struct operation_get_config *)operation)->value);
        break;
    case OPERATION_GET_SETTINGS:
        buf_free(&((struct operation_get_settings *)operation)->scripts);
        break;
    case OPERATION_LIST_CONFIG:
        buf_free(&((struct operation_list_config *)operation)->rows);
        break;
    case OPERATION_SETTINGS:
        settings_free(((struct operation_settings *)operation)->first);
        break;
    case OPERATION_PEEK_QUEUE:
        pool_destroy(((struct operation_peek *)operation)->memory);
        break;
    case OPERATION_DELIVERY:
    case OPERATION_RETURN:
        free(((struct operation_delivery *)operation)->frame);
        break;
    default:
        break;
    }
    free(operation);
}

uint64_t delivery_window_limit(const struct delivery_window *window)
{
    const struct delivery_window *worker = window->worker;
    uint64_t limit = window->limit;
    if (worker) {
        uint64_t queued = atomic_load(&worker->queued);
        uint64_t share = queued < worker->limit ? (worker->limit - queued) / WINDOW_SHARE : 0;
        limit = share < limit ? share : limit;
    }
    return limit ? limit : 1;
}
