#include "conf/conf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "conf/keys.h"
#include "conf/yaml.h"
#include "core/utf8.h"
#include "os/io.h"
#include "config.h"

#define DEFAULT_FILE FILAD_SYSCONFDIR "/filad/filad.yaml"
#define OVERLAY_FILE "-g"
#define POOL_CHUNK 16384
#define SPARE_DESCRIPTORS 128 /* of a worker, beside its connections: store, log, listeners */

struct conf_private {
    struct pool *pool;             /* owns everything, this struct and the conf included */
    const struct yaml_node *root;  /* the merged tree */
    const struct schema_key *keys; /* conf_keys and the sections of the modules */
};

static struct conf_place file_place(const char *file)
{
    return (struct conf_place){file, 0, 0};
}

/* One row for each section at the offset that its struct has behind struct conf, then conf_keys
 * without the absent parts that a section provides. `total` becomes the size of it all. */
static const struct schema_key *build_keys(struct pool *pool, const struct conf_section *sections,
                                           size_t section_count, size_t *total)
{
    size_t count = 0, rows = 0;
    while (conf_keys[count].type != SCHEMA_END)
        count++;
    struct schema_key *keys = pool_zalloc(pool, (count + section_count + 1) * sizeof(*keys));
    if (keys == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        bool provided = false;
        for (size_t s = 0; s < section_count; s++)
            provided |= strcmp(conf_keys[i].name, sections[s].name) == 0;
        if (conf_keys[i].type != SCHEMA_ABSENT || !provided)
            keys[rows++] = conf_keys[i];
    }
    for (size_t s = 0; s < section_count; s++) {
        size_t alignment = alignof(max_align_t);
        *total = (*total + alignment - 1) / alignment * alignment;
        keys[rows++] = (struct schema_key){.name = sections[s].name,
                                           .type = SCHEMA_MAPPING,
                                           .offset = *total,
                                           .keys = sections[s].keys};
        *total += sections[s].struct_size;
    }
    return keys;
}

/* `prefix` as an absolute path without control characters, which it would carry into every path. */
static char *absolute_prefix(struct pool *pool, const char *prefix, struct conf_errors *errors)
{
    char path[PATH_MAX], directory[PATH_MAX];
    int length;

    if (prefix == NULL)
        prefix = FILAD_PREFIX;
    if (prefix[0] == '/')
        length = snprintf(path, sizeof(path), "%s", prefix);
    else if (prefix[0] != 0 && getcwd(directory, sizeof(directory)) != NULL)
        length = snprintf(path, sizeof(path), "%s/%s", directory, prefix);
    else
        length = -1;
    if (length < 0 || (size_t)length >= sizeof(path)) {
        (void)conf_errors_add(errors, file_place("-p"), "`%.80s` cannot be used as prefix", prefix);
        return NULL;
    }
    while (length > 1 && path[length - 1] == '/')
        length--;
    struct str text = str_of(path, (size_t)length);
    if (!utf8_valid(text) || !schema_is_printable(text)) {
        (void)conf_errors_add(errors, file_place("-p"), "holds bytes that are no printable UTF-8");
        return NULL;
    }
    return pool_strdup(pool, text);
}

/* One of the two texts as a mapping; NULL with an error added. */
static struct yaml_node *parse_mapping(struct pool *pool, const char *file, struct str text,
                                       struct conf_errors *errors)
{
    struct yaml_node *node = yaml_parse(pool, file, text, errors);
    if (node == NULL || node->kind == YAML_KIND_MAPPING)
        return node;
    if (yaml_is_null(node)) {
        node->kind = YAML_KIND_MAPPING;
        return node;
    }
    (void)conf_errors_add(errors, node->place, "needs a mapping of keys to values");
    return NULL;
}

/* The text with the overlay upon it; NULL with errors added. */
static const struct yaml_node *load_tree(struct pool *pool, const char *file, struct str text,
                                         const char *overlay, struct conf_errors *errors)
{
    struct yaml_node *root = parse_mapping(pool, file, text, errors);

    if (overlay != NULL) {
        struct yaml_node *over = parse_mapping(pool, OVERLAY_FILE, str_from_c(overlay), errors);
        if (root == NULL || over == NULL)
            return NULL;
        root = yaml_overlay(pool, root, over);
        if (root == NULL)
            (void)conf_errors_add(errors, file_place(OVERLAY_FILE), "out of memory");
    }
    return root;
}

