/* The cases that are made by rule. Bodies of requests are written as fields, so that each can be
 * cut at every boundary and each count, length and string can lie. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fibp/opcode.h"
#include "fibp/status.h"
#include "process/support/hostile.h"
#include "process/support/hostile_vectors.h"

#define FIELDS_MAX 8
#define S2_CANCEL_CONSUME 0x14 /* it tells that the client uses those numbers */

const char *const hostile_queues[] = {"hostile", "mutated", NULL};

enum field_type {
    FIELD_NONE,
    FIELD_U16,     /* a number, nothing that can lie */
    FIELD_U64,     /* the same */
    FIELD_PRESENT, /* u8 */
    FIELD_COUNT16,
    FIELD_COUNT32,
    FIELD_STR,
    FIELD_BYTES,
};

struct field {
    enum field_type type;
    const char *text; /* of STR and BYTES */
};

struct request {
    uint8_t opcode;
    struct field fields[FIELDS_MAX]; /* numbers and counts are 1 */
};

#define U16                                                                                        \
    {                                                                                              \
        FIELD_U16, NULL                                                                            \
    }
#define U64                                                                                        \
    {                                                                                              \
        FIELD_U64, NULL                                                                            \
    }
#define PRESENT                                                                                    \
    {                                                                                              \
        FIELD_PRESENT, NULL                                                                        \
    }
#define COUNT16                                                                                    \
    {                                                                                              \
        FIELD_COUNT16, NULL                                                                        \
    }
#define COUNT32                                                                                    \
    {                                                                                              \
        FIELD_COUNT32, NULL                                                                        \
    }
#define STRING(text)                                                                               \
    {                                                                                              \
        FIELD_STR, text                                                                            \
    }
#define BYTES(text)                                                                                \
    {                                                                                              \
        FIELD_BYTES, text                                                                          \
    }
#define NO_MESSAGE STRING("0192f0c1-2345-7abc-8def-0123456789ab")

static const struct request requests[] = {
    {OPCODE_HANDSHAKE, {U16, PRESENT, STRING("key")}},
    {OPCODE_ENQUEUE,
     {COUNT32, STRING("mutated"), COUNT16, STRING("tenant"), STRING("acme"), BYTES("payload")}},
    {OPCODE_CONSUME, {STRING("mutated")}},
    {OPCODE_ACK, {COUNT32, STRING("mutated"), NO_MESSAGE}},
    {OPCODE_NACK, {COUNT32, STRING("mutated"), NO_MESSAGE, STRING("it failed")}},
    {OPCODE_CREATE_QUEUE,
     {STRING("mutated"), PRESENT, STRING("script"), PRESENT, STRING("script"), U64}},
    {OPCODE_DELETE_QUEUE, {STRING("nowhere")}},
    {OPCODE_GET_STATS, {STRING("mutated")}},
    {OPCODE_QUEUE_DETAILS, {STRING("mutated"), STRING("a"), U16, PRESENT}},
    {OPCODE_UPDATE_QUEUE,
     {STRING("mutated"), PRESENT, STRING("script"), PRESENT, STRING("script")}},
    {OPCODE_PAUSE_QUEUE, {STRING("nowhere"), PRESENT}},
    {OPCODE_GET_QUEUE_SETTINGS, {STRING("mutated")}},
    {OPCODE_SET_CONFIG, {STRING("throttle.a"), STRING("1,1")}},
    {OPCODE_GET_CONFIG, {STRING("throttle.a")}},
    {OPCODE_LIST_CONFIG, {STRING("throttle.")}},
    {OPCODE_REDRIVE, {STRING("mutated.dlq"), U64}},
    {OPCODE_PURGE_QUEUE, {STRING("mutated")}},
    {OPCODE_PEEK_QUEUE, /* two numbers of 32 bits */
     {STRING("mutated"), PRESENT, STRING("key"), U64, BYTES("")}},
    {OPCODE_CREATE_API_KEY, {STRING("name"), U64, PRESENT}},
    {OPCODE_REVOKE_API_KEY, {STRING("key")}},
    {OPCODE_SET_ACL, {STRING("key"), COUNT16, STRING("produce"), STRING("*")}},
    {OPCODE_GET_ACL, {STRING("key")}},
};

