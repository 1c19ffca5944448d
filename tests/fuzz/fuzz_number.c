/* Numbers of the configuration with their suffixes: what is accepted prints as text that is read as
 * the same value. */
#include "fuzz/fuzz.h"

#include <string.h>

#include "conf/schema.h"

struct values {
    uint64_t size, time_ms;
    uint32_t number;
    bool flag;
};

#define AT(member) .offset = offsetof(struct values, member)

static const struct schema_key keys[] = {
    {"size", SCHEMA_SIZE, AT(size), .max = UINT64_MAX},
    {"time", SCHEMA_TIME, AT(time_ms), .max = UINT64_MAX},
    {"number", SCHEMA_INT, AT(number), .max = INT32_MAX},
    {"flag", SCHEMA_BOOL, AT(flag)},
    {.type = SCHEMA_END},
};

/* Reads `text` as the value of one key; false when it is refused. */
static bool read_value(const char *name, struct str text, struct values *values)
{
    struct yaml_node value = {.kind = YAML_KIND_SCALAR, .value = text, .key = str_from_c(name)};
    struct yaml_node *children[] = {&value};
    struct yaml_node mapping = {
        .kind = YAML_KIND_MAPPING, .children = children, .sorted = children, .count = 1};
    struct conf_errors errors;
    struct pool *pool = pool_create(1024);
    struct schema_context context = {.pool = pool, .prefix = "/", .errors = &errors};

    REQUIRE(pool != NULL);
    value.place.file = mapping.place.file = value.key_place.file = "file";
    conf_errors_init(&errors);
    *values = (struct values){0};
    bool good = schema_parse(keys, &mapping, NULL, values, &context) == 0;
    REQUIRE(good == (errors.count == 0));
    conf_errors_free(&errors);
    pool_destroy(pool);
    return good;
}

static void check(const char *name, enum schema_type type, struct str text, size_t offset)
{
    struct values first, second;
    char printed[32];

    if (!read_value(name, text, &first) || !text.size)
        return;
    uint64_t value = *(uint64_t *)((char *)&first + offset);
    schema_format(type, value, printed);
    REQUIRE(read_value(name, str_from_c(printed), &second));
    REQUIRE(*(uint64_t *)((char *)&second + offset) == value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = str_of(data, size);
    struct values values;

    check("size", SCHEMA_SIZE, text, offsetof(struct values, size));
    check("time", SCHEMA_TIME, text, offsetof(struct values, time_ms));
    if (read_value("number", text, &values))
        REQUIRE(values.number <= INT32_MAX);
    (void)read_value("flag", text, &values);
    return 0;
}
