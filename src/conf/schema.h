/*
 * schema - tables that say what a configuration may hold. One row per key gives its name, type,
 * range, default and documentation; parsing, error messages, the printed effective configuration
 * and the check of the manual page all follow from the rows.
 *
 * Types and the members that they fill:
 *   BOOL          bool
 *   INT           int or uint32_t (max at most INT32_MAX)
 *   SIZE          uint64_t, bytes; suffixes k m g are powers of 1024
 *   TIME          uint64_t, milliseconds; suffixes ms s m h d; the member's name ends with _ms
 *   STRING        char *, NULL when there is neither value nor default
 *   PATH          char *, made absolute with the prefix; NULL as above, or for a `word`
 *   ENUM          int (or an enum) holding the `value` of the name
 *   MAPPING       a nested struct described by `keys`
 *   MAPPING_LIST  pointer to an array of structs of `item_size` described by `keys`, and a size_t
 *                 at `count_offset`
 *   PATH_LIST     pointer to an array of char *, each as of PATH, and a size_t at `count_offset`
 *   ABSENT        nothing: the key belongs to a part that this build lacks
 */
#ifndef FILAD_CONF_SCHEMA_H
#define FILAD_CONF_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/errors.h"
#include "conf/yaml.h"
#include "core/buf.h"
#include "core/pool.h"

enum schema_type {
    SCHEMA_END, /* ends a table: a row of zeros */
    SCHEMA_BOOL,
    SCHEMA_INT,
    SCHEMA_SIZE,
    SCHEMA_TIME,
    SCHEMA_STRING,
    SCHEMA_PATH,
    SCHEMA_ENUM,
    SCHEMA_MAPPING,
    SCHEMA_MAPPING_LIST,
    SCHEMA_PATH_LIST,
    SCHEMA_ABSENT,
};

struct schema_name {
    const char *name; /* NULL ends the list */
    int value;        /* SCHEMA_NAME_ABSENT: known, but not in this build */
};

#define SCHEMA_NAME_ABSENT (-1)

struct schema_key {
    const char *name;
    enum schema_type type;
    size_t offset;       /* of the member in the struct that the table describes */
    const char *initial; /* the default, written as in a file; NULL: none */
    bool required;       /* an error when missing */
    /* Inclusive. INT, SIZE and TIME: of the value; STRING: of its bytes and lists: of their items,
     * when max is not 0. */
    uint64_t min, max;
    /* INT, SIZE, TIME: a word for the value 0, such as "auto", whatever the range. PATH: words that
     * are not paths, separated by `|`: "auto" is stored as NULL, others as they are. */
    const char *word;
    const struct schema_name *names; /* of an ENUM */
    const struct schema_key *keys;   /* of a MAPPING, of each item of a MAPPING_LIST */
    size_t item_size,
        count_offset; /* of lists; item_size of a MAPPING_LIST: 0: nothing is stored */
    /* A part that this build lacks ("TLS"): `true` of a BOOL, a non-empty list and the presence of
     * an ABSENT key are errors that name it. */
    const char *absent;
    const char *doc; /* one line */
};

/* What a parse works with. */
struct schema_context {
    struct pool *pool;  /* owns every string and array that is stored */
    const char *prefix; /* relative paths are taken from it; absolute itself */
    struct conf_errors *errors;
};

/* Fills `target` with the defaults of `keys`. -1 without memory or when a default is not valid,
 * with an error added. */
int schema_defaults(const struct schema_key *keys, void *target,
                    const struct schema_context *context) __attribute__((warn_unused_result));

/* Reads `node` into `target`, which holds the defaults. `section` is the dotted path of the mapping
 * for messages, NULL at the top. Every mistake is added to context->errors and parsing goes on; -1
 * when there was one. */
int schema_parse(const struct schema_key *keys, const struct yaml_node *node, const char *section,
                 void *target, const struct schema_context *context)
    __attribute__((warn_unused_result));

/* Reads the value of one key of the top level, which may be missing, before all others are read.
 */
int schema_parse_key(const struct schema_key *key, const struct yaml_node *root, void *target,
                     const struct schema_context *context) __attribute__((warn_unused_result));

/* Appends the values of `target` as YAML, each line indented by `indent` spaces. */
void schema_dump(const struct schema_key *keys, const void *target, size_t indent, struct buf *out);

/* Whether valid UTF-8 is free of control and layout characters, as every text and path must be. */
bool schema_is_printable(struct str text);

/* A number with suffix as in a file: sizes as "16m", times as "30s". */
void schema_format(enum schema_type type, uint64_t value, char text[32]);

/* Calls `visit` for each row and the rows below it, with its dotted name ("store.checkpoint.bytes",
 * "listen.address"). */
void schema_walk(const struct schema_key *keys, const char *section,
                 void (*visit)(void *context, const char *name, const struct schema_key *key),
                 void *context);

#endif
