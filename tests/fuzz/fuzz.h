/*
 * fuzz - what targets share: a condition that must hold, and the input as a source of choices.
 */
#ifndef FILAD_TESTS_FUZZ_H
#define FILAD_TESTS_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                                         \
    ((condition) ? (void)0                                                                         \
                 : ((void)fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition),  \
                    abort()))

/* A slice that was handed out lies in the input. */
static inline void fuzz_require_inside(struct str all, struct str part)
{
    if (part.size == 0)
        return;
    REQUIRE(part.data >= all.data && part.size <= all.size);
    REQUIRE((size_t)(part.data - all.data) <= all.size - part.size);
}

/* The next byte of the input, 0 at its end. */
static inline uint8_t fuzz_byte(struct str *input)
{
    if (input->size == 0)
        return 0;
    uint8_t byte = input->data[0];
    *input = str_of(input->data + 1, input->size - 1);
    return byte;
}

/* The next `size` bytes, fewer at the end. */
static inline struct str fuzz_bytes(struct str *input, size_t size)
{
    struct str bytes = str_of(input->data, size < input->size ? size : input->size);
    *input = str_of(input->data + bytes.size, input->size - bytes.size);
    return bytes;
}

#endif
