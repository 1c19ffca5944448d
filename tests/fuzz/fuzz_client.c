/*
 * libfila against a server that sends the input: its first frame as the answer to the handshake,
 * the rest when a request has been sent. The first byte of the input chooses the request. Whatever
 * comes, each call returns, every callback is called once, and all memory is given back.
 */
#include "fuzz/fuzz.h"

#include <sys/socket.h>

/* The connection is a socket pair; the server's bytes are sent when a request is under way, so that
 * they can be an answer to it. */
#define sock_connect fuzz_connect
#include "client/client.c"
#undef sock_connect
#define transport_submit fuzz_real_submit
int fuzz_real_submit(struct transport *transport, const struct buf *frame,
                     struct transport_request *request, struct transport_sink *sink,
                     uint64_t timeout_ms, struct fila_error *error);
#include "client/transport.c"
#undef transport_submit

#include "core/bytes.h"

static struct str script; /* what the server has not sent yet */
static int server = -1;

/* A socket pair holds more than an input has; what does not fit is lost. */
static void server_send(struct str bytes)
{
    if (bytes.size > 0)
        (void)!send(server, bytes.data, bytes.size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int fuzz_connect(const struct sock_address *address, uint64_t timeout_ms, struct err *err)
{
    int fds[2];
    (void)address;
    (void)timeout_ms;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return err_set_errno(err, errno, "socketpair");
    server = fds[1];
    size_t first = script.size >= 4 ? (size_t)bytes_get_u32(script.data) + 4 : script.size;
    server_send(fuzz_bytes(&script, first));
    if (script.size == 0)
        (void)shutdown(server, SHUT_WR);
    return fds[0];
}

int transport_submit(struct transport *transport, const struct buf *frame,
                     struct transport_request *request, struct transport_sink *sink,
                     uint64_t timeout_ms, struct fila_error *error)
{
    int result = fuzz_real_submit(transport, frame, request, sink, timeout_ms, error);
    if (result == 0) {
        server_send(fuzz_bytes(&script, script.size));
        (void)shutdown(server, SHUT_WR);
    }
    return result;
}

static unsigned accepted, called; /* asynchronous requests, and callbacks of them */

static void enqueued(void *context, const struct fila_enqueue_result *results, size_t count,
                     const struct fila_error *error)
{
    (void)context;
    REQUIRE((results != NULL) == (error == NULL) && count <= 1);
    called++;
}

static void settled(void *context, const enum fila_code *codes, size_t count,
                    const struct fila_error *error)
{
    (void)context;
    REQUIRE((codes != NULL) == (error == NULL) && count <= 1);
    called++;
}

/* --- the requests --- */

static void do_enqueue(struct fila *client, struct fila_error *error)
{
    struct fila_message message = {.queue = fila_text("q"), .payload = fila_text("hello")};
    char id[FILA_ID_SIZE];
    (void)!fila_enqueue(client, &message, id, error);
}

static void do_enqueue_many(struct fila *client, struct fila_error *error)
{
    struct fila_message messages[3];
    struct fila_enqueue_result results[3];
    for (size_t i = 0; i < 3; i++)
        messages[i] = (struct fila_message){.queue = fila_text("q"), .payload = fila_text("hello")};
    (void)!fila_enqueue_many(client, messages, 3, results, error);
}

static void do_async(struct fila *client, struct fila_error *error)
{
    struct fila_message message = {.queue = fila_text("q"), .payload = fila_text("hello")};
    struct fila_ack ack = {.queue = fila_text("q"), .id = fila_text("i")};
    accepted += fila_enqueue_many_async(client, &message, 1, enqueued, NULL, error) == 0;
    accepted += fila_ack_many_async(client, &ack, 1, settled, NULL, error) == 0;
    (void)!fila_ping(client, error);
}

static void do_settle(struct fila *client, struct fila_error *error)
{
    (void)!fila_ack(client, fila_text("q"), fila_text("i"), error);
    (void)!fila_nack(client, fila_text("q"), fila_text("i"), fila_text("why"), error);
}

static void do_consume(struct fila *client, struct fila_error *error)
{
    struct fila_consumer *consumer = fila_consume_limited(client, "q", 3, error);
    struct fila_delivery *delivery;
    if (!consumer)
        return;
    while (fila_receive(consumer, 1000, &delivery, error) == 1) {
        struct fila_slice value;
        (void)fila_delivery_header(delivery, "n", &value);
        fila_delivery_free(delivery);
    }
    fila_consumer_free(consumer);
}

static void do_list(struct fila *client, struct fila_error *error)
{
    fila_queue_list_free(fila_queue_list(client, error));
}

static void do_stats(struct fila *client, struct fila_error *error)
{
    fila_queue_stats_free(fila_queue_stats(client, "q", error));
}

static void do_queues(struct fila *client, struct fila_error *error)
{
    (void)!fila_queue_create(client, "q", NULL, error);
    (void)!fila_queue_delete(client, "q", error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const requests[])(struct fila *, struct fila_error *) = {
        do_enqueue, do_enqueue_many, do_async, do_settle, do_consume, do_list, do_stats, do_queues,
    };
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_options options;

    accepted = called = 0;
    script = str_of(data, size);
    uint8_t choice = fuzz_byte(&script);
    fila_options_init(&options);
    options.max_message_size = 1 << 20;
    options.request_timeout_ms = 2000;
    struct fila *client = fila_connect(&options, &error);
    if (client) {
        requests[choice % (sizeof(requests) / sizeof(requests[0]))](client, &error);
        (void)shutdown(server, SHUT_RDWR);
        fila_close(client);
        REQUIRE(called == accepted);
    } else {
        REQUIRE(error.code != FILA_OK && error.text[0] != '\0');
    }
    (void)fila_error_metadata(&error, "leader_addr");
    fila_error_clear(&error);
    if (server >= 0)
        close(server);
    server = -1;
    return 0;
}
