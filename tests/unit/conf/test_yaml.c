#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "conf/yaml.h"
#include "unit/conf/parsed.h"

static void assert_place(struct conf_place place, size_t line, size_t column)
{
    assert_string_equal(place.file, "f");
    assert_int_equal(place.line, line);
    assert_int_equal(place.column, column);
}

static void assert_value(const struct yaml_node *node, const char *value)
{
    assert_non_null(node);
    assert_int_equal(node->kind, YAML_KIND_SCALAR);
    assert_int_equal(node->value.size, strlen(value));
    assert_memory_equal(node->value.data, value, strlen(value));
}

static void test_tree_with_places(void **state)
{
    struct parsed *fixture = *state;
    struct yaml_node *root = parsed_yaml(fixture, "# comment\n"
                                                  "z: 1\n"
                                                  "store:\n"
                                                  "  path:  \"/a b\"\n"
                                                  "list: [one, {k: v}]\n");
    assert_non_null(root);
    assert_int_equal(root->kind, YAML_KIND_MAPPING);
    assert_int_equal(root->count, 3);
    assert_value(yaml_find(root, STR("z")), "1");
    assert_place(root->children[0]->key_place, 2, 1);
    assert_place(root->children[0]->place, 2, 4);
    struct yaml_node *path = yaml_find(yaml_find(root, STR("store")), STR("path"));
    assert_value(path, "/a b");
    assert_true(path->quoted);
    assert_place(path->key_place, 4, 3);
    assert_place(path->place, 4, 10);
    struct yaml_node *list = yaml_find(root, STR("list"));
    assert_int_equal(list->kind, YAML_KIND_SEQUENCE);
    assert_int_equal(list->count, 2);
    assert_value(list->children[0], "one");
    assert_false(list->children[0]->quoted);
    assert_value(yaml_find(list->children[1], STR("k")), "v");
    assert_null(yaml_find(root, STR("nothing")));
    assert_null(yaml_find(list, STR("k")));
    assert_null(yaml_find(NULL, STR("k")));
}

static void test_no_content_is_an_empty_mapping(void **state)
{
    struct parsed *fixture = *state;
    static const char *const texts[] = {"", "\n\n", "# nothing\n", "\xef\xbb\xbf# with mark\n"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct yaml_node *root = parsed_yaml(fixture, texts[i]);
        assert_non_null(root);
        assert_int_equal(root->kind, YAML_KIND_MAPPING);
        assert_int_equal(root->count, 0);
    }
    struct yaml_node *root = parsed_yaml(fixture, "---\n");
    assert_non_null(root);
    assert_true(yaml_is_null(root));
    assert_int_equal(fixture->errors.count, 0);
}

static void test_mistakes_have_places(void **state)
{
    static const struct {
        const char *text;
        const char *line;
    } cases[] = {
        {"a: &x 1\n", "f:1:4: anchors (&name) are not supported\n"},
        {"a: 1\nb: *x\n", "f:2:4: aliases (*name) are not supported\n"},
        {"*x : 1\n", "f:1:1: aliases (*name) are not supported\n"},
        {"a: !!str 1\n", "f:1:4: tags (!name) are not supported\n"},
        {"a: ! 1\n", "f:1:4: tags (!name) are not supported\n"},
        {"a: !t [1]\n", "f:1:4: tags (!name) are not supported\n"},
        {"a: &x {}\n", "f:1:4: anchors (&name) are not supported\n"},
        {"? [a]\n: 1\n", "f:1:3: a key must be a plain word\n"},
        {"\"\": 1\n", "f:1:1: a key must not be empty\n"},
        {"a: 1\n---\nb: 1\n", "f:2:1: a second document\n"},
        {"a: [1\n", "not YAML: "},
        {"a: 1\n b: 2\n", "f:2:3: not YAML: "},
        {"a: 1\nb: \"\xff\"\n", "f:2:5: not YAML: "},
        {"a: \"\x01\"\n", "f:1:5: not YAML: "},
        {"a:\n\t- 1\n", "f:2:1: not YAML: "},
    };
    struct parsed *fixture = *state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        conf_errors_free(&fixture->errors);
        assert_null(parsed_yaml(fixture, cases[i].text));
        assert_int_equal(fixture->errors.count, 1);
        const char *text = conf_errors_text(&fixture->errors);
        if (strstr(text, cases[i].line) == NULL)
            fail_msg("%s gives %s and not %s", cases[i].text, text, cases[i].line);
    }
}

static void test_duplicates_name_both_places(void **state)
{
    struct parsed *fixture = *state;
    struct yaml_node *root = parsed_yaml(fixture, "a: 1\n"
                                                  "b: {c: 1, d: 2, c: 3}\n"
                                                  "a: 2\n"
                                                  "a: 3\n");
    assert_non_null(root);
    assert_int_equal(fixture->errors.count, 3);
    assert_string_equal(conf_errors_text(&fixture->errors),
                        "f:2:17: duplicate key `c`, first at f:2:5\n"
                        "f:3:1: duplicate key `a`, first at f:1:1\n"
                        "f:4:1: duplicate key `a`, first at f:1:1\n");
    assert_int_equal(root->count, 2);
    assert_value(yaml_find(root, STR("a")), "1");
    assert_value(yaml_find(yaml_find(root, STR("b")), STR("c")), "1");
}

