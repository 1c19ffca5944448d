/*
 * libfila - client library of the filad message broker (FIBP, framed dialect).
 *
 * A connection (struct fila) is made with fila_connect() and used by any number of threads at once.
 * Each connection has one thread of its own, the reader, which matches answers to requests,
 * collects deliveries for their consumers, answers the server's Ping and runs the callbacks of
 * asynchronous requests. There is no global state; every object has one function that frees it.
 *
 *     struct fila_error error = FILA_ERROR_INIT;
 *     struct fila *client = fila_connect(NULL, &error);
 *     struct fila_message message = {.queue = fila_text("orders"), .payload = fila_text("hello")};
 *     char id[FILA_ID_SIZE];
 *     if (!client || fila_enqueue(client, &message, id, &error) != 0)
 *         fprintf(stderr, "%s\n", error.text);
 *     fila_error_clear(&error);
 *     fila_close(client);
 *
 * Return values: functions that can fail return 0 or a pointer on success, -1 or NULL on failure,
 * and then fill the struct fila_error that they were given (NULL: not interested). Strings that the
 * library hands out are followed by a NUL byte that their size does not count. Strings given to it
 * must be UTF-8 where the protocol has text (queues, headers, ids, errors); payloads are any bytes.
 *
 * Memory: requests under way are kept until answered; up to 4 MiB of unsent bytes are collected
 * before a call blocks (callbacks never block: what they submit adds to it). Deliveries wait in
 * memory until they are received. The broker leases at most `scheduler.max_unacked` messages
 * (10,000 by default) to one consumer at a time, but each lease ends with its visibility timeout: a
 * program that does not receive for longer than that collects as many again. Cancel a consumer that
 * is not read. No frame longer than max_frame_size and no message longer than max_message_size is
 * accepted from the server. Messages longer than a frame are sent in several, and take their size
 * twice until they are sent.
 */
#ifndef FILA_H
#define FILA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FILA_API __attribute__((visibility("default")))
#define FILA_CHECKED __attribute__((warn_unused_result))

#define FILA_ID_SIZE 37      /* a message id as text, with its NUL */
#define FILA_REASON_SIZE 128 /* why a message was refused, with its NUL */
#define FILA_TEXT_SIZE 256   /* an error's text, with its NUL */
#define FILA_DEFAULT_PORT "5555"

struct fila;          /* a connection */
struct fila_consumer; /* a subscription of a connection */

/* ---- strings ---- */

/* Bytes that somebody else owns; may hold NUL. */
struct fila_slice {
    const void *data;
    size_t size;
};

struct fila_header {
    struct fila_slice name;
    struct fila_slice value;
};

/* A slice over a NUL-terminated string; empty for NULL. */
static inline struct fila_slice fila_text(const char *text)
{
    struct fila_slice slice = {text, text ? strlen(text) : 0};
    return slice;
}

/* ---- errors ---- */

enum fila_code {
    FILA_OK = 0,

    /* found out by the library */
    FILA_USAGE, /* the call is wrong; nothing was sent */
    FILA_NO_MEMORY,
    FILA_TOO_LARGE, /* beyond max_message_size, or does not fit a length field; nothing was sent */
    FILA_TRANSPORT, /* could not connect, or the connection is lost */
    FILA_TIMEOUT,   /* no answer in time; a request may have been executed or not */
    FILA_PROTOCOL,  /* the server sent what the protocol does not allow */
    FILA_CLOSED,    /* fila_close() or fila_consumer_cancel() was called */
    FILA_DISCONNECTED, /* the server said goodbye: it is shutting down */

    /* said by the server */
    FILA_QUEUE_NOT_FOUND,
    FILA_MESSAGE_NOT_FOUND, /* not leased: acknowledged before, expired, or never there */
    FILA_QUEUE_EXISTS,
    FILA_SCRIPT_ERROR, /* a queue's script does not compile */
    FILA_STORAGE,
    FILA_NOT_A_DLQ,
    FILA_PARENT_NOT_FOUND,
    FILA_INVALID_VALUE,
    FILA_OVERLOADED,   /* try again; metadata retry_after_ms says when */
    FILA_UNAUTHORIZED, /* API key missing or wrong */
    FILA_FORBIDDEN,
    FILA_NOT_LEADER, /* metadata leader_addr names the node to ask */
    FILA_BAD_VERSION,
    FILA_INVALID_REQUEST,
    FILA_KEY_NOT_FOUND,
    FILA_NOT_READY,
    FILA_SERVER_ERROR, /* any other code: see server_code */
};

