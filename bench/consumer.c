#include "consumer.h"

#include <stdlib.h>

#include "core/bytes.h"

#define CONSUME_ID 1u
#define ACK_ID_FIRST 2u
#define ACK_BATCH 100u      /* most messages of an Ack frame, as a transaction of the limit has */
#define ACKS_MAX (1u << 16) /* request ids that Ack frames go round in */
#define ID_SIZE 36

struct consumer {
    struct client *client; /* borrowed */
    struct consumer_options options;
    uint64_t delivered, acked;
    uint8_t ids[ACK_BATCH][ID_SIZE];
    uint32_t id_count;    /* delivered and not yet in an Ack frame */
    struct buf out;       /* Ack frames to send */
    uint32_t *ack_counts; /* messages of Ack frame ACK_ID_FIRST + i in flight; 0: not in flight */
    uint32_t ack_next;
};

struct consumer *consumer_create(struct client *client, const struct consumer_options *options,
                                 struct err *err)
{
    struct consumer *consumer = calloc(1, sizeof(*consumer));
    if (consumer == NULL) {
        err_set(err, 0, "no memory");
        return NULL;
    }
    consumer->client = client;
    consumer->options = *options;
    buf_init(&consumer->out, 0);
    consumer->ack_counts = calloc(ACKS_MAX, sizeof(*consumer->ack_counts));
    if (consumer->ack_counts == NULL) {
        err_set(err, 0, "no memory");
        consumer_destroy(consumer);
        return NULL;
    }
    return consumer;
}

void consumer_destroy(struct consumer *consumer)
{
    if (consumer == NULL) {
        return;
    }
    buf_free(&consumer->out);
    free(consumer->ack_counts);
    free(consumer);
}

uint64_t consumer_delivered(const struct consumer *consumer)
{
    return consumer->delivered;
}

uint64_t consumer_acked(const struct consumer *consumer)
{
    return consumer->acked;
}

/* Puts the ids gathered so far into an Ack frame. */
static int flush_ids(struct consumer *consumer, struct err *err)
{
    if (consumer->id_count == 0) {
        return 0;
    }
    uint32_t slot = consumer->ack_next++ % ACKS_MAX;
    if (consumer->ack_counts[slot] != 0) {
        return err_set(err, 0, "%u Ack frames are unanswered", ACKS_MAX);
    }
    size_t start = framed_client_batch_begin(&consumer->out, OPCODE_ACK, ACK_ID_FIRST + slot,
                                             consumer->id_count);
    for (uint32_t i = 0; i < consumer->id_count; i++) {
        framed_client_ack_add(&consumer->out, str_from_c(consumer->options.queue),
                              str_of(consumer->ids[i], ID_SIZE));
    }
    if (frame_end(&consumer->out, start, FRAME_LENGTH_MAX) != 0) {
        return err_set(err, 0, "no memory");
    }
    consumer->ack_counts[slot] = consumer->id_count;
    consumer->id_count = 0;
    return 0;
}

static int take_message(struct consumer *consumer, const struct framed_client_delivery *delivery,
                        struct err *err)
{
    if (delivery->payload.size != consumer->options.payload ||
        delivery->message_id.size != ID_SIZE) {
        return err_set(err, 0, "a delivery has %zu bytes of payload and an id of %zu",
                       delivery->payload.size, delivery->message_id.size);
    }
    if (ledger_enter(consumer->options.ledger, bytes_get_u64(delivery->payload.data), err) != 0) {
        return -1;
    }
    if (consumer->options.delivered != NULL) {
        consumer->options.delivered(consumer->options.context, delivery);
    }
    consumer->delivered++;
    memcpy(consumer->ids[consumer->id_count++], delivery->message_id.data, ID_SIZE);
    return consumer->id_count == ACK_BATCH ? flush_ids(consumer, err) : 0;
}

static int take_delivery(struct consumer *consumer, const struct frame *frame, struct err *err)
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
        if (take_message(consumer, &delivery, err) != 0) {
            return -1;
        }
    }
    return 0;
}

static int take_ack_result(struct consumer *consumer, const struct frame *frame, struct err *err)
{
    struct wire_reader reader;
    uint32_t count;
    uint32_t slot = frame->request_id - ACK_ID_FIRST;
    if (slot >= ACKS_MAX || consumer->ack_counts[slot] == 0) {
        return err_set(err, 0, "the broker answered Ack %u, which is not in flight",
                       frame->request_id);
    }
    wire_reader_init(&reader, frame->body);
    if (!framed_client_ack_result_begin(&reader, &count)) {
        return client_malformed(&reader, "AckResult", err);
    }
    if (count != consumer->ack_counts[slot]) {
        return err_set(err, 0, "AckResult names %u messages, the request had %u", count,
                       consumer->ack_counts[slot]);
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
    consumer->ack_counts[slot] = 0;
    consumer->acked += count;
    return 0;
}

/* Takes in what is there; with `wait` at least one frame. */
static int take_frames(struct consumer *consumer, bool wait, struct err *err)
{
    for (;; wait = false) {
        struct frame frame;
        int got = client_next(consumer->client, wait, &frame, err);
        if (got <= 0) {
            return got;
        }
        int taken;
        if (frame.opcode == OPCODE_DELIVERY) {
            taken = take_delivery(consumer, &frame, err);
        } else if (frame.opcode == OPCODE_ACK_RESULT) {
            taken = take_ack_result(consumer, &frame, err);
        } else {
            taken = err_set(err, 0, "the broker sent %s, which is not expected",
                            opcode_name(frame.opcode));
        }
        if (taken != 0) {
            return -1;
        }
    }
}

/* Takes in what is there, and with `wait` at least one frame, and sends the acks for it. */
static int take(struct consumer *consumer, bool wait, struct err *err)
{
    do {
        buf_clear(&consumer->out);
        if (take_frames(consumer, wait, err) != 0 || flush_ids(consumer, err) != 0) {
            return -1;
        }
        /* Sending may read; nobody would look at that before more arrives. */
        if (consumer->out.size > 0 &&
            client_send(consumer->client, consumer->out.data, consumer->out.size, err) != 0) {
            return -1;
        }
        wait = false;
    } while (consumer->out.size > 0);
    return 0;
}

int consumer_begin(struct consumer *consumer, struct err *err)
{
    /* Deliveries that came along with the answer: nothing may come after them. */
    return client_consume(consumer->client, consumer->options.queue, CONSUME_ID, err) == 0
               ? take(consumer, false, err)
               : -1;
}

int consumer_step(struct consumer *consumer, struct err *err)
{
    return take(consumer, true, err);
}
