#include "store/queue_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/calls.h"
#include "os/io.h"
#include "os/time.h"

#define EMPTY_SIZE_MAX (256u << 10)
#define UNFINISHED ".new"
#define PATH_SIZE 4096

/* Where Berkeley DB keeps them in a page, and in the first page of a file. */
#define LSN_AT 0
#define PAGE_SIZE_AT 20
#define FILE_ID_AT 52
#define FILE_ID_SIZE 20 /* the cache tells files by it */

void queue_file_name(char name[QUEUE_FILE_NAME_SIZE], uint64_t id)
{
    snprintf(name, QUEUE_FILE_NAME_SIZE, "queues/%" PRIu64 ".db", id);
}

static int make_empty(const char *path, struct err *err)
{
    DB *db = NULL;
    (void)os_unlink(path);
    int result = db_create(&db, NULL, 0);
    if (!result)
        result = db->set_pagesize(db, ENV_PAGE_SIZE);
    if (!result)
        result = db->open(db, NULL, path, NULL, DB_BTREE, DB_CREATE | DB_EXCL, 0600);
    int closed = db ? db->close(db, 0) : 0;
    result = result ? result : closed;
    return result ? env_error(err, result, "make %s", path) : 0;
}

/* Synced before, since one of them may have got its name already. */
static int remove_unfinished(const char *store, struct err *err)
{
    char path[PATH_SIZE];
    bool synced = false;
    int status = 0;
    DIR *dir = io_path_join(path, sizeof(path), store, "queues", NULL) == 0 ? opendir(path) : NULL;
    if (!dir)
        return 0;
    for (struct dirent *entry = readdir(dir); entry && status == 0; entry = readdir(dir)) {
        if (!str_ends_with(str_from_c(entry->d_name), STR(UNFINISHED)))
            continue;
        if (!synced)
            status = io_sync_dir(path, err);
        synced = true;
        if (status == 0)
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    closedir(dir);
    return status;
}

int queue_file_prepare(const struct env_options *options, struct err *err)
{
    char path[PATH_SIZE];
    if (remove_unfinished(options->path, err) != 0)
        return -1;
    if (io_path_join(path, sizeof(path), options->regions, QUEUE_FILE_EMPTY, err) != 0)
        return -1;
    return make_empty(path, err);
}

/* Pages that no log record has changed yet. */
static bool mark_unlogged(struct buf *empty)
{
    static const uint32_t unlogged[2] = {0, 1};
    uint32_t page_size = 0;
    if (empty->size < FILE_ID_AT + FILE_ID_SIZE)
        return false;
    memcpy(&page_size, empty->data + PAGE_SIZE_AT, sizeof(page_size));
    if (page_size != ENV_PAGE_SIZE || empty->size % page_size != 0)
        return false;
    for (size_t at = 0; at < empty->size; at += page_size)
        memcpy(empty->data + at + LSN_AT, unlogged, sizeof(unlogged));
    return true;
}

int queue_file_load(const char *regions, struct buf *empty, struct err *err)
{
    char path[PATH_SIZE];
    if (io_path_join(path, sizeof(path), regions, QUEUE_FILE_EMPTY, err) != 0 ||
        io_read_file(path, EMPTY_SIZE_MAX, empty, err) != 0)
        return -1;
    return mark_unlogged(empty) ? 0 : err_set(err, EINVAL, "%s is no empty queue", path);
}

/* A file with an identity of its own, not yet under its name. */
static int write_new(const struct env *env, const char *path)
{
    uint64_t identity[4] = {0};
    time_entropy(identity);
    time_entropy(identity + 2);
    int fd = os_open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    int result = 0;
    const uint8_t *data = env->empty.data;
    size_t rest = FILE_ID_AT + FILE_ID_SIZE;
    if (io_write_all(fd, data, FILE_ID_AT) != 0 || io_write_all(fd, identity, FILE_ID_SIZE) != 0 ||
        io_write_all(fd, data + rest, env->empty.size - rest) != 0 || os_fsync(fd) != 0)
        result = errno ? errno : EIO;
    (void)os_close(fd);
    return result;
}

static int sync_folder(const char *path)
{
    int fd = os_open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = fd < 0 || os_fsync_all(fd) != 0 ? errno : 0;
    if (fd >= 0)
        (void)os_close(fd);
    return result;
}

static int find_paths(const struct env *env, uint64_t id, char path[PATH_SIZE],
                      char folder[PATH_SIZE])
{
    char name[QUEUE_FILE_NAME_SIZE];
    queue_file_name(name, id);
    return io_path_join(path, PATH_SIZE, env->path, name, NULL) == 0 &&
                   io_path_join(folder, PATH_SIZE, env->path, "queues", NULL) == 0
               ? 0
               : ENAMETOOLONG;
}

/* The other name goes last: as long as it is there, nobody relies on the file to be on the disk. */
int queue_file_create(const struct env *env, uint64_t id)
{
    static _Atomic uint32_t number;
    char folder[PATH_SIZE], path[PATH_SIZE], unfinished[PATH_SIZE + 64];
    if (find_paths(env, id, path, folder) != 0)
        return ENAMETOOLONG;
    snprintf(unfinished, sizeof(unfinished), "%s.%d.%u" UNFINISHED, path, (int)getpid(),
             atomic_fetch_add(&number, 1));
    int result = write_new(env, unfinished);
    bool linked = !result && link(unfinished, path) == 0;
    if (!result && !linked && errno != EEXIST)
        result = errno;
    if (!result)
        result = sync_folder(folder);
    if (!result || !linked)
        (void)os_unlink(unfinished);
    return result;
}

int queue_file_settle(const struct env *env, uint64_t id)
{
    char folder[PATH_SIZE], path[PATH_SIZE];
    struct stat info;
    if (find_paths(env, id, path, folder) != 0)
        return ENAMETOOLONG;
    if (stat(path, &info) != 0)
        return errno;
    return info.st_nlink > 1 ? sync_folder(folder) : 0;
}

/* Opens it for this thread alone and closes it: fails at once when somebody has a handle. */
static int check_unused(struct env *env, const char *name)
{
    DB *db = NULL;
    DB_TXN *txn = NULL;
    int result = db_create(&db, env->db, 0);
    if (!result)
        result = db->set_lk_exclusive(db, 1);
    if (!result)
        result = env->db->txn_begin(env->db, NULL, &txn, DB_TXN_NOWAIT);
    if (!result)
        result = db->open(db, txn, name, NULL, DB_BTREE, 0, 0);
    if (txn && result)
        (void)txn->abort(txn);
    else if (txn)
        result = env_commit(txn, ENV_COMMIT_MEMORY);
    if (db)
        (void)db->close(db, DB_NOSYNC);
    return result;
}

int queue_file_remove(struct env *env, uint64_t id)
{
    char name[QUEUE_FILE_NAME_SIZE];
    queue_file_name(name, id);
    int result = check_unused(env, name);
    if (!result)
        result = env->db->dbremove(env->db, NULL, name, NULL, 0);
    return result == ENOENT ? 0 : result;
}
