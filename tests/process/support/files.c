#include "process/support/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <ftw.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PRINTED 12000 /* bytes of a log that are shown */

/* Whether every user may pass through all parents of a path. */
static bool passable(const char *path)
{
    char part[PATH_MAX];
    snprintf(part, sizeof part, "%s", path);
    for (;;) {
        struct stat status;
        if (stat(part, &status) != 0 || !(status.st_mode & S_IXOTH))
            return false;
        char *slash = strrchr(part, '/');
        if (!slash || slash == part)
            return true;
        *slash = '\0';
    }
}

int files_make_directory(char path[FILES_PATH_SIZE], const char *parent, struct err *err)
{
    char full[PATH_MAX];
    if (!parent)
        parent = getenv("TMPDIR");
    if (!parent || !realpath(parent, full))
        strcpy(full, "/tmp");
    if ((geteuid() == 0 && !passable(full)) || strlen(full) > 60) /* paths of sockets are short */
        strcpy(full, "/tmp");
    snprintf(path, FILES_PATH_SIZE, "%.60s/filad-t-XXXXXX", full);
    if (!mkdtemp(path)) {
        err_set_errno(err, errno, "make directory %s", path);
        path[0] = '\0';
        return -1;
    }
    if (chmod(path, 0755) != 0)
        return err_set_errno(err, errno, "chmod %s", path);
    return 0;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *position)
{
    (void)status;
    (void)type;
    (void)position;
    (void)remove(path);
    return 0;
}

void files_remove_tree(const char *path)
{
    if (path[0])
        (void)nftw(path, remove_entry, 32, FTW_DEPTH | FTW_PHYS);
}

void files_tail(const char *path, char *text, size_t size)
{
    text[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    off_t end = lseek(fd, 0, SEEK_END);
    off_t start = end > (off_t)(size - 1) ? end - (off_t)(size - 1) : 0;
    ssize_t got = pread(fd, text, size - 1, start);
    text[got > 0 ? got : 0] = '\0';
    close(fd);
}

void files_print_tail(const char *path, FILE *out)
{
    char *text = malloc(PRINTED);
    if (!text)
        return;
    files_tail(path, text, PRINTED);
    fputs(text, out);
    free(text);
}

bool files_contain(const char *path, const char *text)
{
    bool found = false;
    char *line = NULL;
    size_t room = 0;
    FILE *file = fopen(path, "r");
    if (!file)
        return false;
    while (!found && getline(&line, &room, file) >= 0)
        found = strstr(line, text) != NULL;
    free(line);
    fclose(file);
    return found;
}

unsigned files_count(const char *directory, const char *pattern)
{
    unsigned count = 0;
    DIR *dir = opendir(directory);
    if (!dir)
        return 0;
    for (struct dirent *entry; (entry = readdir(dir));)
        count += fnmatch(pattern, entry->d_name, 0) == 0;
    closedir(dir);
    return count;
}
