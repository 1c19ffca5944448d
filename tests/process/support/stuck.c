#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "process/support/stuck.h"

#include "process/support/measure.h"

#define TRIES 100

uint32_t stuck_send(struct fixture *fixture, struct peer *peer, const char *queue)
{
    struct peer_message message = {.queue = queue, .payload = STR("m")};
    uint32_t request;
    MUST(fixture, peer_enqueue_send(peer, &message, 1, &request, &fixture->err));
    return request;
}

struct counter_wait {
    _Atomic uint32_t *counter;
    uint32_t least;
};

static bool counter_reached(void *context)
{
    struct counter_wait *wait = context;
    return atomic_load(wait->counter) >= wait->least;
}

/* The store thread syncs what is alone; otherwise the sync thread does, which does not hang. */
uint32_t stuck_hang(struct fixture *fixture, struct peer *peer, pid_t pid, const char *queue)
{
    struct shim_control *shim = fixture->broker.shim;
    struct counter_wait wait = {&shim->hanging, atomic_load(&shim->hanging) + 1};
    atomic_store(&shim->hang_pid, pid);
    for (unsigned attempt = 0; attempt < TRIES; attempt++) {
        uint32_t request = stuck_send(fixture, peer, queue);
        for (unsigned waited_ms = 0; waited_ms < PEER_PATIENCE_MS; waited_ms += 110) {
            if (wait_until(counter_reached, &wait, 100))
                return request;
            if (peer_result(peer, request, 10, NULL, &fixture->err) == FIBP_OK)
                break;
        }
    }
    fail_msg("no store thread hangs");
    return 0;
}

static bool is_asleep(void *context)
{
    return measure_is_asleep(*(pid_t *)context);
}

void stuck_kill_inside(struct fixture *fixture, struct peer *peer, pid_t pid, const char *queue)
{
    struct broker_process victim = {BROKER_WORKER, pid};
    uint32_t request = stuck_send(fixture, peer, queue);
    /* A Pong comes when the request was passed on. The process is asleep then when it waits. */
    MUST(fixture, peer_ping(peer, &fixture->err));
    if (!wait_until(is_asleep, &pid, PEER_PATIENCE_MS))
        fail_msg("worker %d does not come to rest", (int)pid);
    assert_int_equal(peer_result(peer, request, 1, NULL, &fixture->err), -1);
    broker_kill(&fixture->broker, &victim, 1);
}
