#include "workload_latency.h"

#include <stdio.h>

#include "core/bytes.h"
#include "crowd.h"
#include "filad.h"
#include "os/time.h"

#define CONSUME_ID 1u
#define ACK_ID 2u
#define VISIBILITY_MS 600000u
#define WARM_UP_NS 100000000u
#define OTHER_QUEUE "other"
#define DISTURBANCE 200000u /* messages that go in and out before a slice */

struct pair {
    struct client *producer, *consumer;
    char queue[16]; /* one for each slice: consumers that just left cannot meet its messages */
    uint8_t payload[PRODUCER_PAYLOAD];
    struct buf out;
    uint64_t number; /* of the next message */
};

static int send_message(struct pair *pair, uint64_t *sent_ns, struct err *err)
{
    struct framed_client_message message = {.queue = str_from_c(pair->queue),
                                            .payload = str_of(pair->payload, PRODUCER_PAYLOAD)};
    bytes_put_u64(pair->payload, pair->number);
    buf_clear(&pair->out);
    size_t start = framed_client_batch_begin(&pair->out, OPCODE_ENQUEUE, 1, 1);
    framed_client_enqueue_add(&pair->out, &message);
    if (frame_end(&pair->out, start, FRAME_LENGTH_MAX) != 0) {
        return err_set(err, 0, "no memory");
    }
    *sent_ns = time_monotonic_ns();
    return client_send(pair->producer, pair->out.data, pair->out.size, err);
}

/* Takes the delivery apart and leaves the Ack for it in pair->out. */
static int check_delivery(struct pair *pair, const struct frame *frame, struct err *err)
{
    struct wire_reader reader;
    struct framed_client_delivery delivery;
    uint32_t count;
    wire_reader_init(&reader, frame->body);
    if (!framed_client_delivery_begin(&reader, &count) || count != 1 ||
        !framed_client_delivery_next(&reader, &delivery)) {
        return reader.reason != NULL ? client_malformed(&reader, "Delivery", err)
                                     : err_set(err, 0, "%u deliveries where 1 was due", count);
    }
    if (delivery.payload.size != PRODUCER_PAYLOAD ||
        bytes_get_u64(delivery.payload.data) != pair->number) {
        return err_set(err, 0, "another message than number %llu was delivered",
                       (unsigned long long)pair->number);
    }
    buf_clear(&pair->out);
    size_t start = framed_client_batch_begin(&pair->out, OPCODE_ACK, ACK_ID, 1);
    framed_client_ack_add(&pair->out, str_from_c(pair->queue), delivery.message_id);
    if (frame_end(&pair->out, start, FRAME_LENGTH_MAX) != 0) {
        return err_set(err, 0, "no memory");
    }
    return 0;
}

static int check_enqueue_result(const struct frame *frame, struct err *err)
{
    struct wire_reader reader;
    struct framed_client_result result;
    uint32_t count;
    wire_reader_init(&reader, frame->body);
    if (!framed_client_enqueue_result_begin(&reader, &count) || count != 1 ||
        !framed_client_enqueue_result_next(&reader, &result)) {
        return reader.reason != NULL ? client_malformed(&reader, "EnqueueResult", err)
                                     : err_set(err, 0, "%u results where 1 was due", count);
    }
    return result.code == FIBP_OK ? 0
                                  : err_set(err, 0, "enqueue was refused with %s",
                                            status_name(status_from_wire(result.code)));
}

static int check_ack_result(const struct frame *frame, struct err *err)
{
    struct wire_reader reader;
    uint32_t count;
    uint8_t code;
    wire_reader_init(&reader, frame->body);
    if (!framed_client_ack_result_begin(&reader, &count) || count != 1 ||
        !framed_client_ack_result_next(&reader, &code)) {
        return reader.reason != NULL ? client_malformed(&reader, "AckResult", err)
                                     : err_set(err, 0, "%u results where 1 was due", count);
    }
    return code == FIBP_OK
               ? 0
               : err_set(err, 0, "an ack was refused with %s", status_name(status_from_wire(code)));
}

/* One message through the broker, up to the confirmation of its ack. */
static int pair_turn(struct pair *pair, uint64_t *latency_ns, struct outcome *outcome,
                     struct err *err)
{
    struct frame frame;
    uint64_t sent_ns = 0;
    if (send_message(pair, &sent_ns, err) != 0 ||
        client_expect(pair->consumer, OPCODE_DELIVERY, &frame, err) != 0) {
        return -1;
    }
    *latency_ns = time_monotonic_ns() - sent_ns;
    if (check_delivery(pair, &frame, err) != 0) {
        return -1;
    }
    outcome->delivered++;
    if (client_expect(pair->producer, OPCODE_ENQUEUE_RESULT, &frame, err) != 0 ||
        check_enqueue_result(&frame, err) != 0) {
        return -1;
    }
    outcome->enqueued++;
    if (client_send(pair->consumer, pair->out.data, pair->out.size, err) != 0 ||
        client_expect(pair->consumer, OPCODE_ACK_RESULT, &frame, err) != 0 ||
        check_ack_result(&frame, err) != 0) {
        return -1;
    }
    outcome->acked++;
    pair->number++;
    return 0;
}

