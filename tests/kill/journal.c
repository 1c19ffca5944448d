#include "kill/journal.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "kill/message.h"
#include "kill/order.h"
#include "kill/payload.h"
#include "kill/policy.h"
#include "kill/proof.h"
#include "kill/violations.h"
#include "os/time.h"

#define CLOCK_READ_NS 200000u /* the two clocks are read within so long */
#define CHUNK 4096u
#define EVENTS_MAX 48u
#define FORGET_AFTER_NS 60000000000u /* histories of acked messages are dropped after this */

struct producer {
    struct message **chunks;
    uint32_t chunk_count;
    uint32_t count;  /* messages */
    uint32_t oldest; /* the first whose history may still be there */
};

struct journal {
    pthread_mutex_t mutex;
    struct journal_options options;
    struct producer *producers;
    struct order *order;
    struct journal_totals totals;
    struct violations *violations;
};

static uint64_t visibility_ns(const struct journal *journal, const struct message *message)
{
    return (uint64_t)journal->options.queues[message->queue].visibility_ms * 1000000u;
}

static void out_of_memory(void)
{
    fputs("kill-test: out of memory\n", stderr);
    abort();
}

struct journal *journal_create(const struct journal_options *options)
{
    struct journal *journal = calloc(1, sizeof *journal);
    if (!journal)
        out_of_memory();
    journal->options = *options;
    journal->producers = calloc(options->producers, sizeof *journal->producers);
    journal->order = order_create(options->producers, options->queue_count);
    journal->violations = violations_create(options->queues);
    if (!journal->producers || !journal->order || !journal->violations ||
        pthread_mutex_init(&journal->mutex, NULL) != 0)
        out_of_memory();
    return journal;
}

void journal_destroy(struct journal *journal)
{
    if (!journal)
        return;
    for (unsigned p = 0; p < journal->options.producers; p++) {
        struct producer *producer = &journal->producers[p];
        for (uint32_t i = 0; i < producer->count; i++)
            free(producer->chunks[i / CHUNK][i % CHUNK].events);
        for (uint32_t i = 0; i < producer->chunk_count; i++)
            free(producer->chunks[i]);
        free(producer->chunks);
    }
    free(journal->producers);
    order_destroy(journal->order);
    violations_destroy(journal->violations);
    pthread_mutex_destroy(&journal->mutex);
    free(journal);
}

static struct message *message_find(struct journal *journal, struct journal_ref ref)
{
    if (ref.producer >= journal->options.producers ||
        ref.sequence >= journal->producers[ref.producer].count)
        return NULL;
    return &journal->producers[ref.producer].chunks[ref.sequence / CHUNK][ref.sequence % CHUNK];
}

static struct message *message_add(struct producer *producer)
{
    if (producer->count == producer->chunk_count * CHUNK) {
        struct message **chunks =
            realloc(producer->chunks, (producer->chunk_count + 1) * sizeof *chunks);
        if (!chunks)
            out_of_memory();
        producer->chunks = chunks;
        chunks[producer->chunk_count] = calloc(CHUNK, sizeof **chunks);
        if (!chunks[producer->chunk_count])
            out_of_memory();
        producer->chunk_count++;
    }
    struct message *message = &producer->chunks[producer->count / CHUNK][producer->count % CHUNK];
    producer->count++;
    return message;
}

static void violate(struct journal *journal, enum violation kind, struct journal_ref ref,
                    const char *what)
{
    journal->totals.violations[kind]++;
    journal->totals.violation_count++;
    violations_add_message(journal->violations, kind, ref, message_find(journal, ref), what);
}

/* The new event's index. With too many of them the oldest one that is no open request goes. */
static unsigned event_add(struct message *message, struct message_event event)
{
    if (message->event_count == EVENTS_MAX) {
        unsigned victim = 0;
        while (victim + 1 < EVENTS_MAX && event_is_open(&message->events[victim]))
            victim++;
        memmove(&message->events[victim], &message->events[victim + 1],
                (EVENTS_MAX - 1 - victim) * sizeof *message->events);
        message->event_count--;
        message->forgotten++;
    }
    if (message->event_count == message->event_room) {
        uint16_t room = (uint16_t)(message->event_room ? message->event_room * 2 : 2);
        if (room > EVENTS_MAX)
            room = EVENTS_MAX;
        struct message_event *events = realloc(message->events, room * sizeof *events);
        if (!events)
            out_of_memory();
        message->events = events;
        message->event_room = room;
    }
    message->events[message->event_count] = event;
    return message->event_count++;
}

