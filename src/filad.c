/*
 * filad - the broker. Reads the command line and hands over to the master.
 */
#include <db.h>
#include <openssl/crypto.h>
#include <protobuf-c/protobuf-c.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#include "conf/options.h"
#include "config.h"
#include "core/buf.h"
#include "hook/hook.h"
#include "master/load.h"
#include "master/master.h"
#include "master/tell.h"
#include "os/proc.h"

#ifdef HAVE_LUA_MODULE
#include <lua.h>
#endif

/* clang's version begins with its name, gcc's is only a number. */
#ifdef __clang__
#define COMPILER __VERSION__
#else
#define COMPILER "gcc " __VERSION__
#endif

static int print(const struct buf *text)
{
    if (text->failed || fwrite(text->data, 1, text->size, stdout) != text->size ||
        fflush(stdout) != 0) {
        fputs("filad: the output could not be written\n", stderr);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

static int show_help(const struct options *options)
{
    struct buf text;
    int status;

    (void)options;
    buf_init(&text, 0);
    options_usage(&text);
    status = print(&text);
    buf_free(&text);
    return status;
}

static int show_version(const struct options *options)
{
    struct buf text;

    (void)options;
    buf_init(&text, 0);
    buf_append_c(&text, "filad " FILAD_VERSION "\n");
    int status = print(&text);
    buf_free(&text);
    return status;
}

static void append_modules(struct buf *text)
{
    buf_append_c(text, "modules:");
    for (const struct hook_module *const *module = hook_modules; *module; module++)
        buf_printf(text, " %s", (*module)->name);
    buf_append_c(text, hook_modules[0] ? "\n" : " none\n");
}

static int show_build_version(const struct options *options)
{
    struct buf text;
    int status;

    (void)options;
    buf_init(&text, 0);
    buf_printf(&text, "filad %s\nbuilt by: %s%s\n", FILAD_VERSION, COMPILER,
               FILAD_DEBUG ? ", debug" : "");
    buf_printf(&text, "built with: %s\n", DB_VERSION_STRING);
    buf_printf(&text, "            %s\n", OPENSSL_VERSION_TEXT);
#ifdef HAVE_LUA_MODULE
    buf_printf(&text, "            %s\n", LUA_RELEASE);
#endif
    buf_printf(&text, "            libyaml %s\n            protobuf-c %s\n",
               yaml_get_version_string(), PROTOBUF_C_VERSION);
    buf_printf(&text, "runs with: %s\n           %s\n           protobuf-c %s\n",
               db_version(NULL, NULL, NULL), OpenSSL_version(OPENSSL_VERSION),
               protobuf_c_version());
    buf_printf(&text, "configure arguments: %s\n", FILAD_CONFIGURE_ARGS);
    append_modules(&text);
    status = print(&text);
    buf_free(&text);
    return status;
}

static int test_conf(const struct options *options)
{
    struct conf_errors errors;
    struct conf *conf;
    struct buf text;
    int status = EXIT_FAILURE;

    buf_init(&text, 0);
    conf_errors_init(&errors);
    conf = load_conf(options, &errors);
    if (conf && load_check(conf, &errors) == 0)
        status = EXIT_SUCCESS;
    load_report(&errors, options->quiet);
    if (status == EXIT_SUCCESS && !options->quiet && conf->missing)
        fprintf(stderr,
                "there is no configuration file %s, defaults are used: test is successful\n",
                conf->file);
    else if (status == EXIT_SUCCESS && !options->quiet)
        fprintf(stderr, "configuration file %s test is successful\n", conf->file);
    if (status == EXIT_SUCCESS && options->action == OPTIONS_DUMP) {
        conf_dump(conf, &text);
        status = print(&text);
    }
    conf_free(conf);
    conf_errors_free(&errors);
    buf_free(&text);
    return status;
}

static int (*const actions[])(const struct options *options) = {
    [OPTIONS_RUN] = master_run,       [OPTIONS_TEST] = test_conf,
    [OPTIONS_DUMP] = test_conf,       [OPTIONS_SIGNAL] = tell_run,
    [OPTIONS_VERSION] = show_version, [OPTIONS_BUILD_VERSION] = show_build_version,
    [OPTIONS_EXECUTE] = tell_run,     [OPTIONS_HELP] = show_help,
};

int main(int argc, char **argv)
{
    struct options options;
    struct err err;
    char **copies = proc_title_init(argc, argv);

    if (options_parse(&options, argc, copies ? copies : argv, &err) < 0) {
        fprintf(stderr, "filad: %s (filad -h shows all options)\n", err.text);
        return EXIT_FAILURE;
    }
    return actions[options.action](&options);
}
