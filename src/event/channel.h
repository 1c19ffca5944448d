/*
 * channel - typed, versioned messages between the master and a child over one SOCK_SEQPACKET pair.
 * A message of another version, an unknown type, a wrong size or a stray descriptor is a
 * programming error of ours and fatal for the receiver's peer, never ignored.
 */
#ifndef FILAD_EVENT_CHANNEL_H
#define FILAD_EVENT_CHANNEL_H

#include <stdint.h>

#include "core/err.h"

#define CHANNEL_VERSION 1
#define CHANNEL_TEXT_SIZE 1024

enum channel_type {
    CHANNEL_READY = 1,     /* child: serves. Keeper: the store is open and the zone is built */
    CHANNEL_FAILED,        /* child: cannot start, reason in text; it exits next */
    CHANNEL_STORE_FAILED,  /* child: the environment is dead, reason in text; value = its generation
                            */
    CHANNEL_STORE_STOP,    /* master to worker: end the store and sync threads */
    CHANNEL_STORE_STOPPED, /* worker: both have ended, nothing of it touches the environment */
    CHANNEL_STORE_OPEN,    /* master to worker: a new environment stands; value = its generation */
    CHANNEL_STORE_OPENED,  /* worker: attached to it */
    CHANNEL_DRAIN,         /* master to worker: finish what runs, take nothing new, exit */
    CHANNEL_STOP,          /* master to child: answer what is committed and exit */
    CHANNEL_REOPEN,        /* master to child: open the log file anew */
    CHANNEL_PING,          /* master to child: heartbeat; answered from the loop with ... */
    CHANNEL_PONG,          /* ... the same value */
    CHANNEL_SHED, /* worker, its last word: process `value`, forked from it, goes on without
                   * its store threads when it has ended. What follows comes from that one */
    CHANNEL_TYPES
};

struct channel_message {
    uint16_t version; /* CHANNEL_VERSION */
    uint16_t type;    /* enum channel_type */
    uint32_t text_size;
    uint64_t value;
    char text[CHANNEL_TEXT_SIZE]; /* text_size bytes are sent, plus a NUL on receipt */
};

/* Both ends non-blocking and close-on-exec. */
int channel_pair(int fds[2], struct err *err) __attribute__((warn_unused_result));

/* Sends; text may be NULL and is truncated to CHANNEL_TEXT_SIZE - 1. -1 when the peer is gone or
 * its buffer is full (it does not read: treat it as stuck). */
int channel_send(int fd, enum channel_type type, uint64_t value, const char *text, struct err *err)
    __attribute__((warn_unused_result));

/* 1: a message; 0: nothing there now; -1: the peer is gone (err->code 0) or sent rubbish. */
int channel_receive(int fd, struct channel_message *message, struct err *err)
    __attribute__((warn_unused_result));

#endif