struct fila_pair {
    char *key, *value;
};

/* Initialise with FILA_ERROR_INIT. A call that fails replaces what is in it, a call that succeeds
 * leaves it alone; fila_error_clear() once at the end frees it. */
struct fila_error {
    enum fila_code code;
    int server_code;            /* the protocol's error code, -1 when the server said nothing */
    char text[FILA_TEXT_SIZE];  /* one line for a person, UTF-8 */
    struct fila_pair *metadata; /* what came with a server's error, unknown keys included */
    size_t metadata_count;
};

#define FILA_ERROR_INIT                                                                            \
    {                                                                                              \
        FILA_OK, -1, "", NULL, 0                                                                   \
    }

/* Frees what the error holds; it is as FILA_ERROR_INIT then. */
FILA_API void fila_error_clear(struct fila_error *error);

/* The value of a metadata key, or NULL. */
FILA_API const char *fila_error_metadata(const struct fila_error *error, const char *key);

/* A short text for a code, as it comes with single items: "queue not found". Static. */
FILA_API const char *fila_code_text(enum fila_code code);

/* ---- connections ---- */

struct fila_options {
    /* "host:port", "host", "[v6]:port" or "unix:/path"; NULL: $FILA_ADDR is not looked at,
     * localhost:5555 is used. A leading "http://" or "https://" is ignored. */
    const char *address;
    const char *api_key;         /* NULL: none */
    uint64_t connect_timeout_ms; /* connecting and handshake together (name look-up apart) */
    uint64_t request_timeout_ms; /* how long a blocking call waits for its answer */
    uint32_t max_frame_size;     /* longest frame accepted from the server, bytes */
    size_t max_message_size;     /* longest message sent or accepted, bytes. A server with a lower
                                  * limit refuses the request and ends the connection */
};

/* Fills in the defaults: localhost:5555, no key, 10 s, 30 s, 16 MiB, 64 MiB. */
FILA_API void fila_options_init(struct fila_options *options);

/* Connects and shakes hands. NULL options: the defaults. The options are copied. */
FILA_API struct fila *fila_connect(const struct fila_options *options,
                                   struct fila_error *error) FILA_CHECKED;

/* Says goodbye and frees the connection (NULL is fine). Requests under way fail with FILA_CLOSED,
 * their callbacks run before this returns, and so do consumers, which may be freed later. Waits at
 * most a second for unsent bytes. No other thread may use the connection any more; not for
 * callbacks. */
FILA_API void fila_close(struct fila *client);

/* Longest frame in bytes that the server accepts; longer requests are sent in several. */
FILA_API uint32_t fila_max_frame_size(const struct fila *client);

/* Waits for the server's Pong. */
FILA_API int fila_ping(struct fila *client, struct fila_error *error) FILA_CHECKED;

/* ---- enqueue ---- */

struct fila_message {
    struct fila_slice queue;
    const struct fila_header *headers; /* at most 65,535 */
    size_t header_count;
    struct fila_slice payload;
};

struct fila_enqueue_result {
    enum fila_code code;   /* FILA_OK: the broker keeps the message */
    int server_code;       /* -1 when the server said nothing about it */
    char id[FILA_ID_SIZE]; /* empty unless code is FILA_OK */
    /* What the server says of it, cut to fit: FILA_FORBIDDEN, the reason of the queue's on_enqueue
     * script. Empty when it says nothing. */
    char reason[FILA_REASON_SIZE];
};

/* Enqueues one message and waits until the broker has confirmed it. `id` may be NULL. */
FILA_API int fila_enqueue(struct fila *client, const struct fila_message *message,
                          char id[FILA_ID_SIZE], struct fila_error *error) FILA_CHECKED;

/* Enqueues any number of messages for any queues: requests of at most 1,000 messages and the
 * server's largest frame (a larger message goes alone) follow each other without waiting, then the
 * answers are collected. results[i]
 * belongs to messages[i]. Returns 0 when every message got an answer (which may be an error of its
 * own: look at the results); -1 when some did not, their results then have the code of the failure,
 * and `error` has the first of these. Messages of one queue keep their order. */
FILA_API int fila_enqueue_many(struct fila *client, const struct fila_message *messages,
                               size_t count, struct fila_enqueue_result *results,
                               struct fila_error *error) FILA_CHECKED;

