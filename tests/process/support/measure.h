/*
 * measure - what a process takes, from /proc.
 */
#ifndef FILAD_TESTS_MEASURE_H
#define FILAD_TESTS_MEASURE_H

#include <stdint.h>
#include <sys/types.h>

#include "process/support/broker.h"

/* Private memory that is in use (RssAnon), bytes; 0 when it cannot be read. */
uint64_t measure_memory(pid_t pid);
/* Processor time since the start, milliseconds. */
uint64_t measure_cpu_ms(pid_t pid);
/* Open sockets. */
unsigned measure_sockets(pid_t pid);

/* Sums over the processes of a role. */
uint64_t measure_role_memory(struct broker *broker, enum broker_role role);
uint64_t measure_role_cpu_ms(struct broker *broker, enum broker_role role);

#endif
