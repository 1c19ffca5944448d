#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "conf/conf.h"
#include "conf/keys.h"
#include "conf/options.h"

#include "unit/page.h"

/* Compares the manual pages and the example configuration with the tables. */

/* The first line of the item that documents `name`, NULL when there is none. */
static const char *find_item(const char *page, const char *name)
{
    char start[300];
    size_t length = (size_t)snprintf(start, sizeof(start), "\n.It Ic %s", name);
    for (const char *at = page; (at = strstr(at, start)) != NULL; at += length)
        if (at[length] == ' ' || at[length] == '\n')
            return at + 1;
    return NULL;
}

/* Whether `word` stands as the argument of a Cm macro in the item that begins at `item`. */
static bool item_names(const char *item, const char *word)
{
    const char *end = strstr(item, "\n.It ");
    char start[300];
    size_t length = (size_t)snprintf(start, sizeof(start), "\n.Cm %s", word);
    for (const char *at = item; (at = strstr(at, start)) != NULL; at += length)
        if ((end == NULL || at < end) && (at[length] == ' ' || at[length] == '\n'))
            return true;
    return false;
}

/* Whether `phrase` stands in the text of the item, whatever the breaks of its lines. */
static bool item_says(const char *item, const char *phrase)
{
    const char *end = strstr(item, "\n.It ");
    size_t size = end != NULL ? (size_t)(end - item) : strlen(item);
    char *text = strndup(item, size);
    assert_non_null(text);
    for (size_t i = 0; i < size; i++)
        if (text[i] == '\n')
            text[i] = ' ';
    bool found = strstr(text, phrase) != NULL;
    free(text);
    return found;
}

static void check_key(void *context, const char *name, const struct schema_key *key)
{
    const char *item = find_item(context, name);
    if (item == NULL)
        fail_msg("filad.yaml(5) lacks %s", name);
    if (find_item(item, name) != NULL)
        fail_msg("filad.yaml(5) has %s twice", name);
    assert_non_null(key->doc);
    /* Paths and users are chosen by configure. */
    bool fixed = key->initial != NULL && key->initial[0] != '/' && strcmp(name, "user") != 0 &&
                 strcmp(name, "group") != 0 && strcmp(name, "listen") != 0;
    if (fixed && !item_names(item, key->initial))
        fail_msg("filad.yaml(5) does not say that %s is %s", name, key->initial);
    if (key->max == 0 || key->type == SCHEMA_STRING)
        return;
    char min[32], max[32], range[80];
    schema_format(key->type, key->min, min);
    schema_format(key->type, key->max, max);
    (void)snprintf(range, sizeof(range), "%s to %s", min, max);
    if (!item_says(item, range))
        fail_msg("filad.yaml(5) does not say that %s is %s", name, range);
}

static void test_every_key_is_documented(void **state)
{
    (void)state;
    char *page = page_read("man/filad.yaml.5");
    schema_walk(conf_keys, NULL, check_key, page);
    free(page);
}

struct search {
    struct str name;
    bool found;
};

static void compare_name(void *context, const char *name, const struct schema_key *key)
{
    struct search *search = context;
    (void)key;
    search->found |= str_equal(search->name, str_from_c(name));
}

static void test_nothing_else_is_documented(void **state)
{
    (void)state;
    char *page = page_read("man/filad.yaml.5");
    const char *const start = "\n.It Ic ";
    size_t items = 0;
    for (const char *at = page; (at = strstr(at, start)) != NULL; items++) {
        at += strlen(start);
        struct search search = {str_of(at, strcspn(at, " \n")), false};
        schema_walk(conf_keys, NULL, compare_name, &search);
        if (!search.found)
            fail_msg("filad.yaml(5) documents %.*s", STR_PRINT(search.name));
    }
    assert_in_range(items, 40, 1000);
    free(page);
}

static void test_options_are_documented(void **state)
{
    (void)state;
    char *page = page_read("man/filad.8");
    const char *const start = "\n.It Fl ";
    size_t documented = 0, options = 0;
    for (const struct options_row *row = options_table; row->letter != 0; row++, options++) {
        char item[64];
        (void)snprintf(item, sizeof(item), "%s%c%s", start, row->letter,
                       row->argument != NULL ? " Ar " : "\n");
        if (strstr(page, item) == NULL)
            fail_msg("filad(8) lacks -%c", row->letter);
    }
    for (const char *at = page; (at = strstr(at, start)) != NULL; at += strlen(start))
        documented++;
    assert_int_equal(documented, options);
    free(page);
}

/* Loads `text` with paths as configure chose them taken out of the comparison. */
static void dump_example(const char *text, struct buf *out)
{
    struct conf_errors errors;
    conf_errors_init(&errors);
    struct conf *conf = conf_load_text("filad.yaml", str_from_c(text), "/",
                                       "{user: u, group: g, pid_file: p, "
                                       "error_log: {path: l}, store: {path: s}}",
                                       NULL, 0, &errors);
    if (conf == NULL)
        fail_msg("%s", conf_errors_text(&errors));
    conf_dump(conf, out);
    buf_append_u8(out, 0);
    conf_free(conf);
    conf_errors_free(&errors);
}

/* Settings stand in the example as `#key: value`, prose as `# text`. */
static void test_example_has_the_defaults(void **state)
{
    (void)state;
    struct buf defaults, commented, settings;
    buf_init(&defaults, 0);
    buf_init(&commented, 0);
    buf_init(&settings, 0);
    char *text = page_read("conf/filad.yaml");
    dump_example("", &defaults);
    dump_example(text, &commented);
    assert_string_equal((char *)defaults.data, (char *)commented.data);

    size_t uncommented = 0;
    for (char *line = text; line != NULL && *line != 0; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (line[0] == '#' && (line[1] != ' ' || line[2] == ' ') && line[1] != '\n') {
            memmove(line, line + 1, strlen(line));
            uncommented++;
        }
    }
    assert_in_range(uncommented, 30, 100);
    dump_example(text, &settings);
    assert_string_equal((char *)defaults.data, (char *)settings.data);
    free(text);
    buf_free(&defaults);
    buf_free(&commented);
    buf_free(&settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_key_is_documented),
        cmocka_unit_test(test_nothing_else_is_documented),
        cmocka_unit_test(test_options_are_documented),
        cmocka_unit_test(test_example_has_the_defaults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
