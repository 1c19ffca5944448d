#include "process/support/hostile.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "os/time.h"
#include "process/support/peer.h"
#include "process/support/peer_internal.h"

#define PROBE_ID 0x70726f62u

struct hostile_case *hostile_add(struct hostile_table *table, const char *format, ...)
{
    if (table->count == table->room) {
        table->room = table->room ? 2 * table->room : 256;
        table->cases = realloc(table->cases, table->room * sizeof *table->cases);
        if (!table->cases)
            abort();
    }
    struct hostile_case *item = &table->cases[table->count++];
    va_list arguments;
    memset(item, 0, sizeof *item);
    buf_init(&item->input, 0);
    va_start(arguments, format);
    vsnprintf(item->name, sizeof item->name, format, arguments);
    va_end(arguments);
    return item;
}

void hostile_table_free(struct hostile_table *table)
{
    for (size_t i = 0; i < table->count; i++)
        buf_free(&table->cases[i].input);
    free(table->cases);
    *table = (struct hostile_table){0};
}

void hostile_frame(struct buf *out, uint8_t opcode, uint8_t flags, uint32_t request_id,
                   struct str body)
{
    buf_append_u32(out, (uint32_t)body.size + FRAME_LENGTH_MIN);
    buf_append_u8(out, opcode);
    buf_append_u8(out, flags);
    buf_append_u32(out, request_id);
    buf_append_str(out, body);
}

/* ---- what comes back ---- */

static int check_frame(const struct peer_frame *frame, const struct hostile_expected *expected,
                       struct err *err)
{
    struct wire_reader reader;
    struct framed_client_error error = {0};
    bool is_error = frame->opcode == OPCODE_ERROR;
    wire_reader_init(&reader, str_of(frame->body, frame->size));
    if (is_error && !framed_client_error(&reader, &error))
        return err_set(err, 0, "an Error frame that makes no sense");
    if (frame->opcode != expected->opcode || error.code != expected->code)
        return err_set(err, 0, "%s %02x \"%.*s\" instead of %s %02x", opcode_name(frame->opcode),
                       error.code, STR_PRINT(error.text), opcode_name(expected->opcode),
                       expected->code);
    if (frame->request_id != expected->request_id)
        return err_set(err, 0, "the answer is to request %u instead of %u", frame->request_id,
                       expected->request_id);
    if (is_error && error.text.size == 0)
        return err_set(err, 0, "an Error frame without a word");
    return 0;
}

static int expect_frame(struct peer *peer, const struct hostile_expected *expected, struct err *err)
{
    struct peer_frame *frame = NULL;
    int status = peer_read(peer, PEER_PATIENCE_MS, &frame, err);
    if (status == 0)
        return err_set(err, 0, "no answer");
    if (status < 0)
        return -1;
    status = check_frame(frame, expected, err);
    free(frame);
    return status;
}

static int expect_end(struct peer *peer, struct err *err)
{
    struct peer_frame *frame = NULL;
    struct err ignored;
    int status = peer_read(peer, PEER_PATIENCE_MS, &frame, &ignored);
    if (status == 0)
        return err_set(err, 0, "the connection stays open");
    if (status > 0) {
        err_set(err, 0, "%s before the end", opcode_name(frame->opcode));
        free(frame);
        return -1;
    }
    return peer->ended ? 0 : err_set(err, 0, "%s", ignored.text);
}

static int expect_pong(struct peer *peer, struct err *err)
{
    struct hostile_expected pong = {.opcode = OPCODE_PONG, .request_id = PROBE_ID};
    struct buf ping;
    buf_init(&ping, 0);
    hostile_frame(&ping, OPCODE_PING, 0, PROBE_ID, STR(""));
    int status = peer_send(peer, buf_str(&ping), err);
    buf_free(&ping);
    return status ? status : expect_frame(peer, &pong, err);
}

