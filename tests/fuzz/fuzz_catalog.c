/* Records of a damaged catalog.db: the first byte tells which kind of record, the next one the size
 * of its key, then come key and value. */
#include "fuzz/fuzz.h"

/* The functions that understand a record are static. */
#include "store/catalog.c"

struct seen {
    unsigned count;
    struct str name;
    unsigned sum; /* so that slices are read */
};

static int see_queue(void *context, const struct catalog_queue *queue, struct err *err)
{
    struct seen *seen = context;
    (void)err;
    seen->count++;
    REQUIRE(str_equal(queue->name, seen->name));
    for (size_t i = 0; i < queue->on_failure.size; i++)
        seen->sum += queue->on_failure.data[i];
    return 0;
}

static int see_dead(void *context, uint64_t id, struct err *err)
{
    struct seen *seen = context;
    (void)err;
    (void)id;
    seen->count++;
    return 0;
}

static int see_config(void *context, struct str key, struct str value, struct err *err)
{
    struct seen *seen = context;
    (void)err;
    (void)value;
    seen->count++;
    REQUIRE(str_equal(key, seen->name));
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int (*const visits[])(void *, struct str, struct str,
                                 struct err *) = {visit_queue, visit_dead, visit_config};
    static const ProtobufCMessageDescriptor *const types[] = {
        &filad__catalog__catalog_format__descriptor,
        &filad__catalog__catalog_epoch__descriptor,
        &filad__catalog__catalog_counter__descriptor,
    };
    struct str input = str_of(data, size);
    uint8_t kind = fuzz_byte(&input);
    struct str name = fuzz_bytes(&input, fuzz_byte(&input));
    struct seen seen = {.name = name};
    struct each_context context = {
        .queue = see_queue, .dead = see_dead, .config = see_config, .context = &seen};
    struct err err = {0};

    if (visits[kind % 3](&context, name, input, &err) < 0)
        REQUIRE(seen.count == 0 && err.text[0] != '\0');
    else
        REQUIRE(seen.count == 1);
    ProtobufCMessage *message =
        protobuf_c_message_unpack(types[kind % 3], NULL, input.size, input.data);
    if (message)
        protobuf_c_message_free_unpacked(message, NULL);
    return 0;
}