/* The node of a dotted name, in which a number picks an item of a list; NULL when it has none. */
static const struct yaml_node *find_node(const struct conf *conf, const char *name)
{
    const struct yaml_node *node = conf->private->root;
    while (node != NULL && *name != 0) {
        size_t length = strcspn(name, ".");
        if (node->kind == YAML_KIND_SEQUENCE) {
            size_t index = strtoul(name, NULL, 10);
            node = index < node->count ? node->children[index] : NULL;
        } else {
            node = yaml_find(node, str_of(name, length));
        }
        name += length + (name[length] == '.');
    }
    return node;
}

struct conf_place conf_place_of(const struct conf *conf, const char *name)
{
    const struct yaml_node *node = find_node(conf, name);
    if (node != NULL)
        return node->place;
    return conf->missing ? file_place("filad") : (struct conf_place){conf->file, 1, 1};
}

/* Checks that need more than one value, or more than a range. */

static bool valid_port(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 5 || text[digits] != 0)
        return false;
    unsigned long port = strtoul(text, NULL, 10);
    return port >= 1 && port <= 65535;
}

static bool valid_internet_address(const char *address)
{
    char host[INET6_ADDRSTRLEN];
    struct in6_addr binary;
    bool bracket = address[0] == '[';
    const char *start = address + bracket;
    const char *end = bracket ? strchr(start, ']') : strrchr(start, ':');

    if (end == NULL || (size_t)(end - start) >= sizeof(host))
        return false;
    memcpy(host, start, (size_t)(end - start));
    host[end - start] = 0;
    if (bracket && *++end != ':')
        return false;
    return inet_pton(bracket ? AF_INET6 : AF_INET, host, &binary) == 1 && valid_port(end + 1);
}

/* Makes the path of a unix socket absolute. */
static int resolve_unix_address(struct conf *conf, struct conf_listen *listen,
                                struct conf_place place, struct conf_errors *errors)
{
    struct sockaddr_un socket_address;
    const char *path = listen->address + strlen("unix:");
    char address[512];

    int length = snprintf(address, sizeof(address), "unix:%s%s%s",
                          path[0] == '/' ? "" : conf->prefix, path[0] == '/' ? "" : "/", path);
    if (path[0] == 0)
        return conf_errors_add(errors, place, "`listen.address` needs a path after `unix:`");
    size_t limit = strlen("unix:") + sizeof(socket_address.sun_path) - 1;
    if (length < 0 || (size_t)length > limit)
        return conf_errors_add(errors, place,
                               "`listen.address`: the path of a socket has at most %zu bytes",
                               sizeof(socket_address.sun_path) - 1);
    listen->address = pool_strdup(conf->private->pool, str_of(address, (size_t)length));
    return listen->address != NULL ? 0 : conf_errors_add(errors, place, "out of memory");
}

static void check_listener(struct conf *conf, size_t index, struct conf_errors *errors)
{
    struct conf_listen *listen = &conf->listen[index];
    char name[64];

    if (listen->address == NULL) /* missing or not a text, which has been said */
        return;
    (void)snprintf(name, sizeof(name), "listen.%zu.address", index);
    struct conf_place place = conf_place_of(conf, name);
    if (strncmp(listen->address, "unix:", 5) == 0) {
        if (resolve_unix_address(conf, listen, place, errors) != 0)
            return;
    } else if (!valid_internet_address(listen->address)) {
        (void)conf_errors_add(errors, place,
                              "`listen.address` needs IPv4:PORT, [IPv6]:PORT or unix:PATH, "
                              "not `%.80s`",
                              listen->address);
        return;
    }
    for (size_t i = 0; i < index; i++) {
        if (conf->listen[i].address == NULL ||
            strcmp(conf->listen[i].address, listen->address) != 0)
            continue;
        (void)snprintf(name, sizeof(name), "listen.%zu.address", i);
        struct conf_place first = conf_place_of(conf, name);
        (void)conf_errors_add(errors, place, "`listen.address` %.80s twice, first at %s:%zu:%zu",
                              listen->address, first.file, first.line, first.column);
        return;
    }
}

