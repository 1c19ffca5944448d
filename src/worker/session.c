#include "worker/session.h"

#include <stdlib.h>
#include <unistd.h>

#include "os/log.h"
#include "os/sock.h"
#include "worker/assembly.h"
#include "worker/delivery.h"
#include "worker/framed_stream.h"
#include "worker/subscriber.h"

static struct session *session_of(struct conn *conn)
{
    struct session *session = CONTAINER_OF(conn, struct session, conn);

    if (session->magic != SESSION_MAGIC)
        abort(); /* memory is corrupt: nothing that is done next could be right */
    return session;
}

/* ---- limits ---- */

/* True, and from then on until half of it is left, when this session has too much under way. */
static bool session_is_full(struct session *session)
{
    if (session->outstanding >= SESSION_OUTSTANDING_MAX ||
        session->account.bytes >= SESSION_BYTES_MAX ||
        conn_unsent_answers(&session->conn) >= SESSION_ANSWERS_MAX)
        session->full = true;
    return session->full;
}

static bool session_is_relieved(const struct session *session)
{
    return session->outstanding <= SESSION_OUTSTANDING_MAX / 2 &&
           session->account.bytes <= SESSION_BYTES_MAX / 2 &&
           conn_unsent_answers(&session->conn) <= SESSION_ANSWERS_MAX / 2;
}

void session_pause(struct session *session)
{
    session->paused = true;
    session->paused_ms = loop_now_ms(session->sessions->loop);
    conn_pause(&session->conn);
}

/* Lets a session that paused for its own limit go on when there is room again. */
static void session_relieve(struct session *session)
{
    if (!session->full || !session->paused || !session_is_relieved(session))
        return;
    session->full = false;
    list_append(&session->sessions->resuming, &session->hold);
}

/* ---- input ---- */

static bool session_takes(const struct session *session)
{
    return session->state <= SESSION_DRAINING && conn_input(&session->conn).size > 0;
}

/* Whether a request has arrived in part. */
static bool session_is_partial(const struct session *session)
{
    return conn_input(&session->conn).size > 0 || session->assembly || session->work;
}

/* Handles what has arrived, as far as the limits allow. */
static void session_process(struct session *session)
{
    while (session_takes(session) && !session->work) {
        if (session_is_full(session)) {
            session_pause(session);
            return;
        }
        if (sessions_full_for(session->sessions, session)) {
            session_pause(session);
            list_append(&session->sessions->held, &session->hold);
            return;
        }
        if (session->dialect->take(session) == SESSION_MORE)
            break;
        session->wanted = 0;
    }
    if (session->state == SESSION_DRAINING && !session_is_partial(session))
        session_finish(session);
}

static void session_end_of_input(struct session *session)
{
    session->eof = true;
    if (session->state == SESSION_NEW || session->state == SESSION_LINGERING)
        session_close(session, "the peer closed it");
    else
        session_finish(session);
}

static void session_readable(struct conn *conn)
{
    struct session *session = session_of(conn);

    switch (conn_read(conn, session->wanted)) {
    case CONN_DATA:
        session->last_traffic_ms = loop_now_ms(session->sessions->loop);
        session->pinged = false;
        if (session->state == SESSION_LINGERING)
            conn_consume(conn, conn_input(conn).size);
        else
            session_process(session);
        break;
    case CONN_AGAIN:
        break;
    case CONN_EOF:
        session_end_of_input(session);
        break;
    case CONN_ERROR:
        session_close(session, "reading failed");
        break;
    }
}

void session_resume(struct session *session)
{
    if (!session->paused)
        return;
    session->paused = false;
    assembly_resumed(session, loop_now_ms(session->sessions->loop) - session->paused_ms);
    session_process(session);
    if (!session->paused && session->state <= SESSION_DRAINING)
        conn_resume(&session->conn);
}

/* ---- output ---- */

void session_touch(struct session *session)
{
    if (session->state != SESSION_CLOSED && list_empty(&session->dirty))
        list_append(&session->sessions->dirty, &session->dirty);
}

struct buf *session_answers(struct session *session)
{
    session_touch(session);
    return conn_answers(&session->conn);
}

