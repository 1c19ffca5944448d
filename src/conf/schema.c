#include "conf/schema.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_SIZE 256 /* of a dotted name; our own tables stay far below */

/* The value of one key on its way from a node to its member. */
struct setting {
    const struct schema_key *key;
    const char *name; /* dotted */
    const struct yaml_node *node;
    void *member;
    const struct schema_context *context;
};

static void *member_of(void *target, size_t offset)
{
    return (char *)target + offset;
}

static const void *const_member_of(const void *target, size_t offset)
{
    return (const char *)target + offset;
}

static int out_of_memory(const struct schema_context *context, struct conf_place place)
{
    return conf_errors_add(context->errors, place, "out of memory");
}

/* Formatting of numbers. */

struct unit {
    const char *suffix;
    uint64_t factor;
};

/* From the largest to the one that a bare number has; ended by a NULL suffix. */
static const struct unit size_units[] = {
    {"g", 1ULL << 30}, {"m", 1ULL << 20}, {"k", 1ULL << 10}, {"", 1}, {NULL, 0},
};
static const struct unit time_units[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {"", 1}, {NULL, 0},
};
static const struct unit plain_units[] = {{"", 1}, {NULL, 0}};

static const struct unit *units_of(enum schema_type type)
{
    return type == SCHEMA_SIZE ? size_units : type == SCHEMA_TIME ? time_units : plain_units;
}

void schema_format(enum schema_type type, uint64_t value, char text[32])
{
    const struct unit *unit = units_of(type);
    while (unit->factor > 1 && (value == 0 || value % unit->factor != 0))
        unit++;
    if (value == 0)
        unit = plain_units;
    (void)snprintf(text, 32, "%llu%s", (unsigned long long)(value / unit->factor), unit->suffix);
}

/* Errors. */

static const char *const expectations[] = {
    [SCHEMA_BOOL] = "true or false",
    [SCHEMA_INT] = "a whole number",
    [SCHEMA_SIZE] = "a size such as 64k, 16m or 1g",
    [SCHEMA_TIME] = "a time such as 100ms, 30s, 5m, 1h or 1d",
    [SCHEMA_STRING] = "a text",
    [SCHEMA_PATH] = "a path",
    [SCHEMA_MAPPING] = "a mapping of keys to values",
    [SCHEMA_MAPPING_LIST] = "a list",
    [SCHEMA_PATH_LIST] = "a list of paths",
};

/* "a, b or c" for the names of an ENUM. */
static void list_names(const struct schema_name *names, char *text, size_t size)
{
    size_t used = 0;
    text[0] = 0;
    for (const struct schema_name *name = names; name->name != NULL && used < size; name++) {
        const char *glue = name == names ? "" : name[1].name == NULL ? " or " : ", ";
        int length = snprintf(text + used, size - used, "%s%s", glue, name->name);
        used += length > 0 ? (size_t)length : 0;
    }
}

static int wrong_type(const struct setting *setting)
{
    const struct yaml_node *node = setting->node;
    const struct schema_key *key = setting->key;
    char names[NAME_SIZE];
    const char *expected = expectations[key->type];
    const char *word = key->word != NULL && key->type != SCHEMA_PATH ? key->word : NULL;

    if (key->type == SCHEMA_ENUM) {
        list_names(key->names, names, sizeof(names));
        expected = names;
    }
    if (node->kind == YAML_KIND_SCALAR && !yaml_is_null(node)) {
        const char *quote = node->quoted ? "\"" : "`";
        return conf_errors_add(setting->context->errors, node->place,
                               "`%s` needs %s%s%s, not %s%.*s%s", setting->name, expected,
                               word ? " or " : "", word ? word : "", quote,
                               STR_PRINT(conf_errors_clip(node->value)), quote);
    }
    return conf_errors_add(setting->context->errors, node->place, "`%s` needs %s%s%s, not %s",
                           setting->name, expected, word ? " or " : "", word ? word : "",
                           node->kind == YAML_KIND_SEQUENCE  ? "a list"
                           : node->kind == YAML_KIND_MAPPING ? "a mapping"
                                                             : "nothing");
}

static int not_in_build(const struct setting *setting, const char *value, const char *part)
{
    return conf_errors_add(setting->context->errors, setting->node->place,
                           "`%s%s%s` is not in this build%s%s", setting->name,
                           value != NULL ? ": " : "", value != NULL ? value : "",
                           part != NULL ? ", which has no " : "", part != NULL ? part : "");
}

