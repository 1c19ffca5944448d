/*
 * notify - telling the service manager how we are: the sd_notify protocol, a datagram of lines to
 * the socket named by NOTIFY_SOCKET. Without that variable all of these do nothing and succeed.
 */
#ifndef FILAD_OS_NOTIFY_H
#define FILAD_OS_NOTIFY_H

#include <sys/types.h>

#include "core/err.h"

/* Sends lines as they are: "READY=1\nSTATUS=...". */
int notify_send(const char *lines, struct err *err) __attribute__((warn_unused_result));

int notify_ready(struct err *err) __attribute__((warn_unused_result));
int notify_stopping(struct err *err) __attribute__((warn_unused_result));
/* Announces a reload, with the time on the monotonic clock that Type=notify-reload asks for; when
 * it is over notify_ready says so. */
int notify_reloading(struct err *err) __attribute__((warn_unused_result));
/* The process that is the service from now on. */
int notify_main_pid(pid_t pid, struct err *err) __attribute__((warn_unused_result));
/* One line for people. */
int notify_status(struct err *err, const char *format, ...)
    __attribute__((format(printf, 2, 3), warn_unused_result));

#endif
