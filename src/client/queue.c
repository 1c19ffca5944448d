/* Administration of queues. */
#include <stdlib.h>

#include "client/call.h"
#include "client/error.h"
#include "fibp/framed_client.h"
#include "fibp/framed_settings.h"

int fila_queue_create(struct fila *client, const char *name,
                      const struct fila_queue_options *options, struct fila_error *error)
{
    struct fila_queue_options none = {.on_enqueue = NULL};
    const struct fila_queue_options *given = options ? options : &none;
    struct framed_create_queue request = {
        .name = str_from_c(name),
        .has_on_enqueue = given->on_enqueue != NULL,
        .has_on_failure = given->on_failure != NULL,
        .on_enqueue = str_from_c(given->on_enqueue),
        .on_failure = str_from_c(given->on_failure),
        .visibility_timeout_ms = given->visibility_timeout_ms,
    };
    struct buf frame;

    if (call_check_text(request.name, "queue name", error) != 0 ||
        call_check_text(request.on_enqueue, "on_enqueue script", error) != 0 ||
        call_check_text(request.on_failure, "on_failure script", error) != 0)
        return -1;
    buf_init(&frame, 0);
    struct framed_create_options more = {given->max_attempts, given->dead_letter_headers};
    int encoded = more.max_attempts || more.dead_letter_headers
                      ? framed_client_create_with(&frame, 0, &request, &more)
                      : framed_client_create_queue(&frame, 0, &request);
    return call_run(client, OPCODE_CREATE_QUEUE, &frame, encoded, call_decode_compiled, NULL,
                    error);
}

int fila_queue_delete(struct fila *client, const char *name, struct fila_error *error)
{
    struct str queue = str_from_c(name);
    struct buf frame;

    if (call_check_text(queue, "queue name", error) != 0)
        return -1;
    buf_init(&frame, 0);
    int encoded = framed_client_text(&frame, OPCODE_DELETE_QUEUE, 0, queue);
    return call_run(client, OPCODE_DELETE_QUEUE, &frame, encoded, call_decode_code, NULL, error);
}

/* A code and a number of messages. */
static int queue_decode_number(struct wire_reader *reader, void *output, size_t count,
                               struct fila_error *error)
{
    (void)count;
    if (call_read_code(reader, error) != 0)
        return -1;
    return framed_client_redrive_result(reader, output) ? 0 : -1;
}

int fila_redrive(struct fila *client, const char *dead_letter_queue, uint64_t count,
                 uint64_t *moved, struct fila_error *error)
{
    struct str queue = str_from_c(dead_letter_queue);
    struct buf frame;

    *moved = 0;
    if (call_check_text(queue, "queue name", error) != 0)
        return -1;
    buf_init(&frame, 0);
    int encoded = framed_client_redrive(&frame, 0, queue, count);
    return call_run(client, OPCODE_REDRIVE, &frame, encoded, queue_decode_number, moved, error);
}

int fila_queue_purge(struct fila *client, const char *name, uint64_t *purged,
                     struct fila_error *error)
{
    struct str queue = str_from_c(name);
    struct buf frame;

    *purged = 0;
    if (call_check_text(queue, "queue name", error) != 0)
        return -1;
    buf_init(&frame, 0);
    int encoded = framed_client_text(&frame, OPCODE_PURGE_QUEUE, 0, queue);
    return call_run(client, OPCODE_PURGE_QUEUE, &frame, encoded, queue_decode_number, purged,
                    error);
}

/* A copy of a name; on failure `error` is set. */
static char *queue_text(struct str text, struct fila_error *error)
{
    char *copy = str_dup_c(text);
    if (!copy)
        error_set(error, FILA_NO_MEMORY, "no memory for the answer");
    return copy;
}

/* Takes apart what the broker says about how exact a queue's numbers are. */
static void queue_decode_counted(uint8_t counted, unsigned *percent, bool *quarantined,
                                 bool *paused)
{
    *quarantined = counted == FRAMED_COUNTED_QUARANTINE;
    *paused = !*quarantined && (counted & FRAMED_COUNTED_PAUSED);
    if (*paused)
        counted &= (uint8_t)~FRAMED_COUNTED_PAUSED;
    *percent = counted < FRAMED_COUNTED_ALL ? counted : FRAMED_COUNTED_ALL;
}

static int queue_decode_list(struct wire_reader *reader, void *output, size_t unused,
                             struct fila_error *error)
{
    struct fila_queue_list *list = output;
    struct framed_queue_info info;
    struct str counted;
    uint16_t count;
    (void)unused;

    if (call_read_code(reader, error) != 0 ||
        !framed_client_list_queues_begin(reader, &list->cluster_node_count, &count))
        return -1;
    list->queues = calloc(count ? count : 1u, sizeof(*list->queues));
    if (!list->queues)
        return error_set(error, FILA_NO_MEMORY, "no memory for the answer");
    for (uint16_t i = 0; i < count; i++) {
        if (!framed_client_list_queues_next(reader, &info))
            return -1;
        struct fila_queue_info *queue = &list->queues[i];
        queue->name = queue_text(info.name, error);
        if (!queue->name)
            return -1;
        list->count++;
        queue->depth = info.depth;
        queue->in_flight = info.in_flight;
        queue->consumers = info.active_consumers;
        queue->leader_node_id = info.leader_node_id;
        queue->counted_percent = FRAMED_COUNTED_ALL;
    }
    framed_client_counted(reader, count, &counted);
    for (size_t i = 0; i < counted.size; i++)
        queue_decode_counted(counted.data[i], &list->queues[i].counted_percent,
                             &list->queues[i].quarantined, &list->queues[i].paused);
    return 0;
}

