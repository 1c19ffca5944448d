#define _GNU_SOURCE 1 /* ppoll */

#include "cli/terminal.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "cli/top_model.h"
#include "cli/top_text.h"

#define ENTER "\033[?1049h\033[?25l\033[2J" /* the other screen, no cursor, empty */
#define LEAVE "\033[?25h\033[?1049l"

static struct {
    bool open;
    struct termios before;
    char input[64]; /* keys that were not taken yet */
    size_t input_size;
    struct buf frame;
} terminal;

static volatile sig_atomic_t ended, resized, stopped;

static const int watched[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP};
static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

static void on_signal(int number)
{
    if (number == SIGWINCH)
        resized = 1;
    else if (number == SIGTSTP)
        stopped = 1;
    else
        ended = number;
}

static void write_all(const char *bytes, size_t size)
{
    while (size) {
        ssize_t put = write(STDOUT_FILENO, bytes, size);
        if (put < 0 && errno == EAGAIN) {
            struct pollfd room = {.fd = STDOUT_FILENO, .events = POLLOUT};
            (void)poll(&room, 1, 100);
            continue;
        }
        if (put < 0 && errno != EINTR)
            return; /* the terminal is gone; terminal_wait will find out */
        bytes += put > 0 ? put : 0;
        size -= put > 0 ? (size_t)put : 0;
    }
}

/* Only calls that a signal handler may make. */
static void restore(void)
{
    if (!terminal.open)
        return;
    terminal.open = false;
    write_all(LEAVE, sizeof(LEAVE) - 1);
    (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal.before);
}

static void on_fatal(int number)
{
    restore();
    signal(number, SIG_DFL);
    raise(number);
}

static void watched_set(sigset_t *set)
{
    sigemptyset(set);
    for (size_t i = 0; i < sizeof(watched) / sizeof(watched[0]); i++)
        sigaddset(set, watched[i]);
}

void terminal_block_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t set;
    watched_set(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (size_t i = 0; i < sizeof(watched) / sizeof(watched[0]); i++)
        sigaction(watched[i], &action, NULL);
}

static int take(struct err *err)
{
    struct termios raw;
    if (tcgetattr(STDIN_FILENO, &terminal.before) != 0)
        return err_set_errno(err, errno, "standard input");
    raw = terminal.before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN); /* ISIG stays: ^C is a signal */
    raw.c_iflag &= ~(tcflag_t)(IXON | ICRNL);
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    if (tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) != 0)
        return err_set_errno(err, errno, "standard input");
    terminal.open = true;
    write_all(ENTER, sizeof(ENTER) - 1);
    return 0;
}

int terminal_open(struct err *err)
{
    struct sigaction action = {.sa_handler = on_fatal, .sa_flags = (int)SA_RESETHAND};
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
        return err_set(err, 0, "standard input and output are no terminal");
    for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
        sigaction(fatal[i], &action, NULL);
    buf_init(&terminal.frame, 0);
    return take(err);
}

void terminal_close(void)
{
    restore();
    buf_free(&terminal.frame);
}

void terminal_size(unsigned *columns, unsigned *rows)
{
    struct winsize size = {0};
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0;
    *columns = known && size.ws_col ? size.ws_col : 80;
    *rows = known && size.ws_row ? size.ws_row : 24;
}

