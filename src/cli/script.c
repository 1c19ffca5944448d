#include "cli/script.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/err.h"
#include "os/io.h"

#define SCRIPT_SIZE_MAX 65535u /* what the protocol can carry */

bool script_option(const struct args *args, const char *option, char **script)
{
    const char *given = args_value(args, option);
    struct err err = {0};
    struct buf text;
    bool ok = true;

    *script = NULL;
    if (!given)
        return true;
    buf_init(&text, 0);
    if (given[0] == '@' && !given[1]) {
        fprintf(stderr, "fila: --%s: the name of a file is missing behind @\n", option);
        ok = false;
    } else if (given[0] == '@' && io_read_file(given + 1, SCRIPT_SIZE_MAX, &text, &err) != 0) {
        fprintf(stderr, "fila: --%s: %s\n", option, err.text);
        ok = false;
    } else if (given[0] != '@') {
        buf_append_c(&text, given);
    }
    if (ok && text.size && memchr(text.data, 0, text.size)) {
        fprintf(stderr, "fila: --%s: %s holds a NUL byte\n", option, given + 1);
        ok = false;
    }
    if (ok)
        *script = str_dup_c(buf_str(&text));
    if (ok && !*script) {
        fprintf(stderr, "fila: no memory\n");
        ok = false;
    }
    buf_free(&text);
    return ok;
}

bool script_attempts_option(const struct args *args, uint64_t *attempts)
{
    if (!args_number(args, "max-attempts", attempts))
        return false;
    if (*attempts <= UINT32_MAX)
        return true;
    fprintf(stderr, "fila: --max-attempts: at most %u\n", UINT32_MAX);
    return false;
}
