#include "worker/assembly.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fibp/reassembly.h"

#define ASSEMBLY_CHUNK_MIN 4096u

static uint64_t assembly_now_ms(const struct assembly *assembly)
{
    return loop_now_ms(assembly->session->sessions->loop);
}

static uint64_t assembly_message_max(const struct session *session)
{
    return session->sessions->conf->fibp.max_message_size;
}

/* --- the streams --- */

static struct assembly_stream *assembly_find(const struct session *session, uint32_t request_id)
{
    if (!session->assembly)
        return NULL;
    LIST_EACH(&session->assembly->streams, entry)
    {
        struct assembly_stream *stream = CONTAINER_OF(entry, struct assembly_stream, list);

        if (stream->request_id == request_id)
            return stream;
    }
    return NULL;
}

/* Room in the worker is held for all chunks of a session together. */
static uint64_t assembly_room(uint64_t capacity)
{
    return capacity > SESSION_LARGE_FRAME ? capacity : 0;
}

/* Notes that `bytes` of chunks are gone. */
static void assembly_shrink(struct assembly *assembly, uint64_t bytes)
{
    assembly->capacity -= bytes;
    sessions_release(assembly->session->sessions, assembly->session,
                     assembly_room(assembly->capacity));
}

/* Also gives back room that the session was granted while it waited and has not used yet. */
static void assembly_drop_chunk(struct assembly *assembly, struct assembly_stream *stream)
{
    assembly_shrink(assembly, stream->chunk ? stream->chunk->capacity : 0);
    if (stream->chunk)
        chunk_release(stream->chunk);
    stream->chunk = NULL;
}

static void assembly_remove(struct assembly *assembly, struct assembly_stream *stream)
{
    assembly_drop_chunk(assembly, stream);
    list_remove(&stream->list);
    if (stream->continued)
        assembly->pending--;
    free(stream);
}

void assembly_free(struct session *session)
{
    struct assembly *assembly = session->assembly;

    if (!assembly)
        return;
    LIST_EACH_SAFE(&assembly->streams, entry)
    assembly_remove(assembly, CONTAINER_OF(entry, struct assembly_stream, list));
    loop_timer_cancel(session->sessions->loop, &assembly->timer);
    session->assembly = NULL;
    free(assembly);
}

/* Answers a request before it is complete; what still comes of it is passed over. The session may
 * have ended when this returns. */
static void assembly_refuse(struct assembly *assembly, struct assembly_stream *stream,
                            enum fibp_status status, struct str text)
{
    struct session *session = assembly->session;

    assembly_drop_chunk(assembly, stream);
    stream->fate = ASSEMBLY_REFUSED;
    session->dialect->error(session, stream->request_id, status, text);
}

/* --- time --- */

/* One that is passed over holds nothing, and its client may have given it up. */
static bool assembly_is_too_slow(const struct assembly_stream *stream, uint64_t now_ms)
{
    uint64_t allowed = ASSEMBLY_MS + stream->taken / ASSEMBLY_PACE;

    return stream->fate != ASSEMBLY_REFUSED &&
           (now_ms - stream->since_ms > allowed || now_ms - stream->last_ms > ASSEMBLY_MS);
}

static void assembly_check_pace(struct assembly *assembly)
{
    uint64_t now_ms = assembly_now_ms(assembly);

    LIST_EACH(&assembly->streams, entry)
    {
        struct assembly_stream *stream = CONTAINER_OF(entry, struct assembly_stream, list);

        if (assembly_is_too_slow(stream, now_ms)) {
            session_fail(assembly->session, stream->request_id, FIBP_INVALID_FRAME,
                         STR("a large request comes too slowly"));
            return;
        }
    }
}

/* No room came free in time: whoever holds some must not wait for others for ever. */
static void assembly_give_up(struct assembly *assembly)
{
    struct session *session = assembly->session;

    assembly->waits_ms = 0;
    sessions_stop_waiting(session->sessions, session);
    assembly_refuse(assembly, assembly->current, FIBP_CHANNEL_FULL,
                    STR("too many large requests at once"));
}

static void assembly_look(struct loop_timer *timer)
{
    struct assembly *assembly = CONTAINER_OF(timer, struct assembly, timer);
    struct session *session = assembly->session;

    loop_timer_set(session->sessions->loop, timer, ASSEMBLY_LOOK_MS);
    if (assembly->waits_ms == 0 && !session->paused)
        assembly_check_pace(assembly);
    else if (assembly->waits_ms > 0 &&
             assembly_now_ms(assembly) - assembly->waits_ms >= ASSEMBLY_ROOM_MS)
        assembly_give_up(assembly);
}

