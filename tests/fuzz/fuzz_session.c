/*
 * A whole session over a socket pair, on a pipeline in memory: handshake, frames, back-pressure and
 * deliveries. The first byte of the input chooses how the client behaves, the second the sizes of
 * the pieces that it sends and the opcode numbers of the listener; the rest is what it sends.
 * Whatever that is: the answers are frames that make sense, and in the end nothing is left of the
 * session.
 */
#include "fuzz/fuzz.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fibp/framed_client.h"
#include "fibp/numbering.h"
#include "fibp/reassembly.h"
#include "fuzz/memory.h"
#include "hook/hook.h"
#include "os/log.h"
#include "worker/session.h"
#include "worker/sessions.h"

#define TICKS_MAX 1000 /* besides those for the pieces of the input */

enum behaviour {
    SHAKES_HANDS = 0x01, /* the handshake comes before the input */
    SLOW_STORE = 0x02,   /* the store executes at the end of each second piece only */
    READS_LATE = 0x04,   /* nothing is read before everything was sent */
    SMALL_WINDOW = 0x08,
    HANGS_UP = 0x10, /* closes at the end; otherwise it only shuts its side and waits */
    DRAINS = 0x20,   /* the worker drains when half of the input was sent */
    PIECES = 0x40,   /* sends small pieces */
    SMALL_FRAMES = 0x80,
};

struct client {
    struct sessions sessions;
    struct loop_hook stop_hook;
    struct conf conf;
    struct conf_listen listen;
    int fd;
    struct buf received;
    struct reassembly reassembly; /* of answers that come in several frames */
    bool eof, preface;
    size_t ticks, ticks_max;
};

static struct loop *loop;
static struct hook_set *hooks;

static void stop(struct loop_hook *hook)
{
    (void)hook;
    loop_stop(loop);
}

static void nothing(struct loop_timer *timer)
{
    (void)timer;
}

static void tick(struct client *client)
{
    static struct loop_timer nudge = {.expired = nothing};
    struct err err;

    sessions_take(&client->sessions);
    loop_timer_set(loop, &nudge, 0);
    REQUIRE(loop_run(loop, &err) == 0);
    REQUIRE(++client->ticks < client->ticks_max);
}

/* --- what comes back --- */

static bool is_delivery(struct wire_reader *reader)
{
    struct framed_client_delivery delivery;
    uint32_t count;
    bool good = framed_client_delivery_begin(reader, &count) && count > 0;
    for (uint32_t i = 0; good && i < count; i++)
        good = framed_client_delivery_next(reader, &delivery);
    return good;
}

static bool is_enqueue_result(struct wire_reader *reader)
{
    struct framed_client_result result;
    uint32_t count;
    bool good = framed_client_enqueue_result_begin(reader, &count);
    for (uint32_t i = 0; good && i < count; i++)
        good = framed_client_enqueue_result_next(reader, &result);
    return good;
}

static bool is_settle_result(struct wire_reader *reader)
{
    uint32_t count;
    uint8_t code;
    bool good = framed_client_ack_result_begin(reader, &count);
    for (uint32_t i = 0; good && i < count; i++)
        good = framed_client_ack_result_next(reader, &code);
    return good;
}

static bool is_error(struct wire_reader *reader)
{
    struct framed_client_error error;
    return framed_client_error(reader, &error) && error.text.size > 0;
}

static bool is_consume_ok(struct wire_reader *reader)
{
    struct str text;
    return framed_client_consume_ok(reader, &text) && text.size == UUID_TEXT_SIZE;
}

