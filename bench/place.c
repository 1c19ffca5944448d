#include "place.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MEMORY_ROOT "/dev/shm"

/* ---- what a directory lies on ---- */

/* Finds the mount of device `number` in /proc/self/mountinfo; kind and source are set on success.
 */
static bool find_mount(dev_t number, char kind[32], char source[64])
{
    FILE *file = fopen("/proc/self/mountinfo", "re");
    if (file == NULL) {
        return false;
    }
    char *line = NULL;
    size_t size = 0;
    bool found = false;
    while (!found && getline(&line, &size, file) > 0) {
        unsigned first, second;
        const char *tail = strstr(line, " - ");
        if (sscanf(line, "%*u %*u %u:%u", &first, &second) == 2 && tail != NULL &&
            makedev(first, second) == number) {
            found = sscanf(tail, " - %31s %63s", kind, source) == 2;
        }
    }
    free(line);
    fclose(file);
    return found;
}

static int describe(const char *directory, char text[128], bool *in_memory, struct err *err)
{
    static const char *const memory_kinds[] = {"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"};
    struct stat status;
    char kind[32], source[64];
    if (stat(directory, &status) != 0) {
        return err_set_errno(err, errno, "%s", directory);
    }
    *in_memory = false;
    if (!find_mount(status.st_dev, kind, source)) {
        snprintf(text, 128, "unknown file system (device %u:%u)", major(status.st_dev),
                 minor(status.st_dev));
        return 0;
    }
    for (size_t i = 0; i < sizeof(memory_kinds) / sizeof(*memory_kinds); i++) {
        *in_memory = *in_memory || strcmp(kind, memory_kinds[i]) == 0;
    }
    snprintf(text, 128, "%s on %s", kind, source);
    return 0;
}

/* The default: the first directory that can be written and is not held in memory. */
static const char *choose_directory(void)
{
    const char *candidates[] = {getenv("TMPDIR"), ".", "/var/tmp"};
    char text[128];
    for (size_t i = 0; i < sizeof(candidates) / sizeof(*candidates); i++) {
        bool in_memory;
        if (candidates[i] != NULL && access(candidates[i], W_OK) == 0 &&
            describe(candidates[i], text, &in_memory, NULL) == 0 && !in_memory) {
            return candidates[i];
        }
    }
    return ".";
}

/* ---- removal ---- */

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *position)
{
    (void)status;
    (void)kind;
    (void)position;
    return remove(path);
}

static void remove_tree(const char *path)
{
    if (path[0] != '\0') {
        nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    }
}

/* ---- */

int place_open(struct place *place, const char *directory, struct err *err)
{
    char root[PATH_MAX];
    memset(place, 0, sizeof(*place));
    if (directory == NULL) {
        directory = choose_directory();
    }
    if (realpath(directory, root) == NULL) {
        return err_set_errno(err, errno, "directory for the stores %s", directory);
    }
    if (describe(root, place->filesystem, &place->in_memory, err) != 0) {
        return -1;
    }
    int size = snprintf(place->data, sizeof(place->data), "%s/fila-bench.XXXXXX", root);
    if (size < 0 || (size_t)size >= sizeof(place->data)) {
        place->data[0] = '\0';
        return err_set(err, 0, "directory for the stores %s: the path is too long", root);
    }
    if (mkdtemp(place->data) == NULL) {
        int number = errno;
        place->data[0] = '\0';
        return err_set_errno(err, number, "make a directory in %s", root);
    }
    bool in_memory;
    char kind[128];
    if (describe(MEMORY_ROOT, kind, &in_memory, NULL) == 0 && in_memory) {
        snprintf(place->regions, sizeof(place->regions), "%s/fila-bench.XXXXXX", MEMORY_ROOT);
        if (mkdtemp(place->regions) == NULL) {
            place->regions[0] = '\0';
        }
    }
    return 0;
}

int place_make(const struct place *place, const char *name, char *data, char *regions,
               struct err *err)
{
    place_remove(place, name);
    snprintf(data, PATH_MAX, "%s/%s", place->data, name);
    if (place->regions[0] != '\0') {
        snprintf(regions, PATH_MAX, "%s/%s", place->regions, name);
    } else {
        snprintf(regions, PATH_MAX, "%s/%s.regions", place->data, name);
    }
    if (mkdir(data, 0700) != 0) {
        return err_set_errno(err, errno, "make %s", data);
    }
    if (mkdir(regions, 0700) != 0) {
        return err_set_errno(err, errno, "make %s", regions);
    }
    return 0;
}

void place_remove(const struct place *place, const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", place->data, name);
    remove_tree(path);
    snprintf(path, sizeof(path), "%s/%s.regions", place->data, name);
    remove_tree(path);
    if (place->regions[0] != '\0') {
        snprintf(path, sizeof(path), "%s/%s", place->regions, name);
        remove_tree(path);
    }
}

void place_close(struct place *place, bool keep)
{
    remove_tree(place->regions);
    place->regions[0] = '\0';
    if (!keep) {
        remove_tree(place->data);
    }
    place->data[0] = '\0';
}
