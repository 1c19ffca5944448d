/*
 * space - room on the disk held back so that a full disk is not the end: a ballast file that is
 * given up when acks, leases or a recovery need room, and made again later. The keeper owns it; a
 * worker may release it.
 */
#ifndef FILAD_STORE_SPACE_H
#define FILAD_STORE_SPACE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

/* Bytes held back for a setting of store.reserve (0: auto). */
uint64_t space_reserve(uint64_t setting, uint64_t checkpoint_bytes);

/* Gives the ballast's room to others; false when there was none. */
bool space_release(const char *store_path);

/* Makes the ballast whole when the disk has room for it and as much again; false when it has not.
 */
bool space_restore(const char *store_path, uint64_t reserve);

/* Bytes that have to be free for the store not to be low any more; those of now in *free_bytes. */
uint64_t space_wanted(const char *store_path, uint64_t reserve, uint64_t *free_bytes);

/* True when new data should be refused: the ballast is not whole, or less than a quarter of it is
 * free besides; half of it when it `was_low` before, so that the answer does not flutter. */
bool space_is_low(const char *store_path, uint64_t reserve, bool was_low);

/* True when less than an eighth of it is free besides: time to give it up, before a write that must
 * not fail meets a full disk. */
bool space_is_scarce(const char *store_path, uint64_t reserve);

#endif
