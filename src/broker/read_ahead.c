#include "broker/read_ahead.h"

void read_ahead_init(struct read_ahead *ahead)
{
    memset(ahead, 0, sizeof(*ahead));
    for (unsigned i = 0; i < READ_AHEAD_LANES; i++)
        queue_db_bulk_init(&ahead->lanes[i].bulk);
}

void read_ahead_free(struct read_ahead *ahead)
{
    for (unsigned i = 0; i < READ_AHEAD_LANES; i++)
        queue_db_bulk_free(&ahead->lanes[i].bulk);
}

void read_ahead_rest(struct read_ahead *ahead)
{
    read_ahead_free(ahead);
    read_ahead_init(ahead);
}

static struct read_ahead_lane *lane_of(struct read_ahead *ahead, uint64_t queue_id, uint64_t lane)
{
    for (unsigned i = 0; i < READ_AHEAD_LANES; i++)
        if (ahead->lanes[i].lane == lane && ahead->lanes[i].queue_id == queue_id)
            return &ahead->lanes[i];
    return NULL;
}

static struct read_ahead_lane *oldest(struct read_ahead *ahead)
{
    struct read_ahead_lane *found = &ahead->lanes[0];
    for (unsigned i = 1; i < READ_AHEAD_LANES; i++)
        if (ahead->lanes[i].used < found->used)
            found = &ahead->lanes[i];
    return found;
}

struct read_ahead_lane *read_ahead_find(struct read_ahead *ahead, const struct queue *queue,
                                        uint64_t lane, uint64_t next)
{
    struct read_ahead_lane *kept = lane_of(ahead, queue->id, lane);
    if (!kept || kept->removed != queue->ready_removed || kept->next > next)
        return NULL;
    kept->used = ++ahead->uses;
    return kept;
}

struct read_ahead_lane *read_ahead_place(struct read_ahead *ahead, const struct queue *queue,
                                         uint64_t lane)
{
    struct read_ahead_lane *place = lane_of(ahead, queue->id, lane);
    if (!place)
        place = oldest(ahead);
    read_ahead_drop(place);
    place->queue_id = queue->id;
    place->lane = lane;
    place->removed = queue->ready_removed;
    place->used = ++ahead->uses;
    return place;
}

void read_ahead_drop(struct read_ahead_lane *kept)
{
    kept->queue_id = 0;
    kept->used = 0;
    if (kept->bulk.size > READ_AHEAD_BYTES) {
        queue_db_bulk_free(&kept->bulk);
        queue_db_bulk_init(&kept->bulk);
    }
}
