#include "worker/intake.h"

/* In the units of operation_cost: about 1,000 messages of 1 KiB, some 10 ms. */
#define ROUND_COST (3u << 19)
#define TURN_COST (ROUND_COST / 16)

void intake_init(struct intake *intake)
{
    list_init(&intake->turns);
    for (unsigned i = 0; i < OPERATION_LINES; i++) {
        struct intake_line *line = &intake->lines[i];
        *line = (struct intake_line){.last = &line->first};
        list_init(&line->turn);
    }
}

bool intake_is_empty(const struct intake *intake)
{
    return list_empty(&intake->turns);
}

static uint64_t chain_cost(struct operation *operation)
{
    uint64_t cost = 0;
    for (; operation; operation = operation->next) {
        operation->cost = operation_cost(operation);
        cost += operation->cost;
    }
    return cost;
}

static void line_up(struct intake *intake, struct operation *operation)
{
    while (operation) {
        struct operation *next = operation->next;
        struct intake_line *line = &intake->lines[operation->line];
        operation->next = NULL;
        *line->last = operation;
        line->last = &operation->next;
        if (list_empty(&line->turn))
            list_append(&intake->turns, &line->turn);
        operation = next;
    }
}

static struct operation *line_take(struct intake_line *line)
{
    struct operation *operation = line->first;
    line->deficit -= operation->cost;
    line->first = operation->next;
    if (line->first)
        return operation;
    line->last = &line->first;
    line->deficit = 0;
    list_remove(&line->turn);
    return operation;
}

struct operation *intake_round(struct intake *intake, struct operation *arrived)
{
    if (chain_cost(arrived) <= ROUND_COST && intake_is_empty(intake))
        return arrived;
    line_up(intake, arrived);
    struct operation *first = NULL, **last = &first;
    uint64_t cost = 0;
    while (cost < ROUND_COST && !intake_is_empty(intake)) {
        struct intake_line *line = CONTAINER_OF(intake->turns.next, struct intake_line, turn);
        if (line->first->cost > line->deficit) {
            line->deficit += TURN_COST;
            list_remove(&line->turn);
            list_append(&intake->turns, &line->turn);
        }
        while (cost < ROUND_COST && line->first && line->first->cost <= line->deficit) {
            struct operation *operation = line_take(line);
            cost += operation->cost;
            *last = operation;
            last = &operation->next;
        }
    }
    *last = NULL;
    return first;
}

struct operation *intake_rest(struct intake *intake)
{
    struct operation *first = NULL, **last = &first;
    LIST_EACH_SAFE(&intake->turns, entry)
    {
        struct intake_line *line = CONTAINER_OF(entry, struct intake_line, turn);
        *last = line->first;
        last = line->last;
    }
    intake_init(intake);
    return first;
}
