#include "conf/yaml.h"

#include <stdlib.h>

#include <yaml.h>

struct builder {
    yaml_parser_t parser;
    struct pool *pool;
    struct conf_errors *errors;
    const char *file;
    struct str text;
    size_t nodes;
};

static struct conf_place place_of_mark(const struct builder *builder, yaml_mark_t mark)
{
    return (struct conf_place){builder->file, mark.line + 1, mark.column + 1};
}

/* The reader of libyaml reports bytes that it cannot decode by their offset only. */
static struct conf_place place_of_offset(const struct builder *builder, size_t offset)
{
    struct conf_place place = {builder->file, 1, 1};
    for (size_t i = 0; i < offset && i < builder->text.size; i++) {
        uint8_t byte = builder->text.data[i];
        if (byte == '\n') {
            place.line++;
            place.column = 1;
        } else if ((byte & 0xc0) != 0x80) {
            place.column++;
        }
    }
    return place;
}

static void out_of_memory(struct builder *builder)
{
    struct conf_place place = {builder->file, 0, 0};
    (void)conf_errors_add(builder->errors, place, "out of memory");
}

static void report_parser(struct builder *builder)
{
    const yaml_parser_t *parser = &builder->parser;
    const char *problem = parser->problem != NULL ? parser->problem : "not valid";

    if (parser->error == YAML_MEMORY_ERROR)
        out_of_memory(builder);
    else if (parser->error == YAML_READER_ERROR)
        (void)conf_errors_add(builder->errors, place_of_offset(builder, parser->problem_offset),
                              "not YAML: %s", problem);
    else
        (void)conf_errors_add(builder->errors, place_of_mark(builder, parser->problem_mark),
                              "not YAML: %s%s%s", problem, parser->context != NULL ? " " : "",
                              parser->context != NULL ? parser->context : "");
}

static int next_event(struct builder *builder, yaml_event_t *event)
{
    if (yaml_parser_parse(&builder->parser, event))
        return 0;
    report_parser(builder);
    return -1;
}

static int check_properties(struct builder *builder, const yaml_event_t *event)
{
    struct conf_place place = place_of_mark(builder, event->start_mark);
    const yaml_char_t *anchor = NULL, *tag = NULL;

    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return conf_errors_add(builder->errors, place, "aliases (*name) are not supported");
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        break;
    default:
        break;
    }
    if (anchor != NULL)
        return conf_errors_add(builder->errors, place, "anchors (&name) are not supported");
    if (tag != NULL)
        return conf_errors_add(builder->errors, place, "tags (!name) are not supported");
    return 0;
}

static struct yaml_node *node_create(struct builder *builder, const yaml_event_t *event,
                                     enum yaml_kind kind)
{
    struct conf_place place = place_of_mark(builder, event->start_mark);
    if (++builder->nodes > YAML_NODES_MAX) {
        (void)conf_errors_add(builder->errors, place, "more than %d values", YAML_NODES_MAX);
        return NULL;
    }
    struct yaml_node *node = pool_zalloc(builder->pool, sizeof(*node));
    if (node == NULL) {
        out_of_memory(builder);
        return NULL;
    }
    node->kind = kind;
    node->place = place;
    return node;
}

/* Room doubles, so that what is left behind in the pool is at most what is used. */
static int append_child(struct builder *builder, struct yaml_node *node, size_t *capacity,
                        struct yaml_node *child)
{
    if (node->count == *capacity) {
        size_t more = *capacity ? *capacity * 2 : 8;
        struct yaml_node **children = pool_alloc(builder->pool, more * sizeof(struct yaml_node *));
        if (children == NULL) {
            out_of_memory(builder);
            return -1;
        }
        if (node->count > 0)
            memcpy(children, node->children, node->count * sizeof(struct yaml_node *));
        node->children = children;
        *capacity = more;
    }
    node->children[node->count++] = child;
    return 0;
}

static int compare_keys(const void *left, const void *right)
{
    const struct yaml_node *a = *(struct yaml_node *const *)left;
    const struct yaml_node *b = *(struct yaml_node *const *)right;
    int order = str_compare(a->key, b->key);
    if (order != 0)
        return order;
    if (a->key_place.line != b->key_place.line)
        return a->key_place.line < b->key_place.line ? -1 : 1;
    return (a->key_place.column > b->key_place.column) -
           (a->key_place.column < b->key_place.column);
}

