#include "crowd.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "progress.h"

#define SILENCE_SECONDS 30

int crowd_open(struct crowd *crowd, const struct crowd_options *options, struct err *err)
{
    struct producer_options producer = options->producer;
    struct consumer_options consumer = options->consumer;
    memset(crowd, 0, sizeof(*crowd));
    consumer.ledger = &crowd->ledger;
    producer.stride = options->producers;
    for (unsigned i = 0; i < options->producers + options->consumers; i++) {
        crowd->clients[i] = client_open(options->port, err);
        if (crowd->clients[i] == NULL) {
            return -1;
        }
    }
    for (unsigned i = 0; i < options->producers; i++) {
        producer.first = i;
        crowd->producers[i] = producer_create(crowd->clients[i], &producer, err);
        if (crowd->producers[i] == NULL) {
            return -1;
        }
        crowd->producer_count++;
    }
    for (unsigned i = 0; i < options->consumers; i++) {
        crowd->consumers[i] =
            consumer_create(crowd->clients[options->producers + i], &consumer, err);
        if (crowd->consumers[i] == NULL) {
            return -1;
        }
        crowd->consumer_count++;
    }
    return 0;
}

int crowd_consume(struct crowd *crowd, struct err *err)
{
    for (unsigned i = 0; i < crowd->consumer_count; i++) {
        if (consumer_begin(crowd->consumers[i], err) != 0) {
            return -1;
        }
    }
    return 0;
}

void crowd_close(struct crowd *crowd)
{
    for (unsigned i = 0; i < CROWD_MAX; i++) {
        producer_destroy(crowd->producers[i]);
        consumer_destroy(crowd->consumers[i]);
        client_close(crowd->clients[i]);
    }
    ledger_free(&crowd->ledger);
}

static int step_producer(struct producer *producer, bool produce, bool readable, struct err *err)
{
    uint64_t limit = produce ? UINT64_MAX : 0;
    return producer_step(producer, limit, readable, err);
}

int crowd_step(struct crowd *crowd, bool produce, struct err *err)
{
    struct pollfd fds[CROWD_MAX];
    unsigned count = crowd->producer_count + crowd->consumer_count;
    /* What is new goes out before anybody waits. */
    for (unsigned i = 0; i < crowd->producer_count; i++) {
        if (step_producer(crowd->producers[i], produce, false, err) != 0) {
            return -1;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        fds[i] = (struct pollfd){.fd = client_fd(crowd->clients[i]), .events = POLLIN};
    }
    int ready = poll(fds, count, SILENCE_SECONDS * 1000);
    if (ready < 0 && errno == EINTR && !progress_interrupted()) {
        return 0;
    }
    if (ready <= 0) {
        return ready < 0 ? err_set_errno(err, errno, "wait for the broker")
                         : err_set(err, 0, "the broker was silent for %d s", SILENCE_SECONDS);
    }
    for (unsigned i = 0; i < count; i++) {
        if (fds[i].revents == 0) {
            continue;
        }
        int result = i < crowd->producer_count
                         ? step_producer(crowd->producers[i], produce, true, err)
                         : consumer_step(crowd->consumers[i - crowd->producer_count], err);
        if (result != 0) {
            return -1;
        }
    }
    return 0;
}

uint64_t crowd_sent(const struct crowd *crowd)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < crowd->producer_count; i++) {
        sum += producer_sent(crowd->producers[i]);
    }
    return sum;
}

uint64_t crowd_confirmed(const struct crowd *crowd)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < crowd->producer_count; i++) {
        sum += producer_confirmed(crowd->producers[i]);
    }
    return sum;
}

uint64_t crowd_delivered(const struct crowd *crowd)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < crowd->consumer_count; i++) {
        sum += consumer_delivered(crowd->consumers[i]);
    }
    return sum;
}

uint64_t crowd_acked(const struct crowd *crowd)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < crowd->consumer_count; i++) {
        sum += consumer_acked(crowd->consumers[i]);
    }
    return sum;
}
