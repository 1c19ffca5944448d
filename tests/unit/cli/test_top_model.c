/* fila top without a terminal: sorting, filtering, scrolling, and that every screen fits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/top_model.h"
#include "cli/top_text.h"

#define LINES_MAX 512

struct screen {
    struct buf buf;
    char *lines[LINES_MAX];
    unsigned count;
};

static void screen_free(struct screen *screen)
{
    buf_free(&screen->buf);
}

static void draw(struct top_model *model, struct top_look look, struct screen *screen)
{
    buf_init(&screen->buf, 0);
    screen->count = 0;
    top_model_render(model, &look, &screen->buf);
    buf_append_u8(&screen->buf, 0);
    assert_false(screen->buf.failed);
    for (char *at = (char *)screen->buf.data; at; screen->count++) {
        assert_true(screen->count < LINES_MAX);
        screen->lines[screen->count] = at;
        at = strchr(at, '\n');
        if (at)
            *at++ = '\0';
    }
}

static struct top_queue *add(struct top_sample *sample, const char *name, uint64_t depth,
                             uint64_t enqueued, uint64_t acked)
{
    struct top_queue *queue = top_sample_add(sample, name);
    assert_non_null(queue);
    queue->numbers[TOP_DEPTH] = depth;
    queue->numbers[TOP_ENQUEUED] = enqueued;
    queue->numbers[TOP_ACKED] = acked;
    return queue;
}

/* Three queues, two seconds apart, the second time with what happened meanwhile. */
static struct top_model *make_model(void)
{
    struct top_model *model = top_model_create("host:1");
    struct top_sample sample = {.at_ms = 1000, .up_ms = 5000};
    assert_non_null(model);
    sample.commits[0] = (struct top_bucket){1024, 1280, 10};
    sample.commit_count = 1;
    add(&sample, "alpha", 5, 100, 100);
    add(&sample, "beta", 50, 100, 100);
    add(&sample, "gamma", 500, 100, 100);
    top_model_update(model, &sample);
    sample = (struct top_sample){.at_ms = 3000, .up_ms = 7000};
    sample.commits[0] = (struct top_bucket){1024, 1280, 10};
    sample.commits[1] = (struct top_bucket){8192, 10240, 1};
    sample.commit_count = 2;
    add(&sample, "alpha", 5, 300, 100);
    add(&sample, "beta", 50, 100, 180);
    add(&sample, "delta", 1, 1000000, 0);
    add(&sample, "gamma", 500, 100, 100);
    top_model_update(model, &sample);
    return model;
}

static unsigned row_of(const struct screen *screen, const char *name)
{
    for (unsigned i = 1; i < screen->count; i++)
        if (strncmp(screen->lines[i], name, strlen(name)) == 0)
            return i;
    return 0;
}

static const struct top_look plain = {.columns = 120, .rows = 20};

static void rates_come_from_two_samples(void **state)
{
    struct top_model *model = make_model();
    struct screen screen;
    (void)state;
    const struct top_sample *now = top_model_now(model);
    assert_true(now->queues[0].enqueue_rate == 100);
    assert_true(now->queues[1].ack_rate == 40);
    assert_true(now->queues[2].enqueue_rate == 0); /* new: what it counted before is unknown */
    draw(model, plain, &screen);
    assert_non_null(strstr(screen.lines[1], "100/s"));
    assert_non_null(strstr(screen.lines[2], "40/s"));
    assert_non_null(strstr(screen.lines[3], "p99 9.2ms")); /* of the last two seconds */
    screen_free(&screen);
    top_model_free(model);
}

static void a_counter_that_went_back_has_no_rate(void **state)
{
    struct top_model *model = make_model();
    struct top_sample sample = {.at_ms = 5000, .up_ms = 10};
    (void)state;
    add(&sample, "alpha", 5, 10, 10);
    add(&sample, "beta", 5, 200, 200)->numbers[TOP_SINCE_MS] = 77;
    top_model_update(model, &sample);
    assert_true(top_model_now(model)->queues[0].enqueue_rate == 0);
    assert_true(top_model_now(model)->queues[1].enqueue_rate == 0);
    top_model_free(model);
}

static void keys_sort_and_reverse(void **state)
{
    struct top_model *model = make_model();
    struct screen screen;
    (void)state;
    draw(model, plain, &screen); /* by depth */
    assert_true(row_of(&screen, "gamma") < row_of(&screen, "beta"));
    assert_true(row_of(&screen, "beta") < row_of(&screen, "alpha"));
    assert_non_null(strstr(screen.lines[5], "vDEPTH"));
    screen_free(&screen);
    top_model_key(model, 's'); /* by what is enqueued */
    draw(model, plain, &screen);
    assert_int_equal(row_of(&screen, "alpha"), 6);
    assert_non_null(strstr(screen.lines[5], "vENQ/S"));
    screen_free(&screen);
    top_model_key(model, 'r');
    draw(model, plain, &screen);
    assert_int_equal(row_of(&screen, "alpha"), 9);
    screen_free(&screen);
    top_model_key(model, 'r');
    top_model_key(model, TOP_KEY_LEFT);
    top_model_key(model, TOP_KEY_LEFT); /* by name */
    draw(model, plain, &screen);
    assert_int_equal(row_of(&screen, "alpha"), 6);
    assert_int_equal(row_of(&screen, "gamma"), 9);
    screen_free(&screen);
    for (unsigned i = 0; i < 100; i++) { /* every order can be drawn */
        top_model_key(model, i < 50 ? 's' : TOP_KEY_LEFT);
        draw(model, plain, &screen);
        assert_true(row_of(&screen, "gamma") > 0);
        screen_free(&screen);
    }
    top_model_free(model);
}

