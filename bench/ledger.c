#include "ledger.h"

#include <stdlib.h>
#include <string.h>

#define SIZE_FIRST (UINT64_C(1) << 17)

static int grow(struct ledger *ledger, uint64_t number, struct err *err)
{
    uint64_t size = ledger->size != 0 ? ledger->size : SIZE_FIRST;
    while (size <= number) {
        size *= 2;
    }
    uint8_t *seen = realloc(ledger->seen, size);
    if (seen == NULL) {
        return err_set(err, 0, "no memory");
    }
    memset(seen + ledger->size, 0, size - ledger->size);
    ledger->seen = seen;
    ledger->size = size;
    return 0;
}

void ledger_free(struct ledger *ledger)
{
    free(ledger->seen);
    *ledger = (struct ledger){0};
}

int ledger_enter(struct ledger *ledger, uint64_t number, struct err *err)
{
    if (number >= LEDGER_MAX) {
        return err_set(err, 0, "message %llu was delivered and never sent",
                       (unsigned long long)number);
    }
    if (number >= ledger->size && grow(ledger, number, err) != 0) {
        return -1;
    }
    if (ledger->seen[number]) {
        return err_set(err, 0, "message %llu was delivered twice", (unsigned long long)number);
    }
    ledger->seen[number] = 1;
    return 0;
}
