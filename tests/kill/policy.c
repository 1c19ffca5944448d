#include "kill/policy.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kill/client.h"

#define REJECT_EVERY 97u
#define DELAY_EVERY 10u
#define DELAY_MS 300u
#define RETRY_DELAY_MS 200u
#define REDRIVE_PAUSE_MS 50u

const char policy_configuration[] = "lua: {timeout: 5s}\n";

/* One throttle key for all messages of an ordered queue, since sets of one fairness key may
 * overtake each other. */
static const char on_enqueue_format[] =
    "local ordered = %s\n"
    "function on_enqueue(msg)\n"
    "  local sequence = tonumber(msg.headers.mark:match('/(%%d+)$'))\n"
    "  if sequence %% %u == 5 then return { reject = 'one of %u' } end\n"
    "  local verdict = { fairness_key = msg.headers.tenant, weight = 1 + sequence %% 3 }\n"
    "  if ordered then\n"
    "    verdict.throttle_keys = { 'kill:ordered' }\n"
    "  else\n"
    "    verdict.throttle_keys = { 'kill:' .. sequence %% 3, 'kill:all' }\n"
    "    if sequence %% %u == 3 then verdict.delay_ms = %u end\n"
    "  end\n"
    "  return verdict\n"
    "end\n";

static const char on_failure_format[] =
    "function on_failure(msg)\n"
    "  if msg.attempts %% 3 == 0 then return { action = 'dlq' } end\n"
    "  if msg.attempts %% 3 == 1 then return { action = 'retry', delay_ms = %u } end\n"
    "  return { action = 'retry' }\n"
    "end\n";

static const char *const configuration[][2] = {
    {"throttle.kill:0", "300,30"},     {"throttle.kill:1", "2000,200"},
    {"throttle.kill:all", "3000,300"}, {"throttle.kill:ordered", "1500,100"},
    {"concurrency.kill:2", "40"},      {"concurrency.p0-0", "60"},
};

/* --- what the scripts decide --- */

bool policy_rejects(uint32_t sequence)
{
    return sequence % REJECT_EVERY == 5;
}

uint32_t policy_delay_ms(const struct journal_queue *queue, uint32_t sequence)
{
    return !queue->ordered && sequence % DELAY_EVERY == 3 ? DELAY_MS : 0;
}

uint32_t policy_retry_delay_ms(uint32_t attempts)
{
    return attempts % 3 == 1 ? RETRY_DELAY_MS : 0;
}

/* --- on a broker that serves --- */

static int command(struct driver *driver, const char *const *arguments, struct err *err)
{
    char output[512];
    int status = driver->ops->command(driver, arguments, output, sizeof output);
    return status == 0 ? 0 : err_set(err, 0, "fila %s %s: %s", arguments[0], arguments[1], output);
}

int policy_create_queue(struct driver *driver, const struct journal_queue *queue, struct err *err)
{
    char on_enqueue[1024], on_failure[512], visibility[16];
    snprintf(on_enqueue, sizeof on_enqueue, on_enqueue_format, queue->ordered ? "true" : "false",
             REJECT_EVERY, REJECT_EVERY, DELAY_EVERY, DELAY_MS);
    snprintf(on_failure, sizeof on_failure, on_failure_format, RETRY_DELAY_MS);
    snprintf(visibility, sizeof visibility, "%u", queue->visibility_ms);
    const char *arguments[] = {"queue",     "create",
                               queue->name, "--on-enqueue",
                               on_enqueue,  "--on-failure",
                               on_failure,  "--visibility-timeout",
                               visibility,  queue->ordered ? NULL : "--max-attempts",
                               "5",         NULL};
    return command(driver, arguments, err);
}

int policy_configure(struct driver *driver, struct err *err)
{
    for (size_t i = 0; i < sizeof configuration / sizeof configuration[0]; i++) {
        const char *arguments[] = {"config", "set", configuration[i][0], configuration[i][1], NULL};
        if (command(driver, arguments, err) != 0)
            return -1;
    }
    return 0;
}

/* --- redrives --- */

struct redriver {
    struct driver *driver;
    const struct journal_queue *queues;
    unsigned count;
    atomic_bool stop;
    uint64_t answered;
    pthread_t thread;
};

static void *redriver_main(void *argument)
{
    struct redriver *redriver = argument;
    for (unsigned turn = 0; !atomic_load(&redriver->stop); turn++) {
        char name[64];
        struct err err;
        snprintf(name, sizeof name, "%s.dlq", redriver->queues[turn % redriver->count].name);
        /* Every other time only a few: the rest has to be found again. */
        const char *all[] = {"redrive", name, NULL};
        const char *few[] = {"redrive", name, "--count", "3", NULL};
        redriver->answered += command(redriver->driver, turn % 2 ? few : all, &err) == 0;
        client_sleep(REDRIVE_PAUSE_MS);
    }
    return NULL;
}

struct redriver *redriver_start(struct driver *driver, const struct journal_queue *queues,
                                unsigned count)
{
    struct redriver *redriver = calloc(1, sizeof *redriver);
    if (!redriver)
        abort();
    redriver->driver = driver;
    redriver->queues = queues;
    redriver->count = count;
    if (pthread_create(&redriver->thread, NULL, redriver_main, redriver) != 0)
        abort();
    return redriver;
}

uint64_t redriver_stop(struct redriver *redriver)
{
    if (!redriver)
        return 0;
    atomic_store(&redriver->stop, true);
    pthread_join(redriver->thread, NULL);
    uint64_t answered = redriver->answered;
    free(redriver);
    return answered;
}