static int out_of_range(const struct setting *setting)
{
    const struct schema_key *key = setting->key;
    char min[32], max[32];
    schema_format(key->type, key->min, min);
    schema_format(key->type, key->max, max);
    return conf_errors_add(setting->context->errors, setting->node->place,
                           "`%s` must be between %s and %s, not %.*s", setting->name, min, max,
                           STR_PRINT(conf_errors_clip(setting->node->value)));
}

/* Values. */

static bool is_value(const struct yaml_node *node)
{
    return node->kind == YAML_KIND_SCALAR && !yaml_is_null(node);
}

static uint8_t to_lower(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + ('a' - 'A')) : byte;
}

static bool equal_ignoring_case(struct str value, const char *word)
{
    if (strlen(word) != value.size)
        return false;
    for (size_t i = 0; i < value.size; i++)
        if (to_lower(value.data[i]) != (uint8_t)word[i])
            return false;
    return true;
}

/* The spellings of YAML 1.1, which libyaml stands for. */
static int set_bool(const struct setting *setting)
{
    static const struct {
        const char *word;
        bool value;
    } words[] = {
        {"true", true}, {"false", false}, {"yes", true},
        {"no", false},  {"on", true},     {"off", false},
    };
    const struct yaml_node *node = setting->node;

    if (!is_value(node) || node->quoted)
        return wrong_type(setting);
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (!equal_ignoring_case(node->value, words[i].word))
            continue;
        if (words[i].value && setting->key->absent != NULL)
            return not_in_build(setting, "true", setting->key->absent);
        *(bool *)setting->member = words[i].value;
        return 0;
    }
    return wrong_type(setting);
}

enum number_result { NUMBER_FINE, NUMBER_WRONG, NUMBER_TOO_LARGE };

/* Digits and one of the units' suffixes. */
static enum number_result parse_number(struct str text, const struct unit *units, uint64_t *value)
{
    bool overflow = false;
    size_t i = 0;

    *value = 0;
    for (; i < text.size && text.data[i] >= '0' && text.data[i] <= '9'; i++) {
        overflow |= __builtin_mul_overflow(*value, 10u, value);
        overflow |= __builtin_add_overflow(*value, (unsigned)(text.data[i] - '0'), value);
    }
    if (i == 0)
        return NUMBER_WRONG;
    struct str suffix = str_of(text.data + i, text.size - i);
    while (units->suffix != NULL && !equal_ignoring_case(suffix, units->suffix))
        units++;
    if (units->suffix == NULL)
        return NUMBER_WRONG;
    overflow |= __builtin_mul_overflow(*value, units->factor, value);
    return overflow ? NUMBER_TOO_LARGE : NUMBER_FINE;
}

static int set_number(const struct setting *setting)
{
    const struct schema_key *key = setting->key;
    struct str text = setting->node->value;
    uint64_t value = 0;

    if (!is_value(setting->node) || (key->type == SCHEMA_INT && setting->node->quoted))
        return wrong_type(setting);
    if (key->word == NULL || !str_equal(text, str_from_c(key->word))) {
        enum number_result result = parse_number(text, units_of(key->type), &value);
        if (result == NUMBER_WRONG)
            return wrong_type(setting);
        if (result == NUMBER_TOO_LARGE || value < key->min || value > key->max)
            return out_of_range(setting);
    }
    if (key->type == SCHEMA_INT)
        *(uint32_t *)setting->member = (uint32_t)value;
    else
        *(uint64_t *)setting->member = value;
    return 0;
}

/* Such characters have no place in a name or path, and YAML could not print them as they are. */
bool schema_is_printable(struct str text)
{
    static const char *const unwanted[] = {"\xe2\x80\xa8", "\xe2\x80\xa9", "\xef\xbb\xbf",
                                           "\xef\xbf\xbe", "\xef\xbf\xbf"};
    for (size_t i = 0; i < text.size; i++) {
        const uint8_t *byte = text.data + i;
        if (*byte < 0x20 || *byte == 0x7f)
            return false;
        if (*byte == 0xc2 && i + 1 < text.size && byte[1] < 0xa0)
            return false;
        for (size_t u = 0; u < sizeof(unwanted) / sizeof(unwanted[0]); u++)
            if (i + 2 < text.size && memcmp(byte, unwanted[u], 3) == 0)
                return false;
    }
    return true;
}

