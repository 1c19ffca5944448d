#include "progress.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "os/time.h"

#define TERMINAL_INTERVAL_NS 1000000000u
#define PLAIN_INTERVAL_NS 10000000000u

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

bool progress_interrupted(void)
{
    return interrupted != 0;
}

void progress_init(struct progress *progress)
{
    memset(progress, 0, sizeof(*progress));
    progress->terminal = isatty(STDERR_FILENO) == 1;

    /* Without SA_RESTART: whoever waits in a system call has to notice. */
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
}

void progress_begin(struct progress *progress, const char *unit, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(progress->what, sizeof(progress->what), format, arguments);
    va_end(arguments);
    progress->unit = unit;
    progress->began_ns = time_monotonic_ns();
    progress->shown_ns = progress->began_ns;
    progress->shown_count = 0;
    if (progress->terminal) {
        fprintf(stderr, "\r\033[K%s ...", progress->what);
    } else {
        fprintf(stderr, "%s ...\n", progress->what);
    }
    fflush(stderr);
}

int progress_tick(struct progress *progress, uint64_t now_ns, uint64_t count, struct err *err)
{
    if (interrupted) {
        return err_set(err, 0, "interrupted");
    }
    uint64_t interval = progress->terminal ? TERMINAL_INTERVAL_NS : PLAIN_INTERVAL_NS;
    if (now_ns < progress->shown_ns + interval) {
        return 0;
    }
    double rate =
        (double)(count - progress->shown_count) * 1e9 / (double)(now_ns - progress->shown_ns);
    fprintf(stderr, "%s%s: %.0f s, %llu %s, %.0f/s now%s", progress->terminal ? "\r\033[K" : "",
            progress->what, (double)(now_ns - progress->began_ns) / 1e9, (unsigned long long)count,
            progress->unit, rate, progress->terminal ? "" : "\n");
    fflush(stderr);
    progress->shown_ns = now_ns;
    progress->shown_count = count;
    return 0;
}

void progress_end(struct progress *progress, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    fprintf(stderr, "%s%s: %s\n", progress->terminal ? "\r\033[K" : "", progress->what, text);
    fflush(stderr);
}