/* Runs on the reader thread, exactly once for each request that was accepted: with `count` results,
 * or with error set and no results. It may submit further asynchronous requests; a blocking call
 * from a callback fails with FILA_USAGE. Arguments are valid until it returns. */
typedef void (*fila_enqueue_callback)(void *context, const struct fila_enqueue_result *results,
                                      size_t count, const struct fila_error *error);

/* Enqueues without waiting, in one request of at most max_message_size bytes. The messages are
 * copied. Returns -1, and the callback does not run, when the request could not be accepted.
 * Requests under way are not timed out: their callbacks run with the answer or the end of the
 * connection. */
FILA_API int fila_enqueue_many_async(struct fila *client, const struct fila_message *messages,
                                     size_t count, fila_enqueue_callback callback, void *context,
                                     struct fila_error *error) FILA_CHECKED;
FILA_API int fila_enqueue_async(struct fila *client, const struct fila_message *message,
                                fila_enqueue_callback callback, void *context,
                                struct fila_error *error) FILA_CHECKED;

/* ---- consume ---- */

/* One delivered message, leased to this consumer until it is acked, nacked or the queue's
 * visibility timeout has passed. Owned by the caller; everything in it is freed with it. */
struct fila_delivery {
    struct fila_slice id; /* of the message; text */
    struct fila_slice queue;
    const struct fila_header *headers; /* as on the wire: of duplicates the last one counts */
    size_t header_count;
    struct fila_slice payload;
    struct fila_slice fairness_key;
    uint32_t weight;
    const struct fila_slice *throttle_keys;
    size_t throttle_key_count;
    uint32_t attempt;     /* 0 the first time */
    uint64_t enqueued_ms; /* since 1970; 0: unknown */
    uint64_t leased_ms;
};

/* Subscribes and waits until the server has accepted it. Any number of consumers may share a
 * connection. */
FILA_API struct fila_consumer *fila_consume(struct fila *client, const char *queue,
                                            struct fila_error *error) FILA_CHECKED;

/* As fila_consume, and the broker delivers at most `limit` messages on the subscription, ever (0:
 * no limit); it leases no others, and one that is nacked does not come back to it. The consumer
 * does not end with the last of them. Brokers that do not know the limit deliver more. */
FILA_API struct fila_consumer *fila_consume_limited(struct fila *client, const char *queue,
                                                    uint32_t limit,
                                                    struct fila_error *error) FILA_CHECKED;

/* The next message: 1 and *delivery, 0 when none came within timeout_ms (negative: for ever, 0: do
 * not wait), -1 when the consumer has ended. What was delivered before the end can still be
 * received; after that `error` says why it ended: FILA_CLOSED (cancelled), FILA_DISCONNECTED,
 * FILA_TRANSPORT, FILA_PROTOCOL, or what the server said, such as FILA_QUEUE_NOT_FOUND when the
 * queue was deleted. */
FILA_API int fila_receive(struct fila_consumer *consumer, int64_t timeout_ms,
                          struct fila_delivery **delivery, struct fila_error *error) FILA_CHECKED;

/* As fila_receive, and takes up to `max` messages that are there already. Returns how many. */
FILA_API int fila_receive_many(struct fila_consumer *consumer, int64_t timeout_ms,
                               struct fila_delivery **deliveries, size_t max,
                               struct fila_error *error) FILA_CHECKED;

FILA_API void fila_delivery_free(struct fila_delivery *delivery); /* NULL is fine */

/* The header's value; false when there is none. */
FILA_API bool fila_delivery_header(const struct fila_delivery *delivery, const char *name,
                                   struct fila_slice *value);

/* The server's name for the subscription; valid as long as the consumer. */
FILA_API const char *fila_consumer_id(const struct fila_consumer *consumer);

/* Ends the subscription; a fila_receive() in another thread returns. The server does not answer it:
 * messages on their way are dropped here and come back after their visibility timeout. */
FILA_API void fila_consumer_cancel(struct fila_consumer *consumer);

/* Cancels if needed and frees (NULL is fine). Deliveries taken from it stay valid. */
FILA_API void fila_consumer_free(struct fila_consumer *consumer);

/* ---- ack and nack ---- */

struct fila_ack {
    struct fila_slice queue;
    struct fila_slice id;
};

struct fila_nack {
    struct fila_slice queue;
    struct fila_slice id;
    struct fila_slice error; /* why; for the queue's on_failure script */
};

