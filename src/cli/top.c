#define _GNU_SOURCE 1 /* pipe2 */

/* fila top: a thread asks the broker, the main thread has the terminal. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/output.h"
#include "cli/terminal.h"
#include "cli/top_model.h"
#include "os/thread.h"
#include "os/time.h"

#define INTERVAL_MS 1000u
#define INTERVAL_LEAST_MS 100u
#define PATIENCE_MS 3000u /* for a connection and for an answer: then it is tried again */

/* Asks again and again, until told to stop. */
struct top_asker {
    struct fila_options options;
    uint64_t interval_ms;
    struct fila *client;
    struct fila_error error;
    struct thread thread;
    int pipe[2]; /* a byte when there is something new */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* under the lock */
    bool stop, fresh;
    struct top_sample sample;     /* when it is fresh and `failure` is empty */
    char failure[FILA_TEXT_SIZE]; /* why there is none */
};

/* --- asking --- */

static bool top_take_page(const struct fila_queue_details *page, struct top_sample *sample)
{
    size_t fields[TOP_FIELDS];
    for (unsigned i = 0; i < TOP_FIELDS; i++)
        fields[i] = fila_queue_details_field(page, top_fields[i]);
    for (size_t i = 0; i < page->queue_count; i++) {
        struct top_queue *queue = top_sample_add(sample, page->queues[i].name);
        if (!queue)
            return false;
        for (unsigned j = 0; j < TOP_FIELDS; j++)
            if (fields[j] != SIZE_MAX)
                queue->numbers[j] = page->queues[i].values[fields[j]];
    }
    return true;
}

static void top_take_broker(const struct fila_queue_details *page, struct top_sample *sample)
{
    sample->at_ms = time_monotonic_ms();
    sample->connections = fila_queue_details_broker(page, "connections");
    uint64_t now_ms = fila_queue_details_broker(page, "now_ms");
    uint64_t since_ms = fila_queue_details_broker(page, "since_ms");
    sample->up_ms = now_ms > since_ms ? now_ms - since_ms : 0;
    sample->commit_count =
        page->commits.count < TOP_BUCKETS_MAX ? page->commits.count : TOP_BUCKETS_MAX;
    for (size_t i = 0; i < sample->commit_count; i++)
        sample->commits[i] =
            (struct top_bucket){page->commits.buckets[i].from, page->commits.buckets[i].below,
                                page->commits.buckets[i].count};
}

/* All queues, page by page. 0, or -1 with `error`. */
static int top_ask(struct fila *client, struct top_sample *sample, struct fila_error *error)
{
    struct fila_queue_details *page = NULL, *next;
    struct fila_details_options options = {NULL, NULL, 0, false};
    do {
        if (page && page->queue_count)
            options.after = page->queues[page->queue_count - 1].name;
        next = fila_queue_details(client, &options, error);
        if (!page && next)
            top_take_broker(next, sample);
        fila_queue_details_free(page);
        page = next;
        if (page && !top_take_page(page, sample)) {
            fila_queue_details_free(page);
            page = NULL;
            error->code = FILA_NO_MEMORY;
            snprintf(error->text, sizeof(error->text), "no memory");
        }
    } while (page && page->more && page->queue_count);
    fila_queue_details_free(page);
    if (page)
        return 0;
    top_sample_free(sample);
    return -1;
}

static int top_sample(struct top_asker *asker, struct top_sample *sample)
{
    memset(sample, 0, sizeof(*sample));
    if (!asker->client)
        asker->client = fila_connect(&asker->options, &asker->error);
    if (!asker->client)
        return -1;
    if (top_ask(asker->client, sample, &asker->error) == 0)
        return 0;
    fila_close(asker->client);
    asker->client = NULL;
    return -1;
}

static void top_publish(struct top_asker *asker, struct top_sample *sample, bool ok)
{
    pthread_mutex_lock(&asker->lock);
    if (asker->fresh && !asker->failure[0])
        top_sample_free(&asker->sample);
    asker->fresh = true;
    asker->sample = *sample;
    asker->failure[0] = '\0';
    if (!ok)
        snprintf(asker->failure, sizeof(asker->failure), "%s", asker->error.text);
    if (write(asker->pipe[1], "", 1) != 1) {
        /* It is full: who reads it will look. */
    }
    pthread_mutex_unlock(&asker->lock);
}

