/*
 * measure - what a process takes, from /proc.
 */
#ifndef FILAD_TESTS_MEASURE_H
#define FILAD_TESTS_MEASURE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "process/support/broker.h"

/* Private memory that is in use (RssAnon), bytes; 0 when it cannot be read. */
uint64_t measure_memory(pid_t pid);
/* Processor time since the start, milliseconds. */
uint64_t measure_cpu_ms(pid_t pid);
/* Open sockets. */
unsigned measure_sockets(pid_t pid);

/* True when there was a moment, just now, in which all its threads slept. */
bool measure_is_asleep(pid_t pid);

/* Of all processes of a role: a moment in which they all slept, and sums. */
bool measure_role_is_asleep(struct broker *broker, enum broker_role role);
uint64_t measure_role_memory(struct broker *broker, enum broker_role role);
uint64_t measure_role_cpu_ms(struct broker *broker, enum broker_role role);

#endif