#define REQUESTS (sizeof requests / sizeof requests[0])

static size_t field_count(const struct request *request)
{
    size_t count = 0;
    while (count < FIELDS_MAX && request->fields[count].type != FIELD_NONE)
        count++;
    return count;
}

static void append_field(struct buf *out, const struct field *field)
{
    struct str text = str_from_c(field->text);
    switch (field->type) {
    case FIELD_NONE:
        break;
    case FIELD_U16:
    case FIELD_COUNT16:
        buf_append_u16(out, 1);
        break;
    case FIELD_U64:
        buf_append_u64(out, 1);
        break;
    case FIELD_PRESENT:
        buf_append_u8(out, 1);
        break;
    case FIELD_COUNT32:
        buf_append_u32(out, 1);
        break;
    case FIELD_STR:
        buf_append_u16(out, (uint16_t)text.size);
        buf_append_str(out, text);
        break;
    case FIELD_BYTES:
        buf_append_u32(out, (uint32_t)text.size);
        buf_append_str(out, text);
        break;
    }
}

/* Fields `from` to before `to`. */
static void append_fields(struct buf *out, const struct request *request, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        append_field(out, &request->fields[i]);
}

/* Ids tell which case was answered. */
static uint32_t next_id(const struct hostile_table *table)
{
    return 0x10000u + (uint32_t)table->count;
}

/* A request whose body cannot be decoded: Error 0E to its id, and the connection stays; before the
 * handshake to id 0, and it ends. */
static void add_malformed(struct hostile_table *table, const struct request *request,
                          const struct buf *body, const char *what, size_t field)
{
    bool handshake = request->opcode == OPCODE_HANDSHAKE;
    uint32_t id = next_id(table);
    struct hostile_case *item =
        hostile_add(table, "%s, field %zu: %s", opcode_name(request->opcode), field, what);
    hostile_frame(&item->input, request->opcode, 0, id, buf_str(body));
    item->greeted = !handshake;
    item->expected = (struct hostile_expected){.opcode = OPCODE_ERROR,
                                               .code = FIBP_INVALID_FRAME,
                                               .request_id = handshake ? 0 : id,
                                               .closes = handshake};
}

/* ---- cut, at each boundary and inside of each field ---- */

static void add_truncated(struct hostile_table *table, const struct request *request)
{
    for (size_t i = 0; i < field_count(request); i++) {
        struct buf body, field;
        buf_init(&body, 0);
        buf_init(&field, 0);
        append_fields(&body, request, 0, i);
        append_field(&field, &request->fields[i]);
        add_malformed(table, request, &body, "cut before it", i);
        for (size_t have = 1; have < field.size; have += have < 4 ? 1 : field.size - have - 1) {
            struct buf part;
            buf_init(&part, 0);
            buf_append_str(&part, buf_str(&body));
            buf_append(&part, field.data, have);
            add_malformed(table, request, &part, "cut inside", i);
            buf_free(&part);
            if (have + 1 == field.size)
                break;
        }
        buf_free(&body);
        buf_free(&field);
    }
}

/* ---- counts and lengths that lie ---- */

static void add_lie(struct hostile_table *table, const struct request *request, size_t at,
                    size_t width, uint32_t value)
{
    struct buf body;
    char what[64];
    buf_init(&body, 0);
    append_fields(&body, request, 0, at);
    if (width == 4)
        buf_append_u32(&body, value);
    else
        buf_append_u16(&body, (uint16_t)value);
    buf_append_c(&body, request->fields[at].text ? request->fields[at].text : "");
    append_fields(&body, request, at + 1, field_count(request));
    snprintf(what, sizeof what, "says %u", value);
    add_malformed(table, request, &body, what, at);
    buf_free(&body);
}