static void type(struct top_model *model, const char *text)
{
    for (; *text; text++)
        assert_false(top_model_key(model, (unsigned char)*text));
}

static void a_filter_is_typed(void **state)
{
    struct top_model *model = make_model();
    struct screen screen;
    (void)state;
    type(model, "/Qelta"); /* no letter of it is a command now */
    for (unsigned i = 0; i < 5; i++)
        top_model_key(model, TOP_KEY_BACKSPACE);
    type(model, "ETA");
    draw(model, plain, &screen);
    assert_string_equal(screen.lines[screen.count - 1], "/ETA_");
    assert_true(row_of(&screen, "beta") && !row_of(&screen, "alpha"));
    screen_free(&screen);
    top_model_key(model, TOP_KEY_ENTER);
    draw(model, plain, &screen);
    assert_non_null(strstr(screen.lines[screen.count - 1], "1 of 4 match \"ETA\""));
    screen_free(&screen);
    top_model_key(model, TOP_KEY_ESCAPE);
    draw(model, plain, &screen);
    assert_true(row_of(&screen, "alpha") > 0);
    screen_free(&screen);
    type(model, "/");
    for (unsigned i = 0; i < 1000; i++) /* more than there is room for, in four bytes each */
        top_model_key(model, 0x1f600);
    draw(model, plain, &screen);
    screen_free(&screen);
    top_model_key(model, TOP_KEY_ENTER);
    assert_true(top_model_key(model, 'q'));
    top_model_free(model);
}

static void while_it_is_paused_nothing_changes(void **state)
{
    struct top_model *model = make_model();
    struct top_sample sample = {.at_ms = 5000};
    (void)state;
    add(&sample, "omega", 1, 0, 0);
    top_model_key(model, 'p');
    top_model_update(model, &sample);
    assert_int_equal(top_model_now(model)->count, 4);
    top_model_key(model, 'p');
    memset(&sample, 0, sizeof(sample));
    add(&sample, "omega", 1, 0, 0);
    top_model_update(model, &sample);
    assert_int_equal(top_model_now(model)->count, 1);
    top_model_free(model);
}

static void a_paused_queue_is_marked(void **state)
{
    struct top_model *model = make_model();
    struct top_sample sample = {.at_ms = 5000};
    struct screen screen;
    bool marked = false;
    (void)state;
    add(&sample, "a queue that is paused", 1, 0, 0);
    sample.queues[0].numbers[TOP_PAUSED] = 1;
    top_model_update(model, &sample);
    draw(model, plain, &screen);
    for (unsigned i = 0; i < plain.rows; i++)
        marked = marked || strstr(screen.lines[i], "(paused) a ");
    assert_true(marked);
    screen_free(&screen);
    top_model_free(model);
}

static void a_broker_that_is_gone_is_said(void **state)
{
    struct top_model *model = make_model();
    struct screen screen;
    (void)state;
    top_model_failed(model, "Connection refused");
    draw(model, plain, &screen);
    assert_non_null(strstr(screen.lines[0], "NOT CONNECTED"));
    assert_string_equal(screen.lines[screen.count - 1], "Connection refused; trying again");
    assert_true(row_of(&screen, "gamma") > 0); /* what was known stays */
    screen_free(&screen);
    top_model_free(model);
}

static void it_scrolls_and_stops_at_the_ends(void **state)
{
    struct top_model *model = top_model_create("host:1");
    struct top_sample sample = {.at_ms = 1};
    const struct top_look look = {.columns = 80, .rows = 16}; /* ten of them fit */
    struct screen screen;
    char name[32];
    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "q%02u", i);
        add(&sample, name, 0, 0, 0);
    }
    top_model_update(model, &sample);
    static const struct {
        unsigned key;
        const char *first;
    } steps[] = {{TOP_KEY_UP, "q00"},        {TOP_KEY_DOWN, "q01"}, {TOP_KEY_PAGE_DOWN, "q10"},
                 {TOP_KEY_PAGE_UP, "q01"},   {TOP_KEY_END, "q91"},  {TOP_KEY_DOWN, "q91"},
                 {TOP_KEY_PAGE_DOWN, "q91"}, {TOP_KEY_UP, "q90"},   {TOP_KEY_HOME, "q00"}};
    draw(model, look, &screen);
    screen_free(&screen);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        top_model_key(model, steps[i].key);
        draw(model, look, &screen);
        if (i == 2) /* it was one down: a page is nine rows */
            assert_int_equal(row_of(&screen, "q10"), 6);
        else
            assert_int_equal(row_of(&screen, steps[i].first), 6);
        screen_free(&screen);
    }
    top_model_free(model);
}