/* Done with it: the message is deleted. */
FILA_API int fila_ack(struct fila *client, struct fila_slice queue, struct fila_slice id,
                      struct fila_error *error) FILA_CHECKED;
/* Failed: the message is retried or goes to the dead-letter queue. */
FILA_API int fila_nack(struct fila *client, struct fila_slice queue, struct fila_slice id,
                       struct fila_slice reason, struct fila_error *error) FILA_CHECKED;

/* Many at once, split into frames and pipelined as fila_enqueue_many; codes[i] belongs to items[i].
 */
FILA_API int fila_ack_many(struct fila *client, const struct fila_ack *items, size_t count,
                           enum fila_code *codes, struct fila_error *error) FILA_CHECKED;
FILA_API int fila_nack_many(struct fila *client, const struct fila_nack *items, size_t count,
                            enum fila_code *codes, struct fila_error *error) FILA_CHECKED;

/* As fila_enqueue_callback and fila_enqueue_many_async. */
typedef void (*fila_ack_callback)(void *context, const enum fila_code *codes, size_t count,
                                  const struct fila_error *error);
FILA_API int fila_ack_many_async(struct fila *client, const struct fila_ack *items, size_t count,
                                 fila_ack_callback callback, void *context,
                                 struct fila_error *error) FILA_CHECKED;
FILA_API int fila_nack_many_async(struct fila *client, const struct fila_nack *items, size_t count,
                                  fila_ack_callback callback, void *context,
                                  struct fila_error *error) FILA_CHECKED;

/* ---- queues ---- */

struct fila_queue_options {
    const char *on_enqueue; /* Lua source, or NULL */
    const char *on_failure;
    uint64_t visibility_timeout_ms; /* 0: the broker's default */
    /* Of filad; other brokers ignore them. */
    uint32_t max_attempts;    /* a message that failed so often goes to the dead-letter queue; 0: no
                               * limit */
    bool dead_letter_headers; /* dead letters are delivered with headers that say why they are dead
                               */
};

/* Creates a queue and its dead-letter queue; NULL options: all defaults. A script that does not
 * compile is FILA_SCRIPT_ERROR with the compiler's message as text. */
FILA_API int fila_queue_create(struct fila *client, const char *name,
                               const struct fila_queue_options *options,
                               struct fila_error *error) FILA_CHECKED;

/* Deletes a queue, its messages and its dead-letter queue. */
FILA_API int fila_queue_delete(struct fila *client, const char *name,
                               struct fila_error *error) FILA_CHECKED;

/* Moves messages of a dead-letter queue back to the queue they came from, oldest first, with their
 * attempts set to 0: at most `count`, or with 0 all that it holds now. Leased and delayed ones
 * stay. *moved tells how many it were; less than asked for also when the broker had to stop early
 * (no room, the queue was deleted): call it again. FILA_NOT_A_DLQ, FILA_QUEUE_NOT_FOUND and
 * FILA_PARENT_NOT_FOUND as their names say; FILA_STORAGE_ERROR when nothing could be moved or
 * when the store failed meanwhile: then an unknown number has been moved. The broker moves tens of
 * thousands in a second; keep `count` so small that the answer comes within the time limit. */
FILA_API int fila_redrive(struct fila *client, const char *dead_letter_queue, uint64_t count,
                          uint64_t *moved, struct fila_error *error) FILA_CHECKED;

/* Deletes all messages that a queue holds now, but for those that are leased. *purged tells how
 * many it were. An extension: other brokers answer FILA_INVALID_FRAME. */
FILA_API int fila_queue_purge(struct fila *client, const char *name, uint64_t *purged,
                              struct fila_error *error) FILA_CHECKED;

enum fila_peek_state {
    FILA_PEEK_READY,
    FILA_PEEK_LEASED,  /* until when_ms */
    FILA_PEEK_DELAYED, /* until when_ms */
    FILA_PEEK_HELD,    /* by a throttle */
    FILA_PEEK_UNKNOWN, /* to this library */
};

/* One message as it lies in its queue. */
struct fila_peeked {
    /* Headers, payload (as much as was asked for), keys, weight, attempt; no leased_ms. */
    const struct fila_delivery *message;
    enum fila_peek_state state;
    uint64_t when_ms;      /* wall clock, since 1970; or 0 */
    bool headers_cut;      /* there are more headers than these */
    uint64_t payload_size; /* of the whole payload */
    bool is_dead;          /* it was dead-lettered: the rest is known */
    uint64_t dead_ms;      /* when; wall clock */
    char *reason;          /* why; NULL unless is_dead */
    char *origin;          /* queue that it came from; NULL unless is_dead */
};

