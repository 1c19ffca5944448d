/* UTF-8 and UUIDs: the validator agrees with a decoder written from the definition, cutting keeps
 * text valid, and an id that is read prints as it was written. */
#include "fuzz/fuzz.h"

#include <ctype.h>

#include "core/utf8.h"
#include "core/uuid.h"

/* The value of the character at the start, or -1; *size is how many bytes it takes. */
static int32_t decode(struct str text, size_t *size)
{
    static const struct {
        uint8_t mask, lead;
        int32_t least; /* below it a shorter form would do */
    } forms[] = {{0x80, 0x00, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};

    for (size_t i = 0; i < 4; i++) {
        if ((text.data[0] & forms[i].mask) != forms[i].lead)
            continue;
        int32_t value = text.data[0] & (uint8_t)~forms[i].mask;
        *size = i + 1;
        if (text.size < *size)
            return -1;
        for (size_t k = 1; k < *size; k++) {
            if ((text.data[k] & 0xc0) != 0x80)
                return -1;
            value = value * 64 + (text.data[k] & 0x3f);
        }
        bool surrogate = value >= 0xd800 && value <= 0xdfff;
        return value < forms[i].least || value > 0x10ffff || surrogate ? -1 : value;
    }
    return -1;
}

static bool decodes(struct str text)
{
    while (text.size > 0) {
        size_t size;
        if (decode(text, &size) < 0)
            return false;
        text = str_of(text.data + size, text.size - size);
    }
    return true;
}

static void check_uuid(struct str text)
{
    uint8_t printed[UUID_TEXT_SIZE];
    struct uuid id;

    if (!uuid_parse(text, &id))
        return;
    REQUIRE(text.size == UUID_TEXT_SIZE);
    uuid_format(&id, printed);
    for (size_t i = 0; i < text.size; i++)
        REQUIRE(printed[i] == tolower(text.data[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = str_of(data, size);
    bool valid = utf8_valid(text);

    REQUIRE(valid == decodes(text));
    for (size_t limit = 0; valid && limit <= size; limit += 1 + limit / 8) {
        size_t cut = utf8_truncate(text, limit);
        REQUIRE(cut <= limit && limit - cut < 4);
        REQUIRE(utf8_valid(str_of(data, cut)));
    }
    for (size_t at = 0; at < size && at < 64; at++) {
        check_uuid(str_of(data + at, size - at));
        if (size - at > UUID_TEXT_SIZE)
            check_uuid(str_of(data + at, UUID_TEXT_SIZE));
    }
    return 0;
}
