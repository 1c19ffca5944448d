/* sweep - chunks of messages that a crash, or a failure, left without an owner (broker/apart) */
#include <errno.h>

#include "broker/apart.h"
#include "keeper/maintenance.h"

#define AGAIN_MS 1000 /* a queue with chunks that are being written is looked at again */

/* The next queue that somebody asked for; NULL when there is none. */
static struct queue *find_queue(struct maintenance *maintenance)
{
    struct scheduler *scheduler = maintenance->broker->scheduler;
    for (; maintenance->sweep_index < ZONE_QUEUES; maintenance->sweep_index++) {
        struct queue *queue = atomic_load(&scheduler->queues[maintenance->sweep_index]);
        if (!queue || atomic_load(&queue->dead) || queue->quarantined)
            continue;
        if (queue->id == maintenance->sweep_id)
            return queue;
        if (atomic_load(&queue->sweep) == QUEUE_SWEEP_DONE)
            continue;
        atomic_store(&queue->sweep, QUEUE_SWEEP_UNDER_WAY);
        maintenance->sweep_id = queue->id;
        maintenance->sweep_position = (struct uuid){{0}};
        maintenance->sweep_held = false;
        return queue;
    }
    return NULL;
}

/* True while the walk over all queues is under way, or is due. */
static bool is_under_way(struct maintenance *maintenance, uint64_t now_ms)
{
    struct scheduler *scheduler = maintenance->broker->scheduler;
    if (maintenance->sweep_index < ZONE_QUEUES)
        return true;
    if (now_ms < maintenance->next_sweep_ms || !atomic_exchange(&scheduler->sweep, false))
        return false;
    maintenance->next_sweep_ms = now_ms + AGAIN_MS;
    maintenance->sweep_index = 0;
    maintenance->sweep_id = 0;
    return true;
}

int sweep_step(struct maintenance *maintenance, uint64_t now_ms)
{
    struct broker *broker = maintenance->broker;
    struct local_queue *local = NULL;
    bool more = false;
    if (!is_under_way(maintenance, now_ms))
        return 0;
    struct queue *queue = find_queue(maintenance);
    if (!queue)
        return 0;
    if (broker_local(broker, queue, &local) != 0)
        return -1;
    int result = broker_open_db(broker, local, false);
    if (broker_is_fatal(result))
        return broker_fail(broker, result, "remove what a crash left");
    if (broker_lock(broker, &queue->lock) != 0)
        return -1;
    int status = result ? 0
                        : apart_sweep(broker, local, &maintenance->sweep_position, &more,
                                      &maintenance->sweep_held);
    lock_release(&queue->lock);
    if (status != 0)
        return -1;
    if (more)
        return 1;
    uint8_t under_way = QUEUE_SWEEP_UNDER_WAY; /* unless somebody asked again meanwhile */
    if (maintenance->sweep_held || (result && result != ENOENT))
        scheduler_want_sweep(broker->scheduler, queue);
    else
        atomic_compare_exchange_strong(&queue->sweep, &under_way, QUEUE_SWEEP_DONE);
    maintenance->sweep_id = 0;
    maintenance->sweep_index++;
    return 1;
}
