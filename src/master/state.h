/*
 * state - what the master knows: its processes, the workers it wants, and what it holds for them.
 * Everything here belongs to the loop of the master; children see a copy from the moment of their
 * fork and use nothing of it but what spawn.c hands on.
 */
#ifndef FILAD_MASTER_STATE_H
#define FILAD_MASTER_STATE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "conf/conf.h"
#include "conf/options.h"
#include "core/err.h"
#include "event/loop.h"
#include "master/listeners.h"
#include "master/recovery.h"
#include "os/priv.h"
#include "sched/zone.h"

/* Time of the workers after `stop`, then SIGKILL. */
#define MASTER_STOP_MS 10000
/* Beyond worker_shutdown_timeout, which a worker keeps by itself. */
#define MASTER_DRAIN_GRACE_MS 5000
/* A child that lives shorter failed quickly. */
#define MASTER_QUICK_MS 1000

enum process_kind { PROCESS_NONE, PROCESS_WORKER, PROCESS_KEEPER, PROCESS_HELPER };

struct master;

/* A child, kept at the index of its zone slot. */
struct process {
    enum process_kind kind; /* PROCESS_NONE: the entry is free */
    pid_t pid;
    pid_t left; /* what `pid` was forked from to shed its store threads, which waitpid has not
                 * reported yet: only its end says that they touch nothing any more; 0: none */
    unsigned slot;
    unsigned index; /* of a worker: its number, as in "filad: worker 0" */
    struct master *master;
    struct loop_watch watch;    /* the channel */
    struct loop_timer deadline; /* SIGKILL when it expires */
    uint64_t started_ms;
    uint64_t ping;    /* value of the last CHANNEL_PING */
    uint64_t ping_ms; /* when it was sent; 0: it has been answered */
    bool ready;       /* has said CHANNEL_READY */
    bool leaving;     /* was told to stop or to drain */
    bool fresh;       /* belongs to a reload that has not succeeded yet */
    bool expected;    /* was killed by us: its death says nothing about it */
    bool gone;        /* waitpid has reported it: the pid is no longer its own */
    int status;       /* as waitpid told it, while `left` is waited for */
};

/* A worker that the configuration asks for. */
struct place {
    struct process *process; /* NULL: none at present */
    unsigned quick;          /* quick failures in a row */
    uint64_t due_ms;         /* when the next one may be forked */
    bool disabled;           /* ended because of the configuration: not tried again */
};

enum stop_mode { STOP_NONE, STOP_DRAIN, STOP_FAST };

struct control;
struct hook_processes;
struct reload;
struct tally;

struct master {
    const struct options *options;
    struct conf *conf;
    bool root;        /* started as root */
    struct priv priv; /* what keeper and workers run as */
    int daemon;       /* of daemon_detach; -1 in the foreground and once that is told */
    int pid_file;     /* -1: not written */
    int lock;         /* of the store; inherited by every child */
    struct listeners listeners;
    char regions[PATH_MAX];
    struct zone *zone;
    struct tally *tally;            /* statistics of modules */
    struct hook_processes *modules; /* what they began here, with `conf` */
    struct loop *loop;
    struct loop_watch signals;
    struct recovery *recovery;
    struct loop_timer recovery_timer;
    struct loop_timer respawn_timer;
    struct loop_timer heartbeat_timer;
    struct process processes[ZONE_SLOTS];
    struct place places[CONF_WORKERS_MAX];
    struct control *control; /* NULL: without */
    struct reload *reload;
    enum stop_mode stopping;
    bool started; /* everything has been READY once */
    bool alone;   /* at the end: no child is left */
    bool closing; /* the recovery machine was told to close */
    bool clean;   /* the keeper has closed the store */
    int exit_status;
    struct err failure;       /* why it could not start or go on; no text: it could */
    struct err keeper_reason; /* what the last keeper said with CHANNEL_FAILED */
};

#endif
