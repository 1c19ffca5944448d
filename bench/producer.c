#include "producer.h"

#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "progress.h"

#define PARTS_MAX 1000u /* of one system call; the kernel takes 1,024 */

#define KEY_HEADER "tenant"
#define KEY_DIGITS 8u
#define WEIGHT_HEADER "weight"
#define WEIGHTS_MAX 9u /* one digit */

struct producer {
    struct client *client; /* borrowed */
    struct producer_options options;
    struct buf frames; /* `window` frames of the same size; frame i has request id i + 1 */
    struct iovec *parts;
    uint32_t *idle; /* stack of frames that are not in flight */
    bool *busy;
    uint32_t idle_count;
    size_t frame_size, message_size;
    size_t key_at, weight_at; /* where their digits stand in a message */
    uint64_t sent, confirmed;
};

/* Where the value of header `index` begins: behind queue, count, and the pairs before. */
static size_t value_offset(const struct framed_client_message *message, size_t index)
{
    size_t at = 2 + message->queue.size + 2;
    for (size_t i = 0; i < index; i++) {
        at += 2 + message->headers[i].key.size + 2 + message->headers[i].value.size;
    }
    return at + 2 + message->headers[index].key.size + 2;
}

static int encode(struct producer *producer, struct err *err)
{
    const struct producer_options *options = &producer->options;
    uint8_t *payload = malloc(options->payload);
    struct wire_pair headers[] = {{STR(KEY_HEADER), STR("k0000000")},
                                  {STR(WEIGHT_HEADER), STR("1")}};
    struct framed_client_message message = {
        .queue = str_from_c(options->queue),
        .headers = headers,
        .header_count = options->keys == 0  ? 0
                        : options->weighted ? 2
                                            : 1,
        .payload = str_of(payload, options->payload),
    };
    if (payload == NULL) {
        return err_set(err, 0, "no memory");
    }
    for (size_t i = 0; i < options->payload; i++) {
        payload[i] = (uint8_t)('a' + i % 26);
    }
    producer->message_size = framed_client_message_size(&message);
    producer->key_at = value_offset(&message, 0);
    producer->weight_at = value_offset(&message, 1);
    for (uint32_t i = 0; i < options->window; i++) {
        size_t start =
            framed_client_batch_begin(&producer->frames, OPCODE_ENQUEUE, i + 1, options->batch);
        for (uint32_t j = 0; j < options->batch; j++) {
            framed_client_enqueue_add(&producer->frames, &message);
        }
        if (frame_end(&producer->frames, start, FRAME_LENGTH_MAX) != 0) {
            free(payload);
            return err_set(err, 0, "no memory");
        }
        producer->idle[producer->idle_count++] = options->window - 1 - i;
    }
    free(payload);
    producer->frame_size = producer->frames.size / options->window;
    return 0;
}

struct producer *producer_create(struct client *client, const struct producer_options *options,
                                 struct err *err)
{
    struct producer *producer = calloc(1, sizeof(*producer));
    if (producer == NULL) {
        err_set(err, 0, "no memory");
        return NULL;
    }
    producer->client = client;
    producer->options = *options;
    if (options->stride == 0) {
        producer->options.stride = 1;
    }
    buf_init(&producer->frames, 0);
    producer->parts = calloc(options->window, sizeof(*producer->parts));
    producer->idle = calloc(options->window, sizeof(*producer->idle));
    producer->busy = calloc(options->window, sizeof(*producer->busy));
    if (producer->parts == NULL || producer->idle == NULL || producer->busy == NULL) {
        err_set(err, 0, "no memory");
        goto failed;
    }
    if (encode(producer, err) != 0) {
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

static void put_key(const struct producer *producer, uint8_t *message)
{
    uint64_t key = producer->sent % producer->options.keys, rest = key;
    for (size_t i = KEY_DIGITS - 1; i > 0; i--, rest /= 10) {
        message[producer->key_at + i] = (uint8_t)('0' + rest % 10);
    }
    if (producer->options.weighted) {
        message[producer->weight_at] = (uint8_t)('1' + key % WEIGHTS_MAX);
    }
}

/* Takes an idle frame, numbers its messages on and gives them their keys. */
static struct iovec prepare_frame(struct producer *producer)
{
    const struct producer_options *options = &producer->options;
    uint32_t slot = producer->idle[--producer->idle_count];
    uint8_t *frame = producer->frames.data + slot * producer->frame_size;
    uint8_t *end = frame + producer->frame_size;
    producer->busy[slot] = true;
    for (uint32_t i = options->batch; i > 0; i--) {
        uint8_t *message = end - i * producer->message_size;
        bytes_put_u64(message + producer->message_size - options->payload,
                      options->first + producer->sent * options->stride);
        if (options->keys > 0) {
            put_key(producer, message);
        }
        producer->sent++;
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
    if (slot >= producer->options.window || !producer->busy[slot]) {
        return err_set(err, 0, "the broker answered request %u, which is not in flight",
                       frame->request_id);
    }
    wire_reader_init(&reader, frame->body);
    if (!framed_client_enqueue_result_begin(&reader, &count)) {
        return client_malformed(&reader, "EnqueueResult", err);
    }
    if (count != producer->options.batch) {
        return err_set(err, 0, "EnqueueResult names %u messages, the request had %u", count,
                       producer->options.batch);
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

int producer_step(struct producer *producer, uint64_t limit, bool wait, struct err *err)
{
    if (send_frames(producer, limit, err) != 0) {
        return -1;
    }
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

int producer_preload(struct client *client, const struct producer_options *options,
                     uint64_t messages, struct err *err)
{
    struct producer_options bulk = *options;
    bulk.window = 4;
    bulk.batch = 100;
    struct producer *producer = producer_create(client, &bulk, err);
    int result = producer != NULL ? 0 : -1;
    while (result == 0 && producer->confirmed < messages) {
        result = progress_interrupted() ? err_set(err, 0, "interrupted")
                                        : producer_step(producer, messages, true, err);
    }
    producer_destroy(producer);
    return result;
}