void assembly_resumed(struct session *session, uint64_t paused_ms)
{
    struct assembly *assembly = session->assembly;

    if (!assembly)
        return;
    assembly->waits_ms = 0;
    LIST_EACH(&assembly->streams, entry)
    {
        struct assembly_stream *stream = CONTAINER_OF(entry, struct assembly_stream, list);

        stream->since_ms += paused_ms;
        stream->last_ms += paused_ms;
    }
}

/* --- frames --- */

bool assembly_wants(const struct session *session, const struct frame *header, bool complete)
{
    return header->flags & FRAME_FLAG_CONTINUATION ||
           (!complete && header->size > SESSION_LARGE_FRAME) ||
           assembly_find(session, header->request_id);
}

static struct assembly *assembly_of(struct session *session)
{
    if (session->assembly)
        return session->assembly;

    struct assembly *assembly = calloc(1, sizeof(*assembly));
    if (!assembly)
        return NULL;
    assembly->session = session;
    list_init(&assembly->streams);
    assembly->timer.expired = assembly_look;
    loop_timer_set(session->sessions->loop, &assembly->timer, ASSEMBLY_LOOK_MS);
    session->assembly = assembly;
    return assembly;
}

static struct assembly_stream *assembly_start(struct session *session, const struct frame *header)
{
    struct assembly *assembly = assembly_of(session);
    struct assembly_stream *stream = assembly ? calloc(1, sizeof(*stream)) : NULL;

    if (!stream)
        return NULL;
    stream->request_id = header->request_id;
    stream->opcode = header->opcode;
    stream->continued = header->flags & FRAME_FLAG_CONTINUATION;
    stream->since_ms = stream->last_ms = assembly_now_ms(assembly);
    assembly->pending += stream->continued;
    list_append(&assembly->streams, &stream->list);
    return stream;
}

/* The rules of spec/fibp.md A6. `stream` NULL: the frame begins a request. */
static enum reassembly_result assembly_judge(const struct session *session,
                                             const struct assembly_stream *stream,
                                             const struct frame *header)
{
    uint64_t size = header->size - FRAME_OVERHEAD;
    uint32_t pending = session->assembly ? session->assembly->pending : 0;

    if (!stream && header->flags & FRAME_FLAG_CONTINUATION &&
        pending >= session->sessions->conf->fibp.max_pending_streams)
        return REASSEMBLY_TOO_MANY;
    if (stream && stream->opcode != header->opcode)
        return REASSEMBLY_MISMATCH;
    if (size > assembly_message_max(session) - (stream ? stream->size : 0))
        return REASSEMBLY_TOO_LARGE;
    if (stream && size == 0 && stream->empty >= REASSEMBLY_EMPTY_MAX)
        return REASSEMBLY_TOO_MANY_EMPTY;
    return REASSEMBLY_READY;
}

/* Ends the session over a frame. */
static void assembly_fail(struct session *session, uint32_t request_id,
                          enum reassembly_result result)
{
    char text[128];

    if (result == REASSEMBLY_NO_MEMORY) {
        session_fail(session, request_id, FIBP_INTERNAL_ERROR, STR("out of memory"));
        return;
    }
    if (result == REASSEMBLY_TOO_LARGE)
        snprintf(text, sizeof(text), "request larger than %llu bytes (fibp.max_message_size)",
                 (unsigned long long)assembly_message_max(session));
    else
        snprintf(text, sizeof(text), "%s", reassembly_result_text(result));
    session_fail(session, request_id, FIBP_INVALID_FRAME, str_from_c(text));
}

bool assembly_begin(struct session *session, const struct frame *header, bool wanted)
{
    struct assembly_stream *stream = assembly_find(session, header->request_id);
    enum reassembly_result result = assembly_judge(session, stream, header);

    if (result == REASSEMBLY_READY && !stream) {
        stream = assembly_start(session, header);
        if (!stream)
            result = REASSEMBLY_NO_MEMORY;
        else if (!wanted)
            stream->fate = ASSEMBLY_COUNTED;
    }
    if (result != REASSEMBLY_READY) {
        assembly_fail(session, header->request_id, result);
        return false;
    }
    struct assembly *assembly = session->assembly;
    assembly->current = stream;
    assembly->left = header->size - FRAME_OVERHEAD;
    assembly->last = !(header->flags & FRAME_FLAG_CONTINUATION);
    stream->empty += assembly->left == 0;
    stream->size += assembly->left;
    return true;
}

/* --- bytes --- */

/* Makes the session's chunks `capacity` bytes in all as far as the worker is concerned. False: the
 * session waits for it, or the request was refused. */
