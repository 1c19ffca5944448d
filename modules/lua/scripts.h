/*
 * scripts - the scripts that a worker has at hand, found by queue. Those not called for long, and
 * the oldest when together they take too much memory, are given up; they are made anew when a
 * message needs them.
 */
#ifndef FILAD_LUA_SCRIPTS_H
#define FILAD_LUA_SCRIPTS_H

#include "core/hash.h"
#include "core/list.h"
#include "hook/hook.h"
#include "lua/report.h"
#include "lua/script.h"

#define SCRIPTS_BYTES_MAX (256u << 20)         /* of all states of a worker */
#define SCRIPTS_IDLE_MS (UINT64_C(600) * 1000) /* since the last call */

struct scripts_entry {
    struct hash_link link;
    struct list recent;
    uint64_t queue_id, version;
    const struct hook_queue *queue; /* during a call */
    struct scripts *scripts;
    struct script script;
    uint64_t used_ms;
    size_t bytes; /* what it counts for in scripts->bytes */
    struct hook_breaker *shared;
    struct hook_breaker own; /* in place of one that all workers see */
    struct report failures, lines;
};

struct scripts {
    const struct budget_limits *limits;
    const struct hook_services *services;
    struct hash by_queue;
    struct list recent; /* last called first */
    size_t bytes;
    struct report lines; /* of fila.log by all scripts */
};

/* 0, or -1 without memory. `limits` and `services` outlive it. */
int scripts_init(struct scripts *scripts, const struct budget_limits *limits,
                 const struct hook_services *services) __attribute__((warn_unused_result));
void scripts_free(struct scripts *scripts);

/* The entry of a queue's script, one for its present version; it need not be loaded. NULL without
 * memory. */
struct scripts_entry *scripts_get(struct scripts *scripts, const struct hook_queue *queue,
                                  enum hook_script which, uint64_t now_ms);
/* After a call: counts the memory of the entry and gives others up when it is too much. */
void scripts_count(struct scripts *scripts, struct scripts_entry *entry);

void scripts_forget(struct scripts *scripts, uint64_t queue_id);
/* Gives up what is idle. */
void scripts_tick(struct scripts *scripts, uint64_t now_ms);

/* The breaker of the entry's queue. */
struct hook_breaker *scripts_breaker(const struct scripts *scripts, struct scripts_entry *entry);

#endif