static int check_text(const struct setting *setting)
{
    if (!is_value(setting->node))
        return wrong_type(setting);
    if (!schema_is_printable(setting->node->value))
        return conf_errors_add(setting->context->errors, setting->node->place,
                               "`%s` holds a control character", setting->name);
    return 0;
}

static int set_string(const struct setting *setting)
{
    const struct schema_key *key = setting->key;
    struct str text = setting->node->value;

    if (check_text(setting) != 0)
        return -1;
    if (key->max != 0 && (text.size < key->min || text.size > key->max))
        return conf_errors_add(setting->context->errors, setting->node->place,
                               "`%s` must have %llu to %llu bytes, not %zu", setting->name,
                               (unsigned long long)key->min, (unsigned long long)key->max,
                               text.size);
    char *copy = pool_strdup(setting->context->pool, text);
    if (copy == NULL)
        return out_of_memory(setting->context, setting->node->place);
    *(char **)setting->member = copy;
    return 0;
}

/* Whether `text` is one of `words`, which stand separated by `|`. */
static bool is_word(struct str text, const char *words)
{
    while (words != NULL && *words != 0) {
        size_t length = strcspn(words, "|");
        if (str_equal(text, str_of(words, length)))
            return true;
        words += length + (words[length] == '|');
    }
    return false;
}

static int set_path(const struct setting *setting)
{
    struct str text = setting->node->value;
    const struct schema_context *context = setting->context;
    char path[PATH_MAX];
    int length;

    if (check_text(setting) != 0)
        return -1;
    if (text.size == 0)
        return conf_errors_add(context->errors, setting->node->place, "`%s` must not be empty",
                               setting->name);
    bool word = is_word(text, setting->key->word);
    if (word && str_equal(text, STR("auto"))) {
        *(char **)setting->member = NULL;
        return 0;
    }
    if (word || text.data[0] == '/')
        length = snprintf(path, sizeof(path), "%.*s", STR_PRINT(text));
    else
        length = snprintf(path, sizeof(path), "%s/%.*s", context->prefix, STR_PRINT(text));
    if (length < 0 || (size_t)length >= sizeof(path))
        return conf_errors_add(context->errors, setting->node->place,
                               "`%s` is longer than %d bytes", setting->name, PATH_MAX - 1);
    char *copy = pool_strdup(context->pool, str_of(path, (size_t)length));
    if (copy == NULL)
        return out_of_memory(context, setting->node->place);
    *(char **)setting->member = copy;
    return 0;
}

static int set_enum(const struct setting *setting)
{
    if (!is_value(setting->node))
        return wrong_type(setting);
    for (const struct schema_name *name = setting->key->names; name->name != NULL; name++) {
        if (!str_equal(setting->node->value, str_from_c(name->name)))
            continue;
        if (name->value == SCHEMA_NAME_ABSENT)
            return not_in_build(setting, name->name, setting->key->absent);
        *(int *)setting->member = name->value;
        return 0;
    }
    return wrong_type(setting);
}

static int set_mapping(const struct setting *setting)
{
    return schema_parse(setting->key->keys, setting->node, setting->name, setting->member,
                        setting->context);
}

static int check_list_size(const struct setting *setting)
{
    const struct schema_key *key = setting->key;
    size_t count = setting->node->count;

    if (key->absent != NULL && count > 0)
        return not_in_build(setting, NULL, key->absent);
    if (key->max == 0 || (count >= key->min && count <= key->max))
        return 0;
    return conf_errors_add(setting->context->errors, setting->node->place,
                           "`%s` must have %llu to %llu items, not %zu", setting->name,
                           (unsigned long long)key->min, (unsigned long long)key->max, count);
}

