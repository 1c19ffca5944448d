/*
 * control - the socket `control.sock` beside the pid file, through which `filad -s` speaks to the
 * master: one line each way. A client sends "stop", "quit", "reload", "reopen" or "execute " and a
 * command; the answer is "ok", after a command "ok: " and a text, or "error: " and a reason, in
 * which line ends are written as \n and a backslash as \\. After the "ok" of stop and quit the
 * connection stays open until the master ends.
 */
#ifndef FILAD_MASTER_CONTROL_H
#define FILAD_MASTER_CONTROL_H

#include <stddef.h>

#include "core/buf.h"
#include "core/err.h"
#include "master/state.h"

#define CONTROL_LINE_MAX 65536     /* bytes of an answer */
#define CONTROL_REQUEST_MAX 1024   /* bytes of a request */
#define CONTROL_EXECUTE "execute " /* begins the request that `filad -x` makes */

/* The socket's path for a pid file. */
int control_path(const char *pid_file, char *path, size_t size, struct err *err)
    __attribute__((warn_unused_result));

/* Listens; when that is not possible the log says why and the master goes on without. */
void control_start(struct master *master);
/* Closes everything and removes the socket; those who wait for the end learn of it by this. */
void control_stop(struct master *master);
/* In a child: closes the descriptors. */
void control_forget(struct master *master);

/* Answers those whose ticket (reload_ticket) is at most `number`: the reload of that number has
 * ended. `reason` NULL: with success. */
void control_reload_done(struct master *master, uint64_t number, const char *reason);

/* A reason as it goes over the wire, and back. */
void control_escape(struct buf *out, const char *reason);
void control_unescape(char *text);

#endif
