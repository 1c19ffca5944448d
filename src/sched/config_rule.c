#include "sched/config_rule.h"

#include <stddef.h>

/* Ended by a rule without prefix. */
static const struct config_rule config_rules[] = {
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
