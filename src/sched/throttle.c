#include "sched/throttle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "os/time.h"
#include "sched/scheduler.h"

#define NS_PER_S 1e9
#define NUMBER_MAX 100 /* characters of a number; enough for any double written out sensibly */
#define AVAILABLE_MAX 1e9
#define MISSES_MAX 16
/* What additions lose must not cost a wake-up of its own. */
#define TOKEN (1 - 1e-9)

/* --- values --- */

static bool is_blank(uint8_t character)
{
    return character == ' ' || (character >= '\t' && character <= '\r');
}

static struct str trim(struct str text)
{
    while (text.size && is_blank(text.data[0]))
        text = str_of(text.data + 1, text.size - 1);
    while (text.size && is_blank(text.data[text.size - 1]))
        text.size--;
    return text;
}

static size_t digits(const char *text)
{
    return strspn(text, "0123456789");
}

/* [sign] digits [. digits] [e [sign] digits], with a digit before or behind the point: what strtod
 * takes beyond that (hexadecimal, "inf", "nan") is no number here. */
static bool is_decimal(const char *text)
{
    text += *text == '+' || *text == '-';
    size_t whole = digits(text), fraction = 0;
    text += whole;
    if (*text == '.') {
        fraction = digits(text + 1);
        text += 1 + fraction;
    }
    if (!whole && !fraction)
        return false;
    if (*text == 'e' || *text == 'E') {
        text++;
        text += *text == '+' || *text == '-';
        size_t exponent = digits(text);
        if (!exponent)
            return false;
        text += exponent;
    }
    return *text == '\0';
}

/* What can be wrong with one of the two numbers. */
struct number_words {
    const char *missing, *long_winded, *not_decimal, *too_large, *negative;
};

static const struct number_words rate_words = {
    "the rate is missing: a throttle is \"rate,burst\"",
    "the rate has more than 100 characters",
    "the rate is not a decimal number",
    "the rate is too large",
    "the rate is negative",
};
static const struct number_words burst_words = {
    "the burst is missing: a throttle is \"rate,burst\"",
    "the burst has more than 100 characters",
    "the burst is not a decimal number",
    "the burst is too large",
    "the burst is negative",
};

static const char *parse_number(struct str text, const struct number_words *words, double *number)
{
    char copy[NUMBER_MAX + 1];
    text = trim(text);
    if (!text.size)
        return words->missing;
    if (text.size > NUMBER_MAX)
        return words->long_winded;
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    if (strlen(copy) != text.size || !is_decimal(copy))
        return words->not_decimal;
    *number = strtod(copy, NULL);
    if (!isfinite(*number))
        return words->too_large;
    if (*number < 0)
        return words->negative;
    *number = fabs(*number); /* "-0" */
    return NULL;
}

const char *throttle_parse(struct str value, double *rate, double *burst)
{
    const uint8_t *comma = value.size ? memchr(value.data, ',', value.size) : NULL;
    if (!comma)
        return "a throttle is \"rate,burst\": the comma is missing";
    size_t before = (size_t)(comma - value.data);
    struct str behind = str_of(comma + 1, value.size - before - 1);
    if (behind.size && memchr(behind.data, ',', behind.size))
        return "a throttle is \"rate,burst\": there is more than one comma";
    const char *fault = parse_number(str_of(value.data, before), &rate_words, rate);
    if (!fault)
        fault = parse_number(behind, &burst_words, burst);
    if (!fault && *burst > 0 && *burst < 1)
        fault = "a burst below 1 never lets a message pass: at least 1, or 0 to stop the key";
    return fault;
}

/* --- the tables --- */

int throttle_table_init(struct scheduler *scheduler)
{
    struct throttle_table *table = &scheduler->throttles;
    for (unsigned i = 0; i < THROTTLE_SHARDS; i++) {
        struct throttle_shard *shard = &table->shards[i];
        lock_init(&shard->lock);
        heap_init(&shard->timers);
        atomic_init(&shard->when_ns, THROTTLE_NEVER);
        if (hash_init(&shard->table, &scheduler->allocator) != 0)
            return -1;
    }
    return 0;
}