static bool assembly_reserve(struct assembly *assembly, struct assembly_stream *stream,
                             uint64_t capacity)
{
    struct session *session = assembly->session;

    switch (sessions_reserve(session->sessions, session, assembly_room(capacity))) {
    case SESSIONS_ROOM:
        return true;
    case SESSIONS_WAIT:
        assembly->waits_ms = assembly_now_ms(assembly);
        session_pause(session);
        return false;
    case SESSIONS_NO_ROOM:
        break;
    }
    assembly_refuse(assembly, stream, FIBP_CHANNEL_FULL,
                    STR("too many large requests at once on this connection"));
    return false;
}

/* The capacity that a chunk with `present` bytes gets when `needed` are to be in it. It doubles at
 * most, so that the memory taken is in proportion to the bytes that came; and beyond the frames
 * that are known of it only by an eighth, so that little is wasted and many small frames do not
 * make it move each time. */
static size_t assembly_capacity(const struct assembly *assembly,
                                const struct assembly_stream *stream, size_t present, size_t needed)
{
    uint64_t capacity = 2 * (uint64_t)present, ahead = present + (uint64_t)present / 8;
    uint64_t most = assembly->last ? 0 : assembly_message_max(assembly->session);

    if (capacity > stream->size)
        capacity = stream->size > ahead ? stream->size : ahead;
    if (capacity < ASSEMBLY_CHUNK_MIN)
        capacity = ASSEMBLY_CHUNK_MIN;
    if (most < stream->size)
        most = stream->size;
    if (capacity > most)
        capacity = most;
    return capacity < needed ? needed : (size_t)capacity;
}

/* Sees that the chunk has room for `needed` bytes. False: not now, or never. */
static bool assembly_grow(struct assembly *assembly, struct assembly_stream *stream, size_t needed)
{
    struct session *session = assembly->session;
    size_t present = stream->chunk ? stream->chunk->capacity : 0;
    size_t capacity = assembly_capacity(assembly, stream, present, needed);
    struct chunk *chunk;

    if (needed <= present)
        return true;
    if (!assembly_reserve(assembly, stream, assembly->capacity - present + capacity))
        return false;
    chunk = stream->chunk ? chunk_resize(stream->chunk, capacity)
                          : chunk_create(&session->account, capacity);
    if (!chunk) {
        assembly_shrink(assembly, 0);
        assembly_refuse(assembly, stream, FIBP_INTERNAL_ERROR, STR("out of memory"));
        return false;
    }
    assembly->capacity += chunk->capacity - present;
    stream->chunk = chunk;
    return true;
}

/* Takes a finished request out; what is left of its chunk's capacity is given back. */
static void assembly_finish(struct assembly *assembly, struct assembly_request *request)
{
    struct session *session = assembly->session;
    struct assembly_stream *stream = assembly->current;
    struct chunk *chunk = stream->chunk;

    *request = (struct assembly_request){
        .frame = {.opcode = stream->opcode, .request_id = stream->request_id, .body = STR("")},
    };
    if (chunk) {
        struct chunk *fitting;

        assembly_shrink(assembly, chunk->capacity);
        fitting = chunk->capacity > stream->taken ? chunk_resize(chunk, stream->taken) : NULL;
        request->chunk = fitting ? fitting : chunk;
        request->frame.body = str_of(request->chunk->data, stream->taken);
        stream->chunk = NULL;
    }
    assembly->current = NULL;
    assembly_remove(assembly, stream);
    if (list_empty(&assembly->streams))
        assembly_free(session);
}

enum assembly_result assembly_take(struct session *session, struct assembly_request *request)
{
    struct assembly *assembly = session->assembly;
    struct assembly_stream *stream = assembly->current;
    struct str input = conn_input(&session->conn);
    size_t part = assembly->left < input.size ? assembly->left : input.size;

    if (part > 0) {
        if (stream->fate == ASSEMBLY_GATHERED) {
            if (!assembly_grow(assembly, stream, stream->taken + part))
                return session->paused ? ASSEMBLY_MORE : ASSEMBLY_TAKEN;
            memcpy(stream->chunk->data + stream->taken, input.data, part);
        }
        stream->taken += part;
        stream->last_ms = assembly_now_ms(assembly);
        assembly->left -= part;
        conn_consume(&session->conn, part);
    }
    if (assembly->left > 0)
        return ASSEMBLY_MORE;
    if (!assembly->last) {
        assembly->current = NULL;
        return ASSEMBLY_TAKEN;
    }
    bool refused = stream->fate == ASSEMBLY_REFUSED;
    assembly_finish(assembly, request);
    return refused ? ASSEMBLY_TAKEN : ASSEMBLY_READY;
}

void assembly_done(struct assembly_request *request)
{
    if (request->chunk)
        chunk_release(request->chunk);
}