/* No line is too wide and there are exactly as many as the screen has, whatever it is and shows. */
static void every_size_fits(void **state)
{
    static const unsigned widths[] = {1, 7, 8, 20, 33, 50, 79, 80, 100, 133, 200, 300};
    static const unsigned heights[] = {1, 2, 3, 5, 8, 9, 24, 100};
    struct top_model *model = make_model();
    struct top_sample sample = {.at_ms = 9000, .connections = UINT64_MAX, .up_ms = UINT64_MAX};
    (void)state;
    struct top_queue *queue = add(&sample, "alpha", UINT64_MAX, UINT64_MAX, UINT64_MAX);
    for (unsigned i = 0; i < TOP_FIELDS; i++)
        queue->numbers[i] = i == TOP_SINCE_MS ? 0 : UINT64_MAX;
    add(&sample, "beta\033[2J\n\t", 1, 1, 1);
    add(&sample, "\344\270\255\346\226\207\351\230\237\345\210\227 \360\237\230\200 \303\251", 1, 1,
        1);
    add(&sample, "\377\376 broken \303", 1, 1, 1);
    char name[301];
    memset(name, 'x', 300);
    name[300] = '\0';
    add(&sample, name, 0, 0, 0);
    top_model_update(model, &sample);
    for (unsigned mode = 0; mode < 4; mode++) {
        bool utf8 = mode & 1;
        if (mode & 2)
            top_model_failed(model, "a reason that is quite long, as such reasons tend to be");
        for (size_t w = 0; w < sizeof(widths) / sizeof(widths[0]); w++)
            for (size_t h = 0; h < sizeof(heights) / sizeof(heights[0]); h++) {
                struct screen screen;
                draw(model, (struct top_look){widths[w], heights[h], utf8, false}, &screen);
                assert_int_equal(screen.count, heights[h]);
                for (unsigned i = 0; i < screen.count; i++) {
                    assert_in_range(text_width(screen.lines[i], utf8), 0, widths[w]);
                    for (const char *at = screen.lines[i]; *at; at++) {
                        assert_true((unsigned char)*at >= 0x20 && *at != 0x7f);
                        assert_true(utf8 || (unsigned char)*at < 0x80);
                    }
                }
                screen_free(&screen);
            }
    }
    top_model_free(model);
}

static void colours_only_where_they_are_wanted(void **state)
{
    struct top_model *model = make_model();
    struct screen screen;
    (void)state;
    draw(model, (struct top_look){80, 24, true, true}, &screen);
    assert_non_null(strchr(screen.lines[0], '\033'));
    screen_free(&screen);
    top_model_free(model);
}

static const char *spark(char text[256], const float *values, size_t count, unsigned width,
                         bool utf8)
{
    struct buf out;
    buf_init(&out, 0);
    text_sparkline(&out, values, count, width, utf8);
    assert_in_range(out.size, 0, 255);
    memcpy(text, out.data, out.size);
    text[out.size] = '\0';
    buf_free(&out);
    return text;
}

static void sparklines_are_scaled_to_the_largest(void **state)
{
    static const float values[] = {0, 1, 50, 100};
    char text[256];
    (void)state;
    assert_string_equal(spark(text, values, 4, 4, true),
                        "\342\226\201\342\226\202\342\226\205\342\226\210");
    assert_string_equal(spark(text, values, 4, 6, false), "  _.=#");
    assert_string_equal(spark(text, values, 4, 2, false), "=#");
    assert_string_equal(spark(text, values, 0, 3, false), "   ");
    assert_string_equal(spark(text, values, 1, 1, false), "_");
}

static void numbers_are_short(void **state)
{
    static const struct {
        double value;
        const char *text;
    } rows[] = {{0, "0"},        {0.25, "0.2"},     {7, "7"},
                {9999, "9999"},  {9999.6, "10.0k"}, {12345, "12.3k"},
                {450e6, "450M"}, {999999, "1.0M"},  {1.8e19, "18.0E"}};
    char text[16];
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        text_number(text, rows[i].value);
        assert_string_equal(text, rows[i].text);
    }
    text_duration(text, 0.25);
    assert_string_equal(text, "0.2ms");
    text_duration(text, 90e3);
    assert_string_equal(text, "2min");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_come_from_two_samples),
        cmocka_unit_test(a_counter_that_went_back_has_no_rate),
        cmocka_unit_test(keys_sort_and_reverse),
        cmocka_unit_test(a_filter_is_typed),
        cmocka_unit_test(a_paused_queue_is_marked),
        cmocka_unit_test(while_it_is_paused_nothing_changes),
        cmocka_unit_test(a_broker_that_is_gone_is_said),
        cmocka_unit_test(it_scrolls_and_stops_at_the_ends),
        cmocka_unit_test(every_size_fits),
        cmocka_unit_test(colours_only_where_they_are_wanted),
        cmocka_unit_test(sparklines_are_scaled_to_the_largest),
        cmocka_unit_test(numbers_are_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
