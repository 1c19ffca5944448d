/*
 * hook - what modules plug into. A module is a constant struct of tables and functions, defined
 * with HOOK_MODULE; configure lists those that are built in objs/modules.c, the others are loaded
 * (hook/object.h). Each worker starts its own set of them and asks it on the loop thread; nothing
 * here locks. filad-modules(7) tells the whole for those who write one.
 */
#ifndef FILAD_HOOK_HOOK_H
#define FILAD_HOOK_HOOK_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/conf.h"
#include "conf/schema.h"
#include "core/buf.h"
#include "core/err.h"
#include "core/pool.h"
#include "core/str.h"
#include "core/uuid.h"
#include "hook/signature.h"

/* Raised with every change of what follows; a module that was written for another is refused when
 * it is compiled, one that was compiled for another when it is loaded. */
#define HOOK_VERSION 3u

#define HOOK_KEY_MAX 1024u    /* bytes of a fairness or throttle key */
#define HOOK_THROTTLES_MAX 64 /* throttle keys of one message */
#define HOOK_REASON_MAX 1024u /* bytes of the reason for which a message is rejected */
#define HOOK_DELAY_MAX_MS (UINT64_C(366) * 86400000) /* longer delays are cut to it */

enum hook_script { HOOK_ON_ENQUEUE, HOOK_ON_FAILURE, HOOK_SCRIPTS };

/* What a module may act on of a queue's settings. It stays at its address, unchanged, until
 * queue_gone was called for its id or the queue got another `version`. */
struct hook_queue {
    uint64_t id;      /* never used for another queue */
    uint64_t version; /* raised with every change of its scripts */
    struct str name;
    struct str scripts[HOOK_SCRIPTS]; /* their sources, UTF-8; empty: none */
};

/* A message as it came; the slices point into its frame and live until its operation is over. */
struct hook_message {
    struct str queue;                  /* name, not known to exist */
    const struct hook_queue *settings; /* NULL: the queue has no scripts, or does not exist */
    struct str headers;                /* validated map (fibp/framed.h: framed_headers_find) */
    uint16_t header_count;
    struct str payload;
};

/* How the scheduler is to treat it. Slices point into the message, into constant memory or into
 * memory from hook_alloc. */
struct hook_verdict {
    struct str fairness_key;         /* "default" to begin with */
    uint32_t weight;                 /* 1 to begin with */
    const struct str *throttle_keys; /* none to begin with */
    uint16_t throttle_count;
    bool failed;         /* a hook failed, so that defaults are in place of what it would say */
    uint64_t delay_ms;   /* deliver no earlier than so long after its enqueueing; 0 to begin with */
    struct str rejected; /* why the producer gets an error for this message; data NULL: accepted */
};

/* A message that was nacked; slices live during the call. */
struct hook_failure {
    const struct hook_queue *settings; /* as above */
    struct str queue;
    struct uuid id;
    struct str headers;
    uint16_t header_count;
    uint32_t attempts; /* this failure included */
    struct str error;  /* what the consumer said, UTF-8 */
};

enum hook_action { HOOK_RETRY, HOOK_DEAD_LETTER };

struct hook_decision {
    enum hook_action action; /* HOOK_RETRY to begin with */
    uint64_t delay_ms;       /* of a retry; 0 to begin with */
    bool failed;             /* as in a verdict */
};

/* Failures of a queue's scripts in a row, seen by all workers; see hook_services.breaker. */
struct hook_breaker {
    _Atomic uint64_t queue_id;      /* 0: free */
    _Atomic uint32_t failures;      /* in a row */
    _Atomic uint64_t open_until_ms; /* monotonic; scripts do not run before; 0: closed */
};

/* The processes in which modules live. */
enum hook_role { HOOK_MASTER, HOOK_KEEPER, HOOK_WORKER };

enum hook_statistic_kind {
    HOOK_COUNTER, /* only grows; what ended processes counted stays in the sum */
    HOOK_GAUGE,   /* the sum of what the living processes say */
};

/* A row of statistics, known to the outside as MODULE_NAME. Each process has a value of its own
 * (hook_services.statistics), readers see the sum of all. */
struct hook_statistic {
    const char *name; /* NULL ends the table; lower-case letters, digits and _ */
    const char *help; /* one line */
    enum hook_statistic_kind kind;
};

