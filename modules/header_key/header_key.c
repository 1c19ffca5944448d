/*
 * header_key - fairness key and weight of a message from two of its headers, for those who need no
 * scripts:
 *
 *   header_key: {fairness: tenant, weight: weight}
 *
 * A setting that is missing leaves that part of the verdict as it is. A message without the
 * fairness header, or with one of over 1,024 bytes, has the key "default"; a weight that is missing
 * or no unsigned 32-bit number is 1.
 */
#include "fibp/framed.h"
#include "hook/hook.h"

struct header_key_conf {
    char *fairness; /* header names */
    char *weight;
};

static const struct schema_key header_key_keys[] = {
    {.name = "fairness",
     .type = SCHEMA_STRING,
     .offset = offsetof(struct header_key_conf, fairness),
     .min = 1,
     .max = 65535,
     .doc = "header whose value is the fairness key"},
    {.name = "weight",
     .type = SCHEMA_STRING,
     .offset = offsetof(struct header_key_conf, weight),
     .min = 1,
     .max = 65535,
     .doc = "header whose value is the weight of the key"},
    {.type = SCHEMA_END},
};

static int header_key_init(const void *conf, const struct conf *all,
                           const struct hook_services *services, void **state, struct err *err)
{
    /* The state is the configuration; it is never written. */
    (void)all;
    (void)services;
    (void)err;
    *state = (void *)(uintptr_t)conf;
    return 0;
}

/* Digits only; false for anything that is no number of 32 bits. */
static bool header_key_number(struct str text, uint32_t *number)
{
    uint64_t value = 0;

    if (text.size == 0 || text.size > 10)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    if (value > UINT32_MAX)
        return false;
    *number = (uint32_t)value;
    return true;
}

static void header_key_on_enqueue(void *state, const struct hook_message *message,
                                  struct hook_memory *memory, struct hook_verdict *verdict)
{
    const struct header_key_conf *conf = state;
    struct str value;

    (void)memory;
    if (conf->fairness) {
        bool found = framed_headers_find(message->headers, str_from_c(conf->fairness), &value);

        verdict->fairness_key = found && value.size <= HOOK_KEY_MAX ? value : STR("default");
    }
    if (conf->weight) {
        bool found = framed_headers_find(message->headers, str_from_c(conf->weight), &value);

        if (!found || !header_key_number(value, &verdict->weight))
            verdict->weight = 1;
    }
}

HOOK_MODULE(header_key, 3, .section = "header_key", .keys = header_key_keys,
            .conf_size = sizeof(struct header_key_conf), .init = header_key_init,
            .on_enqueue = header_key_on_enqueue);
