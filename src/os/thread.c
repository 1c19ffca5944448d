#define _GNU_SOURCE 1

#include "os/thread.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "os/log.h"

#define NAME_SIZE 16 /* the kernel's, with a NUL */

/* What a new thread has to know; freed by it. */
struct start {
    void (*run)(void *argument);
    void *argument;
    char name[NAME_SIZE];
};

static void *thread_main(void *argument)
{
    struct start start = *(struct start *)argument;
    free(argument);
    pthread_setname_np(pthread_self(), start.name);
    start.run(start.argument);
    return NULL;
}

int thread_create(struct thread *thread, const char *name, void (*run)(void *argument),
                  void *argument, struct err *err)
{
    struct start *start = malloc(sizeof(*start));
    if (!start)
        return err_set_errno(err, ENOMEM, "start thread %s", name);
    start->run = run;
    start->argument = argument;
    snprintf(start->name, sizeof(start->name), "%.*s", NAME_SIZE - 1, name);

    /* A thread inherits the mask of its maker. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread->id, NULL, thread_main, start);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        free(start);
        return err_set_errno(err, failed, "start thread %s", name);
    }
    return 0;
}

void thread_join(struct thread *thread)
{
    int failed = pthread_join(thread->id, NULL);
    if (failed) {
        log_errno(LOG_ERROR, "os", failed, "join a thread");
        abort();
    }
}
