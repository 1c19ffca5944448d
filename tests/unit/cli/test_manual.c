/* The manual page names the commands and options of the tables, all of them and no others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "unit/page.h"

/* Whether `word` stands in the text and is not only the beginning of a longer one. */
static bool has_word(const char *text, const char *word)
{
    size_t size = strlen(word);
    for (const char *at = strstr(text, word); at; at = strstr(at + 1, word)) {
        bool starts = at == text || (!isalnum((unsigned char)at[-1]) && at[-1] != '-');
        if (starts && !isalnum((unsigned char)at[size]) && at[size] != '-')
            return true;
    }
    return false;
}

static bool table_has(const struct args_option *table, const char *name, size_t size)
{
    for (; table && table->name; table++)
        if (!table->absent && strlen(table->name) == size && memcmp(table->name, name, size) == 0)
            return true;
    return false;
}

static bool any_table_has(const char *name, size_t size)
{
    for (size_t i = 0; cli_commands[i]; i++)
        for (const struct args_command *command = cli_commands[i]; command->words; command++)
            if (table_has(command->options, name, size))
                return true;
    return table_has(args_global, name, size);
}

static void check_options(const char *page, const struct args_option *options)
{
    char text[64];
    for (; options && options->name; options++) {
        if (options->absent)
            continue;
        snprintf(text, sizeof(text), "Fl Fl %s", options->name);
        if (!has_word(page, text))
            fail_msg("fila.1 lacks --%s", options->name);
        snprintf(text, sizeof(text), "Fl %c", options->letter);
        if (options->letter && !has_word(page, text))
            fail_msg("fila.1 lacks -%c", options->letter);
    }
}

static void test_manual_is_complete(void **state)
{
    (void)state;
    char *page = page_read("man/fila.1"), text[64];
    check_options(page, args_global);
    for (size_t i = 0; cli_commands[i]; i++)
        for (const struct args_command *command = cli_commands[i]; command->words; command++) {
            snprintf(text, sizeof(text), ".It Cm %s", command->words);
            if (command->run && !has_word(page, text))
                fail_msg("fila.1 lacks %s", command->words);
            if (!command->run && has_word(page, text))
                fail_msg("fila.1 has %s, which is not there", command->words);
            check_options(page, command->options);
        }
    free(page);
}

static void test_manual_invents_nothing(void **state)
{
    (void)state;
    char *page = page_read("man/fila.1");
    for (const char *at = strstr(page, "Fl Fl "); at; at = strstr(at + 1, "Fl Fl ")) {
        const char *name = at + strlen("Fl Fl ");
        size_t size = strcspn(name, " \n");
        if (!any_table_has(name, size))
            fail_msg("fila.1 has --%.*s, which is not there", (int)size, name);
    }
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_manual_is_complete),
        cmocka_unit_test(test_manual_invents_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
