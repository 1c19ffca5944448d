#define _GNU_SOURCE 1 /* qsort_r, strcasestr */

#include "cli/top_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/top_text.h"

const char *const top_fields[TOP_FIELDS] = {
    [TOP_DEPTH] = "depth",         [TOP_IN_FLIGHT] = "in_flight",
    [TOP_DELAYED] = "delayed",     [TOP_HELD] = "held",
    [TOP_CONSUMERS] = "consumers", [TOP_DEAD_LETTERS] = "dead_letters",
    [TOP_PAUSED] = "paused",       [TOP_WAIT_P99_MS] = "time_in_queue_p99_ms",
    [TOP_SINCE_MS] = "since_ms",   [TOP_ENQUEUED] = "enqueued_total",
    [TOP_ACKED] = "acked_total",
};

#define NAME_LEAST 8u
#define SPARK_LEAST 8u
#define TALL 9u /* rows from which on there are three lines about the broker and a blank one */

/* --- samples --- */

struct top_queue *top_sample_add(struct top_sample *sample, const char *name)
{
    if (sample->count == sample->room) {
        size_t room = sample->room ? sample->room * 2 : 64;
        struct top_queue *queues = realloc(sample->queues, room * sizeof(*queues));
        if (!queues)
            return NULL;
        sample->queues = queues;
        sample->room = room;
    }
    struct top_queue *queue = &sample->queues[sample->count];
    memset(queue, 0, sizeof(*queue));
    queue->name = strdup(name);
    if (!queue->name)
        return NULL;
    sample->count++;
    return queue;
}

void top_sample_free(struct top_sample *sample)
{
    for (size_t i = 0; i < sample->count; i++)
        free(sample->queues[i].name);
    free(sample->queues);
    memset(sample, 0, sizeof(*sample));
}

/* --- the model --- */

enum top_column {
    COLUMN_NAME,
    COLUMN_DEPTH,
    COLUMN_ENQUEUE,
    COLUMN_ACK,
    COLUMN_IN_FLIGHT,
    COLUMN_ENQUEUE_SPARK,
    COLUMN_ACK_SPARK,
    COLUMN_WAIT,
    COLUMN_CONSUMERS,
    COLUMN_DELAYED,
    COLUMN_HELD,
    COLUMN_DEAD,
    COLUMNS
};

struct top_model {
    const char *address;
    struct top_sample now;
    struct top_bucket commits[TOP_BUCKETS_MAX]; /* of the last interval */
    size_t commit_count;
    float enqueue_rate, ack_rate;
    float enqueue_history[TOP_HISTORY], ack_history[TOP_HISTORY];
    unsigned history;
    unsigned samples;
    char failure[128]; /* empty: none */
    enum top_column order;
    bool reversed, paused, typing;
    char filter[TOP_FILTER_MAX];
    size_t first;                   /* row that is at the top */
    size_t page;                    /* rows that the last screen had room for */
    const struct top_queue **shown; /* those that pass the filter, in order */
    size_t shown_count;
};

struct top_model *top_model_create(const char *address)
{
    struct top_model *model = calloc(1, sizeof(*model));
    if (model) {
        model->address = address;
        model->order = COLUMN_DEPTH;
    }
    return model;
}

void top_model_free(struct top_model *model)
{
    if (!model)
        return;
    top_sample_free(&model->now);
    free(model->shown);
    free(model);
}

unsigned top_model_samples(const struct top_model *model)
{
    return model->samples;
}

const struct top_sample *top_model_now(const struct top_model *model)
{
    return &model->now;
}

static void push(float *history, unsigned count, float value)
{
    if (count == TOP_HISTORY)
        memmove(history, history + 1, (TOP_HISTORY - 1) * sizeof(*history));
    history[count < TOP_HISTORY ? count : TOP_HISTORY - 1] = value;
}

/* A counter that went back is another one: the queue was made anew, or the broker. */
static float rate(uint64_t before, uint64_t now, uint64_t ms)
{
    return now > before && ms ? (float)((double)(now - before) * 1000 / (double)ms) : 0;
}

