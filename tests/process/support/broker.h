/*
 * broker - a real filad on a temporary store, for tests: started from a configuration made here,
 * its output drained to a file, its processes found and killed, everything removed at the end.
 *
 * As root the workers run as nobody:nogroup, so that dropping privileges is exercised. The program
 * is $FILAD, else objs/filad below $FILAD_OBJS or the working directory.
 */
#ifndef FILAD_TESTS_BROKER_H
#define FILAD_TESTS_BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "core/err.h"
#include "process/shim/control.h"

#define BROKER_PATH_SIZE 256
#define BROKER_PROCESSES_MAX 128
#define BROKER_READY_MS 60000u /* a start on a loaded machine, with sanitizers */

enum broker_role { BROKER_MASTER, BROKER_KEEPER, BROKER_WORKER, BROKER_OTHER };

struct broker_process {
    enum broker_role role;
    pid_t pid;
};

/* All fields may be left 0. */
struct broker_options {
    unsigned workers;          /* 0: 2 */
    const char *filad;         /* path of the program; NULL: as above */
    const char *parent;        /* where the temporary directory is made; NULL: $TMPDIR or /tmp */
    const char *extra;         /* lines for the top level of the configuration */
    const char *store;         /* lines for the section store, indented by two blanks */
    const char *shim;          /* a shim to preload: the NAME of shim/NAME.c */
    const char *regions;       /* instead of a directory on /dev/shm */
    const char *reserve;       /* store.reserve; NULL: 16m */
    const char *cache_size;    /* store.cache_size; NULL: 32m */
    const char *shared_memory; /* NULL: 256m */
    const char *numbering;     /* of one listener more, at numbered_address; NULL: none */
};

struct broker {
    struct broker_options options;
    char filad[BROKER_PATH_SIZE], fila[BROKER_PATH_SIZE];
    char directory[BROKER_PATH_SIZE];
    char conf[BROKER_PATH_SIZE], pid_file[BROKER_PATH_SIZE], log[BROKER_PATH_SIZE];
    char output[BROKER_PATH_SIZE]; /* what the processes print */
    char store[BROKER_PATH_SIZE], regions[BROKER_PATH_SIZE];
    char control[BROKER_PATH_SIZE]; /* the file behind `shim` */
    struct shim_control *shim;      /* what the preloaded shim does and did */
    char unix_address[BROKER_PATH_SIZE], tcp_address[64];
    char numbered_address[BROKER_PATH_SIZE];
    pid_t pid;     /* the master; 0: none was started or its end was met */
    pid_t session; /* of the processes of the last start */
    int status;    /* of the last master, as waitpid tells it */
};

/* Makes the directories and the configuration file; starts nothing. */
int broker_init(struct broker *broker, const struct broker_options *options, struct err *err);
/* Kills what is left, and removes all files unless `keep`. Safe after a failed init, and twice. */
void broker_cleanup(struct broker *broker, bool keep);

/* Writes the configuration again with these lines more at its top level (NULL: none), or replaces
 * the file by `text` as a whole. */
int broker_write_conf(struct broker *broker, const char *extra, struct err *err);
int broker_write_text(const char *path, const char *text, struct err *err);

/* Starts the master in a session of its own; broker_start also waits until a connection is served.
 * On failure the error has the end of the output. */
int broker_spawn(struct broker *broker, struct err *err);
int broker_start(struct broker *broker, struct err *err);
int broker_wait_ready(struct broker *broker, unsigned timeout_ms, struct err *err);

/* Waits for the master's end and for that of every process of its session. -1 after the time. */
int broker_wait_end(struct broker *broker, unsigned timeout_ms, struct err *err);
/* True when the master still runs; else broker->status is set. */
bool broker_running(struct broker *broker);
/* TERM (or `signal`), the end awaited; -1 unless all ended and the master with status 0. */
int broker_stop(struct broker *broker, int signal, struct err *err);

/* Living processes of the last start, orphans included. */
size_t broker_processes(struct broker *broker, struct broker_process *list, size_t room);
/* One of a role; 0: none at present. */
pid_t broker_find(struct broker *broker, enum broker_role role);
unsigned broker_count(struct broker *broker, enum broker_role role);
/* kill -9 for all of them as close together as can be, and waits for the master when it is one. */
void broker_kill(struct broker *broker, const struct broker_process *victims, size_t count);
void broker_kill_all(struct broker *broker);

/* Runs filad or fila (chosen by `program`) with arguments ended by NULL; what it printed (standard
 * output and error together) goes to `output`, cut to `size`. The exit status; -1: killed or not
 * run. */
int broker_run(struct broker *broker, const char *program, const char *const *arguments,
               char *output, size_t size);

/* Whether the log (or the output) contains a text; prints the end of both. */
bool broker_logged(const struct broker *broker, const char *text);
/* True when a sanitizer found something in one of the processes. */
bool broker_unsound(const struct broker *broker);
void broker_print_log(const struct broker *broker, FILE *out);

/* Calls `condition` until it is true, with short pauses; false after the time. */
bool wait_until(bool (*condition)(void *context), void *context, unsigned timeout_ms);

#endif