static int set_list(const struct setting *setting)
{
    const struct schema_key *key = setting->key;
    const struct schema_context *context = setting->context;
    const struct yaml_node *node = setting->node;
    int result = 0;

    if (node->kind != YAML_KIND_SEQUENCE)
        return wrong_type(setting);
    if (check_list_size(setting) != 0)
        return -1;
    if (key->item_size == 0)
        return 0;
    char *items = pool_zalloc(context->pool, node->count * key->item_size + 1);
    if (items == NULL)
        return out_of_memory(context, node->place);
    for (size_t i = 0; i < node->count; i++) {
        void *item = items + i * key->item_size;
        if (schema_defaults(key->keys, item, context) != 0 ||
            schema_parse(key->keys, node->children[i], setting->name, item, context) != 0)
            result = -1;
    }
    /* `member` is the struct itself here: a list fills two members. */
    *(void **)member_of(setting->member, key->offset) = items;
    *(size_t *)member_of(setting->member, key->count_offset) = node->count;
    return result;
}

static int set_path_list(const struct setting *setting)
{
    const struct schema_key *key = setting->key;
    const struct yaml_node *node = setting->node;
    int result = 0;

    if (node->kind != YAML_KIND_SEQUENCE)
        return wrong_type(setting);
    if (check_list_size(setting) != 0)
        return -1;
    char **paths = pool_zalloc(setting->context->pool, (node->count + 1) * sizeof(*paths));
    if (paths == NULL)
        return out_of_memory(setting->context, node->place);
    for (size_t i = 0; i < node->count; i++) {
        struct setting item = {key, setting->name, node->children[i], &paths[i], setting->context};
        if (set_path(&item) != 0)
            result = -1;
    }
    *(char ***)member_of(setting->member, key->offset) = paths;
    *(size_t *)member_of(setting->member, key->count_offset) = node->count;
    return result;
}

static int set_absent(const struct setting *setting)
{
    return conf_errors_add(setting->context->errors, setting->node->key_place,
                           "`%s` is not in this build, which has no %s", setting->name,
                           setting->key->absent);
}

static int (*const setters[])(const struct setting *setting) = {
    [SCHEMA_BOOL] = set_bool,         [SCHEMA_INT] = set_number,
    [SCHEMA_SIZE] = set_number,       [SCHEMA_TIME] = set_number,
    [SCHEMA_STRING] = set_string,     [SCHEMA_PATH] = set_path,
    [SCHEMA_ENUM] = set_enum,         [SCHEMA_MAPPING] = set_mapping,
    [SCHEMA_MAPPING_LIST] = set_list, [SCHEMA_PATH_LIST] = set_path_list,
    [SCHEMA_ABSENT] = set_absent,
};

static bool is_list(const struct schema_key *key)
{
    return key->type == SCHEMA_MAPPING_LIST || key->type == SCHEMA_PATH_LIST;
}

static int set_key(const struct schema_key *key, const char *name, const struct yaml_node *node,
                   void *target, const struct schema_context *context)
{
    size_t offset = is_list(key) ? 0 : key->offset;
    struct setting setting = {key, name, node, member_of(target, offset), context};
    return setters[key->type](&setting);
}

/* Mappings. */

static void join_name(char name[NAME_SIZE], const char *section, const char *key)
{
    (void)snprintf(name, NAME_SIZE, "%s%s%s", section != NULL ? section : "",
                   section != NULL ? "." : "", key);
}

static const struct schema_key *find_key(const struct schema_key *keys, struct str name)
{
    for (const struct schema_key *key = keys; key->type != SCHEMA_END; key++)
        if (str_equal(name, str_from_c(key->name)))
            return key;
    return NULL;
}

/* How many characters have to be changed, added or taken out to make one of the other; anything
 * above 32 characters counts as far. */
static size_t edit_distance(struct str a, struct str b)
{
    size_t row[33];

    if (a.size > 32 || b.size > 32)
        return SIZE_MAX;
    for (size_t j = 0; j <= b.size; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.size; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.size; j++) {
            size_t above = row[j];
            size_t best = diagonal + (to_lower(a.data[i - 1]) != to_lower(b.data[j - 1]));
            best = above + 1 < best ? above + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diagonal = above;
            row[j] = best;
        }
    }
    return row[b.size];
}

static const char *closest_key(const struct schema_key *keys, struct str name)
{
    size_t limit = name.size < 4 ? 1 : name.size < 10 ? 2 : 3;
    const char *closest = NULL;
    for (const struct schema_key *key = keys; key->type != SCHEMA_END; key++) {
        size_t distance = edit_distance(name, str_from_c(key->name));
        if (distance <= limit) {
            closest = key->name;
            limit = distance - (distance > 0);
        }
    }
    return closest;
}

