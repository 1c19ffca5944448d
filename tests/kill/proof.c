#include "kill/proof.h"

#include <stddef.h>

/* How long after its connection was lost a request may still be executed. */
#define DOUBT_NS 10000000000u

/* The latest moment at which a nack or ack may have been executed. */
static uint64_t executed_ns(const struct message_event *event)
{
    if (event->code == CODE_OPEN)
        return UINT64_MAX;
    return event->other_ns + (event->code == DRIVER_OK ? PROOF_GRAIN_NS : DOUBT_NS);
}

/* Whether delivery `a` was leased before `b`; within the grain of the clock the attempt decides. */
static bool leased_before(const struct message_event *a, const struct message_event *b)
{
    if (a->other_ns + PROOF_GRAIN_NS < b->other_ns)
        return true;
    return a->other_ns <= b->other_ns + PROOF_GRAIN_NS && a->attempt < b->attempt;
}

/* Nacks that may have been executed between `from` and `to`. */
static unsigned nacks_between(const struct message *message, uint64_t from, uint64_t to)
{
    unsigned count = 0;
    for (unsigned i = 0; i < message->event_count; i++) {
        const struct message_event *event = &message->events[i];
        if (event->kind == EVENT_NACK && !event_is_void(event) && event->time_ns <= to &&
            executed_ns(event) >= from)
            count++;
    }
    return count;
}

const char *proof_lease(const struct message *message, unsigned index, uint64_t visibility_ns)
{
    const struct message_event *new = &message->events[index];
    if (new->other_ns > new->time_ns + PROOF_GRAIN_NS)
        return "its lease begins after it was received";
    if (new->other_ns + PROOF_GRAIN_NS < message->sent_ns)
        return "its lease begins before the message was sent";
    for (unsigned i = 0; i < message->event_count; i++) {
        const struct message_event *other = &message->events[i];
        if (i == index || other->kind != EVENT_DELIVERED)
            continue;
        const struct message_event *first = leased_before(new, other) ? new : other;
        const struct message_event *second = first == new ? other : new;
        if (first->other_ns + visibility_ns > second->other_ns + PROOF_GRAIN_NS &&
            nacks_between(message, first->other_ns, second->time_ns) == 0)
            return "delivered again before its visibility timeout";
    }
    return NULL;
}

/* The delivery that comes right before (after) the one at `index` by lease time; -1: none. */
static int neighbour(const struct message *message, unsigned index, bool before)
{
    const struct message_event *event = &message->events[index];
    int best = -1;
    for (unsigned i = 0; i < message->event_count; i++) {
        const struct message_event *other = &message->events[i];
        if (i == index || other->kind != EVENT_DELIVERED)
            continue;
        bool is_after = leased_before(event, other);
        if (is_after == before)
            continue;
        const struct message_event *held = best < 0 ? NULL : &message->events[best];
        if (!held || (before ? leased_before(held, other) : leased_before(other, held)))
            best = (int)i;
    }
    return best;
}

static const char *attempt_step(const struct message *message, const struct message_event *first,
                                const struct message_event *second, uint64_t visibility_ns,
                                bool resets)
{
    if (resets && second->attempt <= first->attempt)
        return NULL;
    if (resets && second->other_ns <= first->other_ns) /* it came first, and was reset then */
        return NULL;
    if (second->attempt <= first->attempt)
        return "its attempt did not rise since the delivery before";
    uint64_t leases = 0;
    if (second->other_ns > first->other_ns)
        leases = (second->other_ns - first->other_ns + PROOF_GRAIN_NS) / visibility_ns;
    if (second->attempt - first->attempt >
        leases + nacks_between(message, first->other_ns, second->time_ns))
        return "its attempt rose by more than nacks and expired leases explain";
    return NULL;
}

const char *proof_attempt(const struct message *message, unsigned index, uint64_t visibility_ns,
                          bool resets)
{
    const struct message_event *event = &message->events[index];
    const char *wrong = NULL;
    int before = neighbour(message, index, true), after = neighbour(message, index, false);
    if (before >= 0)
        wrong = attempt_step(message, &message->events[before], event, visibility_ns, resets);
    else if (!message->forgotten &&
             event->attempt > (event->other_ns + PROOF_GRAIN_NS - message->sent_ns) / visibility_ns)
        wrong = "its first attempt is more than expired leases explain";
    if (!wrong && after >= 0)
        wrong = attempt_step(message, event, &message->events[after], visibility_ns, resets);
    return wrong;
}

