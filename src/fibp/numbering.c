#include "fibp/numbering.h"

#include <stddef.h>

#include "core/bytes.h"

#define NUMBERINGS 4
#define FIRST OPCODE_ENQUEUE
#define COUNT (OPCODE_NACK_RESULT - FIRST + 1)

#define NONE 0x00

static const uint8_t numbering_table[COUNT][NUMBERINGS] = {
    /*                                  auto    S1    S2    S3 */
    [OPCODE_ENQUEUE - FIRST] = {0x10, 0x10, 0x10, 0x10},
    [OPCODE_ENQUEUE_RESULT - FIRST] = {0x11, 0x11, 0x11, 0x11},
    [OPCODE_CONSUME - FIRST] = {0x12, 0x12, 0x12, 0x12},
    [OPCODE_CONSUME_OK - FIRST] = {0x13, NONE, 0x19, 0x13},
    [OPCODE_DELIVERY - FIRST] = {0x14, 0x13, 0x13, 0x14},
    [OPCODE_CANCEL_CONSUME - FIRST] = {0x15, 0x14, 0x14, 0x15},
    [OPCODE_ACK - FIRST] = {0x16, 0x15, 0x15, 0x16},
    [OPCODE_ACK_RESULT - FIRST] = {0x17, 0x16, 0x16, 0x17},
    [OPCODE_NACK - FIRST] = {0x18, 0x17, 0x17, 0x18},
    [OPCODE_NACK_RESULT - FIRST] = {0x19, 0x18, 0x18, 0x19},
};

uint8_t numbering_byte(enum numbering numbering, enum opcode opcode)
{
    if (opcode < FIRST || opcode >= FIRST + COUNT)
        return (uint8_t)opcode;
    return numbering_table[opcode - FIRST][numbering];
}

/* A byte of the hot path's range that S1 does not use has no meaning there. */
uint8_t numbering_opcode(enum numbering numbering, uint8_t byte)
{
    if (byte < FIRST || byte >= FIRST + COUNT)
        return byte;
    for (unsigned i = 0; i < COUNT; i++)
        if (numbering_table[i][numbering] == byte)
            return (uint8_t)(FIRST + i);
    return 0;
}

/* 0x15 is CancelConsume of S3, without a body or with a string that fills it, and Ack of S2, which
 * begins with a count of 32 bits whose upper half nobody needs. */
static enum numbering numbering_of_0x15(struct str body)
{
    if (body.size == 0)
        return NUMBERING_S3;
    if (body.size >= 4 && bytes_get_u16(body.data) == 0)
        return NUMBERING_S2;
    if (body.size >= 2 && bytes_get_u16(body.data) == body.size - 2)
        return NUMBERING_S3;
    return NUMBERING_AUTO;
}

enum numbering numbering_of_request(uint8_t byte, struct str body)
{
    static const uint8_t senders[256] = {
        [0x14] = NUMBERING_S2, /* CancelConsume; to clients in S3 */
        [0x16] = NUMBERING_S3, /* Ack; to clients in S2 */
        [0x17] = NUMBERING_S2, /* Nack */
        [0x18] = NUMBERING_S3, /* Nack */
    };

    return byte == 0x15 ? numbering_of_0x15(body) : (enum numbering)senders[byte];
}