static uint64_t hash_of(const struct scheduler *scheduler, enum throttle_kind kind, struct str key)
{
    return str_hash(key, scheduler->seed + kind);
}

/* The high half of the hash: the table uses the low one. */
static struct throttle_shard *shard_of_hash(struct scheduler *scheduler, uint64_t hash)
{
    return &scheduler->throttles.shards[(hash >> 32) % THROTTLE_SHARDS];
}

static struct throttle_shard *shard_of(struct scheduler *scheduler, const struct throttle *throttle)
{
    return &scheduler->throttles.shards[throttle->link.user];
}

static struct throttle *find(const struct throttle_shard *shard, enum throttle_kind kind,
                             struct str key, uint64_t hash)
{
    struct hash_link *link = hash_find(&shard->table, hash);
    for (; link; link = hash_find_next(link)) {
        struct throttle *throttle = CONTAINER_OF(link, struct throttle, link);
        if (throttle->kind == kind && str_equal(str_of(throttle->name, throttle->name_size), key))
            return throttle;
    }
    return NULL;
}

static struct throttle *make(struct scheduler *scheduler, struct throttle_shard *shard,
                             enum throttle_kind kind, struct str key, uint64_t hash)
{
    struct throttle *throttle = scheduler_room(scheduler)
                                    ? arena_alloc(scheduler->arena, sizeof(*throttle) + key.size)
                                    : NULL;
    if (!throttle)
        return NULL;
    memset(throttle, 0, sizeof(*throttle));
    throttle->magic = THROTTLE_MAGIC;
    throttle->kind = (uint8_t)kind;
    throttle->name_size = (uint16_t)key.size;
    memcpy(throttle->name, key.data, key.size);
    list_init(&throttle->waiting);
    throttle->link.user = (uint32_t)(shard - scheduler->throttles.shards);
    hash_insert(&shard->table, &scheduler->allocator, hash, &throttle->link);
    return throttle;
}

static void set_timer(struct throttle_shard *shard, struct throttle *throttle, uint64_t when_ns)
{
    if (when_ns == THROTTLE_NEVER)
        heap_remove(&shard->timers, &throttle->timer);
    else
        heap_update(&shard->timers, &throttle->timer, when_ns);
    const struct heap_node *first = heap_first(&shard->timers);
    atomic_store(&shard->when_ns, first ? first->key : THROTTLE_NEVER);
}

static void free_unused(struct scheduler *scheduler, struct throttle *throttle)
{
    struct throttle_shard *shard = shard_of(scheduler, throttle);
    if (throttle->configured || throttle->references)
        return;
    set_timer(shard, throttle, THROTTLE_NEVER);
    hash_remove(&shard->table, &throttle->link);
    throttle->magic = 0;
    arena_free(scheduler->arena, throttle);
}

struct throttle *throttle_acquire(struct scheduler *scheduler, enum throttle_kind kind,
                                  struct str key)
{
    uint64_t hash = hash_of(scheduler, kind, key);
    struct throttle_shard *shard = shard_of_hash(scheduler, hash);
    if (scheduler_lock(scheduler, &shard->lock) != LOCK_HELD)
        return NULL;
    struct throttle *throttle = find(shard, kind, key, hash);
    if (throttle && !throttle->configured)
        throttle = NULL;
    if (throttle)
        throttle->references++;
    lock_release(&shard->lock);
    return throttle;
}

void throttle_release(struct scheduler *scheduler, struct throttle *throttle)
{
    if (!throttle_lock(scheduler, throttle))
        return;
    struct throttle_shard *shard = shard_of(scheduler, throttle);
    throttle->references--;
    free_unused(scheduler, throttle);
    lock_release(&shard->lock);
}

bool throttle_lock(struct scheduler *scheduler, struct throttle *throttle)
{
    return scheduler_lock(scheduler, &shard_of(scheduler, throttle)->lock) == LOCK_HELD;
}

void throttle_unlock(struct scheduler *scheduler, struct throttle *throttle)
{
    lock_release(&shard_of(scheduler, throttle)->lock);
}

