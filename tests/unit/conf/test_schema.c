#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "conf/schema.h"
#include "unit/conf/parsed.h"

struct item {
    char *name;
    uint32_t count;
};

struct sample {
    bool flag;
    bool locked;
    int number;
    uint64_t size;
    uint64_t room;
    uint64_t time_ms;
    char *text;
    char *none;
    char *path;
    char *place;
    int color;
    struct {
        uint64_t inner;
    } nested;
    struct item *items;
    size_t item_count;
};

#define AT(member) .offset = offsetof(struct sample, member)
#define END                                                                                        \
    {                                                                                              \
        .type = SCHEMA_END                                                                         \
    }

static const struct schema_name colors[] = {
    {"red", 0}, {"green", 1}, {"blue", SCHEMA_NAME_ABSENT}, {NULL, 0}};
static const struct schema_key nested_keys[] = {
    {"inner", SCHEMA_SIZE, AT(nested.inner), .initial = "1k", .max = UINT64_MAX},
    END,
};
static const struct schema_key item_keys[] = {
    {"name", SCHEMA_STRING, .offset = offsetof(struct item, name), .required = true},
    {"count", SCHEMA_INT, .offset = offsetof(struct item, count), .initial = "7", .max = 9},
    END,
};
static const struct schema_key keys[] = {
    {"flag", SCHEMA_BOOL, AT(flag), .initial = "true"},
    {"locked", SCHEMA_BOOL, AT(locked), .initial = "false", .absent = "key"},
    {"number", SCHEMA_INT, AT(number), .initial = "auto", .word = "auto", .min = 1, .max = 32},
    {"size", SCHEMA_SIZE, AT(size), .initial = "16m", .min = 1024, .max = UINT64_MAX},
    {"room", SCHEMA_SIZE, AT(room), .initial = "auto", .word = "auto", .min = 1, .max = 4096},
    {"time", SCHEMA_TIME, AT(time_ms), .initial = "30s", .min = 1, .max = UINT64_MAX},
    {"text", SCHEMA_STRING, AT(text), .initial = "some", .min = 1, .max = 10},
    {"none", SCHEMA_STRING, AT(none)},
    {"path", SCHEMA_PATH, AT(path), .initial = "sub/file", .word = "stderr|syslog"},
    {"place", SCHEMA_PATH, AT(place), .initial = "auto", .word = "auto"},
    {"color", SCHEMA_ENUM, AT(color), .initial = "green", .names = colors},
    {"nested", SCHEMA_MAPPING, .keys = nested_keys},
    {"items", SCHEMA_MAPPING_LIST, AT(items), .count_offset = offsetof(struct sample, item_count),
     .item_size = sizeof(struct item), .keys = item_keys, .initial = "[{name: first}]", .max = 3},
    {"list", SCHEMA_MAPPING_LIST, .initial = "[]", .absent = "lists"},
    {"wheel", SCHEMA_ABSENT, .absent = "wheels"},
    END,
};

/* What load() filled. */
static struct sample loaded;

static int load(struct parsed *fixture, const char *text)
{
    struct schema_context context = {fixture->pool, "/prefix", &fixture->errors};
    memset(&loaded, 0, sizeof(loaded));
    conf_errors_free(&fixture->errors);
    struct yaml_node *root = parsed_yaml(fixture, text);
    assert_non_null(root);
    assert_int_equal(schema_defaults(keys, &loaded, &context), 0);
    return schema_parse(keys, root, NULL, &loaded, &context);
}

static void test_defaults(void **state)
{
    struct parsed *fixture = *state;
    const struct sample *sample = &loaded;
    assert_int_equal(load(fixture, ""), 0);
    assert_true(sample->flag);
    assert_int_equal(sample->number, 0);
    assert_int_equal(sample->size, 16 << 20);
    assert_int_equal(sample->room, 0);
    assert_int_equal(sample->time_ms, 30000);
    assert_string_equal(sample->text, "some");
    assert_null(sample->none);
    assert_string_equal(sample->path, "/prefix/sub/file");
    assert_null(sample->place);
    assert_int_equal(sample->color, 1);
    assert_int_equal(sample->nested.inner, 1024);
    assert_int_equal(sample->item_count, 1);
    assert_string_equal(sample->items[0].name, "first");
    assert_int_equal(sample->items[0].count, 7);
}