static void add_lies(struct hostile_table *table, const struct request *request)
{
    static const uint32_t counts[] = {2, 1000000, 1000001, INT32_MAX, 0x80000000u, UINT32_MAX};
    static const uint32_t sizes[] = {INT32_MAX, 0x80000000u, UINT32_MAX - 4, UINT32_MAX};
    size_t count = field_count(request);
    for (size_t i = 0; i < count; i++) {
        enum field_type type = request->fields[i].type;
        for (size_t k = 0; type == FIELD_COUNT32 && k < sizeof counts / sizeof *counts; k++)
            add_lie(table, request, i, 4, counts[k]);
        for (size_t k = 0; type == FIELD_BYTES && k < sizeof sizes / sizeof *sizes; k++)
            add_lie(table, request, i, 4, sizes[k]);
        if (type == FIELD_COUNT16 || type == FIELD_STR) {
            add_lie(table, request, i, 2, UINT16_MAX);
            add_lie(table, request, i, 2, INT16_MAX);
        }
        if (i + 1 == count && request->fields[i].text)
            add_lie(table, request, i, type == FIELD_BYTES ? 4 : 2,
                    (uint32_t)strlen(request->fields[i].text) + 1);
    }
}

/* ---- strings that are not UTF-8 ---- */

static const struct {
    const char *what, *bytes;
} bad_texts[] = {
    {"an overlong NUL", "a\300\200z"},
    {"an overlong slash of 2 bytes", "\300\257"},
    {"an overlong slash of 3 bytes", "\340\200\257"},
    {"an overlong slash of 4 bytes", "\360\200\200\257"},
    {"a high surrogate", "\355\240\200"},
    {"a low surrogate", "\355\277\277"},
    {"above U+10FFFF", "\364\220\200\200"},
    {"a lead byte F5", "\365\200\200\200"},
    {"a lone continuation byte", "abcdefgh\200"},
    {"a character that is cut", "euro \342\202"},
    {"a character that is cut by another", "\342\202a"},
    {"a byte FE", "\376"},
    {"a byte FF", "abcdefghijklmno\377"},
};

static void add_bad_texts(struct hostile_table *table, const struct request *request)
{
    size_t count = field_count(request);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0;
             request->fields[i].type == FIELD_STR && k < sizeof bad_texts / sizeof bad_texts[0];
             k++) {
            struct field bad = {FIELD_STR, bad_texts[k].bytes};
            struct buf body;
            buf_init(&body, 0);
            append_fields(&body, request, 0, i);
            append_field(&body, &bad);
            append_fields(&body, request, i + 1, count);
            add_malformed(table, request, &body, bad_texts[k].what, i);
            buf_free(&body);
        }
}

/* ---- names that no queue can have ---- */

/* Each request with this name for its queue; it is well formed and has to be answered so. */
static void add_name(struct hostile_table *table, struct str name, const char *what)
{
    static const struct {
        uint8_t opcode;
        uint8_t counted; /* a count of 1 comes before the name */
        uint8_t behind;  /* zeros behind it */
        uint8_t answer, error;
    } rows[] = {
        {OPCODE_ENQUEUE, 1, 6, OPCODE_ENQUEUE_RESULT, 0},
        {OPCODE_ACK, 1, 2, OPCODE_ACK_RESULT, 0},
        {OPCODE_NACK, 1, 4, OPCODE_NACK_RESULT, 0},
        {OPCODE_CONSUME, 0, 0, OPCODE_ERROR, FIBP_QUEUE_NOT_FOUND},
        {OPCODE_GET_STATS, 0, 0, OPCODE_ERROR, FIBP_QUEUE_NOT_FOUND},
        {OPCODE_DELETE_QUEUE, 0, 0, OPCODE_DELETE_QUEUE_RESULT, 0},
        {OPCODE_CREATE_QUEUE, 0, 10, OPCODE_ERROR, FIBP_INVALID_FRAME},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t id = next_id(table);
        struct hostile_case *item = hostile_add(table, "%s: %s", opcode_name(rows[i].opcode), what);
        struct buf body;
        buf_init(&body, 0);
        if (rows[i].counted)
            buf_append_u32(&body, 1);
        buf_append_u16(&body, (uint16_t)name.size);
        buf_append_str(&body, name);
        buf_append(&body, (const uint8_t[10]){0}, rows[i].behind);
        hostile_frame(&item->input, rows[i].opcode, 0, id, buf_str(&body));
        buf_free(&body);
        item->greeted = true;
        item->expected = (struct hostile_expected){
            .opcode = rows[i].answer, .code = rows[i].error, .request_id = id};
    }
}

