#include "sched/config_rule.h"

#include <stddef.h>

#include "os/time.h"
#include "sched/concurrency.h"
#include "store/record.h"

/* --- throttles --- */

/* Keys that no message has. */
static const char *name_fault(struct str name)
{
    if (!name.size)
        return "the name of the key is missing behind the prefix";
    return name.size > RECORD_KEY_BYTES_MAX ? "no message has a key of more than 1024 bytes" : NULL;
}

static const char *throttle_fault(struct str name, struct str value)
{
    double rate, burst;
    const char *fault = name_fault(name);
    return fault ? fault : throttle_parse(value, &rate, &burst);
}

static bool throttle_apply(struct scheduler *scheduler, struct str name, struct str value)
{
    double rate = 0, burst = 0;
    uint64_t now_ns = time_monotonic_ns();
    enum throttle_result result = value.size && !throttle_parse(value, &rate, &burst)
                                      ? throttle_configure(scheduler, name, rate, burst, now_ns)
                                      : throttle_remove(scheduler, name, now_ns);
    return result != THROTTLE_FULL; /* of a zone that is gone the next one reads the store */
}

static const char *concurrency_fault(struct str name, struct str value)
{
    uint64_t most;
    const char *fault = name_fault(name);
    return fault ? fault : concurrency_parse(value, &most);
}

static bool concurrency_apply(struct scheduler *scheduler, struct str name, struct str value)
{
    uint64_t most = 0, now_ns = time_monotonic_ns();
    enum throttle_result result = value.size && !concurrency_parse(value, &most)
                                      ? concurrency_configure(scheduler, name, most, now_ns)
                                      : concurrency_remove(scheduler, name, now_ns);
    return result != THROTTLE_FULL;
}

/* --- the table --- */

/* Ended by a rule without prefix. */
static const struct config_rule config_rules[] = {
    {"throttle.", throttle_fault, throttle_apply},
    {"concurrency.", concurrency_fault, concurrency_apply},
    {NULL, NULL, NULL},
};

static const struct config_rule *rule_of(struct str key, struct str *name)
{
    for (const struct config_rule *rule = config_rules; rule->prefix; rule++) {
        struct str prefix = str_from_c(rule->prefix);
        if (!str_starts_with(key, prefix))
            continue;
        *name = str_of(key.data + prefix.size, key.size - prefix.size);
        return rule;
    }
    return NULL;
}

const char *config_rule_fault(struct str key, struct str value)
{
    struct str name;
    const struct config_rule *rule = rule_of(key, &name);
    return rule && value.size > 0 ? rule->fault(name, value) : NULL;
}

bool config_rule_apply(struct scheduler *scheduler, struct str key, struct str value)
{
    struct str name;
    const struct config_rule *rule = rule_of(key, &name);
    if (!rule || (value.size > 0 && rule->fault(name, value)))
        return true;
    return rule->apply(scheduler, name, value);
}
