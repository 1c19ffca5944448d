/* A decision is reached within four bytes and more bytes do not change it. */
#include <stdint.h>
#include <stdlib.h>

#include "fibp/sniff.h"

#define REQUIRE(condition) ((condition) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum sniff_result decided = SNIFF_MORE;
    for (size_t seen = 0; seen <= size && seen < 16; seen++) {
        enum sniff_result result = sniff(str_of(data, seen));
        REQUIRE(decided == SNIFF_MORE || result == decided);
        REQUIRE(seen < 4 || result != SNIFF_MORE);
        decided = result;
    }
    return 0;
}
