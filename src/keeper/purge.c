/* purge - deleted queues: the zone's side once every process has let go, then the file, then the id
 */
#include <errno.h>
#include <stdlib.h>

#include "hook/breaker.h"
#include "keeper/maintenance.h"
#include "os/log.h"
#include "store/queue_file.h"

struct doomed {
    struct list link; /* in maintenance.doomed */
    uint64_t id;
};

static int add_doomed(struct maintenance *maintenance, uint64_t id)
{
    struct doomed *doomed = calloc(1, sizeof(*doomed));
    if (!doomed)
        return -1;
    doomed->id = id;
    list_append(&maintenance->doomed, &doomed->link);
    return 0;
}

void purge_abandon(struct maintenance *maintenance)
{
    LIST_EACH_SAFE(&maintenance->doomed, entry)
    {
        list_remove(entry);
        free(CONTAINER_OF(entry, struct doomed, link));
    }
}

/* Whether the zone still holds this id, that is: whether somebody may have its file open. */
static bool held(const struct scheduler *scheduler, uint64_t id)
{
    LIST_EACH(&scheduler->dead, entry)
    {
        if (CONTAINER_OF(entry, struct queue, dead_link)->id == id)
            return true;
    }
    return false;
}

struct visit {
    struct maintenance *maintenance;
    const struct scheduler *scheduler;
};

static int visit_dead(void *context, uint64_t id, struct err *err)
{
    struct visit *visit = context;
    if (held(visit->scheduler, id))
        return 0;
    return add_doomed(visit->maintenance, id) == 0 ? 0 : err_set_errno(err, ENOMEM, "purge queues");
}

/* The catalog's dead ids are what the files are removed by. A worker that had the queue's scripts
 * still may have taken a breaker for it anew until now. */
static void freed(void *context, uint64_t id)
{
    struct zone *zone = context;
    breaker_free(zone, id);
}

/* 0 also when the file is in use still: it is tried again. */
static int remove_file(struct maintenance *maintenance, uint64_t id)
{
    struct broker *broker = maintenance->broker;
    DB_TXN *txn = NULL;
    int result = queue_file_remove(broker->env, id);
    if (env_is_conflict(result))
        return 0;
    if (result) {
        log_write(LOG_WARN, "store", "remove queues/%llu.db: %s", (unsigned long long)id,
                  db_strerror(result));
        return broker_is_fatal(result) ? broker_fail(broker, result, "remove a queue's file") : 0;
    }
    result = env_begin(broker->env, &txn);
    if (!result && (result = catalog_forget_dead(broker->catalog, txn, id)) != 0)
        (void)txn->abort(txn);
    else if (!result)
        result = env_commit(txn, ENV_COMMIT_MEMORY);
    if (!result)
        log_write(LOG_INFO, "store", "removed the file of deleted queue %llu",
                  (unsigned long long)id);
    return broker_is_fatal(result) ? broker_fail(broker, result, "forget a deleted queue") : 0;
}

int purge_file_step(struct maintenance *maintenance)
{
    if (list_empty(&maintenance->doomed))
        return 0;
    struct doomed *doomed = CONTAINER_OF(maintenance->doomed.next, struct doomed, link);
    uint64_t id = doomed->id;
    list_remove(&doomed->link);
    free(doomed);
    return remove_file(maintenance, id) == 0 ? 1 : -1;
}

/* A file goes only when the deletion of its queue is on the disk: otherwise a crash would bring the
 * queue back, but not its messages. */
static int confirm_deletions(struct maintenance *maintenance)
{
    if (list_empty(&maintenance->doomed))
        return 0;
    int result = env_flush(maintenance->broker->env);
    return result ? broker_fail(maintenance->broker, result, "flush the log") : 0;
}

int purge_step(struct maintenance *maintenance)
{
    struct broker *broker = maintenance->broker;
    struct scheduler *scheduler = broker->scheduler;
    struct visit visit = {.maintenance = maintenance, .scheduler = scheduler};
    struct err err = {0};
    if (broker_lock(broker, &scheduler->catalog_lock) != 0)
        return -1;
    /* Under the lock nothing more is deleted: what this thread knows of dead queues goes now,
     * before they are freed. */
    int status = broker_refresh(broker);
    count_forget_dead(maintenance);
    if (status == 0)
        scheduler_reap(scheduler, freed, broker->options.zone);
    if (status == 0 && list_empty(&maintenance->doomed))
        status = catalog_each_dead(broker->catalog, visit_dead, &visit, &err);
    lock_release(&scheduler->catalog_lock);
    if (status != 0) {
        if (err.text[0])
            broker->failure = err;
        return -1;
    }
    return confirm_deletions(maintenance);
}
