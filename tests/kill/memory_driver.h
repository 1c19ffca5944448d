/*
 * memory_driver - a broker in this process, to prove the checker: a correct one, and one for each
 * fault that the checker has to find. Its processes are numbers; killing a worker closes its
 * connections, killing the master closes all of them until the next start.
 */
#ifndef FILAD_KILL_MEMORY_DRIVER_H
#define FILAD_KILL_MEMORY_DRIVER_H

#include <stdint.h>

#include "kill/driver.h"

enum memory_fault {
    MEMORY_CORRECT,
    MEMORY_LOSES,          /* a crash loses a confirmed message */
    MEMORY_RETURNS,        /* a crash brings an acked message back */
    MEMORY_BREAKS_LEASES,  /* a crash ends all leases */
    MEMORY_FORGETS_LEASES, /* after a crash leases can not be acked */
    MEMORY_REORDERS,       /* after a crash the newest message is delivered first */
    MEMORY_MISCOUNTS,      /* a crash adds one to a depth */
    MEMORY_KEEPS_ATTEMPT,  /* expiry does not raise the attempt */
    MEMORY_SKIPS_ATTEMPT,  /* a nack raises the attempt by two */
    MEMORY_DAMAGES,        /* a crash changes a byte of a payload */
    MEMORY_DUPLICATES,     /* a crash stores a message twice, under another id */
    MEMORY_FALLS_SILENT,   /* after a crash some requests get no answer */
    MEMORY_FAULTS
};

struct driver *memory_driver_create(unsigned workers, enum memory_fault fault, uint64_t seed);
void memory_driver_destroy(struct driver *driver);

/* The fault of this name ("loses", "breaks-leases", ...); MEMORY_FAULTS when there is none. */
enum memory_fault memory_fault_find(const char *name);
const char *memory_fault_name(enum memory_fault fault);

#endif
