/* The primitive types in any order: the first byte of the input says how many choices follow, each
 * is a byte; the rest is read. Nothing is read outside, a failure sticks, and what was read writes
 * to the same bytes. */
#include "fuzz/fuzz.h"

#include "core/utf8.h"
#include "fibp/wire.h"

static void read_number(struct wire_reader *reader, uint8_t choice, struct buf *again)
{
    uint64_t u64 = 1;
    uint32_t u32 = 1;
    uint16_t u16 = 1;
    uint8_t u8 = 1;
    int64_t i64 = 1;
    double f64 = 1;
    bool good;

    switch (choice % 6) {
    case 0:
        good = wire_u8(reader, "u8", &u8);
        buf_append_u8(again, u8);
        REQUIRE(good || u8 == 0);
        break;
    case 1:
        good = wire_u16(reader, "u16", &u16);
        buf_append_u16(again, u16);
        REQUIRE(good || u16 == 0);
        break;
    case 2:
        good = wire_u32(reader, "u32", &u32);
        buf_append_u32(again, u32);
        REQUIRE(good || u32 == 0);
        break;
    case 3:
        good = wire_u64(reader, "u64", &u64);
        buf_append_u64(again, u64);
        REQUIRE(good || u64 == 0);
        break;
    case 4:
        good = wire_i64(reader, "i64", &i64);
        wire_put_i64(again, i64);
        break;
    default:
        good = wire_f64(reader, "f64", &f64);
        wire_put_f64(again, f64);
        break;
    }
    REQUIRE(good == (reader->reason == NULL));
}

static void read_text(struct wire_reader *reader, uint8_t choice, struct str all, struct buf *again)
{
    struct str text = {NULL, 0};
    bool present, good;
    uint16_t count;

    switch (choice % 4) {
    case 0:
        good = wire_str(reader, "str", &text);
        REQUIRE(utf8_valid(text) || reader->trusted);
        wire_put_str(again, text);
        break;
    case 1:
        good = wire_bytes(reader, "bytes", &text);
        wire_put_bytes(again, text);
        break;
    case 2:
        good = wire_map(reader, "map", &text, &count);
        REQUIRE(good == (text.size >= 2));
        REQUIRE(count <= text.size / 4);
        buf_append_str(again, text);
        break;
    default:
        good = wire_strs(reader, "strs", &text, &count);
        REQUIRE(good == (text.size >= 2));
        REQUIRE(count <= text.size / 2);
        buf_append_str(again, text);
        break;
    }
    if (good && choice == 15) {
        good = wire_opt_str(reader, "opt", &present, &text);
        REQUIRE(good || !present);
        wire_put_opt_str(again, present, text);
    }
    fuzz_require_inside(all, text);
    REQUIRE(good == (reader->reason == NULL));
}

static void read_counts(struct str all)
{
    for (size_t item = 1; item < 40; item += 13) {
        struct wire_reader reader;
        uint32_t count32;
        uint16_t count16;
        wire_reader_init(&reader, all);
        if (wire_count32(&reader, "count", item, &count32))
            REQUIRE(count32 <= WIRE_COUNT_MAX && count32 * item <= wire_remaining(&reader));
        else
            REQUIRE(count32 == 0);
        wire_reader_init(&reader, all);
        if (wire_count16(&reader, "count", item, &count16))
            REQUIRE(count16 * item <= wire_remaining(&reader));
        else
            REQUIRE(count16 == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = str_of(data, size);
    uint8_t steps = fuzz_byte(&input);
    struct str choices = fuzz_bytes(&input, steps % 32);
    struct wire_reader reader;
    struct buf again;
    char text[128];
    bool exact = true; /* a presence byte may be any, and is written as 1 */

    buf_init(&again, 0);
    wire_reader_init(&reader, input);
    reader.trusted = steps >= 128;
    for (size_t i = 0; i < choices.size && !reader.reason; i++) {
        uint8_t choice = choices.data[i] % 16;
        const uint8_t *before = reader.at;
        exact &= choice != 15;
        if (choice < 6)
            read_number(&reader, choice, &again);
        else
            read_text(&reader, choice, input, &again);
        REQUIRE(reader.at >= before && reader.at <= reader.end);
        if (!reader.reason && exact)
            REQUIRE(str_equal(buf_str(&again),
                              str_of(input.data, input.size - wire_remaining(&reader))));
    }
    if (reader.reason) {
        uint8_t byte;
        REQUIRE(reader.field);
        REQUIRE(!wire_u8(&reader, "later", &byte));
    }
    wire_describe(&reader, text, sizeof(text));
    buf_free(&again);
    read_counts(input);
    return 0;
}
