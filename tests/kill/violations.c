#include "kill/violations.h"

#include <inttypes.h>
#include <stdlib.h>

#include "core/buf.h"
#include "os/time.h"

#define KEPT 40          /* texts in all */
#define KEPT_OF_A_KIND 8 /* so that one kind does not hide the others */

struct violations {
    const struct journal_queue *queues;
    uint64_t start_ns;
    struct buf texts[KEPT];
    unsigned count;
    unsigned of_a_kind[VIOLATIONS];
    uint64_t dropped;
};

const char *violation_name(enum violation kind)
{
    static const char *const names[VIOLATIONS] = {
        [VIOLATION_LOST] = "lost",       [VIOLATION_RETURNED] = "returned",
        [VIOLATION_LEASE] = "lease",     [VIOLATION_REFUSED] = "refused",
        [VIOLATION_ORDER] = "order",     [VIOLATION_DELAY] = "delay",
        [VIOLATION_ATTEMPT] = "attempt", [VIOLATION_COUNTER] = "counter",
        [VIOLATION_PAYLOAD] = "payload", [VIOLATION_IDENTITY] = "identity",
        [VIOLATION_SERVICE] = "service"};
    return (unsigned)kind < VIOLATIONS ? names[kind] : "unknown";
}

struct violations *violations_create(const struct journal_queue *queues)
{
    struct violations *violations = calloc(1, sizeof *violations);
    if (!violations)
        return NULL;
    violations->queues = queues;
    violations->start_ns = time_monotonic_ns();
    return violations;
}

void violations_destroy(struct violations *violations)
{
    if (!violations)
        return;
    for (unsigned i = 0; i < violations->count; i++)
        buf_free(&violations->texts[i]);
    free(violations);
}

/* NULL when enough are kept already. */
static struct buf *violations_slot(struct violations *violations, enum violation kind)
{
    if (violations->count == KEPT || violations->of_a_kind[kind] == KEPT_OF_A_KIND) {
        violations->dropped++;
        return NULL;
    }
    violations->of_a_kind[kind]++;
    struct buf *text = &violations->texts[violations->count++];
    buf_init(text, 0);
    buf_printf(text, "%s: ", violation_name(kind));
    return text;
}

/* Seconds since the start, as they stand in the report. */
static double seconds(const struct violations *violations, uint64_t time_ns)
{
    return time_ns ? ((double)time_ns - (double)violations->start_ns) / 1e9 : 0.0;
}

static void print_code(struct buf *text, uint8_t code)
{
    if (code == CODE_OPEN)
        buf_printf(text, "not answered yet");
    else if (code == JOURNAL_NO_ANSWER)
        buf_printf(text, "never answered");
    else
        buf_printf(text, "answered %02x", code);
}

static void print_event(const struct violations *violations, struct buf *text,
                        const struct message_event *event)
{
    buf_printf(text, "    %10.4f  ", seconds(violations, event->time_ns));
    if (event->kind == EVENT_DELIVERED) {
        buf_printf(text, "delivered to client %u, attempt %" PRIu32 ", leased at %.4f\n",
                   event->client, event->attempt, seconds(violations, event->other_ns));
        return;
    }
    buf_printf(text, "%s sent by client %u, ", event->kind == EVENT_ACK ? "ack" : "nack",
               event->client);
    print_code(text, event->code);
    if (event->other_ns)
        buf_printf(text, " at %.4f", seconds(violations, event->other_ns));
    buf_printf(text, "\n");
}

static void print_message(const struct violations *violations, struct buf *text,
                          const struct message *message)
{
    static const char *const states[] = {"not answered yet", "confirmed", "never answered",
                                         "refused"};
    const struct journal_queue *queue = &violations->queues[message->queue];
    uint8_t id[UUID_TEXT_SIZE + 1] = "unknown";
    if (message->has_id) {
        uuid_format(&message->id, id);
        id[UUID_TEXT_SIZE] = '\0';
    }
    buf_printf(text, "    queue %s, visibility timeout %" PRIu32 " ms, key %u, id %s\n",
               queue->name, queue->visibility_ms, message->key, (char *)id);
    buf_printf(text, "    %10.4f  sent on connection %" PRIu32 ", %s",
               seconds(violations, message->sent_ns), message->connection, states[message->state]);
    if (message->confirmed_ns)
        buf_printf(text, " at %.4f", seconds(violations, message->confirmed_ns));
    buf_printf(text, "\n");
    if (message->forgotten)
        buf_printf(text, "                (%u earlier events forgotten)\n", message->forgotten);
    for (unsigned i = 0; i < message->event_count; i++)
        print_event(violations, text, &message->events[i]);
    if (message->acked_ns)
        buf_printf(text, "    ack confirmed at %.4f\n", seconds(violations, message->acked_ns));
}

void violations_add_message(struct violations *violations, enum violation kind,
                            struct journal_ref ref, const struct message *message, const char *what)
{
    struct buf *text = violations_slot(violations, kind);
    if (!text)
        return;
    buf_printf(text, "message %" PRIu32 "/%" PRIu32 ": %s (seen at %.4f)\n", ref.producer,
               ref.sequence, what, seconds(violations, time_monotonic_ns()));
    if (message)
        print_message(violations, text, message);
}

void violations_add_text(struct violations *violations, enum violation kind, const char *what)
{
    struct buf *text = violations_slot(violations, kind);
    if (text)
        buf_printf(text, "%s (at %.4f)\n", what, seconds(violations, time_monotonic_ns()));
}

void violations_print(const struct violations *violations, FILE *out)
{
    for (unsigned i = 0; i < violations->count; i++)
        fwrite(violations->texts[i].data, 1, violations->texts[i].size, out);
    if (violations->dropped)
        fprintf(out, "and %" PRIu64 " more\n", violations->dropped);
}