static void follow(struct top_queue *queue, const struct top_queue *before, uint64_t ms)
{
    if (!before || before->numbers[TOP_SINCE_MS] != queue->numbers[TOP_SINCE_MS])
        return;
    queue->enqueue_rate = rate(before->numbers[TOP_ENQUEUED], queue->numbers[TOP_ENQUEUED], ms);
    queue->ack_rate = rate(before->numbers[TOP_ACKED], queue->numbers[TOP_ACKED], ms);
    memcpy(queue->enqueue_history, before->enqueue_history, sizeof(queue->enqueue_history));
    memcpy(queue->ack_history, before->ack_history, sizeof(queue->ack_history));
    push(queue->enqueue_history, before->history, queue->enqueue_rate);
    push(queue->ack_history, before->history, queue->ack_rate);
    queue->history = (uint8_t)(before->history < TOP_HISTORY ? before->history + 1 : TOP_HISTORY);
}

/* What came since the last sample: a histogram never loses anything but at a new start. */
static void subtract_commits(struct top_model *model, const struct top_sample *sample)
{
    const struct top_sample *old = &model->now;
    bool restarted = sample->up_ms < old->up_ms;
    size_t at = 0;
    model->commit_count = 0;
    for (size_t i = 0; i < sample->commit_count; i++) {
        struct top_bucket bucket = sample->commits[i];
        while (at < old->commit_count && old->commits[at].from < bucket.from)
            at++;
        if (!restarted && at < old->commit_count && old->commits[at].from == bucket.from)
            bucket.count -=
                old->commits[at].count < bucket.count ? old->commits[at].count : bucket.count;
        if (bucket.count)
            model->commits[model->commit_count++] = bucket;
    }
}

void top_model_update(struct top_model *model, struct top_sample *sample)
{
    uint64_t ms = model->samples ? sample->at_ms - model->now.at_ms : 0;
    size_t old = 0;
    model->failure[0] = '\0';
    if (model->paused) {
        top_sample_free(sample);
        return;
    }
    model->enqueue_rate = model->ack_rate = 0;
    for (size_t i = 0; i < sample->count; i++) {
        struct top_queue *queue = &sample->queues[i];
        while (old < model->now.count && strcmp(model->now.queues[old].name, queue->name) < 0)
            old++;
        bool known = old < model->now.count && !strcmp(model->now.queues[old].name, queue->name);
        follow(queue, known ? &model->now.queues[old] : NULL, ms);
        model->enqueue_rate += queue->enqueue_rate;
        model->ack_rate += queue->ack_rate;
    }
    if (model->samples) {
        push(model->enqueue_history, model->history, model->enqueue_rate);
        push(model->ack_history, model->history, model->ack_rate);
        model->history += model->history < TOP_HISTORY;
    }
    subtract_commits(model, sample);
    top_sample_free(&model->now);
    model->now = *sample;
    memset(sample, 0, sizeof(*sample));
    model->samples++;
}

void top_model_failed(struct top_model *model, const char *reason)
{
    snprintf(model->failure, sizeof(model->failure), "%s", reason);
}

/* --- keys --- */

static bool typed(struct top_model *model, unsigned key)
{
    size_t size = strlen(model->filter);
    if (key == TOP_KEY_ENTER) {
        model->typing = false;
    } else if (key == TOP_KEY_ESCAPE) {
        model->typing = false;
        model->filter[0] = '\0';
    } else if (key == TOP_KEY_BACKSPACE) {
        while (size && ((unsigned char)model->filter[size - 1] & 0xc0) == 0x80)
            size--;
        model->filter[size ? size - 1 : 0] = '\0';
    } else if (key >= ' ' && key < TOP_KEY_UP && key != 0x7f) {
        text_put_character(model->filter, sizeof(model->filter), key);
    }
    model->first = 0;
    return false;
}

static void scroll(struct top_model *model, size_t up, size_t down)
{
    model->first = up > model->first ? 0 : model->first - up;
    model->first += down; /* what is too much is taken back when it is drawn */
}

static void next_order(struct top_model *model, unsigned step)
{
    do
        model->order = (enum top_column)((model->order + step) % COLUMNS);
    while (model->order == COLUMN_ENQUEUE_SPARK || model->order == COLUMN_ACK_SPARK);
}