static int sort_children(struct pool *pool, struct yaml_node *mapping)
{
    if (mapping->count == 0)
        return 0;
    size_t size = mapping->count * sizeof(struct yaml_node *);
    mapping->sorted = pool_alloc(pool, size);
    if (mapping->sorted == NULL)
        return -1;
    memcpy(mapping->sorted, mapping->children, size);
    qsort(mapping->sorted, mapping->count, sizeof(struct yaml_node *), compare_keys);
    return 0;
}

/* Reports keys given twice and takes the later ones out. */
static int finish_mapping(struct builder *builder, struct yaml_node *mapping)
{
    if (sort_children(builder->pool, mapping) != 0) {
        out_of_memory(builder);
        return -1;
    }
    size_t kept = 0;
    for (size_t i = 0; i < mapping->count; i++) {
        struct yaml_node *node = mapping->sorted[i];
        struct yaml_node *first = kept > 0 ? mapping->sorted[kept - 1] : NULL;
        if (first == NULL || !str_equal(first->key, node->key)) {
            mapping->sorted[kept++] = node;
            continue;
        }
        (void)conf_errors_add(builder->errors, node->key_place,
                              "duplicate key `%.*s`, first at %s:%zu:%zu",
                              STR_PRINT(conf_errors_clip(node->key)), first->key_place.file,
                              first->key_place.line, first->key_place.column);
        node->key.data = NULL; /* marks it for the pass below */
    }
    if (kept == mapping->count)
        return 0;
    kept = 0;
    for (size_t i = 0; i < mapping->count; i++)
        if (mapping->children[i]->key.data != NULL)
            mapping->children[kept++] = mapping->children[i];
    mapping->count = kept;
    return 0;
}

static struct yaml_node *build_node(struct builder *builder, const yaml_event_t *event, int depth);

static struct yaml_node *build_scalar(struct builder *builder, const yaml_event_t *event)
{
    struct yaml_node *node = node_create(builder, event, YAML_KIND_SCALAR);
    if (node == NULL)
        return NULL;
    node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    node->value =
        pool_str(builder->pool, str_of(event->data.scalar.value, event->data.scalar.length));
    if (node->value.data == NULL && event->data.scalar.length > 0) {
        out_of_memory(builder);
        return NULL;
    }
    return node;
}

static int check_key(struct builder *builder, const yaml_event_t *event)
{
    struct conf_place place = place_of_mark(builder, event->start_mark);
    if (event->type == YAML_ALIAS_EVENT)
        return check_properties(builder, event);
    if (event->type != YAML_SCALAR_EVENT)
        return conf_errors_add(builder->errors, place, "a key must be a plain word");
    if (event->data.scalar.length == 0)
        return conf_errors_add(builder->errors, place, "a key must not be empty");
    return check_properties(builder, event);
}

/* One pair of a mapping whose key event has been read; the value takes the key's name. */
static struct yaml_node *build_pair(struct builder *builder, const yaml_event_t *key, int depth)
{
    yaml_event_t event;

    if (check_key(builder, key) != 0)
        return NULL;
    struct str name =
        pool_str(builder->pool, str_of(key->data.scalar.value, key->data.scalar.length));
    if (name.data == NULL) {
        out_of_memory(builder);
        return NULL;
    }
    if (next_event(builder, &event) != 0)
        return NULL;
    struct yaml_node *node = build_node(builder, &event, depth);
    yaml_event_delete(&event);
    if (node == NULL)
        return NULL;
    node->key = name;
    node->key_place = place_of_mark(builder, key->start_mark);
    return node;
}

static struct yaml_node *build_collection(struct builder *builder, const yaml_event_t *start,
                                          int depth)
{
    bool mapping = start->type == YAML_MAPPING_START_EVENT;
    yaml_event_type_t end = mapping ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT;
    size_t capacity = 0;

    if (depth > YAML_DEPTH_MAX) {
        (void)conf_errors_add(builder->errors, place_of_mark(builder, start->start_mark),
                              "nested deeper than %d levels", YAML_DEPTH_MAX);
        return NULL;
    }
    struct yaml_node *node =
        node_create(builder, start, mapping ? YAML_KIND_MAPPING : YAML_KIND_SEQUENCE);
    if (node == NULL)
        return NULL;
    for (;;) {
        yaml_event_t event;
        if (next_event(builder, &event) != 0)
            return NULL;
        if (event.type == end) {
            yaml_event_delete(&event);
            break;
        }
        struct yaml_node *child = mapping ? build_pair(builder, &event, depth + 1)
                                          : build_node(builder, &event, depth + 1);
        yaml_event_delete(&event);
        if (child == NULL || append_child(builder, node, &capacity, child) != 0)
            return NULL;
    }
    return mapping && finish_mapping(builder, node) != 0 ? NULL : node;
}

