/*
 * recovery - decides what is done about the store when a process ends or says that the store has
 * failed. A state machine in a table, without processes of its own: what happens comes in as events
 * and what is to be done goes out through `struct recovery_actions`, so that every order of deaths
 * can be tried without a fork.
 *
 * The rule that it keeps: a new keeper starts only when every process that had the old environment
 * open has either said that its threads have ended or has been reported by waitpid. No late write
 * can meet a recovery. A worker that sheds its threads has let go (RECOVERY_EVENT_STOPPED) when
 * waitpid has reported the process that it left with them.
 */
#ifndef FILAD_MASTER_RECOVERY_H
#define FILAD_MASTER_RECOVERY_H

#include <stdbool.h>
#include <stdint.h>

#define RECOVERY_STOP_MS 1000    /* a worker that has not let go of the store by then is killed */
#define RECOVERY_CHECK_MS 1000   /* time of the helper that looks for what a dead process left */
#define RECOVERY_CLOSE_MS 60000  /* time of the keeper's last checkpoint */
#define RECOVERY_ABANDON_MS 5000 /* wait for killed processes when the master wants to exit */
#define RECOVERY_QUICK_MS 500    /* a store that fails sooner after it was opened failed quickly */
#define RECOVERY_QUICK_MAX 5     /* quick failures in a row before the longest pause */
#define RECOVERY_PAUSE_MAX_MS 1000

enum recovery_state {
    RECOVERY_IDLE,     /* nothing was started */
    RECOVERY_OPENING,  /* a keeper recovers the environment and builds the zone */
    RECOVERY_OPEN,     /* the store serves */
    RECOVERY_CHECKING, /* it serves, and a helper checks what a dead worker left behind */
    RECOVERY_STOPPING, /* waits for every process to let go of the old environment */
    RECOVERY_PAUSED,   /* nobody has it open; the next keeper waits after quick failures */
    RECOVERY_CLOSING,  /* the keeper was told to close the store */
    RECOVERY_ABANDON,  /* everything was killed, the end of it is awaited */
    RECOVERY_CLOSED,   /* for good */
    RECOVERY_STATES
};

enum recovery_event {
    RECOVERY_EVENT_START,       /* open the store for the first time */
    RECOVERY_EVENT_WORKER,      /* a worker was forked into `slot` */
    RECOVERY_EVENT_READY,       /* the keeper has opened generation `value` */
    RECOVERY_EVENT_FAILED,      /* the process in `slot` says that generation `value` is dead */
    RECOVERY_EVENT_STOPPED,     /* the worker in `slot` has let go of the environment */
    RECOVERY_EVENT_ENDED,       /* the worker in `slot` exited with status 0, words clear */
    RECOVERY_EVENT_DIED,        /* ... ended otherwise, words clear */
    RECOVERY_EVENT_DIED_INSIDE, /* ... ended with a word set */
    RECOVERY_EVENT_KEEPER_DIED, /* `value`: its exit status, 256 + signal when killed */
    RECOVERY_EVENT_HELPER_FINE, /* the helper has ended and found nothing */
    RECOVERY_EVENT_HELPER_BAD,  /* ... ended in any other way */
    RECOVERY_EVENT_TIMER,       /* the time last set has passed */
    RECOVERY_EVENT_CLOSE,       /* the master stops: all workers have ended */
    RECOVERY_EVENTS
};

struct recovery_actions {
    /* Ends the present generation of the zone. */
    void (*shut)(void *context);
    /* Tell the worker in `slot`; one that cannot be told is killed by the callee. */
    void (*stop_store)(void *context, unsigned slot);
    void (*open_store)(void *context, unsigned slot, uint64_t generation);
    /* SIGKILL for what has the store open there: its death comes back as an event, as
     * RECOVERY_EVENT_STOPPED where another process goes on without the store. */
    void (*kill)(void *context, unsigned slot);
    /* Forks keeper or helper. -1 (logged by the callee) when that fails. */
    int (*spawn_keeper)(void *context);
    int (*spawn_helper)(void *context);
    /* Tells the keeper to close the store and exit. */
    void (*stop_keeper)(void *context);
    /* The slot of a dead process is free again. */
    void (*release)(void *context, unsigned slot);
    /* One timer: arms it anew; UINT64_MAX disarms it. */
    void (*timer)(void *context, uint64_t delay_ms);
    /* recovery_may_spawn has become true, or the store has become open. */
    void (*resume)(void *context);
    /* The store has never been open and will not be. The machine waits for RECOVERY_EVENT_CLOSE. */
    void (*give_up)(void *context, const char *reason);
    /* RECOVERY_CLOSED is reached; `clean`: the keeper said so. */
    void (*closed)(void *context, bool clean);
};

struct recovery;

/* NULL without memory. `actions` and `context` must outlive the machine. */
struct recovery *recovery_create(const struct recovery_actions *actions, void *context)
    __attribute__((warn_unused_result));
void recovery_destroy(struct recovery *recovery);

/* `slot` and `value` as said at the events, else 0; `now_ms` on any monotonic clock. Events that
 * have no meaning in the present state, such as a late message of a dead generation, change
 * nothing. */
void recovery_event(struct recovery *recovery, enum recovery_event event, unsigned slot,
                    uint64_t value, uint64_t now_ms);

enum recovery_state recovery_state(const struct recovery *recovery);
/* True when a worker may be forked now: not while it is unknown what state the environment is in.
 */
bool recovery_may_spawn(const struct recovery *recovery);
/* True once the store was open. */
bool recovery_was_open(const struct recovery *recovery);

#endif