/* True when the frame makes sense with these opcode numbers. */
static bool makes_sense(const struct frame *frame, enum numbering numbering)
{
    static bool (*const checks[256])(struct wire_reader *) = {
        [OPCODE_ERROR] = is_error,
        [OPCODE_DELIVERY] = is_delivery,
        [OPCODE_ENQUEUE_RESULT] = is_enqueue_result,
        [OPCODE_ACK_RESULT] = is_settle_result,
        [OPCODE_NACK_RESULT] = is_settle_result,
        [OPCODE_CONSUME_OK] = is_consume_ok,
    };
    uint8_t meaning = numbering_opcode(numbering, frame->opcode);
    const struct opcode_entry *entry = opcode_find(meaning);
    struct wire_reader reader;

    if (!entry || entry->direction == OPCODE_TO_SERVER)
        return false;
    wire_reader_init(&reader, frame->body);
    return !checks[meaning] || checks[meaning](&reader);
}

/* A client whose numbers are not known yet may turn out to use those of S2. */
static void check_frame(const struct client *client, const struct frame *frame)
{
    static const enum numbering numberings[] = {
        [CONF_NUMBERING_AUTO] = NUMBERING_AUTO,
        [CONF_NUMBERING_S1] = NUMBERING_S1,
        [CONF_NUMBERING_S2] = NUMBERING_S2,
        [CONF_NUMBERING_S3] = NUMBERING_S3,
    };
    enum conf_numbering configured = client->listen.numbering;
    REQUIRE(makes_sense(frame, numberings[configured]) ||
            (configured == CONF_NUMBERING_AUTO && makes_sense(frame, NUMBERING_S2)));
}

/* Takes whole frames off what was received. */
static void check_received(struct client *client)
{
    uint32_t length_max = (uint32_t)client->conf.fibp.max_frame_size;
    struct frame frame;
    enum frame_result result;

    while (!client->preface &&
           (result = frame_parse(buf_str(&client->received), length_max, &frame)) != FRAME_MORE) {
        size_t size = frame.size;
        REQUIRE(result == FRAME_READY);
        enum reassembly_result taken = reassembly_take(&client->reassembly, &frame);
        REQUIRE(taken == REASSEMBLY_READY || taken == REASSEMBLY_HELD);
        if (taken == REASSEMBLY_READY)
            check_frame(client, &frame);
        buf_consume(&client->received, size);
    }
}

static void read_answers(struct client *client)
{
    static uint8_t bytes[65536];
    ssize_t got;

    while (!client->eof && (got = recv(client->fd, bytes, sizeof(bytes), MSG_DONTWAIT)) != -1) {
        client->eof = got == 0;
        buf_append(&client->received, bytes, (size_t)got);
    }
    check_received(client);
}

/* --- what goes in --- */

static void send_piece(struct client *client, struct str bytes)
{
    while (bytes.size > 0) {
        ssize_t sent = send(client->fd, bytes.data, bytes.size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            bytes = str_of(bytes.data + sent, bytes.size - (size_t)sent);
            continue;
        }
        if (errno != EAGAIN)
            return;
        /* Full: the session waits for us to read, or for the store. */
        read_answers(client);
        memory_execute_all();
        tick(client);
    }
}

static void send_input(struct client *client, uint8_t behaviour, uint8_t sizes, struct str input)
{
    static const uint8_t hello[] = {0, 0, 0, 9, OPCODE_HANDSHAKE, 0, 0, 0, 0, 0, 0, 1, 0};
    size_t half = input.size / 2;

    if (behaviour & SHAKES_HANDS)
        send_piece(client, str_of(hello, sizeof(hello)));
    else
        client->preface = input.size > 0 && input.data[0] == 'F';
    for (unsigned i = 0; input.size > 0; i++) {
        size_t most = behaviour & PIECES ? 1u + (unsigned)(sizes >> (i % 5)) % 64u : 2048u;
        send_piece(client, fuzz_bytes(&input, most));
        tick(client);
        if (i % 2)
            memory_execute_all();
        if (!(behaviour & READS_LATE))
            read_answers(client);
        if ((behaviour & DRAINS) && input.size <= half && !client->sessions.draining)
            sessions_drain(&client->sessions);
    }
}