void session_check(struct session *session, int result)
{
    if (result == 0)
        return;
    log_write(LOG_WARN, "session", "no memory for an answer: closing the connection");
    session_close(session, "no memory for an answer");
}

/* Everything is sent: waits for the peer to close, so that what it still sends does not turn into a
 * reset that takes our last words from it. */
static void session_linger(struct session *session)
{
    if (session->eof) {
        session_close(session, "done");
        return;
    }
    session->state = SESSION_LINGERING;
    session->wanted = 0;
    conn_shut(&session->conn);
    conn_consume(&session->conn, conn_input(&session->conn).size);
    loop_timer_set(session->sessions->loop, &session->timer, SESSION_LINGER_MS);
    conn_resume(&session->conn);
}

static void session_end(struct session *session)
{
    if (session->state != SESSION_FINISHING || session->outstanding > 0 ||
        conn_unsent(&session->conn) > 0)
        return;
    if (session->farewell) {
        session->farewell = false;
        session->dialect->farewell(session);
    } else {
        session_linger(session);
    }
}

/* Counts the answers that the peer has not taken. */
static void session_count_unread(struct session *session)
{
    struct sessions *sessions = session->sessions;
    uint64_t bytes = conn_unsent_answers(&session->conn);

    sessions->unread_bytes += bytes - session->unread_bytes;
    session->unread_bytes = bytes;
    if (bytes == 0)
        list_remove(&session->unread);
    else if (list_empty(&session->unread))
        list_append(&sessions->unread, &session->unread);
}

static void session_write(struct session *session)
{
    uint64_t sent = 0;

    if (conn_flush(&session->conn, &sent) < 0) {
        session_close(session, "writing failed");
    } else if (sent > 0) {
        /* A Ping of ours may stand behind much that a slow peer has to take first. */
        session->last_traffic_ms = session->pinged_ms = loop_now_ms(session->sessions->loop);
        list_remove(&session->unread); /* and back at the end, when there is more */
    }
}

void session_flush(struct session *session)
{
    if (session->state == SESSION_CLOSED)
        return;
    if (!session->conn.writing && conn_unsent(&session->conn) > 0)
        session_write(session);
    if (session->state == SESSION_CLOSED)
        return;
    session_count_unread(session);
    session_relieve(session);
    delivery_relieve(session);
    session_end(session);
}

static void session_writable(struct conn *conn)
{
    struct session *session = session_of(conn);

    session_write(session);
    session_touch(session);
}

/* ---- operations ---- */

void session_submit(struct session *session, struct operation *operation)
{
    session->outstanding++;
    session->sessions->outstanding++;
    operation->line = session->line;
    sessions_submit(session->sessions, operation);
}

void session_work_begin(struct session *session, struct session_work *work)
{
    session->work = work;
    session->outstanding++;
    session->sessions->outstanding++;
    session_pause(session);
}

static void session_bury(struct session *session)
{
    if (session->state == SESSION_CLOSED && session->outstanding == 0 &&
        list_empty(&session->subscribers) && list_empty(&session->hold))
        list_append(&session->sessions->dead, &session->hold);
}

void session_settle(struct session *session)
{
    session->outstanding--;
    session->sessions->outstanding--;
    if (session->state == SESSION_CLOSED) {
        session_bury(session);
        return;
    }
    conn_trim(&session->conn);
    session_relieve(session);
    if (session->state == SESSION_FINISHING)
        session_touch(session);
}

void session_work_done(struct session *session)
{
    session->work = NULL;
    if (session->state <= SESSION_DRAINING)
        list_append(&session->sessions->resuming, &session->hold);
    session_settle(session);
}

static void session_give_up_work(struct session *session)
{
    struct session_work *work = session->work;

    if (!work)
        return;
    session->work = NULL;
    work->give_up(work);
    session->outstanding--;
    session->sessions->outstanding--;
}

/* ---- time ---- */

