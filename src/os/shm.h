/*
 * shm - memory shared with the processes forked later, at the same address in all of them.
 */
#ifndef FILAD_OS_SHM_H
#define FILAD_OS_SHM_H

#include <stddef.h>

#include "core/err.h"

/* Reserves `size` bytes of address space, rounded up to whole pages; pages are taken when they are
 * first written, and read as zero before. NULL on failure. */
void *shm_map(size_t size, struct err *err) __attribute__((warn_unused_result));
void shm_unmap(void *memory, size_t size); /* in this process only */

/* Gives the whole pages inside the range back to the system, for all processes: they read as zero
 * afterwards. 0, or -1 with errno. */
int shm_discard(void *memory, size_t size) __attribute__((warn_unused_result));

#endif