bool top_model_key(struct top_model *model, unsigned key)
{
    if (model->typing)
        return typed(model, key);
    switch (key) {
    case 'q':
    case 'Q':
        return true;
    case 's':
    case TOP_KEY_RIGHT:
        next_order(model, 1);
        break;
    case 'S':
    case TOP_KEY_LEFT:
        next_order(model, COLUMNS - 1);
        break;
    case 'r':
        model->reversed = !model->reversed;
        break;
    case 'p':
    case ' ':
        model->paused = !model->paused;
        break;
    case '/':
        model->typing = true;
        break;
    case TOP_KEY_ESCAPE:
        model->filter[0] = '\0';
        break;
    case TOP_KEY_UP:
    case 'k':
        scroll(model, 1, 0);
        break;
    case TOP_KEY_DOWN:
    case 'j':
        scroll(model, 0, 1);
        break;
    case TOP_KEY_PAGE_UP:
        scroll(model, model->page, 0);
        break;
    case TOP_KEY_PAGE_DOWN:
        scroll(model, 0, model->page);
        break;
    case TOP_KEY_HOME:
    case 'g':
        model->first = 0;
        break;
    case TOP_KEY_END:
    case 'G':
        scroll(model, 0, model->shown_count);
        break;
    default:
        break;
    }
    return false;
}

/* --- which queues, in which order --- */

static double sort_value(const struct top_queue *queue, enum top_column order)
{
    switch (order) {
    case COLUMN_DEPTH:
        return (double)queue->numbers[TOP_DEPTH];
    case COLUMN_ENQUEUE:
        return queue->enqueue_rate;
    case COLUMN_ACK:
        return queue->ack_rate;
    case COLUMN_IN_FLIGHT:
        return (double)queue->numbers[TOP_IN_FLIGHT];
    case COLUMN_WAIT:
        return (double)queue->numbers[TOP_WAIT_P99_MS];
    case COLUMN_CONSUMERS:
        return (double)queue->numbers[TOP_CONSUMERS];
    case COLUMN_DELAYED:
        return (double)queue->numbers[TOP_DELAYED];
    case COLUMN_HELD:
        return (double)queue->numbers[TOP_HELD];
    case COLUMN_DEAD:
        return (double)queue->numbers[TOP_DEAD_LETTERS];
    default:
        return 0;
    }
}

/* The largest numbers first, names from the first one on. */
static int compare(const void *a, const void *b, void *context)
{
    const struct top_model *model = context;
    const struct top_queue *left = *(const struct top_queue *const *)a;
    const struct top_queue *right = *(const struct top_queue *const *)b;
    double x = sort_value(left, model->order), y = sort_value(right, model->order);
    int result = (x < y) - (x > y);
    if (!result)
        result = strcmp(left->name, right->name);
    return model->reversed ? -result : result;
}

static void choose(struct top_model *model)
{
    size_t room = model->now.count ? model->now.count : 1;
    const struct top_queue **shown = realloc(model->shown, room * sizeof(*shown));
    model->shown_count = 0;
    if (!shown)
        return;
    model->shown = shown;
    for (size_t i = 0; i < model->now.count; i++)
        if (!model->filter[0] || strcasestr(model->now.queues[i].name, model->filter))
            model->shown[model->shown_count++] = &model->now.queues[i];
    qsort_r(model->shown, model->shown_count, sizeof(*model->shown), compare, model);
}

/* --- how it looks --- */

struct column {
    const char *title;
    unsigned width; /* without the two blanks before it */
};

static const struct column columns[COLUMNS] = {
    [COLUMN_NAME] = {"QUEUE", NAME_LEAST},
    [COLUMN_DEPTH] = {"DEPTH", 6},
    [COLUMN_ENQUEUE] = {"ENQ/S", 6},
    [COLUMN_ACK] = {"ACK/S", 6},
    [COLUMN_IN_FLIGHT] = {"FLIGHT", 6},
    [COLUMN_ENQUEUE_SPARK] = {"ENQUEUED", SPARK_LEAST},
    [COLUMN_ACK_SPARK] = {"ACKED", SPARK_LEAST},
    [COLUMN_WAIT] = {"WAIT99", 6},
    [COLUMN_CONSUMERS] = {"CONS", 6},
    [COLUMN_DELAYED] = {"DELAYED", 7},
    [COLUMN_HELD] = {"HELD", 6},
    [COLUMN_DEAD] = {"DEAD", 6},
};