static void check_relations(const struct conf *conf, struct conf_errors *errors)
{
    if (conf->fibp.max_message_size < conf->fibp.max_frame_size) {
        char message[32], frame[32];
        schema_format(SCHEMA_SIZE, conf->fibp.max_message_size, message);
        schema_format(SCHEMA_SIZE, conf->fibp.max_frame_size, frame);
        (void)conf_errors_add(errors, conf_place_of(conf, "fibp.max_message_size"),
                              "`fibp.max_message_size` (%s) must be at least "
                              "`fibp.max_frame_size` (%s)",
                              message, frame);
    }
    if (conf->worker_rlimit_nofile < (uint64_t)conf->worker_connections + SPARE_DESCRIPTORS)
        conf_errors_warn(errors, conf_place_of(conf, "worker_connections"),
                         "`worker_connections` (%u) leaves less than %d of "
                         "`worker_rlimit_nofile` (%u) for other files",
                         conf->worker_connections, SPARE_DESCRIPTORS, conf->worker_rlimit_nofile);
    if (conf->daemon && strcmp(conf->error_log.path, "stderr") == 0)
        conf_errors_warn(errors, conf_place_of(conf, "error_log.path"),
                         "`error_log.path: stderr` is lost in the background (`daemon: true`)");
}

/* The CPUs that this process may run on, as far as workers can use them. */
static int usable_cpus(void)
{
    cpu_set_t cpus;
    int count = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
    return count < 1 ? 1 : count > CONF_WORKERS_MAX ? CONF_WORKERS_MAX : count;
}

static int fill(struct conf *conf, struct conf_errors *errors)
{
    const struct conf_private *private = conf->private;
    const struct schema_context context = {private->pool, conf->prefix, errors};

    if (schema_defaults(private->keys, conf, &context) != 0)
        return -1;
    int result = schema_parse(private->keys, private->root, NULL, conf, &context);
    for (size_t i = 0; i < conf->listen_count; i++)
        check_listener(conf, i, errors);
    if (result == 0)
        check_relations(conf, errors);
    if (conf->worker_processes == 0)
        conf->worker_processes = usable_cpus();
    return result;
}

/* What a load works with until there is a struct conf. */
struct source {
    struct pool *pool; /* of the conf to be */
    char *file;
    char *prefix;
    const struct yaml_node *root;
    struct conf_modules modules;
    struct conf_errors *errors;
};

/* Asks for the modules that load_module names. */
static int find_modules(struct source *source, conf_find_modules *find)
{
    const struct schema_context context = {source->pool, source->prefix, source->errors};
    const struct schema_key *key = conf_keys;
    const struct yaml_node *node = yaml_find(source->root, STR("load_module"));
    struct conf_module_file files[CONF_LOAD_MODULES_MAX];
    struct conf *conf = pool_zalloc(source->pool, sizeof(*conf));

    if (conf == NULL)
        return conf_errors_add(source->errors, file_place(source->file), "out of memory");
    while (key->type != SCHEMA_PATH_LIST)
        key++;
    if (schema_parse_key(key, source->root, conf, &context) != 0)
        return -1;
    for (size_t i = 0; i < conf->load_module_count; i++)
        files[i] = (struct conf_module_file){conf->load_module[i], node->children[i]->place};
    return find(source->pool, files, conf->load_module_count, &source->modules, source->errors);
}

/* A struct conf with its tables, for the sections of the modules; NULL without memory. */
static struct conf *create(const struct source *source)
{
    struct pool *pool = source->pool;
    const struct conf_modules *modules = &source->modules;
    size_t total = sizeof(struct conf), rows = 0;
    const struct schema_key *keys =
        build_keys(pool, modules->sections, modules->section_count, &total);
    struct conf_private *private = pool_zalloc(pool, sizeof(*private));
    struct conf *conf = pool_zalloc(pool, total);

