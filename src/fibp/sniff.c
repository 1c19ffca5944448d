#include "fibp/sniff.h"

#define SNIFF_MAGIC_SIZE 4u
#define SNIFF_TLS_HANDSHAKE 0x16 /* record type of a ClientHello */

enum sniff_result sniff(struct str bytes)
{
    static const uint8_t magic[SNIFF_MAGIC_SIZE] = {'F', 'I', 'B', 'P'};

    if (bytes.size == 0)
        return SNIFF_MORE;
    switch (bytes.data[0]) {
    case 'F':
        break;
    case SNIFF_TLS_HANDSHAKE:
        return SNIFF_TLS;
    case 'P':
        return SNIFF_HTTP;
    default:
        return SNIFF_FRAMED;
    }

    size_t seen = bytes.size < SNIFF_MAGIC_SIZE ? bytes.size : SNIFF_MAGIC_SIZE;
    if (memcmp(bytes.data, magic, seen) != 0)
        return SNIFF_BAD;
    return seen < SNIFF_MAGIC_SIZE ? SNIFF_MORE : SNIFF_PREFACE;
}
