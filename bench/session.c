#include "session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A limit is measured up to twice for each workload, so each time in less. */
#define LIMIT_SHARE 0.4
#define LIMIT_SECONDS_MIN 0.3

static struct session_entry *find_entry(struct session *session, const char *name)
{
    for (struct session_entry *entry = session->entries; entry->row != NULL; entry++) {
        if (strcmp(entry->row->name, name) == 0) {
            return entry;
        }
    }
    return NULL;
}

/* ---- preparing ---- */

static int select_listed(struct session *session, const char *list, struct err *err)
{
    for (const char *at = list; *at != '\0';) {
        size_t size = strcspn(at, ",");
        const struct row *row = row_find(at, size);
        if (row == NULL) {
            return err_set(err, 0, "--only %s: there is no row '%.*s', see --list", list, (int)size,
                           at);
        }
        find_entry(session, row->name)->selected = true;
        at += size;
        at += *at == ',';
    }
    return 0;
}

/* The directory of this program, ending with '/'. */
static int find_own_directory(char path[PATH_MAX], struct err *err)
{
    ssize_t size = readlink("/proc/self/exe", path, PATH_MAX - 1);
    if (size < 0) {
        return err_set_errno(err, errno, "find this program's place");
    }
    path[size] = '\0';
    strrchr(path, '/')[1] = '\0';
    return 0;
}

static int find_broker(struct session *session, struct err *err)
{
    struct bench *bench = &session->bench;
    char path[PATH_MAX];
    if (bench->arguments->filad != NULL) {
        snprintf(path, sizeof(path), "%s", bench->arguments->filad);
    } else {
        if (find_own_directory(path, err) != 0) {
            return -1;
        }
        strncat(path, "filad", sizeof(path) - strlen(path) - 1);
    }
    if (access(path, X_OK) != 0) {
        return err_set_errno(
            err, errno, "broker %s (--filad names another; --only L1,L2,L3 does without)", path);
    }
    snprintf(bench->filad, sizeof(bench->filad), "%s", path);
    return 0;
}

/* True for a limit that is measured together with a workload; the others run by themselves. */
static bool is_compared_with(const struct row *limit)
{
    for (const struct row *row = row_table; row->name != NULL; row++) {
        if (row->limit != NULL && strcmp(row->limit, limit->name) == 0) {
            return true;
        }
    }
    return false;
}