/* Drops the histories of messages that were acked long ago. */
static void producer_forget(struct producer *producer, uint64_t now)
{
    while (producer->oldest < producer->count) {
        struct message *message =
            &producer->chunks[producer->oldest / CHUNK][producer->oldest % CHUNK];
        if (message->sent_ns + FORGET_AFTER_NS > now)
            return;
        if (message->acked_ns && message->acked_ns + FORGET_AFTER_NS < now) {
            message->forgotten = (uint16_t)(message->forgotten + message->event_count);
            message->event_count = message->event_room = 0;
            free(message->events);
            message->events = NULL;
        } else if (message->sent_ns + 10 * FORGET_AFTER_NS > now) {
            return;
        }
        producer->oldest++;
    }
}

struct journal_ref journal_send(struct journal *journal, uint32_t producer, unsigned queue,
                                unsigned key, uint32_t connection)
{
    uint64_t now = time_monotonic_ns();
    pthread_mutex_lock(&journal->mutex);
    producer_forget(&journal->producers[producer], now);
    struct journal_ref ref = {producer, journal->producers[producer].count};
    struct message *message = message_add(&journal->producers[producer]);
    message->sent_ns = now;
    message->queue = (uint16_t)queue;
    message->key = (uint8_t)key;
    message->connection = connection;
    journal->totals.sent++;
    pthread_mutex_unlock(&journal->mutex);
    return ref;
}

static void identify(struct journal *journal, struct journal_ref ref, struct message *message,
                     const struct uuid *id)
{
    if (!message->has_id) {
        message->id = *id;
        message->has_id = true;
    } else if (!uuid_equal(&message->id, id)) {
        violate(journal, VIOLATION_IDENTITY, ref, "it has a second id");
    }
}

void journal_enqueued(struct journal *journal, struct journal_ref ref, uint8_t code,
                      const struct uuid *id, uint64_t time_ns)
{
    pthread_mutex_lock(&journal->mutex);
    struct message *message = message_find(journal, ref);
    switch (code) {
    case DRIVER_OK:
        if (journal->options.policy && policy_rejects(ref.sequence))
            violate(journal, VIOLATION_IDENTITY, ref, "its script rejects it and it was accepted");
        message->state = MESSAGE_CONFIRMED;
        message->confirmed_ns = time_ns;
        journal->totals.confirmed++;
        if (id)
            identify(journal, ref, message, id);
        else
            violate(journal, VIOLATION_IDENTITY, ref, "it was confirmed without an id");
        break;
    case DRIVER_CHANNEL_FULL:
        message->state = MESSAGE_REFUSED;
        journal->totals.refused++;
        if (message->delivered)
            violate(journal, VIOLATION_IDENTITY, ref, "it was refused and delivered");
        break;
    case DRIVER_FORBIDDEN:
        message->state = MESSAGE_REFUSED;
        journal->totals.refused++;
        if (!journal->options.policy || !policy_rejects(ref.sequence) || message->delivered)
            violate(journal, VIOLATION_IDENTITY, ref, "it was rejected and should not be");
        break;
    case DRIVER_QUEUE_NOT_FOUND:
        message->state = MESSAGE_REFUSED;
        journal->totals.refused++;
        violate(journal, VIOLATION_LOST, ref, "its queue does not exist any more");
        break;
    default:
        message->state = MESSAGE_DOUBT;
        journal->totals.doubtful++;
    }
    pthread_mutex_unlock(&journal->mutex);
}

/* Bytes and names of a delivery against what was sent. */
static const char *delivery_damage(const struct journal *journal, const struct message *message,
                                   struct journal_ref ref, const struct driver_delivery *delivery)
{
    char key[32], mark[32];
    snprintf(key, sizeof key, "p%u-%u", ref.producer, message->key);
    snprintf(mark, sizeof mark, "%u/%u", ref.producer, ref.sequence);
    if (!str_equal(delivery->queue, str_from_c(journal->options.queues[message->queue].name)))
        return "it was delivered from another queue";
    if (!str_equal(delivery->key, str_from_c(key)) || !str_equal(delivery->mark, str_from_c(mark)))
        return "it was delivered with other headers";
    if (journal->options.keys && !str_equal(delivery->fairness_key, str_from_c(key)))
        return "it was delivered with another fairness key";
    return NULL;
}

static const char *check_delays(const struct journal *journal, struct journal_ref ref,
                                const struct message *message, unsigned index)
{
    const struct journal_queue *queue = &journal->options.queues[message->queue];
    uint64_t delay_ns = (uint64_t)policy_delay_ms(queue, ref.sequence) * 1000000u;
    return proof_delay(message, index, delay_ns, visibility_ns(journal, message),
                       policy_retry_delay_ms);
}

