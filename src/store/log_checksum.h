/*
 * log_checksum - the checksum that Berkeley DB puts on every record of its log, four times as fast.
 *
 * The library takes the key's bytes for the digits of a number in base 33, one byte after the
 * other; with whole pages in the log that was nearly half of a store thread's time. The same number
 * can be had from eight bytes at a time. The library calls the function through its own symbol
 * table, so a program that defines one of that name takes its place (as a malloc of one's own
 * does); the log stays the same to the bit. Where the library's function should ever differ, it is
 * used as it is.
 */
#ifndef FILAD_STORE_LOG_CHECKSUM_H
#define FILAD_STORE_LOG_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The checksum of `size` bytes, as Berkeley DB 5.3 computes it. */
uint32_t log_checksum(const void *data, size_t size);

/* Compares with the library's own function on samples and leaves the work to that when they
 * differ. Before the first environment is opened; later calls cost nothing. True when ours is in
 * use. */
bool log_checksum_init(void);

#endif