static int unknown_key(const struct schema_key *keys, const struct yaml_node *node,
                       const char *section, const struct schema_context *context)
{
    const char *closest =
        context->errors->count < CONF_ERRORS_MAX ? closest_key(keys, node->key) : NULL;
    return conf_errors_add(context->errors, node->key_place, "unknown key `%.*s`%s%s%s%s%s%s",
                           STR_PRINT(conf_errors_clip(node->key)), section ? " in `" : "",
                           section ? section : "", section ? "`" : "",
                           closest ? ", did you mean `" : "", closest ? closest : "",
                           closest ? "`?" : "");
}

int schema_parse(const struct schema_key *keys, const struct yaml_node *node, const char *section,
                 void *target, const struct schema_context *context)
{
    const struct yaml_node empty = {.kind = YAML_KIND_MAPPING, .place = node->place};
    int result = 0;

    if (yaml_is_null(node))
        node = &empty;
    if (node->kind != YAML_KIND_MAPPING)
        return conf_errors_add(
            context->errors, node->place, "%s%s%s needs a mapping of keys to values",
            section ? "`" : "the configuration", section ? section : "", section ? "`" : "");
    for (size_t i = 0; i < node->count; i++) {
        const struct yaml_node *child = node->children[i];
        const struct schema_key *key = find_key(keys, child->key);
        if (key == NULL) {
            result = unknown_key(keys, child, section, context);
            continue;
        }
        char name[NAME_SIZE];
        join_name(name, section, key->name);
        if (set_key(key, name, child, target, context) != 0)
            result = -1;
    }
    for (const struct schema_key *key = keys; key->type != SCHEMA_END; key++)
        if (key->required && yaml_find(node, str_from_c(key->name)) == NULL)
            result = conf_errors_add(context->errors, node->place, "%s%s%s needs `%s`",
                                     section ? "`" : "the configuration", section ? section : "",
                                     section ? "`" : "", key->name);
    return result;
}

int schema_parse_key(const struct schema_key *key, const struct yaml_node *root, void *target,
                     const struct schema_context *context)
{
    const struct yaml_node *node = yaml_find(root, str_from_c(key->name));

    return node != NULL ? set_key(key, key->name, node, target, context) : 0;
}

/* Defaults. */

static int set_default(const struct schema_key *key, void *target,
                       const struct schema_context *context)
{
    struct yaml_node scalar = {
        .kind = YAML_KIND_SCALAR, .place = {"default", 0, 0}, .value = str_from_c(key->initial)};
    const struct yaml_node *node = &scalar;

    if (is_list(key))
        node = yaml_parse(context->pool, "default", str_from_c(key->initial), context->errors);
    return node != NULL ? set_key(key, key->name, node, target, context) : -1;
}

int schema_defaults(const struct schema_key *keys, void *target,
                    const struct schema_context *context)
{
    int result = 0;
    for (const struct schema_key *key = keys; key->type != SCHEMA_END; key++) {
        if (key->type == SCHEMA_MAPPING) {
            if (schema_defaults(key->keys, member_of(target, key->offset), context) != 0)
                result = -1;
        } else if (key->initial != NULL) {
            if (set_default(key, target, context) != 0)
                result = -1;
        }
    }
    return result;
}

/* Printing. */

static void indent_line(struct buf *out, size_t indent)
{
    for (size_t i = 0; i < indent; i++)
        buf_append_u8(out, ' ');
}

/* Texts of these characters are plain wherever they stand, unless YAML reads them as something
 * else, which does no harm to a setting that is a text. */
static bool is_plain(const char *text)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_/.";
    struct yaml_node node = {.kind = YAML_KIND_SCALAR, .value = str_from_c(text)};
    return text[0] != '.' && text[strspn(text, safe)] == 0 && !yaml_is_null(&node);
}

static void dump_text(const char *text, struct buf *out)
{
    if (is_plain(text)) {
        buf_append_c(out, text);
        return;
    }
    buf_append_u8(out, '"');
    for (const char *byte = text; *byte != 0; byte++) {
        if (*byte == '"' || *byte == '\\')
            buf_append_u8(out, '\\');
        buf_append_u8(out, (uint8_t)*byte);
    }
    buf_append_u8(out, '"');
}

