#include "workload_consume.h"

#include <stdlib.h>

#include "core/bytes.h"
#include "filad.h"
#include "os/time.h"
#include "producer.h"

#define QUEUE "bench"
#define CONSUME_ID 1u
#define ACK_ID_FIRST 2u
#define ACK_BATCH 100u        /* most messages of an Ack frame, as a transaction of the limit has */
#define ACKS_MAX (1u << 16)   /* request ids that Ack frames go round in */
#define VISIBILITY_MS 600000u /* long enough that no lease runs out here */
#define ID_SIZE 36

/* Progress of one drain. */
struct drain {
    struct client *client; /* borrowed */
    uint64_t total;
    uint64_t delivered, acked;
    uint8_t *seen; /* by message number */
    uint8_t ids[ACK_BATCH][ID_SIZE];
    uint32_t id_count;    /* delivered and not yet in an Ack frame */
    struct buf out;       /* Ack frames to send */
    uint32_t *ack_counts; /* messages of Ack frame ACK_ID_FIRST + i in flight; 0: not in flight */
    uint32_t ack_next;
};

/* Puts the ids gathered so far into an Ack frame. */
static int flush_ids(struct drain *drain, struct err *err)
{
    if (drain->id_count == 0) {
        return 0;
    }
    uint32_t slot = drain->ack_next++ % ACKS_MAX;
    if (drain->ack_counts[slot] != 0) {
        return err_set(err, 0, "%u Ack frames are unanswered", ACKS_MAX);
    }
    size_t start =
        framed_client_batch_begin(&drain->out, OPCODE_ACK, ACK_ID_FIRST + slot, drain->id_count);
    for (uint32_t i = 0; i < drain->id_count; i++) {
        framed_client_ack_add(&drain->out, STR(QUEUE), str_of(drain->ids[i], ID_SIZE));
    }
    if (frame_end(&drain->out, start, FRAME_LENGTH_MAX) != 0) {
        return err_set(err, 0, "no memory");
    }
    drain->ack_counts[slot] = drain->id_count;
    drain->id_count = 0;
    return 0;
}

static int take_message(struct drain *drain, const struct framed_client_delivery *delivery,
                        struct err *err)
{
    if (delivery->payload.size != PRODUCER_PAYLOAD || delivery->message_id.size != ID_SIZE) {
        return err_set(err, 0, "a delivery has %zu bytes of payload and an id of %zu",
                       delivery->payload.size, delivery->message_id.size);
    }
    uint64_t number = bytes_get_u64(delivery->payload.data);
    if (number >= drain->total || drain->seen[number]) {
        return err_set(err, 0, "message %llu was delivered %s", (unsigned long long)number,
                       number >= drain->total ? "and never sent" : "twice");
    }
    drain->seen[number] = 1;
    drain->delivered++;
    memcpy(drain->ids[drain->id_count++], delivery->message_id.data, ID_SIZE);
    return drain->id_count == ACK_BATCH ? flush_ids(drain, err) : 0;
}

static int take_delivery(struct drain *drain, const struct frame *frame, struct err *err)
{
    struct wire_reader reader;
    struct framed_client_delivery delivery;
    uint32_t count;
    if (frame->request_id != CONSUME_ID) {
        return err_set(err, 0, "a delivery belongs to request %u", frame->request_id);
    }
    wire_reader_init(&reader, frame->body);
    /* Checking UTF-8 is no part of what is measured. */
    reader.trusted = true;
    if (!framed_client_delivery_begin(&reader, &count)) {
        return client_malformed(&reader, "Delivery", err);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!framed_client_delivery_next(&reader, &delivery)) {
            return client_malformed(&reader, "Delivery", err);
        }
        if (take_message(drain, &delivery, err) != 0) {
            return -1;
        }
    }
    return 0;
}

static int take_ack_result(struct drain *drain, const struct frame *frame, struct err *err)
{
    struct wire_reader reader;
    uint32_t count;
    uint32_t slot = frame->request_id - ACK_ID_FIRST;
    if (slot >= ACKS_MAX || drain->ack_counts[slot] == 0) {
        return err_set(err, 0, "the broker answered Ack %u, which is not in flight",
                       frame->request_id);
    }
    wire_reader_init(&reader, frame->body);
    if (!framed_client_ack_result_begin(&reader, &count)) {
        return client_malformed(&reader, "AckResult", err);
    }
    if (count != drain->ack_counts[slot]) {
        return err_set(err, 0, "AckResult names %u messages, the request had %u", count,
                       drain->ack_counts[slot]);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint8_t code;
        if (!framed_client_ack_result_next(&reader, &code)) {
            return client_malformed(&reader, "AckResult", err);
        }
        if (code != FIBP_OK) {
            return err_set(err, 0, "an ack was refused with %s",
                           status_name(status_from_wire(code)));
        }
    }
    drain->ack_counts[slot] = 0;
    drain->acked += count;
    return 0;
}

