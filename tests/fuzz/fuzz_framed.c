/* Every decoder of requests on the same bytes, and the envelope around them. */
#include <stdint.h>
#include <stdlib.h>

#include "fibp/framed.h"
#include "fibp/framed_peek.h"
#include "fibp/framed_details.h"
#include "fibp/framed_settings.h"
#include "fibp/reassembly.h"

#define REQUIRE(condition) ((condition) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A slice that was handed out lies in the input. */
static void require_inside(struct str all, struct str part)
{
    if (part.size == 0)
        return;
    REQUIRE(part.data >= all.data && part.size <= all.size);
    REQUIRE((size_t)(part.data - all.data) <= all.size - part.size);
}

static void fuzz_enqueue(struct str body)
{
    struct wire_reader reader;
    uint32_t count;
    wire_reader_init(&reader, body);
    if (!framed_enqueue_check(&reader, &count)) {
        REQUIRE(reader.reason && reader.field);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct framed_enqueue_item item;
        struct str headers, payload, value;
        REQUIRE(framed_enqueue_next(&reader, &item));
        require_inside(body, item.queue);
        require_inside(body, item.record);
        REQUIRE(framed_record_split(item.record, &headers, &payload));
        REQUIRE(str_equal(headers, item.headers) && str_equal(payload, item.payload));
        if (framed_headers_find(item.headers, STR("tenant"), &value))
            require_inside(item.headers, value);
    }
}

static void fuzz_settle(struct str body)
{
    struct wire_reader reader;
    struct framed_ack_item ack;
    struct framed_nack_item nack;
    uint32_t count;

    wire_reader_init(&reader, body);
    if (framed_ack_check(&reader, &count))
        for (uint32_t i = 0; i < count; i++) {
            REQUIRE(framed_ack_next(&reader, &ack));
            require_inside(body, ack.message_id);
        }
    wire_reader_init(&reader, body);
    if (framed_nack_check(&reader, &count))
        for (uint32_t i = 0; i < count; i++) {
            REQUIRE(framed_nack_next(&reader, &nack));
            require_inside(body, nack.error);
        }
}

static void fuzz_single_strings(struct str body)
{
    static bool (*const decoders[])(struct wire_reader *, struct str *) = {
        framed_delete_queue,   framed_get_stats, framed_get_config,   framed_list_config,
        framed_revoke_api_key, framed_get_acl,   framed_get_settings,
    };
    for (size_t i = 0; i < sizeof(decoders) / sizeof(decoders[0]); i++) {
        struct wire_reader reader;
        struct str text;
        wire_reader_init(&reader, body);
        if (decoders[i](&reader, &text))
            require_inside(body, text);
        else
            REQUIRE(reader.reason != NULL);
    }
}

static void fuzz_details(struct str body)
{
    struct framed_details_request request;
    struct wire_reader reader;
    wire_reader_init(&reader, body);
    if (!framed_details(&reader, &request))
        return;
    require_inside(body, request.queue);
    require_inside(body, request.after);
}

static void fuzz_settings(struct str body)
{
    struct framed_update_queue update;
    struct framed_create_queue create;
    struct framed_create_options options;
    struct wire_reader reader;
    struct str queue;
    bool paused;

    wire_reader_init(&reader, body);
    if (framed_update_queue(&reader, &update)) {
        require_inside(body, update.queue);
        require_inside(body, update.on_enqueue);
        require_inside(body, update.on_failure);
    }
    wire_reader_init(&reader, body);
    if (framed_pause_queue(&reader, &queue, &paused))
        require_inside(body, queue);
    wire_reader_init(&reader, body);
    if (framed_create_queue(&reader, &create))
        framed_create_options(&reader, &options);
}

static void fuzz_admin(struct str body)
{
    struct framed_create_queue create_queue;
    struct framed_create_api_key create_api_key;
    struct framed_permission permission;
    struct framed_handshake handshake;
    struct framed_consume consume;
    struct framed_cancel cancel;
    struct wire_reader reader;
    struct str key, value;
    uint64_t limit;
    uint16_t count;

    wire_reader_init(&reader, body);
    if (framed_handshake(&reader, &handshake) && handshake.has_api_key)
        require_inside(body, handshake.api_key);
    wire_reader_init(&reader, body);
    if (framed_consume(&reader, &consume))
        require_inside(body, consume.queue);
    wire_reader_init(&reader, body);
    if (framed_cancel(&reader, &cancel))
        require_inside(body, cancel.consumer_id);
    wire_reader_init(&reader, body);
    if (framed_create_queue(&reader, &create_queue)) {
        require_inside(body, create_queue.on_enqueue);
        require_inside(body, create_queue.on_failure);
    }
    wire_reader_init(&reader, body);
    if (framed_set_config(&reader, &key, &value))
        require_inside(body, value);
    wire_reader_init(&reader, body);
    struct framed_peek peek;
    if (framed_peek(&reader, &peek))
        require_inside(body, peek.cursor);
    wire_reader_init(&reader, body);
    if (framed_purge(&reader, &key))
        require_inside(body, key);
    wire_reader_init(&reader, body);
    if (framed_redrive(&reader, &key, &limit))
        require_inside(body, key);
    wire_reader_init(&reader, body);
    if (framed_create_api_key(&reader, &create_api_key))
        require_inside(body, create_api_key.name);
    wire_reader_init(&reader, body);
    if (framed_set_acl(&reader, &key, &count))
        for (uint16_t i = 0; i < count; i++) {
            REQUIRE(framed_set_acl_next(&reader, &permission));
            require_inside(body, permission.pattern);
        }
}

/* The input as a stream of frames with a small limit. */
static void fuzz_stream(struct str bytes)
{
    struct reassembly reassembly;
    struct frame frame;
    reassembly_init(&reassembly, 3, 64, 100);
    while (frame_parse(bytes, 4096, &frame) == FRAME_READY) {
        size_t used = frame.size;
        enum reassembly_result result = reassembly_take(&reassembly, &frame);
        REQUIRE(reassembly.total <= 100 && reassembly.count <= 3);
        if (result == REASSEMBLY_READY)
            REQUIRE(frame.flags != FRAME_FLAG_CONTINUATION);
        bytes = str_of(bytes.data + used, bytes.size - used);
    }
    reassembly_free(&reassembly);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = str_of(data, size);
    fuzz_enqueue(input);
    fuzz_settle(input);
    fuzz_single_strings(input);
    fuzz_details(input);
    fuzz_settings(input);
    fuzz_admin(input);
    fuzz_stream(input);
    return 0;
}