static void check_delivery(struct journal *journal, struct journal_ref ref, struct message *message,
                           unsigned index)
{
    uint64_t visibility = visibility_ns(journal, message);
    const char *wrong = proof_lease(message, index, visibility);
    if (wrong)
        violate(journal, VIOLATION_LEASE, ref, wrong);
    /* After a broken lease the attempts tell nothing more. */
    if (!wrong && (wrong = proof_attempt(message, index, visibility, journal->options.policy)))
        violate(journal, VIOLATION_ATTEMPT, ref, wrong);
    if (journal->options.policy && (wrong = check_delays(journal, ref, message, index)))
        violate(journal, VIOLATION_DELAY, ref, wrong);
    journal->totals.hidden += proof_hidden(message, index);
    if ((wrong = proof_acked(message)))
        violate(journal, VIOLATION_RETURNED, ref, wrong);
}

/* First deliveries of a queue with one consumer come in the order of their commit. */
static void check_order(struct journal *journal, struct journal_ref ref, struct message *message)
{
    struct order_entry entry = {.sequence = ref.sequence,
                                .connection = message->connection,
                                .sent_ns = message->sent_ns,
                                .confirmed_ns = message->confirmed_ns};
    if (!order_delivered(journal->order, ref.producer, message->queue, message->key, &entry))
        violate(journal, VIOLATION_ORDER, ref, "it was first delivered after a later one");
}

/* What the wall clock is ahead of the monotonic one. Read again when something came between. */
static uint64_t wall_offset_ns(void)
{
    for (;;) {
        uint64_t before = time_monotonic_ns(), wall = time_wall_ns();
        if (time_monotonic_ns() - before < CLOCK_READ_NS)
            return wall - before;
    }
}

bool journal_delivered(struct journal *journal, unsigned client,
                       const struct driver_delivery *delivery, uint64_t time_ns,
                       struct journal_ref *ref)
{
    /* Wall-clock time of the lease on the monotonic clock; without one, when it was read. */
    uint64_t lease_ns = time_ns;
    if (delivery->leased_ms)
        lease_ns = delivery->leased_ms * 1000000u - wall_offset_ns();
    pthread_mutex_lock(&journal->mutex);
    journal->totals.delivered++;
    struct message *message = NULL;
    if (delivery->readable && payload_read(delivery->payload, &ref->producer, &ref->sequence))
        message = message_find(journal, *ref);
    if (!message) {
        journal->totals.violations[VIOLATION_PAYLOAD]++;
        journal->totals.violation_count++;
        violations_add_text(journal->violations, VIOLATION_PAYLOAD,
                            "a delivery whose payload nobody sent");
        pthread_mutex_unlock(&journal->mutex);
        return false;
    }
    const char *damage = delivery_damage(journal, message, *ref, delivery);
    if (damage)
        violate(journal, VIOLATION_PAYLOAD, *ref, damage);
    identify(journal, *ref, message, &delivery->id);
    if (message->state == MESSAGE_REFUSED)
        violate(journal, VIOLATION_IDENTITY, *ref, "it was refused and delivered");

    bool first = !message->delivered;
    message->delivered = true;
    unsigned index = event_add(message, (struct message_event){.kind = EVENT_DELIVERED,
                                                               .time_ns = time_ns,
                                                               .other_ns = lease_ns,
                                                               .attempt = delivery->attempt,
                                                               .client = (uint16_t)client});
    if (!first)
        journal->totals.redelivered++;
    if (time_ns > lease_ns && time_ns - lease_ns > journal->totals.worst_delay_ns)
        journal->totals.worst_delay_ns = time_ns - lease_ns;
    check_delivery(journal, *ref, message, index);
    if (first && delivery->attempt == 0 && journal->options.queues[message->queue].ordered)
        check_order(journal, *ref, message);
    pthread_mutex_unlock(&journal->mutex);
    return damage == NULL;
}

void journal_ack_sent(struct journal *journal, unsigned client, struct journal_ref ref, bool nack)
{
    uint64_t now = time_monotonic_ns();
    pthread_mutex_lock(&journal->mutex);
    struct message *message = message_find(journal, ref);
    event_add(message, (struct message_event){.kind = nack ? EVENT_NACK : EVENT_ACK,
                                              .time_ns = now,
                                              .code = CODE_OPEN,
                                              .client = (uint16_t)client});
    pthread_mutex_unlock(&journal->mutex);
}

static void count_ack(struct journal *journal, bool nack, uint8_t code)
{
    if (code == DRIVER_OK && nack)
        journal->totals.nacked++;
    else if (code != DRIVER_OK && code != DRIVER_MESSAGE_NOT_FOUND)
        journal->totals.ack_doubts++;
}