static void session_keepalive(struct session *session)
{
    struct loop *loop = session->sessions->loop;
    uint64_t interval = session->sessions->conf->fibp.keepalive_interval_ms;
    uint64_t now = loop_now_ms(loop);
    bool ours = session->paused && conn_unsent_answers(&session->conn) <= SESSION_ANSWERS_MAX / 2;

    if (ours) {
        /* It is we who do not read: the peer cannot be blamed for silence. */
        session->last_traffic_ms = now;
        session->pinged = false;
    }
    if (session->pinged && now - session->pinged_ms >= interval) {
        session_close(session, "the peer does not answer");
        return;
    }
    if (!session->pinged && now - session->last_traffic_ms >= interval) {
        conn_rest(&session->conn);
        session->pinged = true;
        session->pinged_ms = now;
        session->dialect->ping(session);
    }
    if (session->state == SESSION_CLOSED)
        return;
    uint64_t since = session->pinged ? session->pinged_ms : session->last_traffic_ms;
    loop_timer_set(loop, &session->timer, since + interval - now);
}

static void session_expired(struct loop_timer *timer)
{
    struct session *session = CONTAINER_OF(timer, struct session, timer);

    switch ((enum session_state)session->state) {
    case SESSION_NEW:
        if (session->paused) /* it may have come: we do not read */
            loop_timer_set(session->sessions->loop, timer,
                           session->sessions->conf->fibp.handshake_timeout_ms);
        else
            session_close(session, "no handshake in time");
        break;
    case SESSION_OPEN:
    case SESSION_DRAINING:
        session_keepalive(session);
        break;
    case SESSION_FINISHING:
        if (session->outstanding > 0 && conn_unsent(&session->conn) == 0)
            loop_timer_set(session->sessions->loop, timer,
                           SESSION_FINISH_MS); /* the store is slow */
        else
            session_close(session, "the peer does not take its answers");
        break;
    case SESSION_LINGERING:
        session_close(session, "done");
        break;
    case SESSION_CLOSED:
        break;
    }
}

void session_opened(struct session *session)
{
    struct sessions *sessions = session->sessions;
    uint64_t interval = sessions->conf->fibp.keepalive_interval_ms;

    session->state = SESSION_OPEN;
    list_remove(&session->fresh);
    if (interval > 0)
        loop_timer_set(sessions->loop, &session->timer, interval);
    else
        loop_timer_cancel(sessions->loop, &session->timer);
    log_write(LOG_DEBUG, "session", "%d: handshake done", session->conn.watch.fd);
    if (sessions->draining)
        session_drain(session);
}

/* ---- the beginning and the ends ---- */

static void session_broken(struct conn *conn)
{
    session_close(session_of(conn), "the connection broke");
}

static enum numbering session_numbering(const struct conf_listen *listen)
{
    static const enum numbering numberings[] = {
        [CONF_NUMBERING_AUTO] = NUMBERING_AUTO,
        [CONF_NUMBERING_S1] = NUMBERING_S1,
        [CONF_NUMBERING_S2] = NUMBERING_S2,
        [CONF_NUMBERING_S3] = NUMBERING_S3,
    };

    return numberings[listen->numbering];
}

static void session_setup(struct session *session, struct sessions *sessions,
                          const struct conf_listen *listen)
{
    session->magic = SESSION_MAGIC;
    session->state = SESSION_NEW;
    session->sessions = sessions;
    session->numbering = session_numbering(listen);
    session->dialect = &framed_stream_sniffing;
    session->conn.readable = session_readable;
    session->conn.writable = session_writable;
    session->conn.broken = session_broken;
    session->timer.expired = session_expired;
    session->account.parent = &sessions->account;
    session->line = sessions->next_line++;
    session->window.limit = sessions->conf->fibp.delivery_window;
    session->window.worker = &sessions->window;
    list_init(&session->window.waiting);
    session->opened_ms = session->last_traffic_ms = loop_now_ms(sessions->loop);
    list_init(&session->list);
    list_init(&session->fresh);
    list_init(&session->dirty);
    list_init(&session->hold);
    list_init(&session->unread);
    list_init(&session->subscribers);
    list_init(&session->deliveries);
    list_init(&session->kept);
    list_init(&session->writes);
}

