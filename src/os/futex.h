/*
 * futex - sleeping on a word of shared memory, across processes.
 */
#ifndef FILAD_OS_FUTEX_H
#define FILAD_OS_FUTEX_H

#include <stdatomic.h>
#include <stdint.h>

/* Sleeps while *word == expected, at most `timeout_ms` (UINT64_MAX: for ever). Returns at once when
 * the word differs; may return early for no reason. */
void futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t timeout_ms);
/* As futex_wait, until `until_ns` of the monotonic clock (UINT64_MAX: for ever). */
void futex_wait_until(_Atomic uint32_t *word, uint32_t expected, uint64_t until_ns);
/* Wakes up to `count` sleepers. */
void futex_wake(_Atomic uint32_t *word, int count);

#endif