/* What an operator may say with `filad -x MODULE.NAME [ARGUMENT]`; runs in the master. */
struct hook_command {
    const char *name; /* NULL ends the table; as a statistic's */
    const char *help; /* one line */
    /* `state` is that of process_start in the master, `argument` UTF-8 or empty. Appends its
     * answer, lines of UTF-8 text. It must not block. */
    int (*run)(void *state, struct str argument, struct buf *answer, struct err *err);
};

struct hook_http_request {
    struct str method; /* "GET" */
    struct str path;   /* as it came, without query; begins with / */
    struct str query;  /* what stands behind the ?; empty: nothing */
    struct str body;
};

struct hook_http_response {
    int status;       /* 200 to begin with */
    const char *type; /* media type; constant memory */
    struct buf body;  /* initialised and freed by who asks */
};

/* Something that a server of HTTP, itself a module, shows for others. */
struct hook_page {
    const char *path; /* NULL ends the table. One that ends with / has all below it, too. */
    const char *help; /* one line */
    /* In a worker; `state` is that of init. It must not block. */
    void (*answer)(void *state, const struct hook_http_request *request,
                   struct hook_http_response *response);
};

struct hook_set;
struct tally;

/* What a module may ask of the process it runs in; loop thread only. */
struct hook_services {
    /* Of hook_set_create: */
    const struct hook_set *modules; /* all of the process, once they are started */
    _Atomic uint64_t *statistics;   /* the module's own values, in the order of its table; this
                                     * process alone writes them */
    /* Of the process: */
    struct tally *tally; /* statistics of all modules (hook/tally.h); NULL: kept for this process */
    unsigned slot;       /* whose values these are there */
    void *context;
    /* A value of the runtime configuration as of this tick; false: not set. It lives until the
     * hook returns. */
    bool (*config_get)(void *context, struct str key, struct str *value);
    /* The breaker of a queue in memory that all workers share; NULL when there is no room for more
     * of them: then the module keeps one of its own. */
    struct hook_breaker *(*breaker)(void *context, uint64_t queue_id);
};

/* Memory that a verdict needs, given back when the operation is over. Zeros to begin with. */
struct hook_memory {
    struct pool *pool; /* NULL until something is allocated */
};

struct hook_module {
    const struct hook_signature *signature; /* first, whatever the version */
    const char *name;                       /* as in --with-NAME_module */
    const char *section;           /* its key in filad.yaml; NULL: it has no configuration */
    const struct schema_key *keys; /* of the section */
    size_t conf_size;              /* bytes of the struct that the section fills */
    const struct hook_statistic *statistics; /* each of the tables may be NULL */
    const struct hook_command *commands;
    const struct hook_page *pages;
    /* Each of the functions may be NULL. */

    /* Once in each process: in the master when the configuration stands and before anything is
     * forked, and anew with a new configuration (the process_exit of the old one follows, unless
     * the new one fails); in keeper and worker when they begin, with the privileges that they work
     * with. `conf` is the filled struct (NULL without section). *state is passed to process_exit,
     * in the master to commands, too. */
    int (*process_start)(enum hook_role role, const void *conf, const struct conf *all,
                         void **state, struct err *err);
    /* When the process ends in order, or in the master with a reload. Not in children for what was
     * started in the master. */
    void (*process_exit)(enum hook_role role, void *state);
    /* Once in each worker, before the first message. `conf` is the filled struct (NULL without
     * section); it and `services` outlive the module. `all` is the whole configuration. *state is
     * passed to the functions below. */
    int (*init)(const void *conf, const struct conf *all, const struct hook_services *services,
                void **state, struct err *err);
    /* For each message of an Enqueue; the verdict is what earlier modules left. It must not block.
     */
    void (*on_enqueue)(void *state, const struct hook_message *message, struct hook_memory *memory,
                       struct hook_verdict *verdict);
    /* For each message that a consumer nacks, when its queue has an on_failure script. */
    void (*on_failure)(void *state, const struct hook_failure *failure,
                       struct hook_decision *decision);
    /* Whether a script may be a queue's: -1 with message and line in `err`. A module that does not
     * know the language of scripts leaves this NULL; without one that has it, scripts are refused.
     */
    int (*check_script)(void *state, enum hook_script which, struct str source, struct err *err);
    /* The queue was deleted, or has no scripts any more: forget what is kept for it. */
    void (*queue_gone)(void *state, uint64_t queue_id);
    /* Once in each turn of the loop that had something to do, and at least once a second. */
    void (*tick)(void *state, uint64_t now_ms);
    /* When the worker ends, if init succeeded. */
    void (*exit)(void *state);
};

