#include "report.h"

#include <stdio.h>
#include <string.h>

#include "machine.h"
#include "reference.h"

/* ---- numbers as text ---- */

/* "83,120" from 100 on, "0.123" below. */
static void format_value(double value, char *text, size_t size)
{
    char digits[48];
    if (value < 100) {
        snprintf(text, size, "%.3f", value);
        return;
    }
    int length = snprintf(digits, sizeof(digits), "%.0f", value);
    size_t at = 0;
    for (int i = 0; i < length && at + 2 < size; i++) {
        text[at++] = digits[i];
        if ((length - i) % 3 == 1 && i + 1 < length) {
            text[at++] = ',';
        }
    }
    text[at] = '\0';
}

static void format_target(const struct row_figure *figure, char *text, size_t size)
{
    switch (figure->kind) {
    case ROW_TARGET_NONE:
        snprintf(text, size, "-");
        break;
    case ROW_TARGET_RATIO_MIN:
        snprintf(text, size, ">= %.2f x", figure->target);
        break;
    case ROW_TARGET_RATIO_MAX:
        snprintf(text, size, "<= %.2f x", figure->target);
        break;
    case ROW_TARGET_VALUE_MAX:
        snprintf(text, size, "<= %g %s", figure->target, figure->unit);
        break;
    }
}

/* "L2 put", or "-" for a figure without a limit. */
static void format_limit(const struct row *row, const struct row_figure *figure, char *text,
                         size_t size)
{
    if (row->limit == NULL || figure->limit_figure < 0) {
        snprintf(text, size, "-");
        return;
    }
    const struct row *limit = row_find(row->limit, strlen(row->limit));
    snprintf(text, size, "%s %s", limit->name, limit->figures[figure->limit_figure].name);
}

/* ---- table ---- */

static void print_head(const struct session *session)
{
    const struct bench *bench = &session->bench;
    struct machine machine;
    machine_describe(&machine);
    printf("%s, %ld cores, %.1f GiB, %s, %s\n", machine.processor, machine.cores,
           machine.memory_gib, machine.kernel, machine.date);
    printf("stores on %s%s; %u workers, durability %s, %g s a workload; medians, spread ="
           " (most - least) / median\n",
           bench->place.filesystem,
           bench->place.in_memory ? " (IN MEMORY: syncs cost nothing here)" : "",
           bench->arguments->workers, bench->arguments->durability, bench->arguments->seconds);
}

static void print_limits(const struct session *session)
{
    printf("\n%-7s %-48s %-7s %10s %-6s %7s\n", "limit", "", "figure", "value", "", "spread");
    for (const struct session_entry *entry = session->entries; entry->row != NULL; entry++) {
        if (entry->row->kind != ROW_LIMIT || !entry->done) {
            continue;
        }
        for (size_t i = 0; i < row_figure_count(entry->row); i++) {
            const struct row_figure *figure = &entry->row->figures[i];
            char value[32];
            format_value(entry->figures[i].value, value, sizeof(value));
            printf("%-7s %-48s %-7s %10s %-6s %6.0f%%\n", i == 0 ? entry->row->name : "",
                   i == 0 ? entry->row->description : "", figure->name, value, figure->unit,
                   entry->figures[i].spread * 100);
        }
    }
}

static void print_workload(const struct session_entry *entry)
{
    for (size_t i = 0; i < row_figure_count(entry->row); i++) {
        const struct row_figure *figure = &entry->row->figures[i];
        const struct session_figure *found = &entry->figures[i];
        char value[32], limit[32], ratio[32] = "-", target[32];
        format_value(found->value, value, sizeof(value));
        format_limit(entry->row, figure, limit, sizeof(limit));
        format_target(figure, target, sizeof(target));
        if (figure->limit_figure >= 0) {
            snprintf(ratio, sizeof(ratio), "%.2f", found->ratio);
        }
        printf("%-7s %-48s %-7s %10s %-6s %6.0f%%  %-9s %6s  %-10s %s\n",
               i == 0 ? entry->row->name : "", i == 0 ? entry->row->description : "", figure->name,
               value, figure->unit, found->spread * 100, limit, ratio, target,
               figure->kind == ROW_TARGET_NONE ? ""
               : found->reached                ? "reached"
                                               : "MISSED");
    }
}

static void print_accounts(const struct session *session)
{
    printf("\n%-7s %12s %12s %12s %12s %12s\n", "", "confirmed", "delivered", "acked", "client cpu",
           "broker cpu");
    for (const struct session_entry *entry = session->entries; entry->row != NULL; entry++) {
        if (entry->row->kind == ROW_LIMIT || !entry->done) {
            continue;
        }
        const struct outcome *outcome = &entry->outcome;
        printf("%-7s %12llu %12llu %12llu %11.0f%% %11.0f%%\n", entry->row->name,
               (unsigned long long)outcome->enqueued, (unsigned long long)outcome->delivered,
               (unsigned long long)outcome->acked, outcome->client_cpu * 100,
               outcome->broker_cpu * 100);
    }
}

static void print_reference(const struct session *session)
{
    bool begun = false;
    for (const struct reference *reference = reference_table; reference->name != NULL;
         reference++) {
        double value;
        char ours[32], theirs[32];
        if (!reference_value(session, reference, &value)) {
            continue;
        }
        if (!begun) {
            printf("\n%-36s %12s %12s\n", "under the reference's names", "here", "published");
            begun = true;
        }
        format_value(value, ours, sizeof(ours));
        format_value(reference->theirs, theirs, sizeof(theirs));
        printf("%-36s %12s %12s %s\n", reference->name, ours, theirs, reference->unit);
    }
}

