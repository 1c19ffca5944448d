/*
 * terminal - the terminal as a screen that is drawn anew, and its keys. There is one.
 */
#ifndef FILAD_CLI_TERMINAL_H
#define FILAD_CLI_TERMINAL_H

#include <signal.h>
#include <stdbool.h>

#include "core/buf.h"
#include "core/err.h"

/* Blocks the signals that terminal_wait looks for; before threads are made, which inherit that. */
void terminal_block_signals(void);

/* Takes over standard input and output: no echo, no line mode, the other screen, no cursor. -1 when
 * they are no terminal. Whatever ends the process, the terminal is as before. */
int terminal_open(struct err *err) __attribute__((warn_unused_result));
/* Gives it back. Harmless when it was not taken. */
void terminal_close(void);

void terminal_size(unsigned *columns, unsigned *rows);
/* Whether the locale's characters are UTF-8. */
bool terminal_is_utf8(void);

/* Draws lines separated by '\n' with one write. */
void terminal_draw(const struct buf *lines);

enum terminal_event {
    TERMINAL_NOTHING, /* the time is over, or the size has changed: draw again */
    TERMINAL_KEYS,    /* terminal_key has something */
    TERMINAL_READY,   /* `fd` is readable */
    TERMINAL_END,     /* a signal asks to end, or the terminal is gone */
};

/* Sleeps for `timeout_ms` at most. A stop by ^Z is handled in here. */
enum terminal_event terminal_wait(int fd, int timeout_ms);

/* The next key that was pressed: a code point or an enum top_key (cli/top_model.h); 0: none. */
unsigned terminal_key(void);

/* The signal that asked to end; 0: none did. */
int terminal_signal(void);

#endif