/* Defines the module NAME: HOOK_MODULE(NAME, VERSION, .section = ..., .init = ...); VERSION is the
 * HOOK_VERSION that it was written for. */
#define HOOK_MODULE(module, written_for, ...)                                                      \
    _Static_assert((written_for) == HOOK_VERSION,                                                  \
                   "module " #module " is written for another version of hook/hook.h");            \
    static const struct hook_signature module##_signature = HOOK_SIGNATURE;                        \
    extern const struct hook_module module##_module;                                               \
    const struct hook_module module##_module = {                                                   \
        .signature = &module##_signature, .name = #module, __VA_ARGS__};                           \
    HOOK_MODULE_EXPORT(module)

#ifdef FILAD_DYNAMIC_MODULE
#define HOOK_MODULE_EXPORT(module)                                                                 \
    extern const struct hook_module *const filad_module;                                           \
    __attribute__((visibility("default"))) const struct hook_module *const filad_module =          \
        &module##_module
#else
#define HOOK_MODULE_EXPORT(module) _Static_assert(1, "")
#endif

/* The modules built in, in the order in which they are asked; ended by NULL. Those in force are in
 * conf->hooks (hook/modules.h). */
extern const struct hook_module *const hook_modules[];

/* The configuration sections of `modules` for conf_load, in the order that hook_set_create expects
 * in conf->modules. Fills at most `room` and returns how many there are; sections may be NULL with
 * room 0. */
size_t hook_sections(const struct hook_module *const *modules, struct conf_section *sections,
                     size_t room);

/* What process_start of all modules began in one process. */
struct hook_processes;

/* NULL, with those already started ended, when one cannot. */
struct hook_processes *hook_processes_start(enum hook_role role,
                                            const struct hook_module *const *modules,
                                            const struct conf *conf, struct err *err)
    __attribute__((warn_unused_result));
void hook_processes_exit(struct hook_processes *processes); /* NULL is fine */
/* Runs the command `line`, "MODULE.NAME" or "MODULE.NAME ARGUMENT", and appends its answer. */
int hook_processes_command(const struct hook_processes *processes, struct str line,
                           struct buf *answer, struct err *err) __attribute__((warn_unused_result));

/* The modules at work in one worker. */
struct hook_set;

/* Starts every module; NULL, with those already started ended, when one cannot, or two have a page
 * of the same path. `services` is copied. */
struct hook_set *hook_set_create(const struct hook_module *const *modules, const struct conf *conf,
                                 const struct hook_services *services, struct err *err)
    __attribute__((warn_unused_result));
void hook_set_destroy(struct hook_set *set); /* NULL is fine */

/* Asks all modules for a verdict, until one rejects the message. It keeps the limits above whatever
 * they say: a fairness key that is too long or no UTF-8 becomes "default", throttle keys of that
 * kind, or too many, are all dropped. */
void hook_set_on_enqueue(const struct hook_set *set, const struct hook_message *message,
                         struct hook_memory *memory, struct hook_verdict *verdict);
/* Asks all modules what becomes of a nacked message. */
void hook_set_on_failure(const struct hook_set *set, const struct hook_failure *failure,
                         struct hook_decision *decision);
/* -1 when a module refuses the script, or none knows its language. */
int hook_set_check_script(const struct hook_set *set, enum hook_script which, struct str source,
                          struct err *err) __attribute__((warn_unused_result));
void hook_set_queue_gone(const struct hook_set *set, uint64_t queue_id);
void hook_set_tick(const struct hook_set *set, uint64_t now_ms);
bool hook_set_ticks(const struct hook_set *set); /* whether a module wants ticks */

/* The page for a path: the one of that very path, else the one with the longest part of it; NULL:
 * there is none. */
const struct hook_page *hook_set_find_page(const struct hook_set *set, struct str path);
/* Calls `visit` for each page, in the order of the modules. */
void hook_set_visit_pages(const struct hook_set *set,
                          void (*visit)(void *context, const struct hook_module *module,
                                        const struct hook_page *page),
                          void *context);
/* Lets the page answer; false, with `response` as it was: there is none. */
bool hook_set_answer(const struct hook_set *set, const struct hook_http_request *request,
                     struct hook_http_response *response);

/* Aligned to 16; NULL without memory. */
void *hook_alloc(struct hook_memory *memory, size_t size) __attribute__((warn_unused_result));
void hook_memory_free(struct hook_memory *memory);

#endif
