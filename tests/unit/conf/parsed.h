/*
 * parsed - YAML read by a test, with the pool and the mistakes that belong to it, as its cmocka
 * state.
 */
#ifndef FILAD_TESTS_UNIT_CONF_PARSED_H
#define FILAD_TESTS_UNIT_CONF_PARSED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "conf/yaml.h"

struct parsed {
    struct pool *pool;
    struct conf_errors errors;
};

static inline int parsed_setup(void **state)
{
    struct parsed *parsed = calloc(1, sizeof(*parsed));
    assert_non_null(parsed);
    parsed->pool = pool_create(4096);
    assert_non_null(parsed->pool);
    conf_errors_init(&parsed->errors);
    *state = parsed;
    return 0;
}

static inline int parsed_teardown(void **state)
{
    struct parsed *parsed = *state;
    pool_destroy(parsed->pool);
    conf_errors_free(&parsed->errors);
    free(parsed);
    return 0;
}

/* The tree of a text, whose places are in a file "f". */
static inline struct yaml_node *parsed_yaml(struct parsed *parsed, const char *text)
{
    return yaml_parse(parsed->pool, "f", str_from_c(text), &parsed->errors);
}

#endif
