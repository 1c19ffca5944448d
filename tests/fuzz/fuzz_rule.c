/* Values of the runtime configuration that mean something to the broker: what a rule has no fault
 * with is in its limits. */
#include "fuzz/fuzz.h"

#include <math.h>

#include "sched/concurrency.h"
#include "sched/config_rule.h"
#include "sched/throttle.h"

/* The key is what stands before the first zero, the value what stands behind it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    struct str key = str_of(data, zero ? (size_t)(zero - data) : size);
    struct str value = zero ? str_of(zero + 1, size - key.size - 1) : str_of(data, 0);
    double rate = -1, burst = -1;
    uint64_t most = UINT64_MAX;

    const char *fault = config_rule_fault(key, value);
    REQUIRE(!fault || *fault);
    if (!fault && value.size > 0 && str_starts_with(key, STR("throttle.")))
        REQUIRE(!throttle_parse(value, &rate, &burst));
    if (!fault && value.size > 0 && str_starts_with(key, STR("concurrency.")))
        REQUIRE(!concurrency_parse(value, &most));
    if (!throttle_parse(value, &rate, &burst)) {
        REQUIRE(isfinite(rate) && rate >= 0 && !signbit(rate));
        REQUIRE(isfinite(burst) && (burst >= 1 || burst == 0));
    }
    if (!concurrency_parse(value, &most))
        REQUIRE(most <= CONCURRENCY_MAX);
    return 0;
}
