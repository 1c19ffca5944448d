/*
 * vectors - reads the golden wire vectors of tests/vectors: a "# " comment, then one line of hex.
 * The tree is $FILAD_SOURCE, otherwise the working directory. A test that cannot find them fails.
 */
#ifndef FILAD_TESTS_VECTORS_H
#define FILAD_TESTS_VECTORS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/str.h"

#define VECTOR_COMMENT_SIZE 512

struct vector {
    char comment[VECTOR_COMMENT_SIZE];
    uint8_t *bytes; /* owned by the vectors */
    size_t size;
};

struct vectors {
    struct vector *items;
    size_t count;
};

static inline FILE *vectors_open(const char *name)
{
    const char *tree = getenv("FILAD_SOURCE");
    char path[4096];

    snprintf(path, sizeof(path), "%s/tests/vectors/%s", tree ? tree : ".", name);
    return fopen(path, "r");
}

static inline int vectors_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static inline bool vectors_unhex(struct vector *vector, const char *hex, size_t digits)
{
    if (digits % 2)
        return false;
    vector->size = digits / 2;
    vector->bytes = malloc(vector->size + 1);
    if (!vector->bytes)
        return false;
    for (size_t i = 0; i < vector->size; i++) {
        int high = vectors_digit(hex[2 * i]), low = vectors_digit(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        vector->bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static inline void vectors_free(struct vectors *vectors)
{
    for (size_t i = 0; i < vectors->count; i++)
        free(vectors->items[i].bytes);
    free(vectors->items);
    *vectors = (struct vectors){NULL, 0};
}

/* False, with the reason on standard error, when the file is missing or not in the format. */
static inline bool vectors_load(struct vectors *vectors, const char *name)
{
    FILE *file = vectors_open(name);
    char *line = NULL, comment[VECTOR_COMMENT_SIZE] = "";
    size_t room = 0;
    ssize_t size;
    bool ok = true;

    *vectors = (struct vectors){NULL, 0};
    if (!file) {
        fprintf(stderr,
                "golden vectors %s not found: set FILA_SHARED to the directory that holds "
                "spec/vectors, or run in a checkout beside it\n",
                name);
        return false;
    }
    while (ok && (size = getline(&line, &room, file)) > 0) {
        while (size > 0 && (line[size - 1] == '\n' || line[size - 1] == '\r'))
            line[--size] = '\0';
        if (line[0] == '#') {
            snprintf(comment, sizeof(comment), "%s", size > 2 ? line + 2 : "");
            continue;
        }
        if (size == 0)
            continue;
        struct vector *items =
            realloc(vectors->items, (vectors->count + 1) * sizeof(*vectors->items));
        if (!items) {
            ok = false;
            break;
        }
        vectors->items = items;
        struct vector *item = &items[vectors->count++];
        *item = (struct vector){.bytes = NULL};
        memcpy(item->comment, comment, sizeof(comment));
        ok = vectors_unhex(item, line, (size_t)size);
        if (!ok)
            fprintf(stderr, "%s: bad hex after \"%s\"\n", name, comment);
    }
    free(line);
    fclose(file);
    if (!ok || vectors->count == 0) {
        vectors_free(vectors);
        return false;
    }
    return true;
}

/* The bytes of the first vector whose comment starts so; empty (data NULL) when there is none. */
static inline struct str vectors_find(const struct vectors *vectors, const char *comment)
{
    for (size_t i = 0; i < vectors->count; i++)
        if (strncmp(vectors->items[i].comment, comment, strlen(comment)) == 0)
            return str_of(vectors->items[i].bytes, vectors->items[i].size);
    fprintf(stderr, "no vector \"%s\"\n", comment);
    return (struct str){NULL, 0};
}

#endif