static void dump_number(const struct schema_key *key, const void *member, struct buf *out)
{
    uint64_t value =
        key->type == SCHEMA_INT ? *(const uint32_t *)member : *(const uint64_t *)member;
    char text[32];
    if (value == 0 && key->word != NULL)
        (void)snprintf(text, sizeof(text), "%s", key->word);
    else
        schema_format(key->type, value, text);
    buf_append_c(out, text);
}

static void dump_enum(const struct schema_key *key, const void *member, struct buf *out)
{
    for (const struct schema_name *name = key->names; name->name != NULL; name++)
        if (name->value == *(const int *)member)
            buf_append_c(out, name->name);
}

static void dump_scalar(const struct schema_key *key, const void *member, struct buf *out)
{
    switch (key->type) {
    case SCHEMA_BOOL:
        buf_append_c(out, *(const bool *)member ? "true" : "false");
        break;
    case SCHEMA_STRING:
    case SCHEMA_PATH: {
        const char *text = *(char *const *)member;
        dump_text(text != NULL ? text : "auto", out);
        break;
    }
    case SCHEMA_ENUM:
        dump_enum(key, member, out);
        break;
    default:
        dump_number(key, member, out);
    }
}

/* Items stand as "- key: value" with the rest of their keys below the first. */
static void dump_list(const struct schema_key *key, const void *target, size_t indent,
                      struct buf *out)
{
    size_t count = 0;
    const char *items = NULL;

    if (key->item_size != 0) {
        items = *(char *const *)const_member_of(target, key->offset);
        count = *(const size_t *)const_member_of(target, key->count_offset);
    }
    if (count == 0) {
        buf_append_c(out, " []\n");
        return;
    }
    buf_append_u8(out, '\n');
    for (size_t i = 0; i < count; i++) {
        size_t start = out->size;
        schema_dump(key->keys, items + i * key->item_size, indent + 4, out);
        if (out->size == start) {
            indent_line(out, indent);
            buf_append_c(out, "  - {}\n");
        } else if (!out->failed) {
            out->data[start + indent + 2] = '-';
        }
    }
}

static void dump_path_list(const struct schema_key *key, const void *target, size_t indent,
                           struct buf *out)
{
    char *const *paths = *(char **const *)const_member_of(target, key->offset);
    size_t count = *(const size_t *)const_member_of(target, key->count_offset);

    buf_append_c(out, count == 0 ? " []\n" : "\n");
    for (size_t i = 0; i < count; i++) {
        indent_line(out, indent);
        buf_append_c(out, "  - ");
        dump_text(paths[i], out);
        buf_append_u8(out, '\n');
    }
}

/* Whether there is something to print: a text without value and default is not. */
static bool has_value(const struct schema_key *key, const void *target)
{
    if (key->type == SCHEMA_ABSENT)
        return false;
    if (key->type != SCHEMA_STRING && key->type != SCHEMA_PATH)
        return true;
    return *(char *const *)const_member_of(target, key->offset) != NULL ||
           (key->type == SCHEMA_PATH && is_word(STR("auto"), key->word));
}

void schema_dump(const struct schema_key *keys, const void *target, size_t indent, struct buf *out)
{
    for (const struct schema_key *key = keys; key->type != SCHEMA_END; key++) {
        if (!has_value(key, target))
            continue;
        indent_line(out, indent);
        buf_append_c(out, key->name);
        buf_append_u8(out, ':');
        if (key->type == SCHEMA_MAPPING_LIST) {
            dump_list(key, target, indent, out);
        } else if (key->type == SCHEMA_PATH_LIST) {
            dump_path_list(key, target, indent, out);
        } else if (key->type == SCHEMA_MAPPING) {
            buf_append_u8(out, '\n');
            schema_dump(key->keys, const_member_of(target, key->offset), indent + 2, out);
        } else {
            buf_append_u8(out, ' ');
            dump_scalar(key, const_member_of(target, key->offset), out);
            buf_append_u8(out, '\n');
        }
    }
}

void schema_walk(const struct schema_key *keys, const char *section,
                 void (*visit)(void *context, const char *name, const struct schema_key *key),
                 void *context)
{
    for (const struct schema_key *key = keys; key->type != SCHEMA_END; key++) {
        char name[NAME_SIZE];
        join_name(name, section, key->name);
        visit(context, name, key);
        if (key->keys != NULL)
            schema_walk(key->keys, name, visit, context);
    }
}