void journal_ack_result(struct journal *journal, unsigned client, struct journal_ref ref, bool nack,
                        uint8_t code, uint64_t time_ns)
{
    pthread_mutex_lock(&journal->mutex);
    struct message *message = message_find(journal, ref);
    count_ack(journal, nack, code);
    enum event_kind kind = nack ? EVENT_NACK : EVENT_ACK;
    unsigned i = 0;
    while (i < message->event_count &&
           !(message->events[i].kind == kind && message->events[i].client == client &&
             message->events[i].code == CODE_OPEN))
        i++;
    if (i < message->event_count) {
        message->events[i].code = code;
        message->events[i].other_ns = time_ns;
    }
    if (!nack && code == DRIVER_OK && !message->acked_ns) {
        message->acked_ns = time_ns;
        journal->totals.acked++;
    }
    const char *wrong = !nack && code == DRIVER_OK ? proof_acked(message) : NULL;
    if (wrong)
        violate(journal, VIOLATION_RETURNED, ref, wrong);
    if (code == DRIVER_MESSAGE_NOT_FOUND && i < message->event_count &&
        (wrong = proof_refused(message, i, visibility_ns(journal, message))))
        violate(journal, VIOLATION_REFUSED, ref, wrong);
    pthread_mutex_unlock(&journal->mutex);
}

struct driver_handle journal_handle(struct journal *journal, struct journal_ref ref)
{
    pthread_mutex_lock(&journal->mutex);
    struct message *message = message_find(journal, ref);
    struct driver_handle handle = {journal->options.queues[message->queue].name, message->id};
    pthread_mutex_unlock(&journal->mutex);
    return handle;
}

void journal_bounds(struct journal *journal, struct journal_bounds *bounds)
{
    memset(bounds, 0, journal->options.queue_count * sizeof *bounds);
    pthread_mutex_lock(&journal->mutex);
    for (uint32_t p = 0; p < journal->options.producers; p++) {
        for (uint32_t s = 0; s < journal->producers[p].count; s++) {
            struct message *message = message_find(journal, (struct journal_ref){p, s});
            enum proof_existence existence = proof_existence(message);
            bounds[message->queue].must += existence == PROOF_THERE;
            bounds[message->queue].may += existence != PROOF_GONE;
        }
    }
    pthread_mutex_unlock(&journal->mutex);
}

struct numbered_id {
    struct uuid id;
    struct journal_ref ref;
};

static int numbered_id_compare(const void *a, const void *b)
{
    return memcmp(((const struct numbered_id *)a)->id.bytes,
                  ((const struct numbered_id *)b)->id.bytes, UUID_SIZE);
}

static void find_double_ids(struct journal *journal)
{
    size_t total = 0, count = 0;
    for (uint32_t p = 0; p < journal->options.producers; p++)
        total += journal->producers[p].count;
    struct numbered_id *ids = calloc(total ? total : 1, sizeof *ids);
    if (!ids)
        out_of_memory();
    for (uint32_t p = 0; p < journal->options.producers; p++)
        for (uint32_t s = 0; s < journal->producers[p].count; s++) {
            struct message *message = message_find(journal, (struct journal_ref){p, s});
            if (message->has_id)
                ids[count++] = (struct numbered_id){message->id, {p, s}};
        }
    qsort(ids, count, sizeof *ids, numbered_id_compare);
    for (size_t i = 1; i < count; i++)
        if (uuid_equal(&ids[i - 1].id, &ids[i].id))
            violate(journal, VIOLATION_IDENTITY, ids[i].ref, "another message has the same id");
    free(ids);
}

void journal_finish(struct journal *journal)
{
    pthread_mutex_lock(&journal->mutex);
    for (uint32_t p = 0; p < journal->options.producers; p++)
        for (uint32_t s = 0; s < journal->producers[p].count; s++) {
            struct journal_ref ref = {p, s};
            struct message *message = message_find(journal, ref);
            if (proof_existence(message) == PROOF_THERE)
                violate(journal, VIOLATION_LOST, ref,
                        message->confirmed_ns ? "it was confirmed, never acked and is gone"
                                              : "it was delivered, never acked and is gone");
        }
    find_double_ids(journal);
    pthread_mutex_unlock(&journal->mutex);
}

void journal_violation(struct journal *journal, enum violation kind, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    pthread_mutex_lock(&journal->mutex);
    journal->totals.violations[kind]++;
    journal->totals.violation_count++;
    violations_add_text(journal->violations, kind, text);
    pthread_mutex_unlock(&journal->mutex);
}

void journal_totals(struct journal *journal, struct journal_totals *totals)
{
    pthread_mutex_lock(&journal->mutex);
    *totals = journal->totals;
    pthread_mutex_unlock(&journal->mutex);
}

void journal_report(struct journal *journal, FILE *out)
{
    pthread_mutex_lock(&journal->mutex);
    violations_print(journal->violations, out);
    pthread_mutex_unlock(&journal->mutex);
}