static void test_values(void **state)
{
    struct parsed *fixture = *state;
    const struct sample *sample = &loaded;
    assert_int_equal(load(fixture, "flag: Off\n"
                                   "number: 32\n"
                                   "size: 2g\n"
                                   "room: \"3K\"\n"
                                   "time: 250\n"
                                   "text: \"a b\"\n"
                                   "none: 12\n"
                                   "path: syslog\n"
                                   "place: auto/x\n"
                                   "color: red\n"
                                   "nested: {inner: 0}\n"
                                   "items:\n"
                                   "- {name: x, count: 1}\n"
                                   "- name: y\n"),
                     0);
    assert_false(sample->flag);
    assert_int_equal(sample->number, 32);
    assert_true(sample->size == 2ULL << 30);
    assert_int_equal(sample->room, 3072);
    assert_int_equal(sample->time_ms, 250);
    assert_string_equal(sample->text, "a b");
    assert_string_equal(sample->none, "12");
    assert_string_equal(sample->path, "syslog");
    assert_string_equal(sample->place, "/prefix/auto/x");
    assert_int_equal(sample->color, 0);
    assert_int_equal(sample->nested.inner, 0);
    assert_int_equal(sample->item_count, 2);
    assert_string_equal(sample->items[1].name, "y");
    assert_int_equal(sample->items[0].count, 1);
    assert_int_equal(sample->items[1].count, 7);
}

static void test_units(void **state)
{
    static const struct {
        const char *text;
        uint64_t value;
    } cases[] = {
        {"time: 7ms", 7},
        {"time: 7s", 7000},
        {"time: 7m", 420000},
        {"time: 7h", 25200000},
        {"time: 7d", 604800000},
        {"time: 18446744073709551615", UINT64_MAX},
        {"size: 1024", 1024},
        {"size: 1k", 1024},
        {"size: 1m", 1 << 20},
        {"size: 1g", 1 << 30},
        {"size: 17179869183g", 17179869183ULL << 30},
    };
    struct parsed *fixture = *state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(load(fixture, cases[i].text), 0);
        uint64_t value = cases[i].text[0] == 't' ? loaded.time_ms : loaded.size;
        if (value != cases[i].value)
            fail_msg("%s gives %llu", cases[i].text, (unsigned long long)value);
    }
}

