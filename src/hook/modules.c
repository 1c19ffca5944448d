#include "hook/modules.h"

#include <string.h>

#include "conf/keys.h"
#include "hook/hook.h"
#include "hook/object.h"

/* A word as modules, sections, statistics and commands are named. */
static bool is_word(const char *text)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_";

    return text && text[0] >= 'a' && text[0] <= 'z' && text[strspn(text, letters)] == '\0' &&
           strlen(text) <= 64;
}

/* A row whose name is no word, or has stood in the table before; NULL: there is none. */
#define BAD_ROW(rows)                                                                              \
    ({                                                                                             \
        const char *wrong = NULL;                                                                  \
        for (size_t at = 0; (rows) && (rows)[at].name && !wrong; at++) {                           \
            if (!is_word((rows)[at].name) || !(rows)[at].help)                                     \
                wrong = (rows)[at].name;                                                           \
            for (size_t before = 0; before < at; before++)                                         \
                if (strcmp((rows)[before].name, (rows)[at].name) == 0)                             \
                    wrong = (rows)[at].name;                                                       \
        }                                                                                          \
        wrong;                                                                                     \
    })

static int check_tables(const struct hook_module *module, struct conf_place place,
                        struct conf_errors *errors)
{
    const char *bad;

    if (!is_word(module->name))
        return conf_errors_add(errors, place, "a module of a bad name");
    if (module->section && (!is_word(module->section) || !module->keys))
        return conf_errors_add(errors, place, "module %s: a bad section", module->name);
    bad = BAD_ROW(module->statistics);
    if (bad)
        return conf_errors_add(errors, place, "module %s: a bad statistic `%.64s`", module->name,
                               bad);
    bad = BAD_ROW(module->commands);
    if (bad)
        return conf_errors_add(errors, place, "module %s: a bad command `%.64s`", module->name,
                               bad);
    for (const struct hook_page *page = module->pages; page && page->path; page++)
        if (page->path[0] != '/' || !page->answer)
            return conf_errors_add(errors, place, "module %s: a bad page `%.64s`", module->name,
                                   page->path);
    return 0;
}

static bool pages_clash(const struct hook_module *module, const struct hook_module *other)
{
    for (const struct hook_page *page = module->pages; page && page->path; page++)
        for (const struct hook_page *theirs = other->pages; theirs && theirs->path; theirs++)
            if (page != theirs && strcmp(page->path, theirs->path) == 0)
                return true;
    return false;
}

static int check_clash(const struct hook_module *module, const struct hook_module *other,
                       struct conf_place place, struct conf_errors *errors)
{
    const char *path = object_path(other);

    if (module == other)
        return conf_errors_add(errors, place, "module %s is loaded twice", module->name);
    if (strcmp(module->name, other->name) == 0)
        return conf_errors_add(errors, place, "there is a module %s already, %s%s", module->name,
                               path ? "from " : "which is built in", path ? path : "");
    if (module->section && other->section && strcmp(module->section, other->section) == 0)
        return conf_errors_add(errors, place, "module %s: its section `%s` is that of module %s",
                               module->name, module->section, other->name);
    if (pages_clash(module, other))
        return conf_errors_add(errors, place, "module %s: a page of it is one of module %s",
                               module->name, other->name);
    return 0;
}

static int check_module(const struct hook_module *const *before, size_t count,
                        const struct hook_module *module, struct conf_place place,
                        struct conf_errors *errors)
{
    if (check_tables(module, place, errors) < 0)
        return -1;
    for (const struct schema_key *key = conf_keys; key->type != SCHEMA_END; key++)
        if (module->section && key->type != SCHEMA_ABSENT &&
            strcmp(key->name, module->section) == 0)
            return conf_errors_add(errors, place, "module %s: its section `%s` is one of filad's",
                                   module->name, module->section);
    for (size_t i = 0; i < count; i++)
        if (check_clash(module, before[i], place, errors) < 0)
            return -1;
    return pages_clash(module, module)
               ? conf_errors_add(errors, place, "module %s: a page twice", module->name)
               : 0;
}

static int find_all(const struct hook_module **found, const struct conf_module_file *files,
                    size_t count, struct conf_errors *errors)
{
    size_t size = 0;
    int result = 0;
    struct err err;

    for (; hook_modules[size]; size++) {
        struct conf_place place = {.file = "filad"};

        if (check_module(found, size, hook_modules[size], place, errors) < 0)
            return -1;
        found[size] = hook_modules[size];
    }
    for (size_t i = 0; i < count; i++) {
        const struct hook_module *module = object_load(files[i].path, &err);

        if (!module)
            result = conf_errors_add(errors, files[i].place, "`load_module`: %s", err.text);
        else if (check_module(found, size, module, files[i].place, errors) < 0)
            result = -1;
        else
            found[size++] = module;
    }
    return result;
}

int modules_find(struct pool *pool, const struct conf_module_file *files, size_t count,
                 struct conf_modules *modules, struct conf_errors *errors)
{
    size_t room = count + 1;

    for (const struct hook_module *const *module = hook_modules; *module; module++)
        room++;

    const struct hook_module **found = pool_zalloc(pool, room * sizeof *found);
    struct conf_section *sections = pool_zalloc(pool, room * sizeof *sections);
    if (!found || !sections)
        return conf_errors_add(errors, (struct conf_place){.file = "filad"}, "out of memory");
    if (find_all(found, files, count, errors) < 0)
        return -1;
    modules->hooks = found;
    modules->sections = sections;
    modules->section_count = hook_sections(found, sections, room);
    return 0;
}
