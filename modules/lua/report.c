#include "lua/report.h"

bool report_allows(struct report *report, const struct report_rate *rate, uint64_t now_ms,
                   uint64_t *left_out)
{
    uint64_t due = report->due_ms > now_ms ? report->due_ms : now_ms;

    if (due - now_ms > rate->interval_ms * (rate->burst - 1)) {
        report->left_out++;
        return false;
    }
    report->due_ms = due + rate->interval_ms;
    *left_out = report->left_out;
    report->left_out = 0;
    return true;
}