int session_prepare(struct session *session, const struct arguments *arguments, struct err *err)
{
    bool broker = false;
    size_t count = 0;
    memset(session, 0, sizeof(*session));
    session->bench.arguments = arguments;
    for (const struct row *row = row_table; row->name != NULL && count < SESSION_ROWS; row++) {
        session->entries[count++].row = row;
    }
    if (arguments->only != NULL && select_listed(session, arguments->only, err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        struct session_entry *entry = &session->entries[i];
        if (arguments->only == NULL) {
            entry->selected = entry->row->kind == ROW_WORKLOAD || !is_compared_with(entry->row);
        }
        broker = broker || (entry->selected && entry->row->kind == ROW_WORKLOAD);
    }
    return broker && !arguments->list ? find_broker(session, err) : 0;
}

/* ---- running ---- */

static void show_outcome(struct progress *progress, const struct row *row,
                         const struct outcome *outcome)
{
    char text[200] = "";
    size_t size = 0;
    for (size_t i = 0; i < row_figure_count(row) && size < sizeof(text); i++) {
        const struct row_figure *figure = &row->figures[i];
        double value = stats_median(outcome->slices[i], STATS_SLICES);
        int added = snprintf(text + size, sizeof(text) - size, "%s%s %.*f %s", i > 0 ? ", " : "",
                             figure->name, value < 100 ? 3 : 0, value, figure->unit);
        size += added > 0 ? (size_t)added : 0;
    }
    progress_end(progress, "%s", text);
}

/* Runs the row once and adds its slices to what the entry has. */
static int run_once(struct session *session, struct session_entry *entry, double seconds,
                    struct err *err)
{
    struct bench *bench = &session->bench;
    const struct row *row = entry->row;
    memset(&entry->outcome, 0, sizeof(entry->outcome));
    bench->seconds = seconds;
    progress_begin(&bench->progress, row->unit, "%s %s", row->name, row->description);
    int result = row->run(bench, row, &entry->outcome, err);
    if (result == ROW_SKIPPED) {
        progress_end(&bench->progress, "skipped: %s", err->text);
        return 0;
    }
    if (result != 0) {
        progress_end(&bench->progress, "failed");
        return err_prefix(err, "%s", row->name);
    }
    show_outcome(&bench->progress, row, &entry->outcome);
    for (size_t i = 0; i < row_figure_count(row); i++) {
        struct session_figure *figure = &entry->figures[i];
        for (size_t j = 0; j < STATS_SLICES; j++) {
            if (figure->count < SESSION_LIMIT_RUNS * STATS_SLICES) {
                figure->values[figure->count++] = entry->outcome.slices[i][j];
            }
        }
        figure->value = stats_median(figure->values, figure->count);
        figure->spread = stats_spread(figure->values, figure->count);
    }
    entry->done = true;
    return 0;
}

static bool target_reached(const struct row_figure *figure, double value, double ratio)
{
    switch (figure->kind) {
    case ROW_TARGET_RATIO_MIN:
        return ratio >= figure->target;
    case ROW_TARGET_RATIO_MAX:
        return ratio > 0 && ratio <= figure->target;
    case ROW_TARGET_VALUE_MAX:
        return value <= figure->target;
    case ROW_TARGET_NONE:
        break;
    }
    return true;
}

/* The outcomes of its limit may be NULL when it has none. */
static void compare(struct session_entry *entry, const struct outcome *before,
                    const struct outcome *after)
{
    for (size_t i = 0; i < row_figure_count(entry->row); i++) {
        const struct row_figure *figure = &entry->row->figures[i];
        struct session_figure *found = &entry->figures[i];
        if (figure->limit_figure >= 0) {
            double around[2 * STATS_SLICES];
            memcpy(around, before->slices[figure->limit_figure], sizeof(around) / 2);
            memcpy(around + STATS_SLICES, after->slices[figure->limit_figure], sizeof(around) / 2);
            found->limit = stats_median(around, 2 * STATS_SLICES);
            found->ratio = found->limit > 0 ? found->value / found->limit : 0;
        }
        found->reached = target_reached(figure, found->value, found->ratio);
    }
}

int session_run(struct session *session, struct err *err)
{
    const struct arguments *arguments = session->bench.arguments;
    double limit_seconds = arguments->seconds * LIMIT_SHARE;
    const struct session_entry *last = NULL; /* whose run ended just now */
    if (limit_seconds < LIMIT_SECONDS_MIN) {
        limit_seconds = LIMIT_SECONDS_MIN;
    }
    progress_init(&session->bench.progress);
    if (place_open(&session->bench.place, arguments->directory, err) != 0) {
        return -1;
    }
    fprintf(stderr, "stores in %s (%s)\n", session->bench.place.data,
            session->bench.place.filesystem);
    for (struct session_entry *entry = session->entries; entry->row != NULL; entry++) {
        if (!entry->selected) {
            continue;
        }
        double seconds =
            arguments->seconds > entry->row->seconds ? arguments->seconds : entry->row->seconds;
        if (entry->row->limit == NULL) {
            if (run_once(session, entry, seconds, err) != 0) {
                return -1;
            }
            compare(entry, NULL, NULL);
            last = entry;
            continue;
        }
        struct session_entry *limit = find_entry(session, entry->row->limit);
        if (last != limit && run_once(session, limit, limit_seconds, err) != 0) {
            return -1;
        }
        struct outcome before = limit->outcome;
        if (run_once(session, entry, seconds, err) != 0 ||
            run_once(session, limit, limit_seconds, err) != 0) {
            return -1;
        }
        compare(entry, &before, &limit->outcome);
        last = limit;
    }
    return 0;
}

void session_close(struct session *session)
{
    struct place *place = &session->bench.place;
    if (session->bench.arguments->keep && place->data[0] != '\0') {
        fprintf(stderr, "kept: %s\n", place->data);
    }
    place_close(place, session->bench.arguments->keep);
}
