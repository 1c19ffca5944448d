/*
 * ledger - which messages were delivered, by number. One may be shared by several consumers.
 */
#ifndef FILAD_BENCH_LEDGER_H
#define FILAD_BENCH_LEDGER_H

#include <stdint.h>

#include "core/err.h"

struct ledger {
    uint8_t *seen; /* owned */
    uint64_t size;
};

/* Numbers below this can be entered; it bounds what a wrong number makes us allocate. */
#define LEDGER_MAX (UINT64_C(1) << 30)

void ledger_free(struct ledger *ledger);

/* Enters a delivery. Fails when the number was entered before or is not below LEDGER_MAX. */
int ledger_enter(struct ledger *ledger, uint64_t number, struct err *err)
    __attribute__((warn_unused_result));

#endif
