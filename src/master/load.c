#include "master/load.h"

#include <stdio.h>
#include <stdlib.h>

#include "conf/files.h"
#include "hook/modules.h"

struct conf *load_conf(const struct options *options, struct conf_errors *errors)
{
    return conf_load_with(options->conf_file, options->prefix, options->overlay, modules_find,
                          errors);
}

/* Somebody who sets a key relies on nobody getting in without it. */
static int load_check_environment(struct conf_errors *errors)
{
    const char *key = getenv("FILA_BOOTSTRAP_APIKEY");

    if (!key || !key[0])
        return 0;
    return conf_errors_add(errors, (struct conf_place){.file = "filad"},
                           "FILA_BOOTSTRAP_APIKEY is set in the environment, but this build has no "
                           "authentication and would let everybody in: unset it");
}

int load_check(const struct conf *conf, struct conf_errors *errors)
{
    int result = load_check_environment(errors);

    return conf_check_files(conf, errors) < 0 ? -1 : result;
}

void load_report(struct conf_errors *errors, bool quiet)
{
    if (!quiet && errors->warning_count)
        fputs(conf_errors_warnings(errors), stderr);
    if (errors->count)
        fputs(conf_errors_text(errors), stderr);
}