struct layout {
    unsigned widths[COLUMNS]; /* 0: not shown */
    const struct top_look *look;
    unsigned peak; /* widest name */
};

static void lay_out(const struct top_model *model, const struct top_look *look,
                    struct layout *layout)
{
    *layout = (struct layout){.look = look, .peak = NAME_LEAST};
    for (size_t i = 0; i < model->shown_count; i++) {
        unsigned width = text_width(model->shown[i]->name, look->utf8);
        layout->peak = width > layout->peak ? width : layout->peak;
    }
    /* A quarter of the screen for names comes before further columns. */
    unsigned used = look->columns / 4 < layout->peak ? look->columns / 4 : layout->peak;
    used = used > NAME_LEAST ? used : NAME_LEAST;
    layout->widths[COLUMN_NAME] = used;
    for (unsigned i = COLUMN_DEPTH; i < COLUMNS && used + 2 + columns[i].width <= look->columns;
         i++) {
        layout->widths[i] = columns[i].width;
        used += 2 + columns[i].width;
    }
    unsigned left = look->columns > used ? look->columns - used : 0;
    unsigned wish = layout->peak - layout->widths[COLUMN_NAME], name = wish < left ? wish : left;
    if (look->columns < NAME_LEAST)
        layout->widths[COLUMN_NAME] = look->columns;
    layout->widths[COLUMN_NAME] += name;
    left -= name;
    for (unsigned i = COLUMN_ENQUEUE_SPARK; i <= COLUMN_ACK_SPARK; i++) {
        if (!layout->widths[i])
            continue;
        unsigned share =
            i == COLUMN_ENQUEUE_SPARK && layout->widths[COLUMN_ACK_SPARK] ? left / 2 : left;
        unsigned most = TOP_HISTORY - SPARK_LEAST;
        share = share < most ? share : most;
        layout->widths[i] += share;
        left -= share;
    }
}

static void style(struct buf *out, const struct top_look *look, const char *sgr)
{
    if (!look->colour)
        return;
    buf_append_c(out, "\033[");
    buf_append_c(out, sgr);
    buf_append_c(out, "m");
}

static void blanks(struct buf *out, unsigned count)
{
    for (; count; count--)
        buf_append_u8(out, ' ');
}

static void right(struct buf *out, const char *text, unsigned width)
{
    unsigned size = (unsigned)strlen(text);
    blanks(out, size < width ? width - size : 0);
    buf_append(out, text, size < width ? size : width);
}

static void draw_titles(const struct top_model *model, const struct layout *layout, struct buf *out)
{
    const struct top_look *look = layout->look;
    unsigned used = 0;
    style(out, look, "7");
    for (unsigned i = 0; i < COLUMNS; i++) {
        unsigned width = layout->widths[i];
        char title[32];
        if (!width)
            continue;
        const char *mark = !look->utf8 ? (model->reversed ? "^" : "v")
                                       : (model->reversed ? "\342\226\264" : "\342\226\276");
        bool chosen = i == model->order;
        snprintf(title, sizeof(title), "%s", columns[i].title);
        if (i)
            blanks(out, 1);
        bool left = i == COLUMN_NAME || i == COLUMN_ENQUEUE_SPARK || i == COLUMN_ACK_SPARK;
        unsigned size = (unsigned)strlen(title);
        size = size < width ? size : width;
        /* The mark stands in the blank column before a number, behind a name. */
        if (i && (left || !chosen || size < width))
            blanks(out, 1);
        if (!left)
            blanks(out, width - size - (chosen && size < width));
        if (chosen && i)
            buf_append_c(out, mark);
        buf_append(out, title, size);
        if (left)
            blanks(out, width - size - (chosen && size < width));
        if (chosen && !i && size < width)
            buf_append_c(out, mark);
        used += width + (i ? 2 : 0);
    }
    blanks(out, look->columns - used);
    style(out, look, "0");
}