bool terminal_is_utf8(void)
{
    setlocale(LC_CTYPE, "");
    return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

/* Columns of a line without its escape sequences, all of which end with 'm'. */
static unsigned visible_width(const char *line, size_t size)
{
    char text[4096];
    size_t used = 0;
    for (size_t i = 0; i < size && used + 1 < sizeof(text); i++) {
        if (line[i] != '\033')
            text[used++] = line[i];
        else
            while (i < size && line[i] != 'm')
                i++;
    }
    text[used] = '\0';
    return text_width(text, true);
}

void terminal_draw(const struct buf *lines)
{
    struct buf *frame = &terminal.frame;
    const char *at = (const char *)lines->data, *end = at + lines->size;
    char move[32];
    unsigned columns, rows;
    terminal_size(&columns, &rows);
    buf_clear(frame);
    for (unsigned row = 1; at < end; row++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t size = (size_t)((stop ? stop : end) - at);
        snprintf(move, sizeof(move), "\033[%u;1H", row);
        buf_append_c(frame, move);
        buf_append(frame, at, size);
        buf_append_c(frame, "\033[0m");
        /* Behind a full line the cursor stands on its last character still, which must stay. */
        if (visible_width(at, size) < columns)
            buf_append_c(frame, "\033[K");
        at = stop ? stop + 1 : end;
    }
    if (!frame->failed)
        write_all((const char *)frame->data, frame->size);
}

/* --- keys --- */

static void read_keys(void)
{
    size_t room = sizeof(terminal.input) - terminal.input_size;
    ssize_t got = read(STDIN_FILENO, terminal.input + terminal.input_size, room);
    if (got > 0)
        terminal.input_size += (size_t)got;
    else if (got == 0 || (errno != EAGAIN && errno != EINTR))
        ended = SIGHUP;
}

static void drop_input(size_t count)
{
    terminal.input_size -= count;
    memmove(terminal.input, terminal.input + count, terminal.input_size);
}

static const struct {
    const char *sequence;
    enum top_key key;
} sequences[] = {
    {"\033[A", TOP_KEY_UP},         {"\033OA", TOP_KEY_UP},    {"\033[B", TOP_KEY_DOWN},
    {"\033OB", TOP_KEY_DOWN},       {"\033[C", TOP_KEY_RIGHT}, {"\033OC", TOP_KEY_RIGHT},
    {"\033[D", TOP_KEY_LEFT},       {"\033OD", TOP_KEY_LEFT},  {"\033[5~", TOP_KEY_PAGE_UP},
    {"\033[6~", TOP_KEY_PAGE_DOWN}, {"\033[H", TOP_KEY_HOME},  {"\033OH", TOP_KEY_HOME},
    {"\033[1~", TOP_KEY_HOME},      {"\033[F", TOP_KEY_END},   {"\033OF", TOP_KEY_END},
    {"\033[4~", TOP_KEY_END},
};

/* What begins with an escape: a known sequence, one that is passed over, or the key itself. */
static unsigned escape(void)
{
    const char *input = terminal.input;
    for (size_t i = 0; i < sizeof(sequences) / sizeof(sequences[0]); i++) {
        size_t size = strlen(sequences[i].sequence);
        if (terminal.input_size >= size && memcmp(input, sequences[i].sequence, size) == 0) {
            drop_input(size);
            return sequences[i].key;
        }
    }
    size_t size = 1;
    if (terminal.input_size > 1 && (input[1] == '[' || input[1] == 'O'))
        for (size = 2; size < terminal.input_size && (unsigned char)input[size] < 0x40; size++)
            continue;
    bool sequence = size > 1;
    drop_input(sequence && size < terminal.input_size ? size + 1 : size);
    return sequence ? TOP_KEY_ENTER + 100 : TOP_KEY_ESCAPE; /* no key that means anything */
}

unsigned terminal_key(void)
{
    unsigned char first;
    if (!terminal.input_size)
        return 0;
    first = (unsigned char)terminal.input[0];
    if (first == '\033')
        return escape();
    unsigned size = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    unsigned character = size == 1 ? first : first & (0xffu >> (size + 1));
    if (size > terminal.input_size || (first >= 0x80 && first < 0xc2)) {
        drop_input(1);
        return TOP_KEY_ENTER + 100;
    }
    for (unsigned i = 1; i < size; i++)
        character = character << 6 | ((unsigned char)terminal.input[i] & 0x3f);
    drop_input(size);
    if (character == '\r' || character == '\n')
        return TOP_KEY_ENTER;
    if (character == 0x7f || character == '\b')
        return TOP_KEY_BACKSPACE;
    return character ? character : ' ';
}

/* --- waiting --- */

/* ^Z: the shell gets its screen, and we ours when we go on. */
static void suspend(void)
{
    struct err err = {0};
    stopped = 0;
    restore();
    raise(SIGSTOP);
    (void)take(&err);
    resized = 1;
}

enum terminal_event terminal_wait(int fd, int timeout_ms)
{
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    struct timespec timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
    sigset_t open, set;
    sigprocmask(SIG_SETMASK, NULL, &open);
    watched_set(&set);
    for (size_t i = 0; i < sizeof(watched) / sizeof(watched[0]); i++)
        sigdelset(&open, watched[i]);
    int count = ended ? 0 : ppoll(fds, 2, timeout_ms < 0 ? NULL : &timeout, &open);
    if (stopped)
        suspend();
    if (ended)
        return TERMINAL_END;
    if (resized) {
        resized = 0;
        write_all("\033[2J", 4); /* what the terminal made of the old screen is of no use */
        return TERMINAL_NOTHING;
    }
    if (count > 0 && fds[0].revents) {
        read_keys();
        return ended ? TERMINAL_END : TERMINAL_KEYS;
    }
    return count > 0 && fds[1].revents ? TERMINAL_READY : TERMINAL_NOTHING;
}

int terminal_signal(void)
{
    return ended;
}