static void test_mistakes(void **state)
{
    static const struct {
        const char *text;
        const char *line;
    } cases[] = {
        {"flag: maybe", "f:1:7: `flag` needs true or false, not `maybe`\n"},
        {"flag: \"true\"", "f:1:7: `flag` needs true or false, not \"true\"\n"},
        {"flag:", "f:1:6: `flag` needs true or false, not nothing\n"},
        {"flag: [true]", "f:1:7: `flag` needs true or false, not a list\n"},
        {"locked: true", "f:1:9: `locked: true` is not in this build, which has no key\n"},
        {"number: 0", "f:1:9: `number` must be between 1 and 32, not 0\n"},
        {"number: 33", "f:1:9: `number` must be between 1 and 32, not 33\n"},
        {"number: 4294967297", "f:1:9: `number` must be between 1 and 32, not 4294967297\n"},
        {"number: -1", "f:1:9: `number` needs a whole number or auto, not `-1`\n"},
        {"number: 1k", "f:1:9: `number` needs a whole number or auto, not `1k`\n"},
        {"number: \"1\"", "f:1:9: `number` needs a whole number or auto, not \"1\"\n"},
        {"number: automatic", "f:1:9: `number` needs a whole number or auto, not `automatic`\n"},
        {"number: {}", "f:1:9: `number` needs a whole number or auto, not a mapping\n"},
        {"size: 1023", "`size` must be between 1k and 18446744073709551615, not 1023\n"},
        {"size: 1mb", "`size` needs a size such as 64k, 16m or 1g, not `1mb`\n"},
        {"size: m", "`size` needs a size such as 64k, 16m or 1g, not `m`\n"},
        {"size: 1 m", "`size` needs a size such as 64k, 16m or 1g, not `1 m`\n"},
        {"size: 17179869184g", "`size` must be between 1k and 18446744073709551615, not 171"},
        {"size: 18446744073709551616", "`size` must be between 1k and "},
        {"room: 5k", "f:1:7: `room` must be between 1 and 4k, not 5k\n"},
        {"time: 1w", "`time` needs a time such as 100ms, 30s, 5m, 1h or 1d, not `1w`\n"},
        {"time: 0", "`time` must be between 1ms and 18446744073709551615ms, not 0\n"},
        {"text: ''", "f:1:7: `text` must have 1 to 10 bytes, not 0\n"},
        {"text: 01234567890", "f:1:7: `text` must have 1 to 10 bytes, not 11\n"},
        {"text: \"a\\0b\"", "f:1:7: `text` holds a control character\n"},
        {"text: \"a\\x9b\"", "f:1:7: `text` holds a control character\n"},
        {"text: \"a\\u2028\"", "f:1:7: `text` holds a control character\n"},
        {"text: ~", "f:1:7: `text` needs a text, not nothing\n"},
        {"path: ''", "f:1:7: `path` must not be empty\n"},
        {"path: []", "f:1:7: `path` needs a path, not a list\n"},
        {"color: yellow", "f:1:8: `color` needs red, green or blue, not `yellow`\n"},
        {"color: blue", "f:1:8: `color: blue` is not in this build\n"},
        {"nested: 1", "f:1:9: `nested` needs a mapping of keys to values\n"},
        {"nested: {inner: x}", "f:1:17: `nested.inner` needs a size"},
        {"nested: {iner: 1}", "f:1:10: unknown key `iner` in `nested`, did you mean `inner`?\n"},
        {"colour: red", "f:1:1: unknown key `colour`, did you mean `color`?\n"},
        {"Size: 1m", "f:1:1: unknown key `Size`, did you mean `size`?\n"},
        {"zzzzzz: red", "f:1:1: unknown key `zzzzzz`\n"},
        {"items: {}", "f:1:8: `items` needs a list, not a mapping\n"},
        {"items:", "f:1:7: `items` needs a list, not nothing\n"},
        {"items: [1]", "f:1:9: `items` needs a mapping of keys to values\n"},
        {"items: [{count: 1}]", "f:1:9: `items` needs `name`\n"},
        {"items: [{name: a, count: 10}]", "f:1:26: `items.count` must be between 0 and 9"},
        {"items: [{name: a},{name: a},{name: a},{name: a}]",
         "f:1:8: `items` must have 0 to 3 items, not 4\n"},
        {"list: [1]", "f:1:7: `list` is not in this build, which has no lists\n"},
        {"wheel: {size: 3}", "f:1:1: `wheel` is not in this build, which has no wheels\n"},
        {"[1]", "f:1:1: the configuration needs a mapping of keys to values\n"},
    };
    struct parsed *fixture = *state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(load(fixture, cases[i].text), -1);
        const char *text = conf_errors_text(&fixture->errors);
        if (fixture->errors.count != 1 || strstr(text, cases[i].line) == NULL)
            fail_msg("%s gives %s and not %s", cases[i].text, text, cases[i].line);
    }
}

static void test_all_mistakes_are_collected(void **state)
{
    struct parsed *fixture = *state;
    assert_int_equal(
        load(fixture, "flag: 1\nsizes: 1\nitems:\n- {nam: a}\n- {name: a, count: x}\n"), -1);
    assert_string_equal(conf_errors_text(&fixture->errors),
                        "f:1:7: `flag` needs true or false, not `1`\n"
                        "f:2:1: unknown key `sizes`, did you mean `size`?\n"
                        "f:4:4: unknown key `nam` in `items`, did you mean `name`?\n"
                        "f:4:3: `items` needs `name`\n"
                        "f:5:20: `items.count` needs a whole number, not `x`\n");
}

