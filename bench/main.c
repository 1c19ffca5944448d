/*
 * fila-bench - measures a broker against what its machine can do. See bench/README.md.
 */
#include <stdio.h>

#include "report.h"

int main(int argc, char **argv)
{
    static struct session session;
    struct arguments arguments;
    struct err err;

    if (arguments_parse(&arguments, argc, argv, &err) != 0) {
        fprintf(stderr, "fila-bench: %s\n", err.text);
        return 2;
    }
    if (arguments.help) {
        arguments_usage();
        return 0;
    }
    if (arguments.list) {
        report_list();
        return 0;
    }
    if (session_prepare(&session, &arguments, &err) != 0) {
        fprintf(stderr, "fila-bench: %s\n", err.text);
        return 2;
    }
    int failed = session_run(&session, &err);
    if (failed != 0) {
        fprintf(stderr, "fila-bench: %s\n", err.text);
    }
    if (arguments.json) {
        report_json(&session);
    } else {
        report_table(&session);
    }
    session_close(&session);
    return failed != 0 || fflush(stdout) != 0 ? 1 : 0;
}