struct fila_peek_page {
    const struct fila_peeked *messages;
    size_t count;
    bool more; /* there may be another page */
};

struct fila_peek_options {
    const char *fairness_key; /* only messages of this key; NULL: of all */
    uint32_t count;           /* messages of a page, at most 1,000; 0: as many as fit */
    uint32_t payload_max;     /* bytes of each payload, at most 65,536 */
};

/* Looks at messages without leasing them: those that wait or are leased, oldest first, then the
 * delayed ones by their due times. `after`: the page before, which may be freed when the call has
 * returned; NULL: from the beginning. A page ends at 1 MiB or so. NULL with `error` on failure;
 * FILA_QUEUE_NOT_FOUND. An extension: other brokers answer FILA_INVALID_FRAME. */
FILA_API struct fila_peek_page *fila_queue_peek(struct fila *client, const char *name,
                                                const struct fila_peek_options *options,
                                                const struct fila_peek_page *after,
                                                struct fila_error *error) FILA_CHECKED;
FILA_API void fila_peek_page_free(struct fila_peek_page *page); /* NULL is fine */

struct fila_queue_info {
    char *name;
    uint64_t depth;     /* messages, leased ones included */
    uint64_t in_flight; /* leased ones */
    uint32_t consumers;
    uint64_t leader_node_id; /* 0 without a cluster */
    /* 100: depth is exact. After a crash filad counts the messages of a large queue while it serves
     * them: less is the share, in percent, that depth includes so far. Other brokers do not say and
     * are taken to be exact. */
    unsigned counted_percent;
    bool paused;      /* nothing is delivered; other brokers do not say */
    bool quarantined; /* the queue's file is damaged and set aside: its messages are not served */
};

struct fila_queue_list {
    struct fila_queue_info *queues; /* in byte order of names */
    size_t count;
    uint32_t cluster_node_count; /* 0 without a cluster */
};

FILA_API struct fila_queue_list *fila_queue_list(struct fila *client,
                                                 struct fila_error *error) FILA_CHECKED;
FILA_API void fila_queue_list_free(struct fila_queue_list *list); /* NULL is fine */

struct fila_key_stats {
    char *key;
    uint64_t pending; /* not leased */
    int64_t deficit;
    uint32_t weight;
};

struct fila_throttle_stats {
    char *key;
    double tokens, rate_per_second, burst;
};

struct fila_queue_stats {
    uint64_t depth, in_flight, active_fairness_keys;
    uint32_t consumers, quantum;
    uint64_t leader_node_id;
    uint32_t replication_count;
    struct fila_key_stats *keys;
    size_t key_count;
    struct fila_throttle_stats *throttles;
    size_t throttle_count;
    bool paused;              /* nothing is delivered */
    unsigned counted_percent; /* as in struct fila_queue_info; for `pending` of the keys, too */
    bool quarantined;
};

FILA_API struct fila_queue_stats *fila_queue_stats(struct fila *client, const char *name,
                                                   struct fila_error *error) FILA_CHECKED;
FILA_API void fila_queue_stats_free(struct fila_queue_stats *stats); /* NULL is fine */

/* ---- what is counted ---- */

/* Everything that filad knows of its queues and of itself, as named numbers: names that a program
 * does not know are those of a newer broker. fibp(7) tells what each of them means. Other brokers
 * refuse the request with FILA_INVALID_REQUEST. */

struct fila_number {
    char *name;
    uint64_t value;  /* 0 in fila_queue_details.fields */
    bool is_counter; /* goes up only, from 0 at "since_ms"; otherwise it goes up and down */
};

struct fila_bucket {
    uint64_t from,
        below; /* values from `from` to `below` - 1; the last takes what is larger, too */
    uint64_t count;
};

struct fila_histogram {
    struct fila_bucket *buckets; /* ascending; empty ones are left out */
    size_t count;
};

struct fila_queue_row {
    char *name;
    uint64_t *values;                    /* by the index of fila_queue_details.fields */
    struct fila_histogram time_in_queue; /* ms until the first delivery; empty unless asked for */
};

struct fila_limit {
    char *key;
    uint64_t limit, in_flight; /* messages */
    uint64_t waiting;          /* sequences of messages that wait for it */
};

