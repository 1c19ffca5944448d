/* Addresses: one that is accepted prints in a form that is read as the same one. */
#include "fuzz/fuzz.h"

#include <string.h>

#include "os/sock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sock_address first, second;
    char text[SOCK_TEXT_SIZE], again[SOCK_TEXT_SIZE];
    struct err err = {0};

    if (sock_address_parse(str_of(data, size), &first, &err) < 0) {
        REQUIRE(err.text[0] != '\0');
        return 0;
    }
    REQUIRE(memchr(first.host, 0, sizeof(first.host)) && memchr(first.path, 0, sizeof(first.path)));
    REQUIRE(first.kind == SOCK_KIND_UNIX ? first.path[0] != '\0' : first.host[0] != '\0');
    sock_address_format(&first, text);
    REQUIRE(sock_address_parse(str_from_c(text), &second, &err) == 0);
    sock_address_format(&second, again);
    REQUIRE(strcmp(text, again) == 0);
    REQUIRE(first.kind == second.kind);
    return 0;
}