/* Goes on until everything is answered and the session has ended. */
static void finish(struct client *client, uint8_t behaviour)
{
    if (behaviour & HANGS_UP) {
        close(client->fd);
        client->fd = -1;
    } else {
        (void)shutdown(client->fd, SHUT_WR);
    }
    while (client->sessions.count > 0 || !list_empty(&client->sessions.closed)) {
        memory_execute_all();
        tick(client);
        if (client->fd >= 0)
            read_answers(client);
    }
    if (client->fd >= 0) {
        read_answers(client);
        REQUIRE(client->eof && (client->preface || client->received.size == 0));
        close(client->fd);
    }
}

/* --- set-up --- */

static void start_hooks(void)
{
    static const struct hook_services services;
    static struct conf_section sections[8];
    static struct conf *conf;
    struct conf_errors errors;
    struct err err;
    const char *text = "";
    size_t count = hook_sections(hook_modules, sections, 8);

    for (size_t i = 0; i < count; i++)
        if (strcmp(sections[i].name, "header_key") == 0)
            text = "header_key: {fairness: tenant, weight: weight}\n";
    conf_errors_init(&errors);
    conf = conf_load_text("file", str_from_c(text), "/", NULL, sections, count, &errors);
    REQUIRE(conf != NULL);
    conf_errors_free(&errors);
    hooks = hook_set_create(hook_modules, conf, &services, &err);
    REQUIRE(hooks != NULL);
}

static void connect_client(struct client *client, uint8_t behaviour, uint8_t numbering)
{
    static const enum conf_numbering numberings[] = {CONF_NUMBERING_AUTO, CONF_NUMBERING_S1,
                                                     CONF_NUMBERING_S2, CONF_NUMBERING_S3};
    int fds[2];

    client->conf.fibp.max_frame_size = behaviour & SMALL_FRAMES ? 256 : FRAME_LENGTH_MAX;
    client->conf.fibp.max_message_size = 4096;
    client->conf.fibp.max_pending_streams = 4;
    client->conf.fibp.handshake_timeout_ms = 60000;
    client->conf.fibp.keepalive_interval_ms = 60000;
    client->conf.fibp.delivery_window = behaviour & SMALL_WINDOW ? 64 : 1 << 20;
    client->conf.worker_connections = 10;
    buf_init(&client->received, 0);
    reassembly_init(&client->reassembly, REASSEMBLY_STREAMS_MAX, SIZE_MAX, SIZE_MAX);
    sessions_init(&client->sessions, loop, NULL, &client->conf, hooks);
    client->stop_hook.run = stop;
    loop_hook_add(loop, &client->stop_hook);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    client->fd = fds[0];
    client->listen.numbering = numberings[numbering % 4];
    sessions_add(&client->sessions, fds[1], &client->listen);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct client client = {.fd = -1, .ticks_max = TICKS_MAX + size};
    struct str input = str_of(data, size);
    struct err err;

    if (!loop) {
        log_set_level(LOG_ERROR);
        REQUIRE((loop = loop_create(&err)) != NULL);
        start_hooks();
    }
    uint8_t behaviour = fuzz_byte(&input), sizes = fuzz_byte(&input);
    memory_init(behaviour & SLOW_STORE);
    REQUIRE(memory_create(STR("q")) == FIBP_OK && memory_create(STR("orders")) == FIBP_OK);
    connect_client(&client, behaviour, sizes >> 6);
    send_input(&client, behaviour, sizes, input);
    finish(&client, behaviour);
    sessions_destroy(&client.sessions);
    loop_hook_remove(loop, &client.stop_hook);
    memory_execute_all();
    sessions_take(&client.sessions);
    REQUIRE(client.sessions.outstanding == 0 && client.sessions.large == 0);
    REQUIRE(client.sessions.account.bytes == 0);
    memory_clear();
    reassembly_free(&client.reassembly);
    buf_free(&client.received);
    return 0;
}