void report_table(const struct session *session)
{
    bool workloads = false;
    print_head(session);
    print_limits(session);
    for (const struct session_entry *entry = session->entries; entry->row != NULL; entry++) {
        if (entry->row->kind == ROW_LIMIT || !entry->done) {
            continue;
        }
        if (!workloads) {
            printf("\n%-7s %-48s %-7s %10s %-6s %7s  %-9s %6s  %-10s\n", "work", "", "figure",
                   "value", "", "spread", "limit", "ratio", "target");
            workloads = true;
        }
        print_workload(entry);
    }
    if (workloads) {
        print_accounts(session);
        print_reference(session);
    }
}

void report_list(void)
{
    printf("%-7s %-48s %-7s %-6s %-9s %s\n", "row", "", "figure", "unit", "limit", "target");
    for (const struct row *row = row_table; row->name != NULL; row++) {
        for (size_t i = 0; i < row_figure_count(row); i++) {
            char limit[32], target[32];
            format_limit(row, &row->figures[i], limit, sizeof(limit));
            format_target(&row->figures[i], target, sizeof(target));
            printf("%-7s %-48s %-7s %-6s %-9s %s\n", i == 0 ? row->name : "",
                   i == 0 ? row->description : "", row->figures[i].name, row->figures[i].unit,
                   limit, target);
        }
    }
}

/* ---- JSON ---- */

static void json_string(const char *text)
{
    putchar('"');
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\') {
            printf("\\%c", *c);
        } else if ((unsigned char)*c < 0x20) {
            printf("\\u%04x", (unsigned)*c);
        } else {
            putchar(*c);
        }
    }
    putchar('"');
}

static void json_member(const char *name, const char *text)
{
    json_string(name);
    putchar(':');
    json_string(text);
}

static void json_head(const struct session *session)
{
    const struct bench *bench = &session->bench;
    const struct arguments *arguments = bench->arguments;
    struct machine machine;
    machine_describe(&machine);
    json_member("date", machine.date);
    printf(",\"machine\":{");
    json_member("processor", machine.processor);
    printf(",\"cores\":%ld,\"memory_gib\":%.1f,", machine.cores, machine.memory_gib);
    json_member("kernel", machine.kernel);
    putchar(',');
    json_member("filesystem", bench->place.filesystem);
    printf(",\"in_memory\":%s},\"options\":{\"seconds\":%g,\"workers\":%u,\"messages\":%llu,",
           bench->place.in_memory ? "true" : "false", arguments->seconds, arguments->workers,
           (unsigned long long)arguments->messages);
    json_member("durability", arguments->durability);
    putchar(',');
    json_member("filad", bench->filad);
    putchar('}');
}

static void json_figure(const struct session_entry *entry, size_t index)
{
    const struct row_figure *figure = &entry->row->figures[index];
    const struct session_figure *found = &entry->figures[index];
    char text[32];
    putchar('{');
    json_member("name", figure->name);
    putchar(',');
    json_member("unit", figure->unit);
    printf(",\"value\":%.6g,\"spread\":%.4f,\"slices\":[", found->value, found->spread);
    for (size_t i = 0; i < found->count; i++) {
        printf("%s%.6g", i > 0 ? "," : "", found->values[i]);
    }
    putchar(']');
    if (figure->limit_figure >= 0) {
        format_limit(entry->row, figure, text, sizeof(text));
        putchar(',');
        json_member("limit", text);
        printf(",\"limit_value\":%.6g,\"ratio\":%.4f", found->limit, found->ratio);
    }
    if (figure->kind != ROW_TARGET_NONE) {
        format_target(figure, text, sizeof(text));
        putchar(',');
        json_member("target", text);
        printf(",\"reached\":%s", found->reached ? "true" : "false");
    }
    putchar('}');
}

static void json_entry(const struct session_entry *entry)
{
    putchar('{');
    json_member("name", entry->row->name);
    putchar(',');
    json_member("description", entry->row->description);
    printf(",\"figures\":[");
    for (size_t i = 0; i < row_figure_count(entry->row); i++) {
        if (i > 0) {
            putchar(',');
        }
        json_figure(entry, i);
    }
    putchar(']');
    if (entry->row->kind == ROW_WORKLOAD) {
        printf(",\"confirmed\":%llu,\"delivered\":%llu,\"acked\":%llu,\"client_cpu\":%.3f,"
               "\"broker_cpu\":%.3f",
               (unsigned long long)entry->outcome.enqueued,
               (unsigned long long)entry->outcome.delivered,
               (unsigned long long)entry->outcome.acked, entry->outcome.client_cpu,
               entry->outcome.broker_cpu);
    }
    putchar('}');
}

static void json_entries(const struct session *session, const char *name, bool limits)
{
    bool first = true;
    printf(",\n\"%s\":[", name);
    for (const struct session_entry *entry = session->entries; entry->row != NULL; entry++) {
        if (entry->done && (entry->row->kind == ROW_LIMIT) == limits) {
            printf("%s\n", first ? "" : ",");
            json_entry(entry);
            first = false;
        }
    }
    putchar(']');
}

static void json_reference(const struct session *session)
{
    bool first = true;
    printf(",\n\"reference_names\":{");
    for (const struct reference *reference = reference_table; reference->name != NULL;
         reference++) {
        double value;
        if (reference_value(session, reference, &value)) {
            printf("%s\n", first ? "" : ",");
            json_string(reference->name);
            printf(":%.6g", value);
            first = false;
        }
    }
    putchar('}');
}

void report_json(const struct session *session)
{
    putchar('{');
    json_head(session);
    json_entries(session, "limits", true);
    json_entries(session, "workloads", false);
    json_reference(session);
    puts("}");
}