struct fila_queue_list *fila_queue_list(struct fila *client, struct fila_error *error)
{
    struct fila_queue_list *list = calloc(1, sizeof(*list));
    struct buf frame;
    if (!list) {
        error_set(error, FILA_NO_MEMORY, "no memory for the answer");
        return NULL;
    }
    buf_init(&frame, 0);
    int encoded = frame_empty(&frame, OPCODE_LIST_QUEUES, 0);
    if (call_run(client, OPCODE_LIST_QUEUES, &frame, encoded, queue_decode_list, list, error) == 0)
        return list;
    fila_queue_list_free(list);
    return NULL;
}

void fila_queue_list_free(struct fila_queue_list *list)
{
    if (!list)
        return;
    for (size_t i = 0; i < list->count; i++)
        free(list->queues[i].name);
    free(list->queues);
    free(list);
}

static int queue_decode_keys(struct wire_reader *reader, struct fila_queue_stats *stats,
                             uint16_t count, struct fila_error *error)
{
    struct framed_key_stats from;
    stats->keys = calloc(count ? count : 1u, sizeof(*stats->keys));
    if (!stats->keys)
        return error_set(error, FILA_NO_MEMORY, "no memory for the answer");
    for (uint16_t i = 0; i < count; i++) {
        if (!framed_client_stats_key_next(reader, &from))
            return -1;
        struct fila_key_stats *key = &stats->keys[i];
        key->key = queue_text(from.key, error);
        if (!key->key)
            return -1;
        stats->key_count++;
        key->pending = from.pending;
        key->deficit = from.deficit;
        key->weight = from.weight;
    }
    return 0;
}

static int queue_decode_throttles(struct wire_reader *reader, struct fila_queue_stats *stats,
                                  uint16_t count, struct fila_error *error)
{
    struct framed_throttle_stats from;
    stats->throttles = calloc(count ? count : 1u, sizeof(*stats->throttles));
    if (!stats->throttles)
        return error_set(error, FILA_NO_MEMORY, "no memory for the answer");
    for (uint16_t i = 0; i < count; i++) {
        if (!framed_client_stats_throttle_next(reader, &from))
            return -1;
        struct fila_throttle_stats *throttle = &stats->throttles[i];
        throttle->key = queue_text(from.key, error);
        if (!throttle->key)
            return -1;
        stats->throttle_count++;
        throttle->tokens = from.tokens;
        throttle->rate_per_second = from.rate_per_second;
        throttle->burst = from.burst;
    }
    return 0;
}

static int queue_decode_stats(struct wire_reader *reader, void *output, size_t unused,
                              struct fila_error *error)
{
    struct fila_queue_stats *stats = output;
    struct framed_stats from;
    struct str counted;
    uint16_t count;
    (void)unused;

    if (call_read_code(reader, error) != 0 || !framed_client_stats_begin(reader, &from, &count))
        return -1;
    stats->depth = from.depth;
    stats->in_flight = from.in_flight;
    stats->active_fairness_keys = from.active_fairness_keys;
    stats->consumers = from.active_consumers;
    stats->quantum = from.quantum;
    stats->leader_node_id = from.leader_node_id;
    stats->replication_count = from.replication_count;
    if (queue_decode_keys(reader, stats, count, error) != 0 ||
        !framed_client_stats_throttles(reader, &count) ||
        queue_decode_throttles(reader, stats, count, error) != 0)
        return -1;
    framed_client_counted(reader, 1, &counted);
    queue_decode_counted(counted.size ? counted.data[0] : FRAMED_COUNTED_ALL,
                         &stats->counted_percent, &stats->quarantined, &stats->paused);
    return 0;
}

struct fila_queue_stats *fila_queue_stats(struct fila *client, const char *name,
                                          struct fila_error *error)
{
    struct str queue = str_from_c(name);
    struct fila_queue_stats *stats;
    struct buf frame;

    if (call_check_text(queue, "queue name", error) != 0)
        return NULL;
    stats = calloc(1, sizeof(*stats));
    if (!stats) {
        error_set(error, FILA_NO_MEMORY, "no memory for the answer");
        return NULL;
    }
    buf_init(&frame, 0);
    int encoded = framed_client_text(&frame, OPCODE_GET_STATS, 0, queue);
    if (call_run(client, OPCODE_GET_STATS, &frame, encoded, queue_decode_stats, stats, error) == 0)
        return stats;
    fila_queue_stats_free(stats);
    return NULL;
}

void fila_queue_stats_free(struct fila_queue_stats *stats)
{
    if (!stats)
        return;
    for (size_t i = 0; i < stats->key_count; i++)
        free(stats->keys[i].key);
    for (size_t i = 0; i < stats->throttle_count; i++)
        free(stats->throttles[i].key);
    free(stats->keys);
    free(stats->throttles);
    free(stats);
}