    if (keys == NULL || private == NULL || conf == NULL)
        return NULL;
    *private = (struct conf_private){.pool = pool, .root = source->root, .keys = keys};
    conf->private = private;
    conf->file = source->file;
    conf->prefix = source->prefix;
    conf->hooks = modules->hooks;
    conf->modules = pool_zalloc(pool, (modules->section_count + 1) * sizeof(void *));
    if (conf->modules == NULL)
        return NULL;
    while (keys[rows].type != SCHEMA_END)
        rows++;
    for (size_t i = 0; i < modules->section_count; i++)
        conf->modules[i] = (char *)conf + keys[rows - modules->section_count + i].offset;
    return conf;
}

/* `text` NULL: the file is missing. `find` NULL: the modules are in source->modules. */
static struct conf *load_source(struct source *source, const char *file, const struct str *text,
                                const char *prefix, const char *overlay, conf_find_modules *find)
{
    size_t already = source->errors->count;
    struct conf *conf;

    source->file = pool_strdup(source->pool, str_from_c(file));
    source->prefix = absolute_prefix(source->pool, prefix, source->errors);
    if (source->file == NULL || source->prefix == NULL)
        return NULL;
    source->root = load_tree(source->pool, source->file, text != NULL ? *text : STR(""), overlay,
                             source->errors);
    if (source->root == NULL || (find != NULL && find_modules(source, find) != 0))
        return NULL;
    conf = create(source);
    if (conf == NULL)
        return NULL;
    conf->missing = text == NULL;
    return fill(conf, source->errors) == 0 && source->errors->count == already ? conf : NULL;
}

static struct conf *load(const char *file, const struct str *text, const char *prefix,
                         const char *overlay, struct conf_modules modules, conf_find_modules *find,
                         struct conf_errors *errors)
{
    size_t already = errors->count;
    struct source source = {.pool = pool_create(POOL_CHUNK), .modules = modules, .errors = errors};
    struct conf *conf = NULL;

    if (source.pool != NULL)
        conf = load_source(&source, file, text, prefix, overlay, find);
    if (conf != NULL)
        return conf;
    if (errors->count == already)
        (void)conf_errors_add(errors, file_place(file), "out of memory");
    pool_destroy(source.pool);
    return NULL;
}

struct conf *conf_load_text(const char *file, struct str text, const char *prefix,
                            const char *overlay, const struct conf_section *sections,
                            size_t section_count, struct conf_errors *errors)
{
    struct conf_modules modules = {.sections = sections, .section_count = section_count};

    return load(file, &text, prefix, overlay, modules, NULL, errors);
}

static struct conf *load_file(const char *path, const char *prefix, const char *overlay,
                              struct conf_modules modules, conf_find_modules *find,
                              struct conf_errors *errors)
{
    const char *file = path != NULL ? path : DEFAULT_FILE;
    struct conf *conf = NULL;
    struct buf text;
    struct err err;

    buf_init(&text, 0);
    bool failed = io_read_file(file, YAML_SIZE_MAX, &text, &err) != 0;
    struct str content = buf_str(&text);
    if (failed && err.code == EFBIG)
        (void)conf_errors_add(errors, file_place(file), "larger than %d bytes", YAML_SIZE_MAX);
    else if (failed && (err.code != ENOENT || path != NULL))
        (void)conf_errors_add(errors, file_place(file), "%s", strerror(err.code));
    else
        conf = load(file, failed ? NULL : &content, prefix, overlay, modules, find, errors);
    buf_free(&text);
    return conf;
}

struct conf *conf_load(const char *path, const char *prefix, const char *overlay,
                       const struct conf_section *sections, size_t section_count,
                       struct conf_errors *errors)
{
    struct conf_modules modules = {.sections = sections, .section_count = section_count};

    return load_file(path, prefix, overlay, modules, NULL, errors);
}

struct conf *conf_load_with(const char *path, const char *prefix, const char *overlay,
                            conf_find_modules *find, struct conf_errors *errors)
{
    return load_file(path, prefix, overlay, (struct conf_modules){0}, find, errors);
}

void conf_free(struct conf *conf)
{
    if (conf != NULL)
        pool_destroy(conf->private->pool);
}

void conf_dump(const struct conf *conf, struct buf *out)
{
    schema_dump(conf->private->keys, conf, 0, out);
}
