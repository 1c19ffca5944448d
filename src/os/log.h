/*
 * log - the error log: one line a record, written with one write(2) to a descriptor opened with
 * O_APPEND, so that any thread of any process may log without a lock and a forked child goes on.
 *
 *   2026-11-22T15:54:26.123Z [error] 4711#worker0 store: open queues/7.db: No space left on device
 *
 * What was being attempted comes first, the errno text last.
 */
#ifndef FILAD_OS_LOG_H
#define FILAD_OS_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/err.h"
#include "core/str.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_NOTICE, LOG_INFO, LOG_DEBUG };

/* Where records go and from which level on: path "stderr", "syslog" or a file (created 0644); a
 * link only where nobody but root and this user can have put it. On failure nothing changes. Before
 * the first call records from LOG_INFO on go to standard error. "syslog" sends datagrams to
 * /dev/log without waiting: what the daemon has no room for is lost. */
int log_open(const char *path, enum log_level level, struct err *err)
    __attribute__((warn_unused_result));
/* Opens the same path anew (after logrotate). On failure the old file stays in use. */
int log_reopen(struct err *err) __attribute__((warn_unused_result));
/* Makes the log, when it is a file, that of `uid` and `gid`, who open it themselves. */
int log_give(uid_t uid, gid_t gid, struct err *err) __attribute__((warn_unused_result));
/* The name of this process in its records: "master", "keeper", "worker 0" (spaces are left
 * out). Copied; to be set before other threads log. */
void log_set_process(const char *name);
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

/* "error" ... "debug" to its level; false for anything else. */
bool log_level_parse(struct str name, enum log_level *level);
const char *log_level_name(enum log_level level);

/* `subsystem`: "store", "conf", "worker", ... Control bytes of the text are escaped: a client
 * cannot forge a line. */
void log_write(enum log_level level, const char *subsystem, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* As log_write at `level`, followed by ": " and the text of errno value `number`. */
void log_errno(enum log_level level, const char *subsystem, int number, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* As log_errno, for what may happen all the time: at most one record a minute of each `limit`,
 * which says how many were left out since the last. A limit starts as zeros and belongs to one
 * thread. */
struct log_limit {
    uint64_t next_ms; /* monotonic */
    uint64_t left_out;
};
void log_errno_seldom(struct log_limit *limit, enum log_level level, const char *subsystem,
                      int number, const char *text);

#endif
