/*
 * thread - threads that leave signals to the loop.
 */
#ifndef FILAD_OS_THREAD_H
#define FILAD_OS_THREAD_H

#include <pthread.h>

#include "core/err.h"

struct thread {
    pthread_t id;
};

/* Starts run(argument) in a thread with all signals blocked. `name` (copied; 15 bytes count) is
 * what top -H and debuggers show. */
int thread_create(struct thread *thread, const char *name, void (*run)(void *argument),
                  void *argument, struct err *err) __attribute__((warn_unused_result));

/* Waits for its end. Aborts when the thread cannot be joined, which only a mistake of ours can
 * cause. */
void thread_join(struct thread *thread);

#endif
