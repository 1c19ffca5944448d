/*
 * hook - what modules plug into. A module is a constant struct of functions; configure lists those
 * that are built in objs/modules.c. Each worker starts its own set of them and asks it on the loop
 * thread; nothing here locks.
 */
#ifndef FILAD_HOOK_HOOK_H
#define FILAD_HOOK_HOOK_H

#include <stddef.h>
#include <stdint.h>

#include "conf/conf.h"
#include "conf/schema.h"
#include "core/err.h"
#include "core/pool.h"
#include "core/str.h"

/* Raised with every change of the structs below; a module of another version is refused. */
#define HOOK_VERSION 1u

#define HOOK_KEY_MAX 1024u    /* bytes of a fairness or throttle key */
#define HOOK_THROTTLES_MAX 64 /* throttle keys of one message */

/* A message as it came; the slices point into its frame and live until its operation is over. */
struct hook_message {
    struct str queue;   /* name, not known to exist */
    struct str headers; /* validated map (fibp/framed.h: framed_headers_find) */
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
};

/* Memory that a verdict needs, given back when the operation is over. Zeros to begin with. */
struct hook_memory {
    struct pool *pool; /* NULL until something is allocated */
};

struct hook_module {
    uint32_t version;              /* HOOK_VERSION */
    const char *name;              /* as in --with-NAME_module */
    const char *section;           /* its key in filad.yaml; NULL: it has no configuration */
    const struct schema_key *keys; /* of the section */
    size_t conf_size;              /* bytes of the struct that the section fills */
    /* Once in each worker, before the first message. `conf` is the filled struct (NULL without
     * section) and outlives the module; *state is passed to the functions below. May be NULL. */
    int (*init)(const void *conf, void **state, struct err *err);
    /* For each message of an Enqueue; the verdict is what earlier modules left. It cannot refuse a
     * message and must not block. May be NULL. */
    void (*on_enqueue)(void *state, const struct hook_message *message, struct hook_memory *memory,
                       struct hook_verdict *verdict);
    /* When the worker ends, if init succeeded. May be NULL. */
    void (*exit)(void *state);
};

/* The modules built in, in the order in which they are asked; ended by NULL. */
extern const struct hook_module *const hook_modules[];

/* The configuration sections of `modules` for conf_load, in the order that hook_set_create expects
 * in conf->modules. Fills at most `room` and returns how many there are; sections may be NULL with
 * room 0. */
size_t hook_sections(const struct hook_module *const *modules, struct conf_section *sections,
                     size_t room);

/* The modules at work in one process. */
struct hook_set;

/* Starts every module; NULL, with those already started ended, when one cannot. */
struct hook_set *hook_set_create(const struct hook_module *const *modules, const struct conf *conf,
                                 struct err *err) __attribute__((warn_unused_result));
void hook_set_destroy(struct hook_set *set); /* NULL is fine */

/* Asks all modules for a verdict. It keeps the limits above whatever they say: a fairness key that
 * is too long or no UTF-8 becomes "default", throttle keys of that kind, or too many, are all
 * dropped. */
void hook_set_on_enqueue(const struct hook_set *set, const struct hook_message *message,
                         struct hook_memory *memory, struct hook_verdict *verdict);

/* Aligned to 16; NULL without memory. */
void *hook_alloc(struct hook_memory *memory, size_t size) __attribute__((warn_unused_result));
void hook_memory_free(struct hook_memory *memory);

#endif
