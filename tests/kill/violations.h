/*
 * violations - the broken promises that were found, with the history of each message as text. A
 * limited number is kept.
 */
#ifndef FILAD_KILL_VIOLATIONS_H
#define FILAD_KILL_VIOLATIONS_H

#include <stdio.h>

#include "kill/journal.h"
#include "kill/message.h"

struct violations;

struct violations *violations_create(const struct journal_queue *queues);
void violations_destroy(struct violations *violations);

/* Keeps the text and, of the message (which may be NULL), everything known at this moment. */
void violations_add_message(struct violations *violations, enum violation kind,
                            struct journal_ref ref, const struct message *message,
                            const char *what);
void violations_add_text(struct violations *violations, enum violation kind, const char *text);

void violations_print(const struct violations *violations, FILE *out);

#endif
