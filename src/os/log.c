/*
 * Nothing here takes a lock that a fork could leave behind locked: no stdio stream, no time zone,
 * no syslog(3) (its datagrams are sent by hand). The descriptor keeps its number when a file is
 * opened anew, so that a thread that is writing meanwhile meets either file but nothing else.
 */
#define _GNU_SOURCE 1 /* strerror_r */

#include "os/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/utf8.h"
#include "os/time.h"

#define LINE_SIZE 4096
#define TEXT_SIZE 3072 /* before escaping */
#define NAME_SIZE 32
#define FACILITY_DAEMON (3 << 3)
#define LOG_SELDOM_MS 60000u
#define LINKED "open log %s: a link, in a directory that others may write"

struct level {
    const char *name;
    int severity; /* RFC 5424 section 6.2.1 */
};

static const struct level levels[] = {
    [LOG_ERROR] = {"error", 3}, [LOG_WARN] = {"warn", 4},   [LOG_NOTICE] = {"notice", 5},
    [LOG_INFO] = {"info", 6},   [LOG_DEBUG] = {"debug", 7},
};

#define LEVELS (sizeof(levels) / sizeof(levels[0]))

enum log_sink { SINK_STDERR, SINK_FILE, SINK_SYSLOG };

static _Atomic int log_fd = STDERR_FILENO;
static _Atomic int log_sink = SINK_STDERR;
static _Atomic int log_threshold = LOG_INFO;
static char log_path[PATH_MAX];
static char log_process[NAME_SIZE];
static const char *syslog_path = "/dev/log";

/* A line under construction. */
struct line {
    size_t size;
    char data[LINE_SIZE];
};

static void line_add(struct line *line, const char *data, size_t size)
{
    if (size > sizeof(line->data) - line->size)
        size = sizeof(line->data) - line->size;
    memcpy(line->data + line->size, data, size);
    line->size += size;
}

static void line_add_c(struct line *line, const char *text)
{
    line_add(line, text, strlen(text));
}

/* The size of the printable character at `p`; 0 for a control character or no character. */
static size_t printable_size(const uint8_t *p, size_t left)
{
    if (utf8_control(str_of(p, left)))
        return 0;
    for (size_t size = 1; size <= 4 && size <= left; size++)
        if (utf8_valid(str_of(p, size)))
            return size;
    return 0;
}

/* Appends `text` escaped; what does not fit before `end` bytes are in use is replaced by "...". */
static void line_add_escaped(struct line *line, const char *text, size_t size, size_t end)
{
    const uint8_t *p = (const uint8_t *)text;
    for (size_t at = 0; at < size;) {
        char escape[5];
        size_t from = printable_size(p + at, size - at);
        size_t to = from ? from : 4;
        if (line->size + to > end - 3) {
            line_add_c(line, "...");
            return;
        }
        if (from) {
            line_add(line, text + at, from);
            at += from;
        } else {
            snprintf(escape, sizeof(escape), "\\x%02x", p[at]);
            line_add(line, escape, 4);
            at++;
        }
    }
}

/* Year, month and day of a count of days since 1970 in the proleptic Gregorian calendar. Years are
 * counted from 1 March, so that the leap day is the last of its year. */
static void civil_date(uint64_t days, unsigned *year, unsigned *month, unsigned *day)
{
    uint64_t shifted = days + 719468; /* days since 0000-03-01 */
    uint64_t era = shifted / 146097;
    uint64_t of_era = shifted % 146097;
    uint64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint64_t from_march = (5 * of_year + 2) / 153;
    *day = (unsigned)(of_year - (153 * from_march + 2) / 5 + 1);
    *month = (unsigned)(from_march < 10 ? from_march + 3 : from_march - 9);
    *year = (unsigned)(year_of_era + era * 400 + (*month <= 2));
}

