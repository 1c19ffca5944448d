#include "kill/payload.h"

#include "core/bytes.h"

#define PAYLOAD_MAGIC 0x4b494c4cu

/* magic(4) producer(4) sequence(4) size(4) checksum(8), then filler */
enum { PRODUCER_AT = 4, SEQUENCE_AT = 8, SIZE_AT = 12, CHECKSUM_AT = 16, FILLER_AT = 24 };

static uint64_t filler_step(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *state = x;
    return x * 0x2545f4914f6cdd1du;
}

static uint64_t checksum(const uint8_t *data, size_t size)
{
    uint64_t first = str_hash(str_of(data, CHECKSUM_AT), 1);
    return str_hash(str_of(data + FILLER_AT, size - FILLER_AT), first);
}

void payload_make(struct buf *buf, uint32_t producer, uint32_t sequence, uint32_t size)
{
    if (size < PAYLOAD_SIZE_MIN)
        size = PAYLOAD_SIZE_MIN;
    buf_clear(buf);
    uint8_t *data = buf_reserve(buf, size);
    if (!data)
        return;
    bytes_put_u32(data, PAYLOAD_MAGIC);
    bytes_put_u32(data + PRODUCER_AT, producer);
    bytes_put_u32(data + SEQUENCE_AT, sequence);
    bytes_put_u32(data + SIZE_AT, size);
    uint64_t state = ((uint64_t)producer << 32 | sequence) * 0x9e3779b97f4a7c15u + 1;
    uint64_t bits = 0;
    for (uint32_t i = FILLER_AT; i < size; i++) {
        if ((i - FILLER_AT) % 8 == 0)
            bits = filler_step(&state);
        data[i] = (uint8_t)bits;
        bits >>= 8;
    }
    bytes_put_u64(data + CHECKSUM_AT, checksum(data, size));
    buf->size = size;
}

bool payload_read(struct str payload, uint32_t *producer, uint32_t *sequence)
{
    if (payload.size < PAYLOAD_SIZE_MIN || bytes_get_u32(payload.data) != PAYLOAD_MAGIC ||
        bytes_get_u32(payload.data + SIZE_AT) != payload.size ||
        bytes_get_u64(payload.data + CHECKSUM_AT) != checksum(payload.data, payload.size))
        return false;
    *producer = bytes_get_u32(payload.data + PRODUCER_AT);
    *sequence = bytes_get_u32(payload.data + SEQUENCE_AT);
    return true;
}
