#include "broker/operation.h"

#include <stdlib.h>

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
