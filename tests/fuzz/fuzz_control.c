/* What a client of the control socket sends, in two pieces: the master does what the line says and
 * nothing else. The answer that `filad -s` gets back is unescaped to what was said. */
#include "fuzz/fuzz.h"

/* Clients are static there. */
#include "example/example.c"
#include "master/control.c"

static struct {
    unsigned stops, reloads, reopens;
} done;

/* The rest of the master, as far as a command reaches it. */

void master_stop(struct master *master, enum stop_mode mode)
{
    (void)master;
    (void)mode;
    done.stops++;
}

int master_reopen(struct master *master, struct err *err)
{
    (void)master;
    return ++done.reopens % 2 ? err_set(err, 0, "open\nlog\\file") : 0;
}

void reload_request(struct master *master)
{
    (void)master;
    done.reloads++;
}

uint64_t reload_ticket(const struct master *master)
{
    (void)master;
    return 1;
}

/* A master with what `execute` asks for: one module, with a command and statistics. */
static void start(struct master *master)
{
    static const struct hook_module *const modules[] = {&example_module, NULL};
    static struct example_conf settings = {(char *)(uintptr_t) "tenant", (char *)(uintptr_t) "-"};
    static void *sections[] = {&settings, NULL};
    static struct conf conf = {.modules = sections, .hooks = modules};
    struct err err;

    log_set_level(LOG_ERROR);
    master->conf = &conf;
    REQUIRE((master->loop = loop_create(&err)) != NULL);
    REQUIRE((master->tally = tally_create(1, &err)) != NULL);
    REQUIRE(tally_enter(master->tally, modules, &err) == 0);
    REQUIRE((master->modules = hook_processes_start(HOOK_MASTER, modules, &conf, &err)) != NULL);
}

static void check_escape(struct str input)
{
    char *text = str_dup_c(input);
    struct buf line;

    if (!text)
        return;
    buf_init(&line, 0);
    control_escape(&line, text);
    REQUIRE(line.size == 0 || !memchr(line.data, '\n', line.size));
    char *back = str_dup_c(buf_str(&line));
    if (back) {
        control_unescape(back);
        size_t size = strlen(text);
        while (size && text[size - 1] == '\n')
            size--;
        text[size] = '\0';
        REQUIRE(strcmp(back, text) == 0);
        free(back);
    }
    buf_free(&line);
    control_unescape(text);
    free(text);
}

/* True when the first line of the input is this command. */
static bool is_line(struct str input, const char *command)
{
    size_t size = strlen(command);
    const uint8_t *end = input.size ? memchr(input.data, '\n', input.size) : NULL;
    if (!end)
        return false;
    /* What follows a NUL on the line is not looked at. */
    size_t line = strnlen((const char *)input.data, (size_t)(end - input.data));
    return line == size && memcmp(input.data, command, size) == 0;
}

static void check_answer(int fd, unsigned told)
{
    char answer[CONTROL_LINE_MAX];
    ssize_t size = recv(fd, answer, sizeof(answer), MSG_DONTWAIT);
    if (size > 0) {
        REQUIRE(answer[size - 1] == '\n');
        REQUIRE(memchr(answer, '\n', (size_t)size) == answer + size - 1);
        REQUIRE(strncmp(answer, "ok\n", 3) == 0 || strncmp(answer, "ok: ", 4) == 0 ||
                strncmp(answer, "error: ", 7) == 0);
    }
    REQUIRE(told == 0 || size > 0 || done.reloads > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct control control;
    static struct master master;
    struct str input = str_of(data, size), rest = input;
    struct control_client *client = &control.clients[0];
    struct err err;
    int fds[2];

    if (!master.loop)
        start(&master);
    master.control = &control;
    memset(&done, 0, sizeof(done));
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    *client = (struct control_client){
        .state = CONTROL_READING,
        .master = &master,
        .watch = {.fd = fds[1], .ready = client_ready},
        .timer = {.expired = client_late},
    };
    loop_timer_set(master.loop, &client->timer, CONTROL_REQUEST_MS);
    REQUIRE(loop_watch(master.loop, &client->watch, EPOLLIN, &err) == 0);
    struct str piece = fuzz_bytes(&rest, size % 7);
    for (int i = 0; i < 2 && client->state != CONTROL_FREE; i++, piece = rest)
        if (piece.size > 0 && send(fds[0], piece.data, piece.size, MSG_NOSIGNAL) > 0)
            client_ready(&client->watch, EPOLLIN);
    unsigned told = done.stops + done.reloads + done.reopens;
    REQUIRE(told <= 1);
    REQUIRE(!done.stops || is_line(input, "stop") || is_line(input, "quit"));
    REQUIRE(!done.reloads || is_line(input, "reload"));
    REQUIRE(!done.reopens || is_line(input, "reopen"));
    check_answer(fds[0], told);
    control_reload_done(&master, 1, size % 2 ? "a reason\nof two lines" : NULL);
    if (client->state != CONTROL_FREE)
        client_close(client);
    close(fds[0]);
    check_escape(input);
    return 0;
}
