#define _GNU_SOURCE 1

#include "os/sig.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/signalfd.h>
#include <unistd.h>

int sig_open(const int *signals, unsigned count, struct err *err)
{
    sigset_t set;
    sigemptyset(&set);
    for (unsigned i = 0; i < count; i++) {
        struct sigaction action;
        sigaddset(&set, signals[i]);
        /* An ignored signal is thrown away before a descriptor could report it. */
        if (sigaction(signals[i], NULL, &action) == 0 && action.sa_handler == SIG_IGN)
            signal(signals[i], SIG_DFL);
    }
    int failed = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (failed)
        return err_set_errno(err, failed, "block signals");
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0)
        return err_set_errno(err, errno, "make a descriptor for signals");
    return fd;
}

int sig_read(int fd)
{
    struct signalfd_siginfo info;
    ssize_t got;
    do {
        got = read(fd, &info, sizeof(info));
    } while (got < 0 && errno == EINTR);
    return got == (ssize_t)sizeof(info) ? (int)info.ssi_signo : 0;
}

void sig_ignore(int number)
{
    signal(number, SIG_IGN);
}

void sig_reset(void)
{
    sigset_t none;
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL); /* refused for SIGKILL and SIGSTOP, which need it not */
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
}
