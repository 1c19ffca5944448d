/*
 * files - directories and files of tests.
 */
#ifndef FILAD_TESTS_FILES_H
#define FILAD_TESTS_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "core/err.h"

#define FILES_PATH_SIZE 256

/* A new directory, mode 0755, below `parent` (NULL: $TMPDIR, else /tmp). As root its parents are
 * such that any user may pass: else /tmp is taken. */
int files_make_directory(char path[FILES_PATH_SIZE], const char *parent, struct err *err);

/* Removes a file or a directory with everything in it; nothing happens when there is none. */
void files_remove_tree(const char *path);

/* The end of a file, at most size - 1 bytes; empty when it cannot be read. */
void files_tail(const char *path, char *text, size_t size);
void files_print_tail(const char *path, FILE *out);

/* Whether a file contains a text. */
bool files_contain(const char *path, const char *text);

/* How many entries of a directory match (fnmatch); 0 when there is no directory. */
unsigned files_count(const char *directory, const char *pattern);

#endif
