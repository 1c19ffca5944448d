/*
 * numbering - the numbers that the operations of the hot path have on the wire. The framed dialect
 * went through three states of them (spec/fibp.md A7); everywhere else in this program `enum
 * opcode` is the meaning, and its values are those of S3.
 */
#ifndef FILAD_FIBP_NUMBERING_H
#define FILAD_FIBP_NUMBERING_H

#include <stdint.h>

#include "core/str.h"
#include "fibp/opcode.h"

enum numbering {
    NUMBERING_AUTO, /* as S3, until a request tells */
    NUMBERING_S1,   /* a Consume that succeeds has no answer */
    NUMBERING_S2,
    NUMBERING_S3,
};

/* The byte on the wire; 0: this numbering has no such frame. */
uint8_t numbering_byte(enum numbering numbering, enum opcode opcode);

/* The meaning of a byte from the wire, of which only opcode.h knows whether it is assigned; 0: none
 * in this numbering. */
uint8_t numbering_opcode(enum numbering numbering, uint8_t byte);

/* What a request says about its sender: NUMBERING_S3; NUMBERING_S2 for S1 too, which looks the same
 * from here; or NUMBERING_AUTO when all of them send it. `body` is the whole request's. */
enum numbering numbering_of_request(uint8_t byte, struct str body);

#endif
