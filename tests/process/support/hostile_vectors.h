/*
 * hostile_vectors - the cases of tests/vectors/malformed.txt.
 */
#ifndef FILAD_TESTS_HOSTILE_VECTORS_H
#define FILAD_TESTS_HOSTILE_VECTORS_H

#include "process/support/hostile.h"

/* -1 when the file cannot be read, or a line of it has no answer here. */
int hostile_vectors_add(struct hostile_table *table, struct err *err);

#endif