static void line_add_head(struct line *line, enum log_level level)
{
    char text[128];
    uint64_t ms = time_wall_ms();
    unsigned year, month, day, of_day = (unsigned)(ms / 1000 % 86400);
    civil_date(ms / 86400000, &year, &month, &day);
    snprintf(text, sizeof(text), "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ [%s] %d%s%s ", year, month,
             day, of_day / 3600, of_day / 60 % 60, of_day % 60, (unsigned)(ms % 1000),
             levels[level].name, (int)getpid(), log_process[0] ? "#" : "", log_process);
    line_add_c(line, text);
}

static void line_add_syslog_head(struct line *line, enum log_level level)
{
    char text[128];
    snprintf(text, sizeof(text), "<%d>filad[%d]: %s%s", FACILITY_DAEMON | levels[level].severity,
             (int)getpid(), log_process, log_process[0] ? " " : "");
    line_add_c(line, text);
}

static struct sockaddr_un syslog_address(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", syslog_path);
    return address;
}

/* A record that cannot be written has nowhere to be complained about. */
static void line_send(const struct line *line, int fd, bool to_syslog)
{
    ssize_t sent;
    struct sockaddr_un address;
    if (to_syslog)
        address = syslog_address();
    do {
        if (to_syslog)
            sent = sendto(fd, line->data, line->size, MSG_NOSIGNAL | MSG_DONTWAIT,
                          (const struct sockaddr *)&address, sizeof(address));
        else
            sent = write(fd, line->data, line->size);
    } while (sent < 0 && errno == EINTR);
}

static void log_text(enum log_level level, const char *subsystem, const char *text)
{
    struct line line;
    line.size = 0;
    bool to_syslog = atomic_load(&log_sink) == SINK_SYSLOG;
    if (to_syslog)
        line_add_syslog_head(&line, level);
    else
        line_add_head(&line, level);
    line_add_escaped(&line, subsystem, strlen(subsystem), 512);
    line_add_c(&line, ": ");
    line_add_escaped(&line, text, strlen(text), sizeof(line.data) - 1);
    if (!to_syslog)
        line_add_c(&line, "\n");
    line_send(&line, atomic_load(&log_fd), to_syslog);
}

/* Whether a link at `path` can only be one that root or this user has put there. */
static bool link_is_safe(const char *path)
{
    char parent[PATH_MAX];
    struct stat directory, link;
    const char *slash = strrchr(path, '/');
    uid_t self = geteuid();
    snprintf(parent, sizeof(parent), "%.*s", slash ? (int)(slash - path + 1) : 1,
             slash ? path : ".");
    if (stat(parent, &directory) != 0 || (directory.st_uid != 0 && directory.st_uid != self))
        return false;
    if (!(directory.st_mode & (S_IWGRP | S_IWOTH)))
        return true;
    return (directory.st_mode & S_ISVTX) && lstat(path, &link) == 0 &&
           (link.st_uid == 0 || link.st_uid == self);
}

/* The directory of a log belongs to the user of the workers, who open it themselves. What that user
 * links to must not be written by root. */
static int file_open(const char *path, struct err *err)
{
    bool safe = link_is_safe(path);
    int follow = safe ? 0 : O_NOFOLLOW;
    struct stat file;
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | follow, 0644);
    if (fd < 0)
        return errno == ELOOP && !safe ? err_set(err, ELOOP, LINKED, path)
                                       : err_set_errno(err, errno, "open log %s", path);
    if (!safe && fstat(fd, &file) == 0 && S_ISREG(file.st_mode) && file.st_nlink > 1) {
        close(fd);
        return err_set(err, ELOOP, LINKED, path);
    }
    return fd;
}

static int sink_open(enum log_sink sink, const char *path, struct err *err)
{
    if (sink == SINK_STDERR)
        return STDERR_FILENO;
    if (sink == SINK_FILE)
        return file_open(path, err);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        (void)err_set_errno(err, errno, "open log %s", path);
    return fd;
}

