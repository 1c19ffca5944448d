/*
 * capture - what a piece of code writes to standard output and standard error.
 */
#ifndef FILAD_TESTS_CAPTURE_H
#define FILAD_TESTS_CAPTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct capture {
    int saved[2];
    FILE *files[2];
    char *out, *err; /* owned; after capture_end */
};

static inline void capture_begin(struct capture *capture)
{
    fflush(NULL);
    for (int i = 0; i < 2; i++) {
        capture->files[i] = tmpfile();
        assert_non_null(capture->files[i]);
        capture->saved[i] = dup(i + 1);
        dup2(fileno(capture->files[i]), i + 1);
    }
    capture->out = capture->err = NULL;
}

static inline char *capture_read(FILE *file)
{
    long size = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : 0;
    char *text = calloc(1, (size_t)size + 1);
    assert_non_null(text);
    rewind(file);
    assert_int_equal(fread(text, 1, (size_t)size, file), size);
    fclose(file);
    return text;
}

static inline void capture_end(struct capture *capture)
{
    fflush(NULL);
    for (int i = 0; i < 2; i++) {
        dup2(capture->saved[i], i + 1);
        close(capture->saved[i]);
    }
    capture->out = capture_read(capture->files[0]);
    capture->err = capture_read(capture->files[1]);
}

static inline void capture_free(struct capture *capture)
{
    free(capture->out);
    free(capture->err);
}

#endif
