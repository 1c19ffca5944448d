/*
 * raw_store - Berkeley DB with the broker's settings and nothing around it: one environment, one
 * B-tree of records keyed as messages are, transactions that are not flushed.
 */
#ifndef FILAD_BENCH_RAW_STORE_H
#define FILAD_BENCH_RAW_STORE_H

#include <stdint.h>

#include "core/err.h"

#define RAW_STORE_BATCH 100  /* records of a transaction */
#define RAW_STORE_VALUE 1100 /* bytes of a record: 1 KiB of payload and a message's header */

struct raw_store;

/* Both directories exist and are empty: log and database go to `data`, the shared regions to
 * `regions`. NULL on failure. */
struct raw_store *raw_store_open(const char *data, const char *regions, struct err *err)
    __attribute__((warn_unused_result));
void raw_store_close(struct raw_store *store); /* NULL is fine */

/* One transaction over the RAW_STORE_BATCH records numbered from `first`. */
int raw_store_put(struct raw_store *store, uint64_t first, struct err *err)
    __attribute__((warn_unused_result));
int raw_store_delete(struct raw_store *store, uint64_t first, struct err *err)
    __attribute__((warn_unused_result));

#endif