/* `count` times `unit`, to be freed. */
static char *repeat(const char *unit, size_t count)
{
    size_t size = strlen(unit);
    char *text = malloc(size * count + 1);
    assert_non_null(text);
    for (size_t i = 0; i < count; i++)
        memcpy(text + i * size, unit, size);
    text[size * count] = 0;
    return text;
}

static void test_limits(void **state)
{
    struct parsed *fixture = *state;

    char *text = repeat("- ", YAML_DEPTH_MAX);
    struct yaml_node *node = parsed_yaml(fixture, text);
    assert_non_null(node);
    free(text);
    text = repeat("- ", YAML_DEPTH_MAX + 1);
    assert_null(parsed_yaml(fixture, text));
    assert_non_null(strstr(conf_errors_text(&fixture->errors), "f:1:65: nested deeper than 32"));
    free(text);
    conf_errors_free(&fixture->errors);

    text = repeat("[", 100000);
    assert_null(parsed_yaml(fixture, text));
    assert_non_null(strstr(conf_errors_text(&fixture->errors), "f:1:33: nested deeper than 32"));
    free(text);
    conf_errors_free(&fixture->errors);

    text = repeat("- 1\n", YAML_NODES_MAX);
    assert_null(parsed_yaml(fixture, text));
    assert_non_null(strstr(conf_errors_text(&fixture->errors), "more than 100000 values"));
    text[4 * (YAML_NODES_MAX - 1)] = 0;
    node = parsed_yaml(fixture, text);
    assert_non_null(node);
    assert_int_equal(node->count, YAML_NODES_MAX - 1);
    free(text);
    conf_errors_free(&fixture->errors);

    text = repeat("#", YAML_SIZE_MAX + 1);
    assert_null(parsed_yaml(fixture, text));
    assert_string_equal(conf_errors_text(&fixture->errors), "f: larger than 1048576 bytes\n");
    text[YAML_SIZE_MAX] = 0;
    node = parsed_yaml(fixture, text);
    assert_non_null(node);
    free(text);
}

static void test_many_keys_are_found(void **state)
{
    struct parsed *fixture = *state;
    enum { KEYS = 40000 };
    char *text = malloc(KEYS * 16);
    assert_non_null(text);
    size_t size = 0;
    for (int i = 0; i < KEYS; i++)
        size += (size_t)sprintf(text + size, "k%d: %d\n", i, i);
    struct yaml_node *root = yaml_parse(fixture->pool, "f", str_of(text, size), &fixture->errors);
    assert_non_null(root);
    assert_value(yaml_find(root, STR("k0")), "0");
    assert_value(yaml_find(root, STR("k39999")), "39999");
    assert_null(yaml_find(root, STR("k40000")));
    free(text);
}

static void test_overlay(void **state)
{
    struct parsed *fixture = *state;
    struct yaml_node *base = parsed_yaml(fixture, "a: 1\n"
                                                  "m: {x: 1, y: {p: 1, q: 2}}\n"
                                                  "l: [1, 2]\n"
                                                  "s: {t: 1}\n");
    struct yaml_node *over =
        yaml_parse(fixture->pool, "-g", STR("{b: 9, m: {y: {q: 3, r: 4}}, l: [5], s: text}"),
                   &fixture->errors);
    assert_non_null(base);
    assert_non_null(over);
    struct yaml_node *merged = yaml_overlay(fixture->pool, base, over);
    assert_non_null(merged);
    assert_int_equal(merged->count, 5);
    assert_value(yaml_find(merged, STR("a")), "1");
    assert_value(yaml_find(merged, STR("b")), "9");
    assert_string_equal(yaml_find(merged, STR("b"))->key_place.file, "-g");
    struct yaml_node *y = yaml_find(yaml_find(merged, STR("m")), STR("y"));
    assert_int_equal(y->count, 3);
    assert_value(yaml_find(y, STR("p")), "1");
    assert_value(yaml_find(y, STR("q")), "3");
    assert_value(yaml_find(y, STR("r")), "4");
    assert_int_equal(yaml_find(merged, STR("l"))->count, 1);
    assert_value(yaml_find(merged, STR("s")), "text");
    /* What was laid over is as it was. */
    assert_int_equal(base->count, 4);
    assert_value(yaml_find(yaml_find(yaml_find(base, STR("m")), STR("y")), STR("q")), "2");
}

static void test_null(void **state)
{
    struct parsed *fixture = *state;
    struct yaml_node *root =
        parsed_yaml(fixture, "{a: , b: ~, c: null, d: \"\", e: 'null', f: {}}");
    assert_non_null(root);
    static const bool expected[] = {true, true, true, false, false, false};
    for (size_t i = 0; i < root->count; i++)
        assert_int_equal(yaml_is_null(root->children[i]), expected[i]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, parsed_setup, parsed_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_tree_with_places),
        TEST(test_no_content_is_an_empty_mapping),
        TEST(test_mistakes_have_places),
        TEST(test_duplicates_name_both_places),
        TEST(test_limits),
        TEST(test_many_keys_are_found),
        TEST(test_overlay),
        TEST(test_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