static void add_names(struct hostile_table *table)
{
    static uint8_t longest[UINT16_MAX];
    memset(longest, 'n', sizeof longest);
    add_name(table, STR(""), "an empty name");
    add_name(table, STR("a\0b"), "a name with a NUL");
    add_name(table, STR("\0"), "a name that is a NUL");
    add_name(table, STR("bell\a"), "a name with a control character");
    add_name(table, STR("csi\302\233m"), "a name with a control character of two bytes");
    add_name(table, str_of(longest, 256), "a name of 256 bytes");
    add_name(table, str_of(longest, sizeof longest), "a name of 65,535 bytes");
    memcpy(longest + 1, "\0", 1);
    add_name(table, str_of(longest, sizeof longest), "one with a NUL, too");
}

/* ---- lengths of frames ---- */

static void add_lengths(struct hostile_table *table)
{
    static const uint32_t lengths[] = {0, 1,        2,          3,           4,
                                       5, 16777217, 0x7fffffff, 0x80000000u, UINT32_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
        for (int greeted = 0; greeted < 2; greeted++) {
            struct hostile_case *item = hostile_add(table, "a length of %u %s the handshake",
                                                    lengths[i], greeted ? "after" : "before");
            buf_append_u32(&item->input, lengths[i]);
            item->greeted = greeted;
            item->expected = (struct hostile_expected){
                .opcode = OPCODE_ERROR, .code = FIBP_INVALID_FRAME, .closes = true};
        }
}

/* ---- all opcodes ---- */

static void add_first_opcode(struct hostile_table *table, uint8_t opcode)
{
    struct hostile_case *item = hostile_add(table, "opcode %02x before the handshake", opcode);
    hostile_frame(&item->input, opcode, 0, 256u + opcode, STR(""));
    item->expected = (struct hostile_expected){
        .opcode = OPCODE_ERROR,
        .code = FIBP_INVALID_FRAME,
        .request_id = opcode == OPCODE_HANDSHAKE ? 0 : 256u + opcode,
        .closes = true,
    };
}

static void add_opcode(struct hostile_table *table, uint8_t opcode)
{
    uint32_t id = 512u + opcode;
    struct hostile_case *item = hostile_add(table, "opcode %02x with an empty body", opcode);
    struct hostile_expected *expected = &item->expected;
    hostile_frame(&item->input, opcode, 0, id, STR(""));
    item->greeted = true;
    *expected = (struct hostile_expected){
        .opcode = OPCODE_ERROR, .code = FIBP_INVALID_FRAME, .request_id = id};
    if (opcode == OPCODE_PING)
        *expected = (struct hostile_expected){.opcode = OPCODE_PONG, .request_id = id};
    else if (opcode == OPCODE_LIST_QUEUES)
        *expected =
            (struct hostile_expected){.opcode = OPCODE_LIST_QUEUES_RESULT, .request_id = id};
    else if (opcode == OPCODE_PONG || opcode == OPCODE_CANCEL_CONSUME ||
             opcode == S2_CANCEL_CONSUME)
        *expected = (struct hostile_expected){.answer = HOSTILE_SILENCE};
    else if (opcode == OPCODE_DISCONNECT)
        *expected = (struct hostile_expected){.answer = HOSTILE_SILENCE, .closes = true};
}

static void add_opcodes(struct hostile_table *table)
{
    for (unsigned opcode = 0; opcode < 256; opcode++) {
        add_first_opcode(table, (uint8_t)opcode);
        add_opcode(table, (uint8_t)opcode);
    }
}

/* ---- flags ---- */

static void add_flags(struct hostile_table *table)
{
    for (unsigned flags = 2; flags < 256; flags += 2) {
        uint32_t id = next_id(table);
        struct hostile_case *item = hostile_add(table, "Ping with flags %02x", flags);
        hostile_frame(&item->input, OPCODE_PING, (uint8_t)flags, id, STR("ignored"));
        item->greeted = true;
        item->expected = (struct hostile_expected){.opcode = OPCODE_PONG, .request_id = id};
    }
    for (unsigned flags = 1; flags < 256; flags = flags * 2 + 1) {
        struct hostile_case *item = hostile_add(table, "Handshake with flags %02x", flags);
        hostile_frame(&item->input, OPCODE_HANDSHAKE, (uint8_t)flags, 5, STR("\0\1\0"));
        item->expected = (struct hostile_expected){.opcode = OPCODE_HANDSHAKE_OK};
    }
}

/* ---- large frames ---- */

/* A million items that are as small as they can be. */
static void add_million(struct hostile_table *table, uint8_t opcode, size_t item_size,
                        uint32_t count, uint8_t answer)
{
    uint32_t id = next_id(table);
    struct hostile_case *item = hostile_add(table, "%s of %u items", opcode_name(opcode), count);
    size_t size = 4 + count * item_size;
    buf_append_u32(&item->input, (uint32_t)size + 6);
    buf_append_u8(&item->input, opcode);
    buf_append_u8(&item->input, 0);
    buf_append_u32(&item->input, id);
    buf_append_u32(&item->input, count);
    uint8_t *room = buf_reserve(&item->input, count * item_size);
    if (!room)
        abort();
    memset(room, 0, count * item_size);
    item->input.size += count * item_size;
    item->greeted = item->heavy = true;
    item->expected = (struct hostile_expected){
        .opcode = answer,
        .code = answer == OPCODE_ERROR ? FIBP_INVALID_FRAME : 0,
        .request_id = id,
    };
}

static void add_large(struct hostile_table *table)
{
    add_million(table, OPCODE_ENQUEUE, 8, 1000000, OPCODE_ENQUEUE_RESULT);
    add_million(table, OPCODE_ACK, 4, 1000000, OPCODE_ACK_RESULT);
    add_million(table, OPCODE_NACK, 6, 1000000, OPCODE_NACK_RESULT);
    add_million(table, OPCODE_ENQUEUE, 8, 1000001, OPCODE_ERROR);
    add_million(table, OPCODE_ACK, 4, 1000001, OPCODE_ERROR);
    /* The largest frame there can be: 16,777,216 bytes behind its length. */
    add_million(table, OPCODE_PING, 1, 16777206, OPCODE_PONG);
    struct hostile_case *item = hostile_add(table, "a Handshake of 16 MiB");
    buf_append(&item->input, "\1\0\0\0\1\0\0\0\0\0\0\1\0", 13);
    item->expected = (struct hostile_expected){
        .opcode = OPCODE_ERROR, .code = FIBP_INVALID_FRAME, .closes = true};
}

/* ---- slow, half open, reset ---- */

static void add_ways(struct hostile_table *table)
{
    static const uint8_t hello[] = {0, 0, 0, 9, OPCODE_HANDSHAKE, 0, 0, 0, 0, 0, 0, 1, 0};
    struct hostile_case *item = hostile_add(table, "a handshake byte by byte");
    buf_append(&item->input, hello, sizeof hello);
    item->way = HOSTILE_BYTEWISE;
    item->expected = (struct hostile_expected){.opcode = OPCODE_HANDSHAKE_OK};

    item = hostile_add(table, "a handshake, then the end");
    buf_append(&item->input, hello, sizeof hello);
    item->way = HOSTILE_HALF;
    item->expected = (struct hostile_expected){.opcode = OPCODE_HANDSHAKE_OK};

    for (size_t cut = 0; cut < sizeof hello; cut++) {
        item = hostile_add(table, "%zu bytes of a handshake, then the end", cut);
        buf_append(&item->input, hello, cut);
        item->way = HOSTILE_HALF;
        item->expected = (struct hostile_expected){.answer = HOSTILE_SILENCE, .closes = true};
        item = hostile_add(table, "%zu bytes of a handshake, then a reset", cut);
        buf_append(&item->input, hello, cut);
        item->way = HOSTILE_RESET;
    }
    for (size_t i = 1; i < REQUESTS; i++) {
        struct buf body;
        uint32_t id = next_id(table);
        buf_init(&body, 0);
        append_fields(&body, &requests[i], 0, field_count(&requests[i]));
        const char *name = opcode_name(requests[i].opcode);
        item = hostile_add(table, "%s, reset at once", name);
        hostile_frame(&item->input, requests[i].opcode, 0, id, buf_str(&body));
        item->way = HOSTILE_RESET;
        item->greeted = true;
        item = hostile_add(table, "%s without its last byte, then a reset", name);
        hostile_frame(&item->input, requests[i].opcode, 0, id, buf_str(&body));
        item->input.size--;
        item->way = HOSTILE_RESET;
        item->greeted = true;
        item = hostile_add(table, "%s without its last byte, then the end", name);
        hostile_frame(&item->input, requests[i].opcode, 0, id, buf_str(&body));
        item->input.size--;
        item->way = HOSTILE_HALF;
        item->greeted = true;
        item->expected = (struct hostile_expected){.answer = HOSTILE_SILENCE, .closes = true};
        buf_free(&body);
    }
    for (int half = 0; half < 2; half++) {
        item = hostile_add(table, "Enqueue %s", half ? "and then the end" : "byte by byte");
        hostile_frame(&item->input, OPCODE_ENQUEUE, 0, 88, STR("\0\0\0\1\0\7hostile\0\0\0\0\0\1x"));
        item->greeted = true;
        item->way = half ? HOSTILE_HALF : HOSTILE_BYTEWISE;
        item->expected =
            (struct hostile_expected){.opcode = OPCODE_ENQUEUE_RESULT, .request_id = 88};
    }
}

/* ---- requests in several frames ---- */

/* A body in parts of `step` bytes, then an empty last one. */
static struct hostile_case *add_continued(struct hostile_table *table, const char *what,
                                          uint8_t opcode, struct str body, size_t step)
{
    uint32_t id = next_id(table);
    struct hostile_case *item = hostile_add(table, "continuation: %s", what);
    for (size_t at = 0; at < body.size; at += step)
        hostile_frame(&item->input, opcode, 1, id,
                      str_of(body.data + at, body.size - at < step ? body.size - at : step));
    hostile_frame(&item->input, opcode, 0, id, STR(""));
    item->greeted = true;
    item->expected.request_id = id;
    return item;
}

static void add_continuations(struct hostile_table *table)
{
    static const uint8_t enqueue[] = "\0\0\0\1\0\7hostile\0\0\0\0\0\1x";
    struct str body = str_of(enqueue, sizeof enqueue - 1);
    struct hostile_case *item;

    for (size_t step = 1; step <= body.size; step++) {
        item = add_continued(table, "Enqueue in parts and an empty last one", OPCODE_ENQUEUE, body,
                             step);
        item->expected.opcode = OPCODE_ENQUEUE_RESULT;
    }
    item = add_continued(table, "Ping in two parts", OPCODE_PING, STR("x"), 1);
    item->expected.opcode = OPCODE_PONG;
    item = add_continued(table, "an opcode that is unknown", 0x7e, STR("garbage"), 2);
    item->expected.opcode = OPCODE_ERROR;
    item->expected.code = FIBP_INVALID_FRAME;
    item = add_continued(table, "a second Handshake", OPCODE_HANDSHAKE, STR("\0\1\0"), 1);
    item->expected.opcode = OPCODE_ERROR;
    item->expected.code = FIBP_INVALID_FRAME;
    item = add_continued(table, "Enqueue that is cut", OPCODE_ENQUEUE,
                         str_of(enqueue, sizeof enqueue - 2), 3);
    item->expected.opcode = OPCODE_ERROR;
    item->expected.code = FIBP_INVALID_FRAME;
    item = add_continued(table, "two empty parts", OPCODE_ENQUEUE, STR(""), 1);
    hostile_frame(&item->input, OPCODE_PING, 0, 99, STR("")); /* an id that is free again */
    item->expected.opcode = OPCODE_ERROR;
    item->expected.code = FIBP_INVALID_FRAME;
    item->expected.answer = HOSTILE_ANYTHING; /* two answers */
    /* Frames of nothing, for ever: some bound has to end it. */
    item = add_continued(table, "empty parts without an end", OPCODE_ENQUEUE, STR(""), 1);
    for (unsigned i = 0; i < 100000; i++)
        hostile_frame(&item->input, OPCODE_ENQUEUE, 1, 7, STR(""));
    item->heavy = true;
    item->expected.answer = HOSTILE_ANYTHING;
}

/* ---- chance ---- */

static uint64_t random_next(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void add_noise(struct hostile_table *table, unsigned seed)
{
    uint64_t state = seed;
    struct hostile_case *item =
        hostile_add(table, "noise %u %s the handshake", seed, seed % 2 ? "after" : "before");
    size_t size = random_next(&state) % 2000;
    /* Every other one has a header that makes sense, so that the noise is a body. */
    if (seed % 4 > 1)
        hostile_frame(&item->input, requests[seed / 4 % REQUESTS].opcode, 0, seed, STR(""));
    for (size_t i = 0; i < size; i++)
        buf_append_u8(&item->input, (uint8_t)random_next(&state));
    if (seed % 4 > 1) {
        item->input.data[2] = (uint8_t)((size + 6) >> 8);
        item->input.data[3] = (uint8_t)(size + 6);
    }
    item->greeted = seed % 2;
    item->expected.answer = HOSTILE_ANYTHING;
}

/* All requests in one stream, with some bytes changed, left out or repeated. */
static void add_mutation(struct hostile_table *table, unsigned seed)
{
    uint64_t state = 1000 + seed;
    struct hostile_case *item = hostile_add(table, "mutation %u", seed);
    struct buf *input = &item->input;
    for (size_t i = 1; i < REQUESTS; i++) {
        struct buf body;
        buf_init(&body, 0);
        append_fields(&body, &requests[i], 0, field_count(&requests[i]));
        hostile_frame(input, requests[i].opcode, 0, (uint32_t)i, buf_str(&body));
        buf_free(&body);
    }
    for (unsigned n = 1 + seed % 8; n > 0; n--) {
        size_t at = random_next(&state) % input->size;
        size_t run = 1 + random_next(&state) % 8;
        if (run > input->size - at)
            run = input->size - at;
        switch (random_next(&state) % 4) {
        case 0:
            input->data[at] ^= (uint8_t)(1u << random_next(&state) % 8);
            break;
        case 1:
            input->data[at] = (uint8_t)random_next(&state);
            break;
        case 2:
            memmove(input->data + at, input->data + at + run, input->size - at - run);
            input->size -= run;
            break;
        default:
            memset(input->data + at, random_next(&state) % 2 ? 0xff : 0, run);
            break;
        }
    }
    item->greeted = true;
    item->expected.answer = HOSTILE_ANYTHING;
}

int hostile_table_make(struct hostile_table *table, struct err *err)
{
    *table = (struct hostile_table){0};
    if (hostile_vectors_add(table, err) != 0)
        return -1;
    for (size_t i = 0; i < REQUESTS; i++) {
        add_truncated(table, &requests[i]);
        add_lies(table, &requests[i]);
        add_bad_texts(table, &requests[i]);
    }
    add_names(table);
    add_lengths(table);
    add_opcodes(table);
    add_flags(table);
    add_large(table);
    add_ways(table);
    add_continuations(table);
    for (unsigned seed = 0; seed < 64; seed++)
        add_noise(table, seed);
    for (unsigned seed = 0; seed < 128; seed++)
        add_mutation(table, seed);
    return 0;
}