static struct yaml_node *build_node(struct builder *builder, const yaml_event_t *event, int depth)
{
    if (check_properties(builder, event) != 0)
        return NULL;
    if (event->type == YAML_SCALAR_EVENT)
        return build_scalar(builder, event);
    return build_collection(builder, event, depth);
}

static struct yaml_node *empty_mapping(struct builder *builder)
{
    const yaml_event_t nothing = {.type = YAML_NO_EVENT};
    return node_create(builder, &nothing, YAML_KIND_MAPPING);
}

/* The stream's events around and between documents; builds the one that may be there. */
static struct yaml_node *build_stream(struct builder *builder)
{
    struct yaml_node *root = NULL;
    for (;;) {
        yaml_event_t event;
        if (next_event(builder, &event) != 0)
            return NULL;
        yaml_event_type_t type = event.type;
        bool failed = false;
        switch (type) {
        case YAML_STREAM_START_EVENT:
        case YAML_STREAM_END_EVENT:
        case YAML_DOCUMENT_END_EVENT:
            break;
        case YAML_DOCUMENT_START_EVENT:
            if (root != NULL) {
                (void)conf_errors_add(builder->errors, place_of_mark(builder, event.start_mark),
                                      "a second document");
                failed = true;
            }
            break;
        default:
            root = build_node(builder, &event, 1);
            failed = root == NULL;
        }
        if (root == NULL && !failed && type == YAML_STREAM_END_EVENT)
            root = empty_mapping(builder);
        yaml_event_delete(&event);
        if (failed)
            return NULL;
        if (type == YAML_STREAM_END_EVENT)
            return root;
    }
}

struct yaml_node *yaml_parse(struct pool *pool, const char *file, struct str text,
                             struct conf_errors *errors)
{
    struct builder builder = {.pool = pool, .errors = errors, .file = file, .text = text};

    if (text.size > YAML_SIZE_MAX) {
        struct conf_place place = {file, 0, 0};
        (void)conf_errors_add(errors, place, "larger than %d bytes", YAML_SIZE_MAX);
        return NULL;
    }
    if (!yaml_parser_initialize(&builder.parser)) {
        out_of_memory(&builder);
        return NULL;
    }
    yaml_parser_set_encoding(&builder.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&builder.parser, text.size ? text.data : (const uint8_t *)"",
                                 text.size);
    struct yaml_node *root = build_stream(&builder);
    yaml_parser_delete(&builder.parser);
    return root;
}

static int compare_name(const void *name, const void *element)
{
    return str_compare(*(const struct str *)name, (*(struct yaml_node *const *)element)->key);
}

struct yaml_node *yaml_find(const struct yaml_node *mapping, struct str key)
{
    if (mapping == NULL || mapping->kind != YAML_KIND_MAPPING || mapping->count == 0)
        return NULL;
    struct yaml_node **found =
        bsearch(&key, mapping->sorted, mapping->count, sizeof(struct yaml_node *), compare_name);
    return found != NULL ? *found : NULL;
}

struct yaml_node *yaml_overlay(struct pool *pool, struct yaml_node *base, struct yaml_node *over)
{
    if (base->kind != YAML_KIND_MAPPING || over->kind != YAML_KIND_MAPPING)
        return over;
    struct yaml_node *merged = pool_alloc(pool, sizeof(*merged));
    if (merged == NULL)
        return NULL;
    *merged = *base;
    merged->count = 0;
    merged->sorted = NULL;
    merged->children =
        pool_alloc(pool, (base->count + over->count + 1) * sizeof(struct yaml_node *));
    if (merged->children == NULL)
        return NULL;
    for (size_t i = 0; i < base->count; i++) {
        struct yaml_node *node = base->children[i];
        struct yaml_node *replacement = yaml_find(over, node->key);
        if (replacement != NULL)
            node = yaml_overlay(pool, node, replacement);
        if (node == NULL)
            return NULL;
        merged->children[merged->count++] = node;
    }
    for (size_t i = 0; i < over->count; i++)
        if (yaml_find(base, over->children[i]->key) == NULL)
            merged->children[merged->count++] = over->children[i];
    return sort_children(pool, merged) == 0 ? merged : NULL;
}

bool yaml_is_null(const struct yaml_node *node)
{
    if (node->kind != YAML_KIND_SCALAR || node->quoted)
        return false;
    return node->value.size == 0 || str_equal(node->value, STR("~")) ||
           str_equal(node->value, STR("null"));
}
