/*
 * page - a manual page, or another file of the source tree, as text for a test that compares it
 * with the tables of the program.
 */
#ifndef FILAD_TESTS_UNIT_PAGE_H
#define FILAD_TESTS_UNIT_PAGE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_SIZE_MAX 262144

/* The content of a file below the root of the source tree, which is two levels above this file;
 * NUL-terminated, freed by the caller. */
static inline char *page_read(const char *name)
{
    char path[4096];
    const char *end = strrchr(__FILE__, '/');
    (void)snprintf(path, sizeof(path), "%.*s/../../%s", (int)(end - __FILE__), __FILE__, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail_msg("%s cannot be opened", path);
    char *text = calloc(1, PAGE_SIZE_MAX);
    assert_non_null(text);
    assert_in_range(fread(text, 1, PAGE_SIZE_MAX - 1, file), 1, PAGE_SIZE_MAX - 2);
    (void)fclose(file);
    return text;
}

/* How often `text` occurs in a page. */
static inline size_t page_count(const char *page, const char *text)
{
    size_t count = 0;
    for (const char *at = page; (at = strstr(at, text)) != NULL; at += strlen(text))
        count++;
    return count;
}

/* The part of a page from the line `.Sh name` on, up to the next section, in place of the page. */
static inline char *page_section(char *page, const char *name)
{
    char start[128];
    (void)snprintf(start, sizeof(start), "\n.Sh %s\n", name);
    char *section = strstr(page, start);
    if (section == NULL) {
        fail_msg("there is no section %s", name);
        return page;
    }
    char *end = strstr(section + 1, "\n.Sh ");
    size_t size = end != NULL ? (size_t)(end - section) + 1 : strlen(section);
    memmove(page, section, size);
    page[size] = 0;
    return page;
}

#endif
