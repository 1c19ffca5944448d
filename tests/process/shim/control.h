/*
 * control - what a test tells the shims, and what they report: a file that the test and all
 * processes of the broker map. A file of zeros asks for nothing.
 *
 * "Files of the store" are those below $FILAD_SHIM_STORE.
 */
#ifndef FILAD_TESTS_SHIM_CONTROL_H
#define FILAD_TESTS_SHIM_CONTROL_H

#include <stdatomic.h>
#include <stdint.h>

#define SHIM_HEAPS 64

struct shim_control {
    /* Syncs of files of the store. */
    _Atomic uint32_t sync_gate;     /* non-zero: they wait inside until it is 0 */
    _Atomic uint32_t sync_waiting;  /* how many wait there */
    _Atomic uint32_t sync_failures; /* so many more fail with EIO */
    _Atomic uint32_t syncs_failed;
    _Atomic uint32_t sync_stop;  /* non-zero: the next process that syncs stops itself inside */
    _Atomic int32_t stopped_pid; /* that one; never the one in stop_not */
    _Atomic int32_t stop_not;
    _Atomic int32_t hang_pid; /* store threads of this process stay in their next sync ... */
    _Atomic uint32_t hanging; /* ... and did so, so many */

    /* Pages of databases. */
    _Atomic uint32_t tear_pages; /* so many more are written by half, and the writer killed */
    _Atomic uint32_t pages_torn;

    /* A disk of limited size, for files of the store. */
    _Atomic uint32_t disk_limited;
    _Atomic int64_t disk_free; /* bytes */
    _Atomic uint32_t disk_refusals;

    /* The wall clock. */
    _Atomic int64_t clock_offset_s;

    /* Memory, of the shim `heap`: raise heap_asked after setting heap_reports to 0. */
    _Atomic uint32_t heap_asked;
    _Atomic uint32_t heap_reports;
    struct {
        _Atomic int32_t pid;    /* set last */
        _Atomic uint64_t bytes; /* handed out by malloc; 0 under a sanitizer */
    } heaps[SHIM_HEAPS];
};

#endif
