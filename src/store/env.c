#include "store/env.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/calls.h"
#include "os/io.h"
#include "os/log.h"
#include "os/proc.h"
#include "store/log_checksum.h"
#include "store/page_guard.h"
#include "store/queue_file.h"
#include "store/recovery_sync.h"
#include "store/space.h"

#define LOG_BUFFER (8u << 20)
#define LOG_FILE (32u << 20)  /* at least four buffers; the log is removed in units of a file */
#define LOG_REGION (8u << 20) /* names of open files: 20,000 of them */
#define FILES 20000
#define TRANSACTIONS 1000
#define THREADS 512 /* processes x threads x 4 */
#define LOCKS 40000
#define MUTEXES 400000             /* at most; made as they are needed: 20,000 files take 100,000 */
#define MANY_FILES 500             /* queues */
#define RECOVERY_CACHE (16u << 20) /* bytes, when there are so many */
#define REGION_OVERHEAD (64u << 20) /* log buffer, locks, lockers, mutexes: measured 58 MiB */

/* What Berkeley DB said first on this thread since an error was reported, or a call that is
 * reported as a whole began: the file, the page, the number in the log. Its result alone is
 * "Invalid argument". */
static _Thread_local char env_said[160];

int env_error(struct err *err, int result, const char *format, ...)
{
    char what[ERR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    bool said = env_said[0] != '\0';
    err_set(err, result, "%s: %s%s%s%s", what, db_strerror(result), said ? " (" : "", env_said,
            said ? ")" : "");
    env_said[0] = '\0';
    return -1;
}

static void message_to_log(const DB_ENV *db, const char *prefix, const char *text)
{
    (void)db;
    (void)prefix;
    if (env_said[0] == '\0')
        snprintf(env_said, sizeof(env_said), "%s", text);
    log_write(LOG_ERROR, "store", "Berkeley DB: %s", text);
}

/* What failchk has to tell. */
static void note_to_log(const DB_ENV *db, const char *text)
{
    (void)db;
    log_write(LOG_DEBUG, "store", "Berkeley DB: %s", text);
}

static int process_is_alive(DB_ENV *db, pid_t pid, db_threadid_t thread, u_int32_t flags)
{
    (void)db;
    (void)thread;
    (void)flags;
    return kill(pid, 0) == 0 || errno != ESRCH;
}

/* Berkeley DB takes what these two return for the error. A sync that fails is never "no room" to
 * those who look at the result: it is final. */
static int sync_whole(int fd)
{
    if (recovery_sync_later(fd) || os_fsync(fd) == 0)
        return 0;
    if (errno == ENOSPC)
        errno = EIO;
    return errno;
}

static int truncate_to(int fd, off_t size)
{
    return os_ftruncate(fd, size) == 0 ? 0 : errno;
}

/* The store of this process, whose reserve the log may use: Berkeley DB's hooks have no context. */
static char reserve_of[4096];
static _Atomic bool reserve_used;

/* A log that cannot be written ends the environment, so it does not wait for anybody to look at
 * the disk: it takes the reserve itself. Another process may have given it up just now. */
static int write_log(int fd, const void *data, size_t size, off_t at)
{
    if (io_write_all(fd, data, size) == 0)
        return 0;
    if (errno != ENOSPC || at < 0 || !reserve_of[0])
        return -1;
    if (space_release(reserve_of)) {
        atomic_store(&reserve_used, true);
        log_write(LOG_ERROR, "store", "the disk under %s is full: its reserve is used now",
                  reserve_of);
    }
    return lseek(fd, at, SEEK_SET) == at ? io_write_all(fd, data, size) : -1;
}

bool env_used_reserve(void)
{
    return atomic_load_explicit(&reserve_used, memory_order_relaxed) &&
           atomic_exchange(&reserve_used, false);
}

/* With a hook for write Berkeley DB writes everything by lseek and that hook, pages too. Those go
 * through the page guard; they are told from the log by their size and place. A short write is a
 * full disk here: Berkeley DB would report the errno that is there by chance. */
static ssize_t write_whole(int fd, const void *data, size_t size)
{
    off_t at = lseek(fd, 0, SEEK_CUR);
    bool page = size >= 512 && size <= 65536 && (size & (size - 1)) == 0 && at >= 0 &&
                at % (off_t)size == 0;
    if (!page && (errno = recovery_sync_now()) != 0)
        return -1;
    if (!page)
        return write_log(fd, data, size, at) == 0 ? (ssize_t)size : -1;
    ssize_t written = page_guard_pwrite(fd, data, size, at);
    if (written == (ssize_t)size && lseek(fd, at + (off_t)size, SEEK_SET) >= 0)
        return written;
    if (written >= 0)
        errno = ENOSPC;
    return -1;
}

/* Routes Berkeley DB's writes and syncs through the seam of os/calls. Syncs of the log become
 * fdatasync there: the file's size is flushed with it, its times need not be. */
static void route_calls(void)
{
    (void)db_env_set_func_fsync(sync_whole);
    (void)db_env_set_func_write(write_whole);
    (void)db_env_set_func_pwrite(page_guard_pwrite);
    (void)db_env_set_func_ftruncate(truncate_to);
}

static int configure_sizes(DB_ENV *db, const struct env_options *options)
{
    int result = db->set_cachesize(db, (u_int32_t)(options->cache_size >> 30),
                                   (u_int32_t)(options->cache_size & ((1u << 30) - 1)), 1);
    /* Berkeley DB makes a mutex for every page of the cache that it expects; with its own guess of
     * 4 KiB pages that is a third of the memory of an idle broker. */
    if (!result)
        result = db->set_mp_pagesize(db, ENV_PAGE_SIZE);
    if (!result)
        result = db->mutex_set_max(db, MUTEXES);
    if (!result)
        result = db->set_lg_bsize(db, LOG_BUFFER);
    if (!result)
        result = db->set_lg_max(db, LOG_FILE);
    if (!result)
        result = db->set_lg_regionmax(db, LOG_REGION);
    if (!result)
        result = db->set_memory_init(db, DB_MEM_LOGID, FILES);
    if (!result)
        result = db->set_memory_init(db, DB_MEM_LOCK, LOCKS);
    if (!result)
        result = db->set_memory_init(db, DB_MEM_LOCKOBJECT, LOCKS);
    if (!result)
        result = db->set_memory_init(db, DB_MEM_LOCKER, FILES * 2);
    if (!result)
        result = db->set_tx_max(db, TRANSACTIONS);
    if (!result)
        result = db->set_thread_count(db, THREADS);
    return result;
}

static int configure(DB_ENV *db, const struct env_options *options)
{
    char directory[4096];
    if (snprintf(directory, sizeof(directory), "%s/log", options->path) >= (int)sizeof(directory))
        return ENAMETOOLONG;
    db->set_errcall(db, message_to_log);
    db->set_msgcall(db, note_to_log);
    int result = configure_sizes(db, options);
    if (!result)
        result = db->add_data_dir(db, options->path);
    if (!result)
        result = db->set_create_dir(db, options->path);
    if (!result)
        result = db->set_lg_dir(db, directory);
    if (!result)
        result = db->set_isalive(db, process_is_alive);
    if (!result)
        result = db->set_lk_detect(db, DB_LOCK_DEFAULT);
    if (!result)
        result = db->log_set_config(db, DB_LOG_AUTO_REMOVE, 1);
    return result;
}

/* The old regions are worthless for a recovery, and a file of another size or version in their
 * place would be an error. */
static void remove_regions(const char *directory)
{
    DIR *dir = opendir(directory);
    if (!dir)
        return;
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        if (strncmp(entry->d_name, "__db.", 5) == 0)
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
}

static struct env *open_once(const struct env_options *options, struct err *err)
{
    u_int32_t flags = DB_INIT_TXN | DB_INIT_LOCK | DB_INIT_LOG | DB_INIT_MPOOL | DB_THREAD;
    struct env *env = calloc(1, sizeof(*env));
    int result = 0;
    if (env)
        buf_init(&env->empty, 0);
    if (!env || !(env->path = strdup(options->path))) {
        err_set_errno(err, ENOMEM, "open store");
        goto fail;
    }
    snprintf(reserve_of, sizeof(reserve_of), "%s", options->path);
    atomic_store(&reserve_used, false);
    route_calls();
    log_checksum_init();
    if (options->recover) {
        remove_regions(options->regions);
        recovery_sync_begin(options->path);
        flags |= DB_CREATE | DB_RECOVER;
        if (page_guard_recover(options->regions, options->path, err) != 0 ||
            queue_file_prepare(options, err) != 0)
            goto fail;
    }
    if (page_guard_attach(options->regions, err) != 0 ||
        queue_file_load(options->regions, &env->empty, err) != 0)
        goto fail;
    result = db_env_create(&env->db, 0);
    if (!result)
        result = configure(env->db, options);
    if (!result)
        result = env->db->open(env->db, options->regions, flags, 0600);
    if (options->recover) {
        int synced = recovery_sync_end();
        result = result ? result : synced;
    }
    if (!result)
        return env;
    env_error(err, result, "open store %s (regions in %s)", options->path, options->regions);
fail:
    (void)recovery_sync_end();
    if (env && env->db)
        (void)env->db->close(env->db, 0);
    page_guard_detach();
    if (env) {
        buf_free(&env->empty);
        free(env->path);
    }
    free(env);
    return NULL;
}

static bool has_many_files(const char *store)
{
    char path[4096];
    unsigned count = 0;
    DIR *dir = io_path_join(path, sizeof(path), store, "queues", NULL) == 0 ? opendir(path) : NULL;
    while (dir && count <= MANY_FILES && readdir(dir))
        count++;
    if (dir)
        closedir(dir);
    return count > MANY_FILES;
}

struct env *env_open(const struct env_options *options, struct err *err)
{
    /* A recovery opens every file that the log names, and what Berkeley DB's cache needs for each
     * makes taking memory from a large cache slow: 20,000 files took 90 s with 256 MiB, 6 s with
     * 16. So it is done with a small one first; then there is nothing left to do. */
    if (options->recover && options->cache_size > RECOVERY_CACHE && has_many_files(options->path)) {
        struct env_options small = *options;
        small.cache_size = RECOVERY_CACHE;
        struct env *env = open_once(&small, err);
        if (!env)
            return NULL;
        /* The checkpoint that a recovery ends with does not spare the next one its work. */
        int result = env_checkpoint(env, 0, true);
        int closed = env_close(env);
        result = result ? result : closed;
        if (result) {
            env_error(err, result, "close store %s after its recovery", options->path);
            return NULL;
        }
    }
    return open_once(options, err);
}

int env_close(struct env *env)
{
    if (!env)
        return 0;
    int result = env->db->close(env->db, 0);
    page_guard_detach();
    buf_free(&env->empty);
    free(env->path);
    free(env);
    return result;
}

struct abandoned {
    char databases[PATH_MAX], queues[PATH_MAX], log[PATH_MAX], regions[PATH_MAX];
};

/* The rest of `path` behind `directory` and a slash; NULL when it is elsewhere. */
static const char *name_in(const char *directory, const char *path)
{
    size_t size = strlen(directory);
    if (!size || strncmp(path, directory, size) != 0 || path[size] != '/')
        return NULL;
    return strchr(path + size + 1, '/') ? NULL : path + size + 1;
}

static bool is_region(const struct abandoned *abandoned, const char *path)
{
    const char *name = name_in(abandoned->regions, path);
    return name && strncmp(name, "__db.", 5) == 0;
}

static bool is_named(const char *directory, const char *path, const char *pattern)
{
    const char *name = name_in(directory, path);
    return name && fnmatch(pattern, name, 0) == 0;
}

/* By their names, since a log of ours may be in the same directory. */
static void close_abandoned(void *context, int fd, const char *path)
{
    const struct abandoned *abandoned = context;
    if (is_region(abandoned, path) || is_named(abandoned->databases, path, "*db*") ||
        is_named(abandoned->queues, path, "*db*") ||
        is_named(abandoned->log, path, "log.[0-9][0-9][0-9][0-9][0-9][0-9]*"))
        (void)os_close(fd);
}

static void unmap_abandoned(void *context, void *start, size_t size, const char *path)
{
    if (is_region(context, path))
        (void)munmap(start, size);
}

/* As the kernel tells paths. */
static void resolve(char out[PATH_MAX], const char *directory, const char *name)
{
    char path[PATH_MAX];
    out[0] = '\0';
    if (io_path_join(path, sizeof(path), directory, name, NULL) != 0 || !realpath(path, out))
        out[0] = '\0';
}

void env_abandon(const char *path, const char *regions)
{
    struct abandoned abandoned;
    struct err err;
    resolve(abandoned.databases, path, ".");
    resolve(abandoned.queues, path, "queues");
    resolve(abandoned.log, path, "log");
    resolve(abandoned.regions, regions, ".");
    page_guard_detach();
    if (proc_each_descriptor(close_abandoned, &abandoned, &err) != 0)
        log_write(LOG_WARN, "store", "the old files stay open: %s", err.text);
    if (proc_each_mapping(unmap_abandoned, &abandoned, &err) != 0)
        log_write(LOG_WARN, "store", "the old regions stay mapped: %s", err.text);
}

uint64_t env_region_bytes(const struct env_options *options)
{
    /* Berkeley DB adds a quarter to caches below 500 MiB. */
    return options->cache_size + options->cache_size / 4 + REGION_OVERHEAD;
}

int env_reserve_regions(const struct env_options *options, struct err *err)
{
    DIR *dir = opendir(options->regions);
    if (!dir)
        return err_set_errno(err, errno, "open region directory %s", options->regions);
    int status = 0;
    for (struct dirent *entry = readdir(dir); entry && status == 0; entry = readdir(dir)) {
        struct stat info;
        if (strncmp(entry->d_name, "__db.", 5) != 0)
            continue;
        int fd = openat(dirfd(dir), entry->d_name, O_RDWR | O_CLOEXEC);
        int failed = fd < 0 || fstat(fd, &info) != 0 ? errno : posix_fallocate(fd, 0, info.st_size);
        if (failed)
            status = err_set_errno(err, failed, "reserve room for %s/%s", options->regions,
                                   entry->d_name);
        if (fd >= 0)
            close(fd);
    }
    closedir(dir);
    return status;
}

int env_begin(struct env *env, DB_TXN **txn)
{
    env_said[0] = '\0';
    return env->db->txn_begin(env->db, NULL, txn, 0);
}

int env_commit(DB_TXN *txn, enum env_commit how)
{
    return txn->commit(txn, how == ENV_COMMIT_KERNEL ? DB_TXN_WRITE_NOSYNC : DB_TXN_NOSYNC);
}

int env_flush(struct env *env)
{
    env_said[0] = '\0';
    return env->db->log_flush(env->db, NULL);
}

int env_checkpoint(struct env *env, uint64_t bytes, bool force)
{
    env_said[0] = '\0';
    u_int32_t kbytes = bytes >> 10 > UINT32_MAX ? UINT32_MAX : (u_int32_t)(bytes >> 10);
    return env->db->txn_checkpoint(env->db, kbytes, 0, force ? DB_FORCE : 0);
}

int env_failchk(struct env *env)
{
    return env->db->failchk(env->db, 0);
}
