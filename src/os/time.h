/*
 * time - the two clocks. Durations and deadlines of living processes use the monotonic one, which
 * is the same for all processes of a machine; what is written to the store uses the wall clock.
 */
#ifndef FILAD_OS_TIME_H
#define FILAD_OS_TIME_H

#include <stdint.h>

uint64_t time_monotonic_ns(void);
uint64_t time_monotonic_ms(void);
uint64_t time_thread_cpu_ns(void); /* processor time of the calling thread */
uint64_t time_wall_ns(void);       /* since 1970 */
uint64_t time_wall_ms(void);

/* Two words from the kernel's random source; ends the process when there is none. */
void time_entropy(uint64_t words[2]);

#endif
