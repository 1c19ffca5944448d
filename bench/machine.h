/*
 * machine - what the figures were taken on, in words for the report.
 */
#ifndef FILAD_BENCH_MACHINE_H
#define FILAD_BENCH_MACHINE_H

struct machine {
    char processor[128]; /* "Intel(R) Xeon(R) Processor" */
    long cores;          /* that this process may use */
    double memory_gib;
    char kernel[160];
    char date[32]; /* UTC, "2026-11-22T16:04:05Z" */
};

void machine_describe(struct machine *machine);

#endif
