/*
 * example - a module to begin with: it shows each thing that a module may be made of. It is not
 * built unless configure is told so; filad-modules(7) tells how to build a copy of it.
 *
 *   example: {header: tenant, separator: "-"}
 *
 * The fairness key of a message becomes what stands before the separator in the header, so that
 * "acme-eu-1" and "acme-us-7" share what "acme" gets. The module counts messages, by queue, too.
 */
#include <stdlib.h>
#include <string.h>

#include "fibp/framed.h"
#include "hook/hook.h"
#include "os/log.h"

#define EXAMPLE_QUEUES 32 /* clients choose the names: no more than this are remembered */
#define EXAMPLE_NAME_MAX 64

/* --- configuration --- */

/* The section is read into this; no code is needed for it, -t and -T know it from the table. */
struct example_conf {
    char *header; /* NULL: keys stay as they are */
    char *separator;
};

static const struct schema_key example_keys[] = {
    {.name = "header",
     .type = SCHEMA_STRING,
     .offset = offsetof(struct example_conf, header),
     .min = 1,
     .max = 65535,
     .doc = "header that the fairness key is taken from"},
    {.name = "separator",
     .type = SCHEMA_STRING,
     .offset = offsetof(struct example_conf, separator),
     .initial = "-",
     .min = 1,
     .max = 1,
     .doc = "the key ends before this character"},
    {.type = SCHEMA_END},
};

/* --- statistics --- */

/* The enum has the order of the table. */
enum { EXAMPLE_MESSAGES, EXAMPLE_STAMPED, EXAMPLE_SEEN_QUEUES };

static const struct hook_statistic example_statistics[] = {
    [EXAMPLE_MESSAGES] = {"messages", "messages enqueued", HOOK_COUNTER},
    [EXAMPLE_STAMPED] = {"stamped", "messages that got a key from the header", HOOK_COUNTER},
    [EXAMPLE_SEEN_QUEUES] = {"queues", "queues remembered, by each worker", HOOK_GAUGE},
    {.name = NULL},
};

/* --- the state of a worker --- */

struct example_queue {
    char name[EXAMPLE_NAME_MAX + 1];
    uint64_t messages;
};

struct example {
    const struct example_conf *conf;
    _Atomic uint64_t *statistics; /* of this worker: nobody else writes them */
    size_t count;
    struct example_queue queues[EXAMPLE_QUEUES];
};

static int example_init(const void *conf, const struct conf *all,
                        const struct hook_services *services, void **state, struct err *err)
{
    struct example *example = calloc(1, sizeof *example);

    (void)all;
    if (!example)
        return err_set(err, 0, "out of memory");
    example->conf = conf;
    example->statistics = services->statistics;
    *state = example;
    return 0;
}

static void example_exit(void *state)
{
    free(state);
}

/* --- messages --- */

static void example_count(struct example *example, size_t statistic)
{
    atomic_fetch_add_explicit(&example->statistics[statistic], 1, memory_order_relaxed);
}

static void example_count_queue(struct example *example, struct str name)
{
    size_t i = 0;

    if (name.size == 0 || name.size > EXAMPLE_NAME_MAX)
        return;
    while (i < example->count && !str_equal(name, str_from_c(example->queues[i].name)))
        i++;
    if (i == EXAMPLE_QUEUES)
        return;
    if (i == example->count) {
        memcpy(example->queues[i].name, name.data, name.size);
        atomic_store(&example->statistics[EXAMPLE_SEEN_QUEUES], ++example->count);
    }
    example->queues[i].messages++;
}

/* Once for each message, on the thread that serves clients: no waiting, no system calls. */
static void example_on_enqueue(void *state, const struct hook_message *message,
                               struct hook_memory *memory, struct hook_verdict *verdict)
{
    struct example *example = state;
    const struct example_conf *conf = example->conf;
    struct str value;

    (void)memory; /* for what a verdict points to and that is not in the message */
    example_count(example, EXAMPLE_MESSAGES);
    example_count_queue(example, message->queue);
    if (!conf->header || !framed_headers_find(message->headers, str_from_c(conf->header), &value) ||
        !value.size)
        return;

    const uint8_t *end = memchr(value.data, conf->separator[0], value.size);
    if (end)
        value.size = (size_t)(end - value.data);
    /* hook.h says what becomes of a key that is too long: nothing has to be checked here. */
    verdict->fairness_key = value;
    example_count(example, EXAMPLE_STAMPED);
}

/* --- processes and commands --- */

static int example_process_start(enum hook_role role, const void *conf, const struct conf *all,
                                 void **state, struct err *err)
{
    static const char *const names[] = {"master", "keeper", "worker"};

    (void)all;
    (void)err;
    log_write(LOG_INFO, "example", "begins in a %s", names[role]);
    *state = (void *)(uintptr_t)conf; /* never written */
    return 0;
}

static void example_process_exit(enum hook_role role, void *state)
{
    (void)state;
    if (role == HOOK_MASTER)
        log_write(LOG_INFO, "example", "ends in the master");
}

/* filad -x example.show */
static int example_show(void *state, struct str argument, struct buf *answer, struct err *err)
{
    const struct example_conf *conf = state;

    if (argument.size)
        return err_set(err, 0, "show takes no argument");
    if (conf->header)
        buf_printf(answer, "the key is what stands before %s in %s", conf->separator, conf->header);
    else
        buf_append_c(answer, "keys are left as they are");
    return 0;
}

static const struct hook_command example_commands[] = {
    {"show", "where keys come from", example_show},
    {.name = NULL},
};

/* --- HTTP --- */

static void example_page(void *state, const struct hook_http_request *request,
                         struct hook_http_response *response)
{
    const struct example *example = state;

    if (!str_equal(request->method, STR("GET"))) {
        response->status = 405;
        return;
    }
    for (size_t i = 0; i < example->count; i++)
        buf_printf(&response->body, "%s %llu\n", example->queues[i].name,
                   (unsigned long long)example->queues[i].messages);
}

static const struct hook_page example_pages[] = {
    {"/example", "messages of each queue, as this worker has seen them", example_page},
    {.path = NULL},
};

/* 3: the version of hook.h that this was written for. */
HOOK_MODULE(example, 3, .section = "example", .keys = example_keys,
            .conf_size = sizeof(struct example_conf), .statistics = example_statistics,
            .commands = example_commands, .pages = example_pages,
            .process_start = example_process_start, .process_exit = example_process_exit,
            .init = example_init, .on_enqueue = example_on_enqueue, .exit = example_exit);