static void draw_number(struct buf *out, const struct layout *layout, enum top_column column,
                        double value, const char *colour)
{
    char text[16];
    if (!layout->widths[column])
        return;
    text_number(text, value);
    blanks(out, 2);
    style(out, layout->look, value > 0 ? colour : "2");
    right(out, text, layout->widths[column]);
    style(out, layout->look, "0");
}

static void draw_spark(struct buf *out, const struct layout *layout, enum top_column column,
                       const float *values, unsigned count, const char *colour)
{
    if (!layout->widths[column])
        return;
    blanks(out, 2);
    style(out, layout->look, colour);
    text_sparkline(out, values, count, layout->widths[column], layout->look->utf8);
    style(out, layout->look, "0");
}

static void draw_wait(struct buf *out, const struct layout *layout, const struct top_queue *queue)
{
    char text[16];
    if (!layout->widths[COLUMN_WAIT])
        return;
    text_duration(text, (double)queue->numbers[TOP_WAIT_P99_MS]);
    blanks(out, 2);
    style(out, layout->look, queue->numbers[TOP_WAIT_P99_MS] ? "0" : "2");
    right(out, queue->numbers[TOP_WAIT_P99_MS] ? text : "0", layout->widths[COLUMN_WAIT]);
    style(out, layout->look, "0");
}

static void draw_queue(const struct top_queue *queue, const struct layout *layout, struct buf *out)
{
    const uint64_t *numbers = queue->numbers;
    char label[320]; /* a name has at most 259 bytes */
    snprintf(label, sizeof(label), "%s%s", numbers[TOP_PAUSED] ? "(paused) " : "", queue->name);
    style(out, layout->look, numbers[TOP_PAUSED] ? "33" : "1");
    text_put(out, label, layout->widths[COLUMN_NAME], true, layout->look->utf8);
    style(out, layout->look, "0");
    draw_number(out, layout, COLUMN_DEPTH, (double)numbers[TOP_DEPTH], "0");
    draw_number(out, layout, COLUMN_ENQUEUE, queue->enqueue_rate, "32");
    draw_number(out, layout, COLUMN_ACK, queue->ack_rate, "36");
    draw_number(out, layout, COLUMN_IN_FLIGHT, (double)numbers[TOP_IN_FLIGHT], "0");
    draw_spark(out, layout, COLUMN_ENQUEUE_SPARK, queue->enqueue_history, queue->history, "32");
    draw_spark(out, layout, COLUMN_ACK_SPARK, queue->ack_history, queue->history, "36");
    draw_wait(out, layout, queue);
    draw_number(out, layout, COLUMN_CONSUMERS, (double)numbers[TOP_CONSUMERS], "0");
    draw_number(out, layout, COLUMN_DELAYED, (double)numbers[TOP_DELAYED], "33");
    draw_number(out, layout, COLUMN_HELD, (double)numbers[TOP_HELD], "33");
    draw_number(out, layout, COLUMN_DEAD, (double)numbers[TOP_DEAD_LETTERS], "31");
}

static double commit_quantile(const struct top_model *model, unsigned permille)
{
    uint64_t total = 0, seen = 0;
    for (size_t i = 0; i < model->commit_count; i++)
        total += model->commits[i].count;
    for (size_t i = 0; i < model->commit_count; i++) {
        const struct top_bucket *bucket = &model->commits[i];
        seen += bucket->count;
        if (seen * 1000 >= total * permille && seen)
            return (double)(bucket->from + (bucket->below - 1 - bucket->from) / 2) / 1000;
    }
    return 0;
}

/* Lines about the broker are made whole and cut to the width. */
static void draw_title(const struct top_model *model, const struct top_look *look, struct buf *out)
{
    char line[512], up[16], connections[16];
    text_duration(up, (double)model->now.up_ms);
    text_number(connections, (double)model->now.connections);
    snprintf(line, sizeof(line), "fila top %s  queues %zu  connections %s  up %s%s%s",
             model->address, model->now.count, connections, up, model->paused ? "  PAUSED" : "",
             model->failure[0] ? "  NOT CONNECTED" : "");
    style(out, look, model->failure[0] ? "1;31" : "1");
    text_put(out, model->samples || model->failure[0] ? line : "fila top: waiting for the broker",
             look->columns, false, look->utf8);
    style(out, look, "0");
}