struct fila_queue_details {
    struct fila_number *broker; /* of the broker as a whole */
    size_t broker_count;
    struct fila_histogram commits; /* microseconds from a request that writes to its answer */
    struct fila_number *fields;    /* what is known of each queue */
    size_t field_count;
    struct fila_queue_row *queues; /* in byte order of names */
    size_t queue_count;
    bool more; /* there are queues behind the last one: ask again with its name as `after` */
    struct fila_limit *limits; /* concurrency limits that concern the queue; only of one queue */
    size_t limit_count;
};

struct fila_details_options {
    const char *queue;  /* this one only; NULL: all, a page at a time */
    const char *after;  /* those behind this name; NULL: from the first one on */
    unsigned page_size; /* queues in the answer at most; 0: as many as the broker gives, 1,000 */
    bool histograms;    /* those of queues, too */
};

/* NULL options: the first page of all queues. */
FILA_API struct fila_queue_details *fila_queue_details(struct fila *client,
                                                       const struct fila_details_options *options,
                                                       struct fila_error *error) FILA_CHECKED;
FILA_API void fila_queue_details_free(struct fila_queue_details *details); /* NULL is fine */

/* The index of a field, or SIZE_MAX when the broker does not send it. */
FILA_API size_t fila_queue_details_field(const struct fila_queue_details *details,
                                         const char *name);
/* A number of the broker; 0 when it does not send it. */
FILA_API uint64_t fila_queue_details_broker(const struct fila_queue_details *details,
                                            const char *name);

/* The value that `permille` of 1000 values do not exceed, within the width of a bucket; 0 when the
 * histogram is empty. */
FILA_API uint64_t fila_histogram_quantile(const struct fila_histogram *histogram,
                                          unsigned permille);

/* ---- settings of queues; filad only ---- */

/* What is NULL stays as it is. */
struct fila_queue_changes {
    const char *on_enqueue; /* Lua source; "" removes the script */
    const char *on_failure;
    const uint64_t *visibility_timeout_ms; /* 0: the broker's default; for leases that begin now */
    const uint32_t *max_attempts;          /* 0: no limit */
    const bool *dead_letter_headers;
};

/* In force everywhere when it returns; consumers stay. FILA_SCRIPT_ERROR, with the compiler's
 * message, changes nothing. */
FILA_API int fila_queue_update(struct fila *client, const char *name,
                               const struct fila_queue_changes *changes,
                               struct fila_error *error) FILA_CHECKED;

/* Stops, or resumes, the delivery of a queue's messages. Producers go on, what is leased can be
 * acked, and what was on its way to a consumer still arrives. */
FILA_API int fila_queue_pause(struct fila *client, const char *name, bool paused,
                              struct fila_error *error) FILA_CHECKED;

struct fila_queue_settings {
    char *on_enqueue, *on_failure; /* sources; "": none */
    uint64_t visibility_timeout_ms;
    uint32_t max_attempts; /* 0: no limit */
    bool dead_letter_headers;
    bool paused;
    uint64_t version;    /* counts the changes of the scripts */
    uint64_t created_ms; /* since 1970 */
};

FILA_API struct fila_queue_settings *fila_queue_settings(struct fila *client, const char *name,
                                                         struct fila_error *error) FILA_CHECKED;
FILA_API void fila_queue_settings_free(struct fila_queue_settings *settings); /* NULL is fine */

/* ---- runtime configuration ---- */

/* Sets a key, or removes it with an empty value. FILA_INVALID_VALUE, with the reason as text when
 * the broker gives one: the key is empty, longer than 1,024 bytes or not plain text, or the value
 * is not what this key may have. All scripts see it when this returns. */
FILA_API int fila_config_set(struct fila *client, const char *key, const char *value,
                             struct fila_error *error) FILA_CHECKED;

/* *value: "" when the key is not set; free() it. NULL after a failure. */
FILA_API int fila_config_get(struct fila *client, const char *key, char **value,
                             struct fila_error *error) FILA_CHECKED;

struct fila_config_list {
    struct fila_pair *entries; /* in byte order of keys */
    size_t count;
};

/* The keys that begin with `prefix` (NULL: all) and their values. Brokers list at most 10,000, and
 * filad no more than 32 MiB. */
FILA_API struct fila_config_list *fila_config_list(struct fila *client, const char *prefix,
                                                   struct fila_error *error) FILA_CHECKED;
FILA_API void fila_config_list_free(struct fila_config_list *list); /* NULL is fine */

#ifdef __cplusplus
}
#endif

#endif