/* --- tokens --- */

static void refill(struct throttle *throttle, uint64_t now_ns)
{
    if (now_ns <= throttle->bucket.refilled_ns) /* somebody looked at it, and at his clock, later */
        return;
    double passed = (double)(now_ns - throttle->bucket.refilled_ns) / NS_PER_S;
    double most = throttle->bucket.burst;
    if (throttle->bucket.hungry_ns && !throttle->waiting_count &&
        now_ns > throttle->bucket.hungry_ns + THROTTLE_LATE_NS)
        throttle->bucket.hungry_ns = 0;
    if (throttle->bucket.hungry_ns && most > 0)
        most += throttle->bucket.rate * ((double)THROTTLE_LATE_NS / NS_PER_S);
    throttle->bucket.tokens = fmin(most, throttle->bucket.tokens + passed * throttle->bucket.rate);
    throttle->bucket.refilled_ns = now_ns;
}

uint64_t throttle_available(struct throttle *throttle, uint64_t now_ns)
{
    if (!throttle->configured)
        return UINT64_MAX;
    if (throttle->kind == THROTTLE_LIMIT)
        return throttle->limit.most > throttle->limit.in_flight
                   ? throttle->limit.most - throttle->limit.in_flight
                   : 0;
    refill(throttle, now_ns);
    double tokens = throttle->bucket.tokens + (1 - TOKEN);
    return tokens < AVAILABLE_MAX ? (uint64_t)tokens : (uint64_t)AVAILABLE_MAX;
}

void throttle_take(struct throttle *throttle, uint64_t now_ns)
{
    throttle->misses = 0;
    if (throttle->kind == THROTTLE_LIMIT) {
        throttle->limit.in_flight++;
        return;
    }
    throttle->bucket.tokens = fmax(throttle->bucket.tokens - 1, 0);
    if (throttle->bucket.hungry_ns)
        throttle->bucket.hungry_ns = now_ns;
}

void throttle_give_back(struct throttle *throttle, uint32_t count)
{
    if (throttle->kind == THROTTLE_LIMIT)
        throttle->limit.in_flight -= count;
    else if (throttle->bucket.burst > 0)
        throttle->bucket.tokens += count;
}

void throttle_note_hungry(struct throttle *throttle, uint64_t now_ns)
{
    if (throttle->kind == THROTTLE_BUCKET)
        throttle->bucket.hungry_ns = now_ns;
}

uint64_t throttle_next(struct throttle *throttle, uint64_t now_ns)
{
    if (!throttle->waiting_count)
        return THROTTLE_NEVER;
    if (throttle_available(throttle, now_ns))
        return now_ns + THROTTLE_PASS_NS;
    if (throttle->kind == THROTTLE_LIMIT || throttle->bucket.burst == 0)
        return THROTTLE_NEVER;
    double wait = (TOKEN - throttle->bucket.tokens) / throttle->bucket.rate * NS_PER_S;
    if (!(wait < 1e18)) /* without a rate it is infinite */
        return THROTTLE_NEVER;
    uint64_t wait_ns = (uint64_t)wait + 1;
    return now_ns + (wait_ns > THROTTLE_GRAIN_NS ? wait_ns : THROTTLE_GRAIN_NS);
}

/* --- timers --- */

void throttle_arm(struct scheduler *scheduler, struct throttle *throttle, uint64_t when_ns)
{
    struct throttle_shard *shard = shard_of(scheduler, throttle);
    set_timer(shard, throttle, when_ns);
    if (when_ns != THROTTLE_NEVER && atomic_load(&shard->when_ns) == when_ns)
        zone_refill_by(scheduler->zone, when_ns);
}