/* Until `until_ms` or the end; true: it is the end. */
static bool top_rest(struct top_asker *asker, uint64_t until_ms)
{
    struct timespec until = {(time_t)(until_ms / 1000), (long)(until_ms % 1000) * 1000000L};
    pthread_mutex_lock(&asker->lock);
    while (!asker->stop && pthread_cond_timedwait(&asker->wake, &asker->lock, &until) != ETIMEDOUT)
        continue;
    bool stop = asker->stop;
    pthread_mutex_unlock(&asker->lock);
    return stop;
}

static void top_run(void *argument)
{
    struct top_asker *asker = argument;
    uint64_t next_ms;
    do {
        struct top_sample sample;
        next_ms = time_monotonic_ms() + asker->interval_ms;
        bool ok = top_sample(asker, &sample) == 0;
        top_publish(asker, &sample, ok);
    } while (!top_rest(asker, next_ms));
    fila_close(asker->client);
    asker->client = NULL;
}

static int top_start(struct top_asker *asker, struct err *err)
{
    pthread_condattr_t attributes;
    if (pipe2(asker->pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return err_set_errno(err, errno, "pipe");
    pthread_mutex_init(&asker->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&asker->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    if (thread_create(&asker->thread, "top", top_run, asker, err) == 0)
        return 0;
    close(asker->pipe[0]);
    close(asker->pipe[1]);
    return -1;
}

static void top_stop(struct top_asker *asker)
{
    pthread_mutex_lock(&asker->lock);
    asker->stop = true;
    pthread_cond_signal(&asker->wake);
    pthread_mutex_unlock(&asker->lock);
    thread_join(&asker->thread);
    if (asker->fresh && !asker->failure[0])
        top_sample_free(&asker->sample);
    pthread_cond_destroy(&asker->wake);
    pthread_mutex_destroy(&asker->lock);
    close(asker->pipe[0]);
    close(asker->pipe[1]);
}

/* Gives what is new to the model. */
static void top_collect(struct top_asker *asker, struct top_model *model)
{
    char bytes[64];
    struct top_sample sample = {0};
    char failure[FILA_TEXT_SIZE] = "";
    while (read(asker->pipe[0], bytes, sizeof(bytes)) > 0)
        continue;
    pthread_mutex_lock(&asker->lock);
    bool fresh = asker->fresh;
    if (fresh) {
        sample = asker->sample;
        memcpy(failure, asker->failure, sizeof(failure));
    }
    asker->fresh = false;
    pthread_mutex_unlock(&asker->lock);
    if (fresh && failure[0])
        top_model_failed(model, failure);
    else if (fresh)
        top_model_update(model, &sample);
}

/* --- the live view --- */

static void top_draw(struct top_model *model, const struct top_look *fixed, struct buf *out)
{
    struct top_look look = *fixed;
    terminal_size(&look.columns, &look.rows);
    buf_clear(out);
    top_model_render(model, &look, out);
    if (!out->failed)
        terminal_draw(out);
}

static void top_loop(struct top_asker *asker, struct top_model *model, const struct top_look *look)
{
    struct buf out;
    bool quit = false;
    buf_init(&out, 0);
    while (!quit) {
        top_draw(model, look, &out);
        enum terminal_event event = terminal_wait(asker->pipe[0], -1);
        unsigned key;
        quit = event == TERMINAL_END;
        while (event == TERMINAL_KEYS && !quit && (key = terminal_key()) != 0)
            quit = top_model_key(model, key);
        if (event == TERMINAL_READY)
            top_collect(asker, model);
    }
    buf_free(&out);
}

static int top_live(struct top_asker *asker, struct top_model *model)
{
    const char *no_colour = getenv("NO_COLOR"), *kind = getenv("TERM");
    struct err err = {0};
    bool dumb = !kind || strcmp(kind, "dumb") == 0;
    struct top_look look = {.utf8 = terminal_is_utf8(),
                            .colour = !(no_colour && no_colour[0]) && !dumb};
    if (dumb)
        return cli_misused("top: this terminal cannot move its cursor: use --once or --json");
    terminal_block_signals();
    if (top_start(asker, &err) != 0) {
        fprintf(stderr, "fila: top: %s\n", err.text);
        return CLI_REFUSED;
    }
    if (terminal_open(&err) == 0)
        top_loop(asker, model, &look);
    terminal_close();
    top_stop(asker);
    if (err.text[0])
        return cli_misused("top: %s", err.text);
    return terminal_signal() == SIGINT || !terminal_signal() ? CLI_OK : 128 + terminal_signal();
}

/* --- for scripts --- */

static void top_json(const struct top_model *model)
{
    struct output_json json;
    const struct top_sample *now = top_model_now(model);
    output_json_init(&json, stdout);
    output_object(&json, NULL);
    output_unsigned(&json, "up_ms", now->up_ms);
    output_unsigned(&json, "connections", now->connections);
    output_array(&json, "queues");
    for (size_t i = 0; i < now->count; i++) {
        const struct top_queue *queue = &now->queues[i];
        output_object(&json, NULL);
        output_c_text(&json, "name", queue->name);
        for (unsigned j = 0; j < TOP_FIELDS; j++)
            output_unsigned(&json, top_fields[j], queue->numbers[j]);
        output_double(&json, "enqueued_per_second", (double)queue->enqueue_rate);
        output_double(&json, "acked_per_second", (double)queue->ack_rate);
        output_object_end(&json);
    }
    output_array_end(&json);
    output_object_end(&json);
    output_line(&json);
}

static void top_table(struct top_model *model)
{
    struct top_look look = {.columns = 120, .utf8 = terminal_is_utf8()};
    struct buf out;
    if (isatty(STDOUT_FILENO))
        terminal_size(&look.columns, &look.rows);
    look.rows = 0;
    buf_init(&out, 0);
    top_model_render(model, &look, &out);
    buf_append_u8(&out, '\n');
    fwrite(out.data, 1, out.failed ? 0 : out.size, stdout);
    buf_free(&out);
}

/* Rates need two samples: the first one is not shown. */
static int top_script(struct top_asker *asker, struct top_model *model, bool once, bool json)
{
    struct timespec interval = {(time_t)(asker->interval_ms / 1000),
                                (long)(asker->interval_ms % 1000) * 1000000L};
    for (;;) {
        struct top_sample sample;
        if (top_sample(asker, &sample) != 0) {
            fprintf(stderr, "fila: top: %s\n", asker->error.text);
            return CLI_REFUSED;
        }
        top_model_update(model, &sample);
        if (top_model_samples(model) > 1) {
            if (json)
                top_json(model);
            else
                top_table(model);
            if (fflush(stdout) != 0)
                return CLI_REFUSED;
            if (once)
                return CLI_OK;
        }
        (void)nanosleep(&interval, NULL);
    }
}

static int top(struct cli *cli, const struct args *args)
{
    bool once = args_value(args, "once") != NULL;
    struct top_asker asker = {.interval_ms = INTERVAL_MS, .error = FILA_ERROR_INIT};
    int status;
    if (!args_number(args, "interval", &asker.interval_ms))
        return CLI_USAGE;
    if (asker.interval_ms < INTERVAL_LEAST_MS || asker.interval_ms > 3600000)
        return cli_misused("--interval: from %u to 3600000 milliseconds", INTERVAL_LEAST_MS);
    if (!once && !cli->json && (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)))
        return cli_misused("top: standard input and output are no terminal: use --once or --json");
    fila_options_init(&asker.options);
    asker.options.address = cli->address;
    asker.options.connect_timeout_ms = PATIENCE_MS;
    asker.options.request_timeout_ms = PATIENCE_MS;
    struct top_model *model = top_model_create(cli->address ? cli->address : "localhost:5555");
    if (!model) {
        fprintf(stderr, "fila: no memory\n");
        return CLI_REFUSED;
    }
    if (once || cli->json)
        status = top_script(&asker, model, once, cli->json);
    else
        status = top_live(&asker, model);
    fila_close(asker.client);
    fila_error_clear(&asker.error);
    top_model_free(model);
    return status;
}

static const struct args_option top_options[] = {
    {"interval", 0, "MS", "how often the broker is asked (1000)", false},
    {"once", 0, NULL, "print one table and end; with --json one line", false},
    {NULL, 0, NULL, NULL, false},
};

const struct args_command cli_top_commands[] = {
    {"top", "", 0, 0, "Watch all queues, live", top_options, top},
    {NULL, NULL, 0, 0, NULL, NULL, NULL},
};
