/* Connecting, shaking hands, closing. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/call.h"
#include "client/error.h"
#include "core/err.h"
#include "fibp/framed_client.h"
#include "os/sock.h"
#include "os/time.h"

#define CLIENT_CONNECT_TIMEOUT_MS 10000u
#define CLIENT_REQUEST_TIMEOUT_MS 30000u
#define CLIENT_MAX_MESSAGE_SIZE (64u * 1024 * 1024)
#define CLIENT_HANDSHAKE_ID 0u
#define CLIENT_HANDSHAKE_MAX (128u * 1024) /* bytes of its answer: an Error frame with metadata */
#define CLIENT_READ_SIZE 4096u

void fila_options_init(struct fila_options *options)
{
    *options = (struct fila_options){
        .connect_timeout_ms = CLIENT_CONNECT_TIMEOUT_MS,
        .request_timeout_ms = CLIENT_REQUEST_TIMEOUT_MS,
        .max_frame_size = FRAME_LENGTH_MAX,
        .max_message_size = CLIENT_MAX_MESSAGE_SIZE,
    };
}

/* Completes what users leave out of an address: the host, the port; drops a URL scheme. */
static int client_address(const char *text, struct sock_address *address, struct fila_error *error)
{
    static const char *const schemes[] = {"http://", "https://"};
    const char *given = text ? text : "localhost";
    struct err err = {0};
    char full[SOCK_TEXT_SIZE + sizeof(FILA_DEFAULT_PORT)];

    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
        if (strncmp(given, schemes[i], strlen(schemes[i])) == 0)
            given += strlen(schemes[i]);
    size_t size = strlen(given);
    bool is_unix = strncmp(given, "unix:", 5) == 0;
    while (!is_unix && size > 0 && given[size - 1] == '/')
        size--;
    if (size + sizeof(":" FILA_DEFAULT_PORT) > sizeof(full))
        return error_set(error, FILA_USAGE, "address is too long");
    memcpy(full, given, size);
    full[size] = '\0';

    const char *colon = strrchr(full, ':'), *bracket = strrchr(full, ']');
    bool has_port = colon && (full[0] != '[' || (bracket && colon > bracket));
    if (!is_unix && size > 0 && !has_port)
        strcat(full, ":" FILA_DEFAULT_PORT);
    if (sock_address_parse(str_from_c(full), address, &err) != 0)
        return error_set(error, FILA_USAGE, "address %s: %s", full, err.text);
    return 0;
}

/* Waits for the socket; -1 at the deadline. */
static int client_poll(int fd, short events, uint64_t deadline_ms, struct fila_error *error)
{
    for (;;) {
        uint64_t now = time_monotonic_ms();
        struct pollfd poll_fd = {fd, events, 0};
        if (now >= deadline_ms)
            return error_set(error, FILA_TIMEOUT, "handshake: the server does not answer");
        uint64_t left = deadline_ms - now;
        int ready = poll(&poll_fd, 1, left > INT32_MAX ? INT32_MAX : (int)left);
        if (ready > 0)
            return 0;
        if (ready < 0 && errno != EINTR)
            return error_set(error, FILA_TRANSPORT, "poll: %s", strerror(errno));
    }
}

static int client_send_all(int fd, struct str bytes, uint64_t deadline_ms, struct fila_error *error)
{
    while (bytes.size > 0) {
        ssize_t sent = send(fd, bytes.data, bytes.size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) {
            bytes = str_of(bytes.data + sent, bytes.size - (size_t)sent);
        } else if (errno == EAGAIN) {
            if (client_poll(fd, POLLOUT, deadline_ms, error) != 0)
                return -1;
        } else if (errno != EINTR) {
            return error_set(error, FILA_TRANSPORT, "handshake: %s", strerror(errno));
        }
    }
    return 0;
}

/* Reads until `in` starts with one whole frame. */
static int client_read_frame(int fd, struct buf *in, struct frame *frame, uint64_t deadline_ms,
                             struct fila_error *error)
{
    for (;;) {
        enum frame_result result = frame_parse(buf_str(in), CLIENT_HANDSHAKE_MAX, frame);
        if (result == FRAME_READY)
            return 0;
        if (result != FRAME_MORE)
            return error_set(error, FILA_PROTOCOL,
                             "handshake: the answer is not FIBP; is this the right port?");
        if (client_poll(fd, POLLIN, deadline_ms, error) != 0)
            return -1;
        uint8_t *room = buf_reserve(in, CLIENT_READ_SIZE);
        if (!room)
            return error_set(error, FILA_NO_MEMORY, "no memory for the handshake");
        ssize_t got = recv(fd, room, CLIENT_READ_SIZE, MSG_DONTWAIT);
        if (got == 0)
            return error_set(error, FILA_TRANSPORT, "handshake: connection closed by the server");
        if (got > 0)
            in->size += (size_t)got;
        else if (errno != EAGAIN && errno != EINTR)
            return error_set(error, FILA_TRANSPORT, "handshake: %s", strerror(errno));
    }
}