static int log_switch(const char *path, struct err *err)
{
    enum log_sink sink = SINK_FILE;
    if (strcmp(path, "stderr") == 0)
        sink = SINK_STDERR;
    else if (strcmp(path, "syslog") == 0)
        sink = SINK_SYSLOG;

    int fd = sink_open(sink, path, err);
    if (fd < 0)
        return -1;
    int old = atomic_load(&log_fd);
    if (sink == SINK_FILE && atomic_load(&log_sink) == SINK_FILE) {
        int failed = dup3(fd, old, O_CLOEXEC) < 0 ? errno : 0;
        close(fd);
        return failed ? err_set_errno(err, failed, "open log %s", path) : 0;
    }
    atomic_store(&log_sink, (int)sink);
    atomic_store(&log_fd, fd);
    if (old != STDERR_FILENO)
        close(old);
    return 0;
}

int log_open(const char *path, enum log_level level, struct err *err)
{
    if (strlen(path) >= sizeof(log_path))
        return err_set_errno(err, ENAMETOOLONG, "open log %.64s...", path);
    if (log_switch(path, err) != 0)
        return -1;
    snprintf(log_path, sizeof(log_path), "%s", path);
    log_set_level(level);
    return 0;
}

int log_reopen(struct err *err)
{
    return atomic_load(&log_sink) == SINK_FILE ? log_switch(log_path, err) : 0;
}

int log_give(uid_t uid, gid_t gid, struct err *err)
{
    struct stat file;
    int fd = atomic_load(&log_fd);
    if (atomic_load(&log_sink) != SINK_FILE || fstat(fd, &file) != 0 || !S_ISREG(file.st_mode) ||
        (file.st_uid == uid && file.st_gid == gid))
        return 0;
    return fchown(fd, uid, gid) != 0 ? err_set_errno(err, errno, "chown %s", log_path) : 0;
}

void log_set_process(const char *name)
{
    size_t size = 0;
    for (; *name && size < sizeof(log_process) - 1; name++)
        if (*name > ' ' && *name < 0x7f)
            log_process[size++] = *name;
    log_process[size] = '\0';
}

void log_set_level(enum log_level level)
{
    atomic_store(&log_threshold, (int)level);
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&log_threshold, memory_order_relaxed);
}

bool log_level_parse(struct str name, enum log_level *level)
{
    for (size_t i = 0; i < LEVELS; i++) {
        if (str_equal(name, str_from_c(levels[i].name))) {
            *level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

const char *log_level_name(enum log_level level)
{
    return levels[level].name;
}

void log_write(enum log_level level, const char *subsystem, const char *format, ...)
{
    if (!log_enabled(level))
        return;
    int saved = errno;
    char text[TEXT_SIZE];
    va_list args;
    va_start(args, format);
    if (vsnprintf(text, sizeof(text), format, args) < 0)
        text[0] = '\0';
    va_end(args);
    log_text(level, subsystem, text);
    errno = saved;
}

void log_errno(enum log_level level, const char *subsystem, int number, const char *format, ...)
{
    if (!log_enabled(level))
        return;
    int saved = errno;
    char text[TEXT_SIZE], reason[128];
    va_list args;
    va_start(args, format);
    /* A long text is cut so that the reason still fits. */
    if (vsnprintf(text, sizeof(text) - sizeof(reason), format, args) < 0)
        text[0] = '\0';
    va_end(args);
    size_t size = strlen(text);
    snprintf(text + size, sizeof(text) - size, ": %s", strerror_r(number, reason, sizeof(reason)));
    log_text(level, subsystem, text);
    errno = saved;
}

void log_errno_seldom(struct log_limit *limit, enum log_level level, const char *subsystem,
                      int number, const char *text)
{
    uint64_t now_ms = time_monotonic_ms();
    if (now_ms < limit->next_ms) {
        limit->left_out++;
        return;
    }
    if (limit->left_out)
        log_errno(level, subsystem, number, "%s (and %llu times before)", text,
                  (unsigned long long)limit->left_out);
    else
        log_errno(level, subsystem, number, "%s", text);
    *limit = (struct log_limit){.next_ms = now_ms + LOG_SELDOM_MS};
}
