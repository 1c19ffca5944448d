#include "process/support/hostile_vectors.h"

#include <string.h>

#include "fibp/opcode.h"
#include "fibp/status.h"
#include "unit/fibp/vectors.h"

#define ERROR(id, status)                                                                          \
    {                                                                                              \
        .opcode = OPCODE_ERROR, .code = FIBP_##status, .request_id = id                            \
    }
#define ERROR_ENDS(id, status)                                                                     \
    {                                                                                              \
        .opcode = OPCODE_ERROR, .code = FIBP_##status, .request_id = id, .closes = true            \
    }
#define ANSWER(result, id)                                                                         \
    {                                                                                              \
        .opcode = OPCODE_##result, .request_id = id                                                \
    }
#define GOAWAY(words)                                                                              \
    {                                                                                              \
        .answer = HOSTILE_GOAWAY, .text = words                                                    \
    }

#define MALFORMED(id) ERROR(id, INVALID_FRAME)
#define MALFORMED_ENDS(id) ERROR_ENDS(id, INVALID_FRAME)

static const struct {
    const char *words; /* that only this vector's comment has */
    struct hostile_expected expected;
    enum hostile_way way;
} known[] = {
    {"first frame is Ping", MALFORMED_ENDS(7), 0},
    {"first frame unknown opcode", MALFORMED_ENDS(8), 0},
    {"Handshake with 2-byte body", MALFORMED_ENDS(0), 0},
    {"Handshake with empty body", MALFORMED_ENDS(0), 0},
    {"Handshake version 0", ERROR_ENDS(0, UNSUPPORTED_VERSION), 0},
    {"api key not UTF-8", MALFORMED_ENDS(0), 0},
    {"framed C->S MALFORMED: length 16777217", MALFORMED_ENDS(0), 0},
    {"MALFORMED: length 0xFFFFFFFF", MALFORMED_ENDS(0), 0},
    {"MALFORMED: length 0 =>", MALFORMED_ENDS(0), 0},
    {"framed C->S MALFORMED: length 5", MALFORMED_ENDS(0), 0},
    {"second Handshake", MALFORMED(0), 0},
    {"unknown opcode 0x1A", MALFORMED(60), 0},
    {"server-only opcode", MALFORMED(61), 0},
    {"cluster opcode", MALFORMED(62), 0},
    {"Enqueue empty body", MALFORMED(63), 0},
    {"count 1000001", MALFORMED(64), 0},
    {"count 1000000 with 0 bytes", MALFORMED(65), 0},
    {"count 2 but one item", MALFORMED(66), 0},
    {"payload length 0xFFFFFFFF", MALFORMED(67), 0},
    {"map count 65535", MALFORMED(68), 0},
    {"queue name is not UTF-8", MALFORMED(69), 0},
    {"string length past the end", MALFORMED(70), 0},
    {"Ack item without message id", MALFORMED(71), 0},
    {"3 trailing bytes", ANSWER(ENQUEUE_RESULT, 72), 0},
    {"ListQueues with garbage", ANSWER(LIST_QUEUES_RESULT, 73), 0},
    {"reserved flag bits 0xFE", ANSWER(PONG, 74), 0},
    {"continuation opcode changes", MALFORMED_ENDS(75), 0},
    {"re-using the id of a pending", MALFORMED_ENDS(76), 0},
    {"65 different pending", MALFORMED_ENDS(164), 0},
    /* There are no keys in this build: the operation as a whole is refused. */
    {"SetAcl kind=read", MALFORMED(77), 0},
    {"presence byte 0x02", ANSWER(CREATE_QUEUE_RESULT, 78), 0},
    {"truncated frame then EOF", {.answer = HOSTILE_SILENCE, .closes = true}, HOSTILE_HALF},
    /* The preface dialect is refused with its first bytes, whatever comes behind them. */
    {"FIBQ magic", GOAWAY("invalid magic"), 0},
    {"major version 2", GOAWAY("framed dialect"), 0},
    {"minor version 9", GOAWAY("framed dialect"), 0},
    {"preface C->S MALFORMED: ", GOAWAY("framed dialect"), 0},
    {"preface(auth on)", GOAWAY("framed dialect"), 0},
};

static int add(struct hostile_table *table, const struct vector *vector, struct err *err)
{
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (!strstr(vector->comment, known[i].words))
            continue;
        struct hostile_case *item = hostile_add(table, "%s", vector->comment);
        item->expected = known[i].expected;
        item->way = known[i].way;
        item->greeted = strncmp(vector->comment, "framed C->S", 11) == 0;
        if (known[i].expected.answer == HOSTILE_GOAWAY && !strstr(vector->comment, "first bytes"))
            buf_append(&item->input, "FIBP\1\0", 6);
        buf_append(&item->input, vector->bytes, vector->size);
        return 0;
    }
    return err_set(err, 0, "nothing is known about what this should do: %s", vector->comment);
}

int hostile_vectors_add(struct hostile_table *table, struct err *err)
{
    struct vectors vectors;
    int status = 0;
    if (!vectors_load(&vectors, "malformed.txt"))
        return err_set(err, 0, "cannot read the vectors");
    for (size_t i = 0; i < vectors.count && status == 0; i++)
        status = add(table, &vectors.items[i], err);
    vectors_free(&vectors);
    return status;
}