uint32_t proof_hidden(const struct message *message, unsigned index)
{
    int before = neighbour(message, index, true);
    if (before < 0)
        return message->forgotten ? 0 : message->events[index].attempt;
    uint32_t step = message->events[index].attempt - message->events[before].attempt;
    return step > 0 && step < UINT32_MAX / 2 ? step - 1 : 0;
}

/* The delivery that a nack ended for certain: the last one before it, whose lease was in force
 * until its answer. NULL when that cannot be said. */
static const struct message_event *nacked_delivery(const struct message *message,
                                                   const struct message_event *nack,
                                                   uint64_t visibility_ns)
{
    const struct message_event *last = NULL;
    for (unsigned i = 0; i < message->event_count; i++) {
        const struct message_event *event = &message->events[i];
        if (event->kind == EVENT_DELIVERED && event->other_ns <= nack->time_ns &&
            (!last || event->other_ns > last->other_ns))
            last = event;
        if (event != nack && event->kind != EVENT_DELIVERED && !event_is_void(event) && last &&
            event->time_ns >= last->time_ns && event->time_ns <= nack->other_ns)
            return NULL; /* another request for it at the same time */
    }
    return last && nack->other_ns < last->other_ns + visibility_ns ? last : NULL;
}

const char *proof_delay(const struct message *message, unsigned index, uint64_t delay_ns,
                        uint64_t visibility_ns, uint32_t (*retry_delay_ms)(uint32_t attempts))
{
    const struct message_event *delivery = &message->events[index];
    uint64_t lease_ns = delivery->other_ns + PROOF_GRAIN_NS;
    if (lease_ns < message->sent_ns + delay_ns)
        return "delivered before its delay was over";
    for (unsigned i = 0; i < message->event_count; i++) {
        const struct message_event *nack = &message->events[i];
        if (nack->kind != EVENT_NACK || nack->code != DRIVER_OK)
            continue;
        const struct message_event *nacked = nacked_delivery(message, nack, visibility_ns);
        if (nacked && delivery->other_ns > nacked->other_ns + PROOF_GRAIN_NS &&
            lease_ns < nack->time_ns + (uint64_t)retry_delay_ms(nacked->attempt + 1) * 1000000u)
            return "delivered again before the delay of its retry was over";
    }
    return NULL;
}

const char *proof_acked(const struct message *message)
{
    if (!message->acked_ns)
        return NULL;
    for (unsigned i = 0; i < message->event_count; i++) {
        const struct message_event *event = &message->events[i];
        if (event->kind == EVENT_DELIVERED && event->other_ns > message->acked_ns + PROOF_GRAIN_NS)
            return "delivered again after its ack was confirmed";
        if (event->kind == EVENT_ACK && event->code == DRIVER_OK &&
            event->time_ns > message->acked_ns)
            return "acked once more with success after its ack was confirmed";
    }
    return NULL;
}

const char *proof_refused(const struct message *message, unsigned index, uint64_t visibility_ns)
{
    const struct message_event *refused = &message->events[index];
    uint64_t lease_ns = 0;
    for (unsigned i = 0; i < message->event_count; i++) {
        const struct message_event *event = &message->events[i];
        if (event->kind == EVENT_DELIVERED && event->time_ns <= refused->time_ns &&
            event->other_ns > lease_ns)
            lease_ns = event->other_ns;
        if (event->kind == EVENT_ACK && i != index && !event_is_void(event))
            return NULL;
    }
    if (!lease_ns || refused->other_ns >= lease_ns + visibility_ns ||
        nacks_between(message, lease_ns, refused->other_ns) > 0)
        return NULL;
    return refused->kind == EVENT_ACK ? "the ack of a valid lease found no message"
                                      : "the nack of a valid lease found no message";
}

enum proof_existence proof_existence(const struct message *message)
{
    if (message->acked_ns)
        return PROOF_GONE;
    for (unsigned i = 0; i < message->event_count; i++) {
        const struct message_event *event = &message->events[i];
        if (event->kind == EVENT_ACK && !event_is_void(event))
            return PROOF_MAYBE;
    }
    if (message->confirmed_ns || message->delivered)
        return PROOF_THERE;
    return message->state == MESSAGE_REFUSED ? PROOF_GONE : PROOF_MAYBE;
}
