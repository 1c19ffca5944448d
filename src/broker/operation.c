#include "broker/operation.h"

#include <stdlib.h>

#include "broker/settings.h"
#include "fibp/status.h"

bool operation_changes_store(const struct operation *operation)
{
    switch (operation->kind) {
    case OPERATION_ENQUEUE:
    case OPERATION_ACK:
    case OPERATION_NACK:
    case OPERATION_CREATE_QUEUE:
    case OPERATION_DELETE_QUEUE:
    case OPERATION_SET_CONFIG:
        return true;
    default:
        return false;
    }
}

void operation_reset(struct operation *operation)
{
    operation->status = FIBP_OK;
    operation->wrote = false;
    operation->reason = NULL;
    if (operation->kind == OPERATION_LIST_QUEUES) {
        struct operation_list_queues *list = (struct operation_list_queues *)operation;
        list->rows = NULL;
        list->count = 0;
    } else if (operation->kind == OPERATION_GET_STATS) {
        struct operation_get_stats *stats = (struct operation_get_stats *)operation;
        stats->keys = NULL;
        stats->throttles = NULL;
        stats->throttle_count = 0;
        stats->key_count = 0;
    } else if (operation->kind == OPERATION_GET_CONFIG) {
        buf_init(&((struct operation_get_config *)operation)->value, 0);
    } else if (operation->kind == OPERATION_LIST_CONFIG) {
        struct operation_list_config *list = (struct operation_list_config *)operation;
        buf_init(&list->rows, 0);
        list->count = 0;
    }
}

void operation_free(struct operation *operation)
{
    if (!operation)
        return;
    switch (operation->kind) {
    case OPERATION_LIST_QUEUES:
        free(((struct operation_list_queues *)operation)->rows);
        break;
    case OPERATION_GET_STATS:
        free(((struct operation_get_stats *)operation)->keys);
        free(((struct operation_get_stats *)operation)->throttles);
        break;
    case OPERATION_GET_CONFIG:
        buf_free(&((struct operation_get_config *)operation)->value);
        break;
    case OPERATION_LIST_CONFIG:
        buf_free(&((struct operation_list_config *)operation)->rows);
        break;
    case OPERATION_SETTINGS:
        settings_free(((struct operation_settings *)operation)->first);
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
