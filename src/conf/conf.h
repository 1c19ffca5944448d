/*
 * conf - the configuration of a broker, immutable once loaded: the master loads it and its children
 * inherit it through fork. What each setting means is said in filad.yaml(5); members are named as
 * the keys, times end with _ms.
 */
#ifndef FILAD_CONF_CONF_H
#define FILAD_CONF_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/errors.h"
#include "conf/files.h"
#include "conf/schema.h"
#include "core/buf.h"
#include "core/str.h"
#include "os/log.h"

#define CONF_WORKERS_MAX 32
#define CONF_LOAD_MODULES_MAX 64

enum conf_numbering {
    CONF_NUMBERING_AUTO,
    CONF_NUMBERING_S1,
    CONF_NUMBERING_S2,
    CONF_NUMBERING_S3,
};
enum conf_preface_profile { CONF_PREFACE_PROFILE_AUTO };
enum conf_durability { CONF_DURABILITY_COMMIT, CONF_DURABILITY_INTERVAL };

struct conf_listen {
    char *address; /* "1.2.3.4:port", "[IPv6]:port" or "unix:/absolute/path"; valid syntax */
    bool tls;
    int backlog;
    enum conf_numbering numbering;
    enum conf_preface_profile preface_profile;
};

struct conf_private;
struct hook_module;

struct conf {
    char *user;
    char *group;
    int worker_processes; /* 1..CONF_WORKERS_MAX, `auto` resolved */
    bool daemon;
    char *pid_file; /* absolute, as all paths here */
    struct {
        char *path; /* a file, or "stderr" or "syslog" */
        enum log_level level;
    } error_log;
    uint32_t worker_rlimit_nofile;
    uint32_t worker_connections;
    uint64_t worker_shutdown_timeout_ms;
    struct conf_listen *listen; /* at least one, no address twice */
    size_t listen_count;
    struct {
        uint64_t max_frame_size; /* bytes */
        uint64_t max_message_size;
        uint32_t max_pending_streams;
        uint64_t handshake_timeout_ms;
        uint64_t keepalive_interval_ms;
        uint64_t delivery_window; /* bytes */
    } fibp;
    struct {
        char *path;
        char *regions;    /* NULL: auto */
        uint64_t reserve; /* bytes; 0: auto */
        uint64_t cache_size;
        enum conf_durability durability;
        uint64_t sync_interval_ms;
        struct {
            uint64_t bytes;
            uint64_t interval_ms;
        } checkpoint;
    } store;
    uint64_t shared_memory; /* bytes */
    struct {
        uint32_t quantum;
        uint32_t max_unacked;
        uint64_t visibility_timeout_ms;
    } scheduler;
    char **load_module; /* paths of shared objects */
    size_t load_module_count;
    const struct hook_module *const *hooks; /* the modules in force, ended by NULL; NULL: nobody
                                             * has said which (conf_load) */
    void **modules; /* [i] is the struct of sections[i], filled with its defaults or the file's
                       values */
    bool missing;   /* `file` is not there: everything has its default or comes from `overlay` */
    char *file;     /* what was read, as it was named, or the default place when nothing is there */
    char *prefix;   /* absolute */
    struct conf_private *private;
};

/* A section of the configuration that a module owns: a top-level key `name` holding a mapping that
 * `keys` describes, kept in a struct of `struct_size` bytes. */
struct conf_section {
    const char *name;
    const struct schema_key *keys;
    size_t struct_size;
};

/* The modules of a configuration, in memory that lives as long as it. */
struct conf_modules {
    const struct conf_section *sections;
    size_t section_count;
    const struct hook_module *const *hooks; /* becomes conf->hooks */
};

/* What the configuration says under load_module. */
struct conf_module_file {
    const char *path; /* absolute */
    struct conf_place place;
};

/* Fills `modules`, with memory of `pool`, for a configuration that loads these files: called before
 * anything else of it is judged. -1 with the mistakes added. */
typedef int conf_find_modules(struct pool *pool, const struct conf_module_file *files, size_t count,
                              struct conf_modules *modules, struct conf_errors *errors);

/* As conf_load, with the modules that `find` finds. */
struct conf *conf_load_with(const char *path, const char *prefix, const char *overlay,
                            conf_find_modules *find, struct conf_errors *errors)
    __attribute__((warn_unused_result));

/* Loads `path` (NULL: the default place, where a missing file means defaults), lays the YAML
 * mapping `overlay` (may be NULL) over it, and checks it all. `prefix` (NULL: the install prefix;
 * otherwise taken from the working directory when relative) is what relative paths in the
 * configuration start from; `path` itself is taken from the working directory. `sections` must
 * outlive the result. NULL when anything is wrong; every mistake is then in `errors`, which the
 * caller has initialised. Warnings may be there either way. */
struct conf *conf_load(const char *path, const char *prefix, const char *overlay,
                       const struct conf_section *sections, size_t section_count,
                       struct conf_errors *errors) __attribute__((warn_unused_result));

/* As conf_load with the text of a file that has been read already; `file` names it in messages. */
struct conf *conf_load_text(const char *file, struct str text, const char *prefix,
                            const char *overlay, const struct conf_section *sections,
                            size_t section_count, struct conf_errors *errors)
    __attribute__((warn_unused_result));

void conf_free(struct conf *conf); /* NULL is fine */

/* Appends the effective configuration as YAML; loading it gives an equal configuration. */
void conf_dump(const struct conf *conf, struct buf *out);

/* Where the setting with this dotted name stands ("store.path", "listen.0.address"). When it has
 * its default, the start of the file, or the program itself when there is no file. Lives as long as
 * `conf`. */
struct conf_place conf_place_of(const struct conf *conf, const char *name);

#endif