/* Waits for something, takes in all that came with it and answers deliveries with acks. */
static int drain_step(struct drain *drain, struct err *err)
{
    for (bool wait = true;; wait = false) {
        struct frame frame;
        int got = client_next(drain->client, wait, &frame, err);
        if (got < 0) {
            return -1;
        }
        if (got == 0) {
            break;
        }
        int taken;
        if (frame.opcode == OPCODE_DELIVERY) {
            taken = take_delivery(drain, &frame, err);
        } else if (frame.opcode == OPCODE_ACK_RESULT) {
            taken = take_ack_result(drain, &frame, err);
        } else {
            taken = err_set(err, 0, "the broker sent %s, which is not expected",
                            opcode_name(frame.opcode));
        }
        if (taken != 0) {
            return -1;
        }
    }
    if (flush_ids(drain, err) != 0) {
        return -1;
    }
    if (drain->out.size > 0) {
        if (client_send(drain->client, drain->out.data, drain->out.size, err) != 0) {
            return -1;
        }
        buf_clear(&drain->out);
    }
    return 0;
}

static int measure(struct filad *filad, struct drain *drain, struct outcome *outcome,
                   struct err *err)
{
    struct bench *bench = filad->bench;
    struct filad_usage usage;
    uint64_t begin_acked = 0;
    int slice = 0;
    filad_usage_begin(filad, &usage);
    uint64_t begin_ns = time_monotonic_ns();
    if (client_consume(drain->client, QUEUE, CONSUME_ID, err) != 0) {
        return -1;
    }
    while (drain->acked < drain->total) {
        if (drain_step(drain, err) != 0) {
            return -1;
        }
        uint64_t now = time_monotonic_ns();
        if (progress_tick(&bench->progress, now, drain->acked, err) != 0) {
            return -1;
        }
        uint64_t boundary = drain->total * (uint64_t)(slice + 1) / STATS_SLICES;
        if (slice < STATS_SLICES && drain->acked >= boundary) {
            outcome->slices[0][slice++] =
                (double)(drain->acked - begin_acked) * 1e9 / (double)(now - begin_ns);
            begin_acked = drain->acked;
            begin_ns = now;
        }
    }
    filad_usage_end(filad, &usage, outcome);
    outcome->delivered = drain->delivered;
    outcome->acked = drain->acked;
    return 0;
}

int workload_consume_run(struct bench *bench, const struct row *row, struct outcome *outcome,
                         struct err *err)
{
    struct filad filad;
    struct drain drain = {.total = bench->arguments->messages};
    struct client *loader = NULL;
    struct err stop_err;
    int result = -1;

    if (filad_start(&filad, bench, row->name, err) != 0) {
        return -1;
    }
    buf_init(&drain.out, 0);
    drain.seen = calloc(drain.total, 1);
    drain.ack_counts = calloc(ACKS_MAX, sizeof(*drain.ack_counts));
    if (drain.seen == NULL || drain.ack_counts == NULL) {
        err_set(err, 0, "no memory");
        goto out;
    }
    loader = client_open(filad.port, err);
    if (loader == NULL || client_create_queue(loader, QUEUE, VISIBILITY_MS, err) != 0 ||
        producer_preload(loader, QUEUE, drain.total, err) != 0) {
        goto out;
    }
    outcome->enqueued = drain.total;
    drain.client = client_open(filad.port, err);
    if (drain.client == NULL || measure(&filad, &drain, outcome, err) != 0) {
        goto out;
    }
    result = client_check_depth(loader, QUEUE, 0, 0, err);
out:
    client_close(drain.client);
    client_close(loader);
    buf_free(&drain.out);
    free(drain.seen);
    free(drain.ack_counts);
    if (filad_stop(&filad, result != 0, &stop_err) != 0 && result == 0) {
        *err = stop_err;
        result = -1;
    }
    return result;
}
