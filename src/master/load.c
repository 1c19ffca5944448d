#include "master/load.h"

#include <stdio.h>
#include <stdlib.h>

#include "conf/files.h"
#include "hook/hook.h"

#define LOAD_SECTIONS_MAX 64

struct conf *load_conf(const struct options *options, struct conf_errors *errors)
{
    /* A configuration refers to its sections as long as it lives. */
    static struct conf_section sections[LOAD_SECTIONS_MAX];
    size_t count = hook_sections(hook_modules, sections, LOAD_SECTIONS_MAX);

    if (count > LOAD_SECTIONS_MAX) {
        conf_errors_add(errors, (struct conf_place){.file = "filad"},
                        "%zu modules with a section, at most %d", count, LOAD_SECTIONS_MAX);
        return NULL;
    }
    return conf_load(options->conf_file, options->prefix, options->overlay, sections, count,
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