static void test_dump_can_be_read_again(void **state)
{
    static const char *const texts[] = {
        "",
        "flag: false\nnumber: 3\nsize: 1025\nroom: 2k\ntime: 90s\n"
        "text: \"a \\\"\\\\ #\"\nnone: \"~\"\npath: \"/x y: z\"\nplace: /auto\ncolor: red\n"
        "nested: {inner: 18446744073709551615}\n"
        "items: [{name: \"- a\"}, {name: \"\", count: 0}, {name: 'null'}]\n",
        "items: []\ntext: \"\xc3\xa9\xf0\x9f\x98\x80\"\nnone: .\npath: stderr\n",
    };
    struct parsed *fixture = *state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct buf first, second;
        buf_init(&first, 0);
        buf_init(&second, 0);
        assert_int_equal(load(fixture, texts[i]), 0);
        struct sample before = loaded;
        schema_dump(keys, &loaded, 0, &first);
        buf_append_u8(&first, 0);
        assert_int_equal(load(fixture, (const char *)first.data), 0);
        const struct sample *after = &loaded;
        schema_dump(keys, after, 0, &second);
        buf_append_u8(&second, 0);
        assert_string_equal((char *)first.data, (char *)second.data);
        assert_int_equal(before.flag, after->flag);
        assert_int_equal(before.number, after->number);
        assert_true(before.size == after->size);
        assert_true(before.room == after->room);
        assert_true(before.time_ms == after->time_ms);
        assert_true(before.nested.inner == after->nested.inner);
        assert_string_equal(before.text, after->text);
        assert_string_equal(before.path, after->path);
        assert_int_equal(before.none == NULL, after->none == NULL);
        if (before.none != NULL)
            assert_string_equal(before.none, after->none);
        assert_int_equal(before.item_count, after->item_count);
        for (size_t k = 0; k < before.item_count; k++) {
            assert_string_equal(before.items[k].name, after->items[k].name);
            assert_int_equal(before.items[k].count, after->items[k].count);
        }
        buf_free(&first);
        buf_free(&second);
    }
}

static void test_dump_text(void **state)
{
    struct parsed *fixture = *state;
    struct buf out;
    buf_init(&out, 0);
    assert_int_equal(load(fixture, "path: /a-b\n"), 0);
    schema_dump(keys, &loaded, 0, &out);
    buf_append_u8(&out, 0);
    assert_string_equal((char *)out.data, "flag: true\n"
                                          "locked: false\n"
                                          "number: auto\n"
                                          "size: 16m\n"
                                          "room: auto\n"
                                          "time: 30s\n"
                                          "text: some\n"
                                          "path: \"/a-b\"\n"
                                          "place: auto\n"
                                          "color: green\n"
                                          "nested:\n"
                                          "  inner: 1k\n"
                                          "items:\n"
                                          "  - name: first\n"
                                          "    count: 7\n"
                                          "list: []\n");
    buf_free(&out);
}

static void test_format(void **state)
{
    (void)state;
    char text[32];
    schema_format(SCHEMA_SIZE, 0, text);
    assert_string_equal(text, "0");
    schema_format(SCHEMA_SIZE, 1536, text);
    assert_string_equal(text, "1536");
    schema_format(SCHEMA_SIZE, 3 << 20, text);
    assert_string_equal(text, "3m");
    schema_format(SCHEMA_TIME, 90000, text);
    assert_string_equal(text, "90s");
    schema_format(SCHEMA_TIME, 86400000, text);
    assert_string_equal(text, "1d");
    schema_format(SCHEMA_TIME, 1, text);
    assert_string_equal(text, "1ms");
    schema_format(SCHEMA_INT, 1024, text);
    assert_string_equal(text, "1024");
}

static void count_name(void *context, const char *name, const struct schema_key *key)
{
    size_t *counts = context;
    counts[0]++;
    if (strcmp(name, "top.items.count") == 0 && key == &item_keys[1])
        counts[1]++;
}

static void test_walk(void **state)
{
    (void)state;
    size_t counts[2] = {0, 0};
    schema_walk(keys, "top", count_name, counts);
    assert_int_equal(counts[0], 18);
    assert_int_equal(counts[1], 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, parsed_setup, parsed_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_defaults),
        TEST(test_values),
        TEST(test_units),
        TEST(test_mistakes),
        TEST(test_all_mistakes_are_collected),
        TEST(test_dump_can_be_read_again),
        TEST(test_dump_text),
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_walk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
