/*
 * yaml - a configuration text as a tree of nodes that know where they stand.
 *
 * Narrower than YAML: one document, no anchors, aliases or tags, plain scalars as keys, no key
 * twice in a mapping; at most YAML_SIZE_MAX bytes, YAML_DEPTH_MAX levels and YAML_NODES_MAX nodes.
 */
#ifndef FILAD_CONF_YAML_H
#define FILAD_CONF_YAML_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/errors.h"
#include "core/pool.h"
#include "core/str.h"

#define YAML_SIZE_MAX (1024 * 1024)
#define YAML_DEPTH_MAX 32
#define YAML_NODES_MAX 100000

enum yaml_kind { YAML_KIND_SCALAR, YAML_KIND_SEQUENCE, YAML_KIND_MAPPING };

struct yaml_node {
    enum yaml_kind kind;
    struct conf_place place; /* where the value begins */
    struct str value;        /* scalar: its text; may hold any byte, also NUL */
    bool quoted;             /* scalar: not a plain one, so neither null nor true nor a number */
    struct str key;          /* the name that a parent mapping gives this node */
    struct conf_place key_place;
    struct yaml_node **children; /* sequence: in order; mapping: in order of the text */
    struct yaml_node **sorted;   /* mapping: the same nodes in order of their keys */
    size_t count;                /* children */
};

/* Parses `text`; every part of the tree, but not `file`, belongs to `pool`. A text without content
 * is an empty mapping. Mistakes go to `errors`: NULL when nothing can be made of the text; for a
 * key given twice parsing goes on with the first. */
struct yaml_node *yaml_parse(struct pool *pool, const char *file, struct str text,
                             struct conf_errors *errors) __attribute__((warn_unused_result));

/* The value of `key`, NULL when `mapping` is none or lacks it. */
struct yaml_node *yaml_find(const struct yaml_node *mapping, struct str key);

/* Lays `over` on `base`: mappings are merged key by key at every level, anything else is replaced.
 * Neither argument changes, the result shares their nodes; NULL without memory. */
struct yaml_node *yaml_overlay(struct pool *pool, struct yaml_node *base, struct yaml_node *over)
    __attribute__((warn_unused_result));

/* An absent value: `key:`, `key: ~`, `key: null`. */
bool yaml_is_null(const struct yaml_node *node);

#endif
