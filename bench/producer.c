#include "producer.h"

#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "progress.h"

#define PARTS_MAX 1000u /* of one system call; the kernel takes 1,024 */

struct producer {
    struct client *client; /* borrowed */
    struct buf frames;     /* `window` frames of the same size; frame i has request id i + 1 */
    struct iovec *parts;
    uint32_t *idle; /* stack of frames that are not in flight */
    bool *busy;
    uint32_t idle_count;
    uint32_t window, batch;
    size_t frame_size, message_size;
    uint64_t sent, confirmed;
};

static int encode(struct producer *producer, const char *queue, struct err *err)
{
    uint8_t payload[PRODUCER_PAYLOAD];
    struct framed_client_message message = {.queue = str_from_c(queue),
                                            .payload = str_of(payload, sizeof(payload))};
    for (size_t i = 0; i < sizeof(payload); i++) {
        payload[i] = (uint8_t)('a' + i % 26);
    }
    producer->message_size = framed_client_message_size(&message);
    for (uint32_t i = 0; i < producer->window; i++) {
        size_t start =
            framed_client_batch_begin(&producer->frames, OPCODE_ENQUEUE, i + 1, producer->batch);
        for (uint32_t j = 0; j < producer->batch; j++) {
            framed_client_enqueue_add(&producer->frames, &message);
        }
        if (frame_end(&producer->frames, start, FRAME_LENGTH_MAX) != 0) {
            return err_set(err, 0, "no memory");
        }
        producer->idle[producer->idle_count++] = producer->window - 1 - i;
    }
    producer->frame_size = producer->frames.size / producer->window;
    return 0;
}

struct producer *producer_create(struct client *client, const char *queue, uint32_t window,
                                 uint32_t batch, struct err *err)
{
    struct producer *producer = calloc(1, sizeof(*producer));
    if (producer == NULL) {
        err_set(err, 0, "no memory");
        return NULL;
    }
    producer->client = client;
    producer->window = window;
    producer->batch = batch;
    buf_init(&producer->frames, 0);
    producer->parts = calloc(window, sizeof(*producer->parts));
    producer->idle = calloc(window, sizeof(*producer->idle));
    producer->busy = calloc(window, sizeof(*producer->busy));
    if (producer->parts == NULL || producer->idle == NULL || producer->busy == NULL) {
        err_set(err, 0, "no memory");
        goto failed;
    }
    if (encode(producer, queue, err) != 0) {
        goto failed;
    }
    return producer;
failed:
    producer_destroy(producer);
    return NULL;
}

void producer_destroy(struct producer *producer)
{
    if (producer == NULL) {
        return;
    }
    buf_free(&producer->frames);
    free(producer->parts);
    free(producer->idle);
    free(producer->busy);
    free(producer);
}

uint64_t producer_sent(const struct producer *producer)
{
    return producer->sent;
}

uint64_t producer_confirmed(const struct producer *producer)
{
    return producer->confirmed;
}

/* Takes an idle frame and numbers its messages on. */
static struct iovec prepare_frame(struct producer *producer)
{
    uint32_t slot = producer->idle[--producer->idle_count];
    uint8_t *frame = producer->frames.data + slot * producer->frame_size;
    uint8_t *end = frame + producer->frame_size;
    producer->busy[slot] = true;
    for (uint32_t i = producer->batch; i > 0; i--) {
        uint8_t *payload = end - (i - 1) * producer->message_size - PRODUCER_PAYLOAD;
        bytes_put_u64(payload, producer->sent++);
    }
    return (struct iovec){.iov_base = frame, .iov_len = producer->frame_size};
}

static int send_frames(struct producer *producer, uint64_t limit, struct err *err)
{
    while (producer->idle_count > 0 && producer->sent < limit) {
        uint32_t count = 0;
        while (producer->idle_count > 0 && producer->sent < limit && count < PARTS_MAX) {
            producer->parts[count++] = prepare_frame(producer);
        }
        if (client_sendv(producer->client, producer->parts, (int)count, err) != 0) {
            return -1;
        }
    }
    return 0;
}

static int take_answer(struct producer *producer, const struct frame *frame, struct err *err)
{
    struct wire_reader reader;
    struct framed_client_result result;
    uint32_t count;
    uint32_t slot = frame->request_id - 1;
    if (frame->opcode != OPCODE_ENQUEUE_RESULT) {
        return err_set(err, 0, "the broker sent %s where EnqueueResult was due",
                       opcode_name(frame->opcode));
    }
    if (slot >= producer->window || !producer->busy[slot]) {
        return err_set(err, 0, "the broker answered request %u, which is not in flight",
                       frame->request_id);
    }
    wire_reader_init(&reader, frame->body);
    if (!framed_client_enqueue_result_begin(&reader, &count)) {
        return client_malformed(&reader, "EnqueueResult", err);
    }
    if (count != producer->batch) {
        return err_set(err, 0, "EnqueueResult names %u messages, the request had %u", count,
                       producer->batch);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!framed_client_enqueue_result_next(&reader, &result)) {
            return client_malformed(&reader, "EnqueueResult", err);
        }
        if (result.code != FIBP_OK) {
            return err_set(err, 0, "enqueue was refused with %s: %.*s",
                           status_name(status_from_wire(result.code)),
                           STR_PRINT(result.message_id));
        }
    }
    producer->confirmed += count;
    producer->busy[slot] = false;
    producer->idle[producer->idle_count++] = slot;
    return 0;
}

int producer_step(struct producer *producer, uint64_t limit, struct err *err)
{
    if (send_frames(producer, limit, err) != 0) {
        return -1;
    }
    bool wait = true;
    while (producer->confirmed < producer->sent) {
        struct frame frame;
        int got = client_next(producer->client, wait, &frame, err);
        if (got <= 0) {
            return got;
        }
        if (take_answer(producer, &frame, err) != 0) {
            return -1;
        }
        wait = false;
    }
    return 0;
}

int producer_preload(struct client *client, const char *queue, uint64_t messages, struct err *err)
{
    struct producer *producer = producer_create(client, queue, 4, 100, err);
    int result = producer != NULL ? 0 : -1;
    while (result == 0 && producer->confirmed < messages) {
        result = progress_interrupted() ? err_set(err, 0, "interrupted")
                                        : producer_step(producer, messages, err);
    }
    producer_destroy(producer);
    return result;
}
