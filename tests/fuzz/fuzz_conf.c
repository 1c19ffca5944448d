/*
 * Any text as configuration file, and what follows a NUL byte as the overlay of -g: nothing
 * crashes, and what is accepted can be printed and read again.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"

struct section {
    char *text;
    char *path;
    uint64_t size;
    uint32_t number;
    bool flag;
};

#define AT(member) .offset = offsetof(struct section, member)

static const struct schema_key section_keys[] = {
    {"text", SCHEMA_STRING, AT(text)},
    {"path", SCHEMA_PATH, AT(path), .word = "auto|none", .initial = "none"},
    {"size", SCHEMA_SIZE, AT(size), .max = UINT64_MAX},
    {"number", SCHEMA_INT, AT(number), .max = INT32_MAX},
    {"flag", SCHEMA_BOOL, AT(flag)},
    {.type = SCHEMA_END},
};

static const struct conf_section sections[] = {{"module", section_keys, sizeof(struct section)}};

static void require(bool condition, const char *what)
{
    if (!condition) {
        (void)fprintf(stderr, "fuzz_conf: %s\n", what);
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct conf_errors errors;
    struct conf *conf = NULL, *again = NULL;
    struct buf first, second;
    struct str text = str_of(data, size);
    char *overlay = NULL;

    const uint8_t *end = size > 0 ? memchr(data, 0, size) : NULL;
    if (end != NULL) {
        text.size = (size_t)(end - data);
        overlay = str_dup_c(str_of(end + 1, size - text.size - 1));
        if (overlay == NULL)
            return 0;
    }
    conf_errors_init(&errors);
    buf_init(&first, 0);
    buf_init(&second, 0);
    conf = conf_load_text("file", text, "/prefix", overlay, sections, 1, &errors);
    require((conf == NULL) == (errors.count > 0), "a result and errors, or neither");
    require(memchr(conf_errors_text(&errors), 0x1b, strlen(conf_errors_text(&errors))) == NULL,
            "a control byte in an error");
    if (conf == NULL)
        goto out;
    conf_dump(conf, &first);
    again = conf_load_text("dump", buf_str(&first), "/other", NULL, sections, 1, &errors);
    require(again != NULL, conf_errors_text(&errors));
    conf_dump(again, &second);
    require(str_equal(buf_str(&first), buf_str(&second)), "what is printed reads differently");
out:
    conf_free(conf);
    conf_free(again);
    buf_free(&first);
    buf_free(&second);
    conf_errors_free(&errors);
    free(overlay);
    return 0;
}