/* The answer is not matched by id: servers give it 0 whatever was asked. What was received behind
 * it stays in `in`. */
static int client_handshake(int fd, const struct fila_options *options, struct buf *in,
                            struct transport_limits *limits, uint64_t deadline_ms,
                            struct fila_error *error)
{
    struct str key = str_from_c(options->api_key);
    struct framed_client_handshake_ok answer;
    struct wire_reader reader;
    struct frame frame;
    struct buf out;
    int result = -1;

    buf_init(&out, 0);
    if (framed_client_handshake(&out, CLIENT_HANDSHAKE_ID, FRAME_PROTOCOL_VERSION,
                                options->api_key ? &key : NULL) != 0) {
        error_set(error, FILA_USAGE, "API key is too long");
        goto out;
    }
    if (client_send_all(fd, buf_str(&out), deadline_ms, error) != 0 ||
        client_read_frame(fd, in, &frame, deadline_ms, error) != 0)
        goto out;
    wire_reader_init(&reader, frame.body);
    if (frame.opcode == OPCODE_ERROR) {
        error_set_frame(error, frame.body);
        error_prefix(error, "handshake");
    } else if (frame.opcode != OPCODE_HANDSHAKE_OK) {
        error_set(error, FILA_PROTOCOL, "handshake: the server answered with %s",
                  opcode_name(frame.opcode));
    } else if (!framed_client_handshake_ok(&reader, &answer)) {
        error_set_reader(error, "HandshakeOk", &reader);
    } else if (answer.max_frame_size <= FRAME_LENGTH_MIN) {
        error_set(error, FILA_PROTOCOL, "handshake: the server takes only frames of %u bytes",
                  (unsigned)answer.max_frame_size);
    } else if (answer.version != FRAME_PROTOCOL_VERSION) {
        error_set(error, FILA_BAD_VERSION, "handshake: the server speaks version %u",
                  answer.version);
    } else {
        limits->peer_max_frame_size =
            answer.max_frame_size < FRAME_LENGTH_MAX ? answer.max_frame_size : FRAME_LENGTH_MAX;
        buf_consume(in, frame.size);
        result = 0;
    }
out:
    buf_free(&out);
    return result;
}

static int client_dial(const struct fila_options *options, uint64_t deadline_ms,
                       struct fila_error *error)
{
    struct sock_address address;
    struct err err = {0};

    if (client_address(options->address, &address, error) != 0)
        return -1;
    uint64_t now = time_monotonic_ms();
    int fd = sock_connect(&address, now < deadline_ms ? deadline_ms - now : 0, &err);
    if (fd < 0)
        return error_set(error, err.code == ETIMEDOUT ? FILA_TIMEOUT : FILA_TRANSPORT, "%s",
                         err.text);
    return fd;
}

struct fila *fila_connect(const struct fila_options *given, struct fila_error *error)
{
    struct fila_options options;
    struct transport_limits limits;
    struct fila *client = NULL;
    struct buf in;

    fila_options_init(&options);
    if (given)
        options = *given;
    limits = (struct transport_limits){
        .max_frame_size = options.max_frame_size,
        .max_message_size = options.max_message_size < TRANSPORT_MESSAGE_MAX
                                ? options.max_message_size
                                : TRANSPORT_MESSAGE_MAX,
    };
    uint64_t deadline_ms = options.connect_timeout_ms > UINT64_MAX / 2
                               ? UINT64_MAX
                               : time_monotonic_ms() + options.connect_timeout_ms;
    int fd = client_dial(&options, deadline_ms, error);
    if (fd < 0)
        return NULL;

    buf_init(&in, 0);
    if (client_handshake(fd, &options, &in, &limits, deadline_ms, error) != 0)
        goto out;
    client = calloc(1, sizeof(*client));
    if (!client) {
        error_set(error, FILA_NO_MEMORY, "no memory for a connection");
        goto out;
    }
    client->request_timeout_ms = options.request_timeout_ms;
    atomic_init(&client->references, 1);
    client->transport = transport_open(fd, &limits, buf_str(&in), error);
    fd = -1;
    if (!client->transport) {
        free(client);
        client = NULL;
    }
out:
    if (fd >= 0)
        close(fd);
    buf_free(&in);
    return client;
}

void fila_close(struct fila *client)
{
    if (!client)
        return;
    transport_close(client->transport);
    call_client_release(client);
}

uint32_t fila_max_frame_size(const struct fila *client)
{
    return transport_peer_max_frame_size(client->transport);
}

int fila_ping(struct fila *client, struct fila_error *error)
{
    struct buf frame;
    buf_init(&frame, 0);
    int encoded = frame_empty(&frame, OPCODE_PING, 0);
    return call_run(client, OPCODE_PING, &frame, encoded, NULL, NULL, error);
}