static void session_log_peer(int fd)
{
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof(peer);
    char text[SOCK_TEXT_SIZE];

    if (!log_enabled(LOG_DEBUG) || getpeername(fd, (struct sockaddr *)&peer, &size) < 0)
        return;
    sock_text((struct sockaddr *)&peer, size, text);
    log_write(LOG_DEBUG, "session", "%d: connection from %s", fd, text);
}

void session_create(struct sessions *sessions, int fd, const struct conf_listen *listen,
                    bool refuse)
{
    struct session *session = calloc(1, sizeof(*session));
    struct err err;

    if (!session) {
        log_write(LOG_ERROR, "session", "no memory for a connection");
        close(fd);
        return;
    }
    session_setup(session, sessions, listen);
    if (conn_open(&session->conn, sessions->loop, fd, &session->account, &err) < 0) {
        log_write(LOG_ERROR, "session", "%s", err.text);
        close(fd);
        free(session);
        return;
    }
    session_log_peer(fd);
    list_append(&sessions->all, &session->list);
    sessions->count++;
    if (refuse) {
        session_refuse(session);
        return;
    }
    list_append(&sessions->fresh, &session->fresh);
    loop_timer_set(sessions->loop, &session->timer, sessions->conf->fibp.handshake_timeout_ms);
    if (sessions->draining)
        session_drain(session);
}

bool session_is_silent(const struct session *session)
{
    return loop_now_ms(session->sessions->loop) - session->opened_ms >= SESSION_GRACE_MS;
}

void session_refuse(struct session *session)
{
    session->extra = true;
    session->sessions->count--;
    session->sessions->extras++;
    session_fail(session, 0, FIBP_CHANNEL_FULL, STR("too many connections"));
}

void session_finish(struct session *session)
{
    struct sessions *sessions = session->sessions;

    if (session->state >= SESSION_FINISHING)
        return;
    session->state = SESSION_FINISHING;
    list_remove(&session->fresh);
    session->paused = session->full = false;
    list_remove(&session->hold);
    assembly_free(session);
    subscriber_cancel_all(session);
    conn_pause(&session->conn);
    /* One that is told to leave has until the deadline of the worker. */
    if (session->farewell)
        loop_timer_cancel(sessions->loop, &session->timer);
    else
        loop_timer_set(sessions->loop, &session->timer, SESSION_FINISH_MS);
    session_touch(session);
}

void session_fail(struct session *session, uint32_t request_id, enum fibp_status status,
                  struct str text)
{
    if (!session_is_live(session))
        return;
    log_write(LOG_DEBUG, "session", "%d: refused: %.*s", session->conn.watch.fd, STR_PRINT(text));
    session->dialect->error(session, request_id, status, text);
    session->farewell = false;
    session_finish(session);
}

void session_drain(struct session *session)
{
    if (session->state == SESSION_NEW) {
        /* Its handshake may be on the way: then it hears why it has to go. */
        loop_timer_set(session->sessions->loop, &session->timer, SESSION_LINGER_MS);
    } else if (session->state == SESSION_OPEN) {
        session->farewell = true;
        session->state = SESSION_DRAINING;
        subscriber_cancel_all(session);
        if (!session_is_partial(session))
            session_finish(session);
    }
}

void session_close(struct session *session, const char *reason)
{
    struct sessions *sessions = session->sessions;

    if (session->state == SESSION_CLOSED)
        return;
    log_write(LOG_DEBUG, "session", "%d: closed: %s", session->conn.watch.fd, reason);
    session->state = SESSION_CLOSED;
    loop_timer_cancel(sessions->loop, &session->timer);
    subscriber_cancel_all(session);
    conn_close(&session->conn);
    session_count_unread(session);
    assembly_free(session);
    session_give_up_work(session);
    list_remove(&session->hold);
    list_remove(&session->fresh);
    list_remove(&session->dirty);
    list_remove(&session->list);
    list_append(&sessions->closed, &session->list);
    if (session->extra)
        sessions->extras--;
    else
        sessions->count--;
    session_bury(session);
}

void session_free(struct session *session)
{
    list_remove(&session->hold);
    list_remove(&session->list);
    session->magic = 0;
    free(session);
}
