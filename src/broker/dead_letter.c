#include "broker/dead_letter.h"

#include <errno.h>
#include <stdio.h>

#include "broker/move.h"
#include "core/utf8.h"
#include "fibp/status.h"
#include "fibp/wire.h"
#include "os/log.h"
#include "os/time.h"

#define SUFFIX STR(".dlq")

/* --- finding the queue --- */

/* *to NULL: there is none that can be written to. */
static int find_queue(struct broker *broker, const struct local_queue *local,
                      struct local_queue **to)
{
    struct str name = local->queue->name;
    *to = NULL;
    if (str_ends_with(name, SUFFIX))
        return 0;
    uint8_t *dlq = pool_alloc(broker->scratch, name.size + SUFFIX.size);
    if (!dlq)
        return broker_fail(broker, ENOMEM, "name a dead-letter queue");
    memcpy(dlq, name.data, name.size);
    memcpy(dlq + name.size, SUFFIX.data, SUFFIX.size);
    if (broker_find_queue(broker, str_of(dlq, name.size + SUFFIX.size), to) != 0)
        return -1;
    if (*to && (*to)->queue->quarantined)
        *to = NULL;
    return 0;
}

static void warn(struct broker *broker, const struct queue *queue)
{
    uint64_t now_ms = time_monotonic_ms();
    if (now_ms < broker->next_dlq_warning_ms)
        return;
    broker->next_dlq_warning_ms = now_ms + BROKER_WARN_EVERY_MS;
    log_write(LOG_WARN, "broker",
              "queue \"%.*s\" has no dead-letter queue that is served: its failed messages are "
              "retried",
              STR_PRINT(queue->name));
}

/* --- what becomes of them --- */

static void set_status(struct dead_letter *letter, uint8_t status)
{
    letter->status = status;
    if (letter->item)
        letter->item->status = status;
}

static int retry(struct broker *broker, struct local_queue *local, struct dead_letter *letters,
                 uint32_t count)
{
    struct write_entry *entries = pool_zalloc(broker->scratch, count * sizeof(*entries));
    struct write_entry *first = NULL, **last = &first;
    int result = 0;
    for (uint32_t i = 0; entries && i < count; i++) {
        if (letters[i].status != FIBP_QUEUE_NOT_FOUND)
            continue;
        entries[i] = (struct write_entry){.kind = WRITE_RETRY,
                                          .item.settle = letters[i].item,
                                          .decision = letters[i].decision,
                                          .kept = &letters[i]};
        set_status(&letters[i], FIBP_STORAGE_ERROR);
        *last = &entries[i];
        last = &entries[i].next;
    }
    if (!first)
        return 0;
    warn(broker, local->queue);
    if (write_locked(broker, local, first, NULL, &result) != 0)
        return -1;
    for (struct write_entry *entry = first; entry && !result; entry = entry->next)
        letters[entry - entries].status = entry->item.settle ? entry->item.settle->status : FIBP_OK;
    return 0;
}

int dead_letter_run(struct broker *broker, struct local_queue *local, struct dead_letter *letters,
                    uint32_t count)
{
    struct local_queue *to = NULL;
    if (find_queue(broker, local, &to) != 0)
        return -1;
    for (uint32_t at = 0; at < count; at += MOVE_MAX) {
        uint32_t some = count - at < MOVE_MAX ? count - at : MOVE_MAX;
        for (uint32_t i = at; !to && i < at + some; i++)
            letters[i].status = FIBP_QUEUE_NOT_FOUND;
        if ((to && move_leased(broker, local, to, letters + at, some) != 0) ||
            retry(broker, local, letters + at, some) != 0)
            return -1;
    }
    for (uint32_t i = 0; i < count; i++)
        set_status(&letters[i], letters[i].status);
    return 0;
}

struct str dead_letter_reason(const struct operation_settle_item *item, bool decided)
{
    if (!item->error.size)
        return decided ? STR("on_failure") : STR("max_attempts");
    return str_of(item->error.data, utf8_truncate(item->error, RECORD_DEAD_REASON_MAX));
}

int dead_letter_entries(struct broker *broker, struct local_queue *local, struct write_entry *first,
                        struct write_entry *end)
{
    uint32_t count = 0, filled = 0;
    for (struct write_entry *entry = first; entry != end; entry = entry->next)
        count += entry->dead;
    if (!count)
        return 0;
    struct dead_letter *letters = pool_zalloc(broker->scratch, count * sizeof(*letters));
    for (struct write_entry *entry = first; letters && entry != end; entry = entry->next) {
        if (!entry->dead)
            continue;
        bool decided = entry->decision && entry->decision->dead_letter;
        letters[filled++] =
            (struct dead_letter){.id = entry->item.settle->id,
                                 .token = entry->token,
                                 .reason = dead_letter_reason(entry->item.settle, decided),
                                 .item = entry->item.settle,
                                 .decision = entry->decision};
    }
    return letters ? dead_letter_run(broker, local, letters, count) : 0;
}

/* --- headers --- */

#define PREFIX "x-fila-dead-letter-"

struct header {
    struct str name, value;
};

#define HEADERS 3

static bool is_ours(struct str name, const struct header *headers)
{
    for (unsigned i = 0; i < HEADERS; i++)
        if (str_equal(name, headers[i].name))
            return true;
    return false;
}

static void put_str(struct buf *out, struct str text)
{
    buf_append_u16(out, (uint16_t)text.size);
    buf_append_str(out, text);
}

/* Into memory that has room for all of it. */
static void merge(struct buf *out, struct str record, const struct header *headers)
{
    struct wire_reader reader;
    struct wire_pair pair;
    uint16_t count = 0, kept = HEADERS;
    wire_reader_init(&reader, record);
    reader.trusted = true;
    buf_append_u16(out, 0);
    for (unsigned i = 0; i < HEADERS; i++) {
        put_str(out, headers[i].name);
        put_str(out, headers[i].value);
    }
    if (!wire_u16(&reader, "headers", &count))
        return;
    for (uint16_t i = 0; i < count && wire_pair_next(&reader, "headers", &pair); i++) {
        if (is_ours(pair.key, headers))
            continue;
        put_str(out, pair.key);
        put_str(out, pair.value);
        kept++;
    }
    bytes_put_u16(out->data, kept);
    buf_append(out, reader.at, wire_remaining(&reader));
}

struct str dead_letter_headers(struct pool *pool, struct str record, const struct record_dead *dead)
{
    char time[24];
    int size = snprintf(time, sizeof(time), "%llu", (unsigned long long)dead->dead_ms);
    const struct header headers[HEADERS] = {
        {STR(PREFIX "reason"), dead->reason},
        {STR(PREFIX "origin"), dead->origin},
        {STR(PREFIX "time"), str_of((const uint8_t *)time, (size_t)size)},
    };
    if (record.size < 2 || bytes_get_u16(record.data) > UINT16_MAX - HEADERS)
        return record;
    struct buf out;
    buf_init(&out, 0);
    merge(&out, record, headers);
    struct str copy = out.failed ? str_of(NULL, 0) : pool_str(pool, buf_str(&out));
    buf_free(&out);
    return copy;
}