static int slice_samples(struct bench *bench, struct pair *pair, uint64_t length_ns,
                         struct stats_samples *samples, struct outcome *outcome, struct err *err)
{
    uint64_t begin = time_monotonic_ns(), now = begin;
    stats_samples_clear(samples);
    while (now - begin < WARM_UP_NS + length_ns) {
        uint64_t latency_ns;
        if (pair_turn(pair, &latency_ns, outcome, err) != 0) {
            return -1;
        }
        if (now - begin >= WARM_UP_NS && stats_samples_add(samples, latency_ns) != 0) {
            return err_set(err, 0, "no memory");
        }
        now = time_monotonic_ns();
        if (progress_tick(&bench->progress, now, outcome->acked, err) != 0) {
            return -1;
        }
    }
    stats_samples_sort(samples);
    return 0;
}

/* Fills and empties another queue: what that leaves to be written at a checkpoint, and to be given
 * back by compaction, is under way while samples are taken. */
static int disturb(struct filad *filad, struct err *err)
{
    struct bench *bench = filad->bench;
    struct crowd crowd = {.producer_count = 0};
    struct crowd_options options = {
        .port = filad->port,
        .consumers = 1,
        .producer = {.queue = OTHER_QUEUE, .payload = PRODUCER_PAYLOAD},
        .consumer = {.queue = OTHER_QUEUE, .payload = PRODUCER_PAYLOAD},
    };
    struct client *loader = client_open(filad->port, err);
    int result = -1;
    if (loader == NULL || producer_preload(loader, &options.producer, DISTURBANCE, err) != 0 ||
        crowd_open(&crowd, &options, err) != 0 || crowd_consume(&crowd, err) != 0) {
        goto out;
    }
    while (crowd_acked(&crowd) < DISTURBANCE) {
        if (crowd_step(&crowd, false, err) != 0 ||
            progress_tick(&bench->progress, time_monotonic_ns(), crowd_acked(&crowd), err) != 0) {
            goto out;
        }
    }
    result = 0;
out:
    crowd_close(&crowd);
    client_close(loader);
    return result;
}

/* Opens connections, takes the samples of a slice, checks that the queue is empty again. */
static int run_slice(struct filad *filad, struct pair *pair, int slice,
                     struct stats_samples *samples, struct outcome *outcome, struct err *err)
{
    static const double percents[] = {50, 99, 99.9};
    struct bench *bench = filad->bench;
    int result = -1;
    snprintf(pair->queue, sizeof(pair->queue), "bench-%d", slice);
    pair->producer = client_open(filad->port, err);
    pair->consumer = pair->producer != NULL ? client_open(filad->port, err) : NULL;
    if (pair->consumer == NULL ||
        client_create_queue(pair->producer, pair->queue, VISIBILITY_MS, NULL, err) != 0 ||
        client_consume(pair->consumer, pair->queue, CONSUME_ID, err) != 0 ||
        slice_samples(bench, pair, (uint64_t)(bench->seconds * 1e9 / STATS_SLICES), samples,
                      outcome, err) != 0) {
        goto out;
    }
    for (size_t i = 0; i < sizeof(percents) / sizeof(*percents); i++) {
        outcome->slices[i][slice] = (double)stats_samples_percentile(samples, percents[i]) / 1e6;
    }
    result = client_check_depth(pair->producer, pair->queue, 0, 0, err);
out:
    client_close(pair->consumer);
    client_close(pair->producer);
    return result;
}

int workload_latency_run(struct bench *bench, const struct row *row, struct outcome *outcome,
                         struct err *err)
{
    const struct latency_parameters *parameters = row->parameters;
    struct filad filad;
    struct filad_usage usage;
    struct client *admin = NULL;
    struct pair pair = {.number = 0};
    struct stats_samples samples;
    struct err stop_err;
    int result = -1;

    if (filad_start(&filad, bench, row->name, NULL, err) != 0) {
        return -1;
    }
    stats_samples_init(&samples);
    buf_init(&pair.out, 0);
    admin = client_open(filad.port, err);
    if (admin != NULL) {
        result = client_create_queue(admin, OTHER_QUEUE, VISIBILITY_MS, NULL, err);
    }
    filad_usage_begin(&filad, &usage);
    for (int slice = 0; slice < STATS_SLICES && result == 0; slice++) {
        if (parameters->disturbed) {
            result = disturb(&filad, err);
        }
        if (result == 0) {
            result = run_slice(&filad, &pair, slice, &samples, outcome, err);
        }
    }
    filad_usage_end(&filad, &usage, outcome);
    client_close(admin);
    buf_free(&pair.out);
    stats_samples_free(&samples);
    if (filad_stop(&filad, result != 0, &stop_err) != 0 && result == 0) {
        *err = stop_err;
        result = -1;
    }
    return result;
}