struct throttle *throttle_due(struct scheduler *scheduler, unsigned index, uint64_t now_ns,
                              bool *stale)
{
    struct throttle_shard *shard = &scheduler->throttles.shards[index];
    if (atomic_load(&shard->when_ns) > now_ns)
        return NULL;
    if (scheduler_lock(scheduler, &shard->lock) != LOCK_HELD) {
        *stale = true;
        return NULL;
    }
    struct heap_node *first = heap_first(&shard->timers);
    struct throttle *throttle = NULL;
    if (first && first->key <= now_ns) {
        throttle = CONTAINER_OF(first, struct throttle, timer);
        set_timer(shard, throttle, THROTTLE_NEVER);
        throttle->references++;
    }
    lock_release(&shard->lock);
    return throttle;
}

uint64_t throttle_first_due(const struct scheduler *scheduler)
{
    uint64_t first_ns = THROTTLE_NEVER;
    for (unsigned i = 0; i < THROTTLE_SHARDS; i++) {
        uint64_t when_ns = atomic_load(&scheduler->throttles.shards[i].when_ns);
        first_ns = when_ns < first_ns ? when_ns : first_ns;
    }
    return first_ns;
}

/* --- configuration --- */

static void changed(struct scheduler *scheduler, int count)
{
    atomic_fetch_add(&scheduler->throttles.count, (uint32_t)count);
    atomic_fetch_add(&scheduler->throttles.generation, 1);
}

enum throttle_result throttle_open(struct scheduler *scheduler, enum throttle_kind kind,
                                   struct str key, struct throttle **throttle, bool *is_new)
{
    uint64_t hash = hash_of(scheduler, kind, key);
    struct throttle_shard *shard = shard_of_hash(scheduler, hash);
    if (scheduler_lock(scheduler, &shard->lock) != LOCK_HELD)
        return THROTTLE_STALE;
    *throttle = find(shard, kind, key, hash);
    if (!*throttle)
        *throttle = make(scheduler, shard, kind, key, hash);
    if (!*throttle) {
        lock_release(&shard->lock);
        return THROTTLE_FULL;
    }
    *is_new = !(*throttle)->configured;
    if (*is_new) {
        (*throttle)->configured = true;
        changed(scheduler, 1);
    }
    return THROTTLE_DONE;
}

void throttle_close(struct scheduler *scheduler, struct throttle *throttle, uint64_t now_ns)
{
    throttle->misses = 0;
    if (throttle->waiting_count)
        throttle_arm(scheduler, throttle, now_ns);
    throttle_unlock(scheduler, throttle);
}

enum throttle_result throttle_unset(struct scheduler *scheduler, enum throttle_kind kind,
                                    struct str key, uint64_t now_ns)
{
    uint64_t hash = hash_of(scheduler, kind, key);
    struct throttle_shard *shard = shard_of_hash(scheduler, hash);
    if (scheduler_lock(scheduler, &shard->lock) != LOCK_HELD)
        return THROTTLE_STALE;
    struct throttle *throttle = find(shard, kind, key, hash);
    if (throttle && throttle->configured) {
        throttle->configured = false;
        changed(scheduler, -1);
        if (throttle->waiting_count)
            throttle_arm(scheduler, throttle, now_ns);
        free_unused(scheduler, throttle);
    }
    lock_release(&shard->lock);
    return THROTTLE_DONE;
}

enum throttle_result throttle_configure(struct scheduler *scheduler, struct str key, double rate,
                                        double burst, uint64_t now_ns)
{
    struct throttle *throttle = NULL;
    bool is_new = false;
    enum throttle_result result =
        throttle_open(scheduler, THROTTLE_BUCKET, key, &throttle, &is_new);
    if (result != THROTTLE_DONE)
        return result;
    if (is_new) {
        throttle->bucket.tokens = burst;
        throttle->bucket.hungry_ns = 0;
    } else {
        refill(throttle, now_ns);
        throttle->bucket.tokens = fmin(throttle->bucket.tokens, burst);
    }
    throttle->bucket.rate = rate;
    throttle->bucket.burst = burst;
    throttle->bucket.refilled_ns = now_ns;
    throttle_close(scheduler, throttle, now_ns);
    return THROTTLE_DONE;
}

enum throttle_result throttle_remove(struct scheduler *scheduler, struct str key, uint64_t now_ns)
{
    return throttle_unset(scheduler, THROTTLE_BUCKET, key, now_ns);
}
