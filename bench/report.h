/*
 * report - what a session found, on standard output.
 */
#ifndef FILAD_BENCH_REPORT_H
#define FILAD_BENCH_REPORT_H

#include "session.h"

/* Aligned tables for a person. */
void report_table(const struct session *session);

/* One JSON object with every slice. Members are only ever added. */
void report_json(const struct session *session);

/* The rows that there are, with their targets. */
void report_list(void);

#endif