/* u32 length, u8 flags 0, u8 op FF, u32 corr_id 0, text; then the end. */
static int expect_goaway(struct peer *peer, const char *text, struct err *err)
{
    uint8_t bytes[512];
    int size = peer_read_bytes(peer, PEER_PATIENCE_MS, bytes, sizeof bytes - 1);
    if (size < 10 || memcmp(bytes + 4, "\0\377\0\0\0\0", 6) != 0)
        return err_set(err, 0, "%d bytes that are no GOAWAY", size);
    bytes[size] = '\0';
    if (!strstr((const char *)bytes + 10, text))
        return err_set(err, 0, "GOAWAY says \"%s\"", (const char *)bytes + 10);
    return 0;
}

/* Reads to the end; what is not well formed is an error. */
static int expect_anything(struct peer *peer, struct err *err)
{
    struct peer_frame *frame = NULL;
    int status;
    while ((status = peer_read(peer, PEER_PATIENCE_MS, &frame, err)) > 0)
        free(frame);
    if (status == 0)
        return err_set(err, 0, "the connection does not end");
    return peer->ended ? 0 : -1;
}

static int expect(struct peer *peer, const struct hostile_case *item, struct err *err)
{
    const struct hostile_expected *expected = &item->expected;
    switch (expected->answer) {
    case HOSTILE_GOAWAY:
        return expect_goaway(peer, expected->text, err);
    case HOSTILE_ANYTHING:
        return expect_anything(peer, err);
    case HOSTILE_FRAME:
        if (expect_frame(peer, expected, err) != 0)
            return -1;
        break;
    case HOSTILE_SILENCE:
        break;
    }
    if (expected->closes || item->way == HOSTILE_HALF)
        return expect_end(peer, err);
    return expect_pong(peer, err);
}

/* ---- playing ---- */

static int send_input(struct peer *peer, const struct hostile_case *item, struct err *err)
{
    struct str input = buf_str(&item->input);
    struct err ignored;
    int status = 0;
    if (item->way != HOSTILE_BYTEWISE)
        status = peer_send(peer, input, &ignored);
    for (size_t i = 0; item->way == HOSTILE_BYTEWISE && !status && i < input.size; i++)
        status = peer_send(peer, str_of(input.data + i, 1), &ignored);
    /* The broker may end the connection over the first bytes. */
    bool may_end = item->expected.closes || item->expected.answer == HOSTILE_ANYTHING ||
                   item->expected.answer == HOSTILE_GOAWAY;
    if (status != 0 && !may_end)
        return err_set(err, 0, "%s", ignored.text);
    if (item->way == HOSTILE_HALF || item->expected.answer == HOSTILE_ANYTHING)
        (void)shutdown(peer->fd, SHUT_WR);
    return 0;
}

int hostile_play(const struct hostile_case *item, const char *address, struct err *err)
{
    struct peer *peer = item->greeted ? peer_open(address, err) : peer_connect(address, err);
    int status = peer ? send_input(peer, item, err) : -1;
    if (status == 0 && item->way != HOSTILE_RESET)
        status = expect(peer, item, err);
    if (item->way == HOSTILE_RESET)
        peer_abort(peer);
    else
        peer_close(peer, false);
    if (status != 0)
        err_prefix(err, "%s", item->name);
    return status;
}

/* ---- the client that comes after ---- */

static int serve(struct peer *peer, const char *queue, struct err *err)
{
    struct peer_delivery delivery;
    struct uuid id;
    uint32_t subscription;
    if (peer_enqueue(peer, queue, "served", &id, err) != 0 ||
        peer_consume(peer, queue, &subscription, err) != 0)
        return -1;
    int status = peer_receive(peer, PEER_PATIENCE_MS, &delivery, err);
    if (status == 0)
        return err_set(err, 0, "nothing is delivered");
    if (status < 0)
        return -1;
    if (!uuid_equal(&delivery.id, &id))
        return err_set(err, 0, "another message than the one sent is delivered");
    return peer_ack(peer, queue, &id, err);
}

int hostile_serve(const char *address, const char *queue, uint64_t *ns, struct err *err)
{
    uint64_t begin = time_monotonic_ns();
    struct peer *peer = peer_open(address, err);
    int status = peer ? serve(peer, queue, err) : -1;
    *ns = time_monotonic_ns() - begin;
    peer_close(peer, true);
    if (status != 0)
        err_prefix(err, "a fresh client");
    return status;
}
