/* Every decoder of answers on the same bytes. */
#include <stdint.h>
#include <stdlib.h>

#include "fibp/framed_client.h"
#include "fibp/framed_peek.h"
#include "fibp/framed_settings.h"
#include "fibp/framed_details.h"

#define REQUIRE(condition) ((condition) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads every byte of a slice, so that a sanitizer sees one that points outside. */
static unsigned touch(struct str part)
{
    unsigned sum = 0;
    for (size_t i = 0; i < part.size; i++)
        sum += part.data[i];
    return sum;
}

static void fuzz_hot_path(struct str body)
{
    struct framed_client_handshake_ok handshake_ok;
    struct framed_client_delivery delivery;
    struct framed_client_result result;
    struct framed_client_error error;
    struct wire_reader reader;
    struct wire_pair pair;
    struct str text;
    uint32_t count;
    uint8_t code;

    wire_reader_init(&reader, body);
    if (framed_client_handshake_ok(&reader, &handshake_ok))
        REQUIRE(handshake_ok.max_frame_size != 0);
    wire_reader_init(&reader, body);
    if (framed_client_error(&reader, &error)) {
        touch(error.text);
        for (uint16_t i = 0; i < error.pair_count; i++) {
            REQUIRE(framed_client_error_pair(&reader, &pair));
            touch(pair.value);
        }
    }
    wire_reader_init(&reader, body);
    if (framed_client_enqueue_result_begin(&reader, &count))
        for (uint32_t i = 0; i < count && framed_client_enqueue_result_next(&reader, &result); i++)
            touch(result.message_id);
    wire_reader_init(&reader, body);
    if (framed_client_ack_result_begin(&reader, &count))
        for (uint32_t i = 0; i < count; i++)
            REQUIRE(framed_client_ack_result_next(&reader, &code));
    wire_reader_init(&reader, body);
    if (framed_client_consume_ok(&reader, &text))
        touch(text);
    wire_reader_init(&reader, body);
    if (framed_client_delivery_begin(&reader, &count))
        for (uint32_t i = 0; i < count && framed_client_delivery_next(&reader, &delivery); i++) {
            touch(delivery.headers);
            touch(delivery.payload);
            touch(delivery.throttle_keys);
        }
}

static void fuzz_queues(struct str body)
{
    struct framed_queue_info queue;
    struct framed_stats stats;
    struct framed_key_stats key;
    struct framed_throttle_stats throttle;
    struct wire_reader reader;
    uint32_t nodes;
    uint16_t count;
    uint8_t code;

    wire_reader_init(&reader, body);
    if (framed_client_code(&reader, &code) &&
        framed_client_list_queues_begin(&reader, &nodes, &count))
        for (uint16_t i = 0; i < count && framed_client_list_queues_next(&reader, &queue); i++)
            touch(queue.name);
    wire_reader_init(&reader, body);
    if (!framed_client_code(&reader, &code) || !framed_client_stats_begin(&reader, &stats, &count))
        return;
    for (uint16_t i = 0; i < count && framed_client_stats_key_next(&reader, &key); i++)
        touch(key.key);
    if (!framed_client_stats_throttles(&reader, &count))
        return;
    for (uint16_t i = 0; i < count && framed_client_stats_throttle_next(&reader, &throttle); i++)
        touch(throttle.key);
}

static void fuzz_buckets(struct wire_reader *reader)
{
    struct framed_bucket bucket;
    uint16_t count;
    if (framed_client_details_buckets(reader, &count))
        for (uint16_t i = 0; i < count; i++)
            REQUIRE(framed_client_details_bucket(reader, &bucket));
}

static void fuzz_details(struct str body)
{
    struct framed_number number;
    struct framed_limit limit;
    struct wire_reader reader;
    struct str name;
    uint64_t value;
    uint16_t count, fields = 0;
    uint8_t code;
    bool more;

    wire_reader_init(&reader, body);
    if (framed_client_code(&reader, &code) && framed_client_details_count(&reader, &count))
        for (uint16_t i = 0; i < count && framed_client_details_number(&reader, &number); i++)
            touch(number.name);
    fuzz_buckets(&reader);
    if (framed_client_details_count(&reader, &fields))
        for (uint16_t i = 0; i < fields && framed_client_details_name(&reader, &number); i++)
            touch(number.name);
    if (framed_client_details_queues(&reader, fields, &more, &count))
        for (uint16_t i = 0; i < count && framed_client_details_queue(&reader, &name); i++) {
            touch(name);
            for (uint16_t j = 0; j < fields && framed_client_details_value(&reader, &value); j++)
                continue;
            fuzz_buckets(&reader);
        }
    if (framed_client_details_limits(&reader, &count))
        for (uint16_t i = 0; i < count && framed_client_details_limit(&reader, &limit); i++)
            touch(limit.key);
}

static void fuzz_other_admin(struct str body)
{
    struct framed_api_key_info api_key;
    struct framed_permission permission;
    struct wire_reader reader;
    struct wire_pair pair;
    struct str text, secret;
    uint64_t moved;
    uint16_t count;
    uint8_t code;
    bool superadmin;

    wire_reader_init(&reader, body);
    if (framed_client_code(&reader, &code) && framed_client_text_result(&reader, &text))
        touch(text);
    wire_reader_init(&reader, body);
    if (framed_client_code(&reader, &code))
        (void)!framed_client_redrive_result(&reader, &moved);
    struct framed_queue_settings settings;
    wire_reader_init(&reader, body);
    if (framed_client_code(&reader, &code) && framed_client_settings(&reader, &settings)) {
        touch(settings.on_enqueue);
        touch(settings.on_failure);
    }
    struct framed_peek_item item;
    wire_reader_init(&reader, body);
    if (framed_client_code(&reader, &code) && framed_client_peek_begin(&reader, &text, &count))
        for (uint16_t i = 0; i < count && framed_client_peek_next(&reader, &item); i++) {
            touch(item.headers);
            touch(item.payload);
            touch(item.throttle_keys);
        }
    wire_reader_init(&reader, body);
    if (framed_client_code(&reader, &code) &&
        framed_client_create_api_key_result(&reader, &text, &secret, &superadmin))
        touch(secret);
    wire_reader_init(&reader, body);
    if (framed_client_code(&reader, &code) && framed_client_list_config_begin(&reader, &count))
        for (uint16_t i = 0; i < count && framed_client_list_config_next(&reader, &pair); i++)
            touch(pair.value);
    wire_reader_init(&reader, body);
    if (framed_client_code(&reader, &code) && framed_client_list_api_keys_begin(&reader, &count))
        for (uint16_t i = 0; i < count && framed_client_list_api_keys_next(&reader, &api_key); i++)
            touch(api_key.name);
    wire_reader_init(&reader, body);
    if (framed_client_code(&reader, &code) &&
        framed_client_get_acl_begin(&reader, &text, &superadmin, &count))
        for (uint16_t i = 0; i < count && framed_client_get_acl_next(&reader, &permission); i++)
            touch(permission.pattern);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = str_of(data, size);
    fuzz_hot_path(input);
    fuzz_queues(input);
    fuzz_details(input);
    fuzz_other_admin(input);
    return 0;
}