static void draw_rate(const struct top_model *model, const struct top_look *look, struct buf *out,
                      bool acks)
{
    char text[16], label[64];
    unsigned width = look->columns > 37 ? look->columns - 37 : 0; /* behind the label */
    text_number(text, acks ? model->ack_rate : model->enqueue_rate);
    uint64_t depth = 0, in_flight = 0;
    for (size_t i = 0; i < model->now.count; i++) {
        depth += model->now.queues[i].numbers[TOP_DEPTH];
        in_flight += model->now.queues[i].numbers[TOP_IN_FLIGHT];
    }
    char total[16];
    text_number(total, (double)(acks ? in_flight : depth));
    snprintf(label, sizeof(label), "%-8s %6s/s  %-9s %6s", acks ? "acked" : "enqueued", text,
             acks ? "in flight" : "depth", total);
    text_put(out, label, look->columns, false, look->utf8);
    if (width < SPARK_LEAST)
        return;
    blanks(out, 2);
    style(out, look, acks ? "36" : "32");
    text_sparkline(out, acks ? model->ack_history : model->enqueue_history, model->history,
                   width < TOP_HISTORY ? width : TOP_HISTORY, look->utf8);
    style(out, look, "0");
}

static void draw_commits(const struct top_model *model, const struct top_look *look,
                         struct buf *out)
{
    char p50[16], p99[16], most[16], line[128];
    text_duration(p50, commit_quantile(model, 500));
    text_duration(p99, commit_quantile(model, 990));
    text_duration(most, commit_quantile(model, 1000));
    snprintf(line, sizeof(line), "commit   p50 %s  p99 %s  max %s", p50, p99, most);
    text_put(out, model->commit_count ? line : "commit   nothing was written", look->columns, false,
             look->utf8);
}

static void draw_help(const struct top_model *model, const struct top_look *look, struct buf *out)
{
    char line[256];
    if (model->typing)
        snprintf(line, sizeof(line), "/%s_", model->filter);
    else if (model->failure[0])
        snprintf(line, sizeof(line), "%s; trying again", model->failure);
    else if (model->filter[0])
        snprintf(line, sizeof(line), "%zu of %zu match \"%s\"  Esc all  / change  q quit",
                 model->shown_count, model->now.count, model->filter);
    else
        snprintf(line, sizeof(line), "q quit  s/S sort  r reverse  / filter  p %s  arrows scroll",
                 model->paused ? "go on" : "pause");
    style(out, look, model->failure[0] ? "31" : "2");
    text_put(out, line, look->columns, false, look->utf8);
    style(out, look, "0");
}

void top_model_render(struct top_model *model, const struct top_look *look, struct buf *out)
{
    struct layout layout;
    bool all = look->rows == 0, tall = all || look->rows >= TALL;
    unsigned used = 1;
    choose(model);
    lay_out(model, look, &layout);
    draw_title(model, look, out);
    if (tall) {
        buf_append_u8(out, '\n');
        draw_rate(model, look, out, false);
        buf_append_u8(out, '\n');
        draw_rate(model, look, out, true);
        buf_append_u8(out, '\n');
        draw_commits(model, look, out);
        buf_append_u8(out, '\n');
        used += 4;
    }
    if (all || look->rows >= used + 2) {
        buf_append_u8(out, '\n');
        draw_titles(model, &layout, out);
        used++;
    }
    model->page = all ? model->shown_count : look->rows > used + 1 ? look->rows - used - 1 : 0;
    if (model->first + model->page > model->shown_count)
        model->first = model->shown_count > model->page ? model->shown_count - model->page : 0;
    for (size_t i = 0; i < model->page; i++) {
        buf_append_u8(out, '\n');
        if (model->first + i < model->shown_count)
            draw_queue(model->shown[model->first + i], &layout, out);
    }
    if (!all && look->rows > used) {
        buf_append_u8(out, '\n');
        draw_help(model, look, out);
    }
}
