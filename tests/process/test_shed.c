/* Store threads that cannot end are left behind by a fork of their worker: its connections live on.
 * A worker hangs in a sync by the preloaded shim, or workers are killed under load.
 *
 * SHED_KILLS: how many kills under load (10); SHED_LIMIT_MS: fail when the service is away for
 * longer (no limit but that of patience with a loaded machine). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/time.h"
#include "process/support/files.h"
#include "process/support/fixture.h"
#include "process/support/sockets.h"
#include "process/support/stuck.h"

#define RECOVERY_MS 60000u /* 2 s, and patience with a loaded machine */

/* ---- connections ---- */

static struct peer *tcp_peer(struct fixture *f)
{
    struct peer *peer = peer_open(f->broker.tcp_address, &f->err);
    if (!peer)
        fail_msg("connect: %s", f->err.text);
    return peer;
}

/* ---- what a process has ---- */

static unsigned descriptors(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    return files_count(path, "*");
}

/* Mappings of region files. */
static unsigned regions(pid_t pid)
{
    char path[64], line[512];
    unsigned count = 0;
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        count += strstr(line, "/__db.") != NULL || strstr(line, "/pages") != NULL;
    fclose(file);
    return count;
}

static bool has_gone(void *context)
{
    return kill(*(pid_t *)context, 0) != 0 && errno == ESRCH;
}

/* ---- a store thread that hangs ---- */

#define PEERS 12
#define HALF 3 /* connections that are needed of each worker */

struct halves {
    pid_t pids[2];
    struct peer *peers[2][HALF]; /* of each worker */
    struct peer *all[4 * PEERS];
    unsigned count;
};

/* Connects until each worker has HALF of them. */
static void connect_both(struct fixture *f, struct halves *halves)
{
    unsigned counts[2] = {0, 0};
    memset(halves, 0, sizeof *halves);
    while (counts[0] < HALF || counts[1] < HALF) {
        assert_true(halves->count < 4 * PEERS);
        struct peer *peer = halves->all[halves->count++] = tcp_peer(f);
        pid_t pid = sockets_worker(f, peer);
        unsigned side = halves->pids[0] == 0 || halves->pids[0] == pid ? 0 : 1;
        halves->pids[side] = pid;
        if (counts[side] < HALF)
            halves->peers[side][counts[side]++] = peer;
    }
}

static void close_both(struct halves *halves)
{
    for (unsigned i = 0; i < halves->count; i++)
        peer_close(halves->all[i], false);
}

struct population {
    struct fixture *f;
    pid_t not_pid;
};

static bool is_populated(void *context)
{
    struct population *wanted = context;
    return broker_count(&wanted->f->broker, BROKER_WORKER) == 2 && has_gone(&wanted->not_pid);
}

/* Everything on connections of a worker whose store thread hangs outlives a recovery. The pid of
 * the process that has them then. */
static pid_t shed_once(struct fixture *f, struct peer *peers[HALF], pid_t hung, struct peer *other,
                       pid_t killed)
{
    struct peer_delivery delivery;
    struct uuid id;
    uint32_t in_hand = stuck_hang(f, peers[0], hung, "work");
    /* Behind what hangs: nobody has begun with these. */
    uint32_t waiting = stuck_send(f, peers[1], "work");
    uint32_t news = stuck_send(f, peers[1], "news");
    for (unsigned i = 0; i < HALF; i++)
        MUST(f, peer_ping(peers[i], &f->err));
    uint64_t before_ns = time_monotonic_ns();
    stuck_kill_inside(f, other, killed, "work");
    assert_int_equal(peer_result(peers[0], in_hand, RECOVERY_MS, NULL, &f->err),
                     FIBP_STORAGE_ERROR);
    assert_int_equal(peer_result(peers[1], waiting, RECOVERY_MS, &id, &f->err), FIBP_OK);
    assert_int_equal(peer_result(peers[1], news, RECOVERY_MS, &id, &f->err), FIBP_OK);
    print_message("answered %u ms after the kill\n",
                  (unsigned)((time_monotonic_ns() - before_ns) / 1000000u));
    fixture_receive(f, peers[2], RECOVERY_MS, &delivery);
    assert_memory_equal(delivery.id.bytes, id.bytes, UUID_SIZE);
    MUST(f, peer_ack(peers[2], "news", &delivery.id, &f->err));
    for (unsigned i = 0; i < HALF; i++) {
        MUST(f, peer_enqueue(peers[i], "work", "after", NULL, &f->err));
        assert_int_equal(sockets_worker(f, peers[i]), sockets_worker(f, peers[0]));
    }
    if (!wait_until(is_populated, &(struct population){f, hung}, RECOVERY_MS))
        fail_msg("process %d was left and not reaped, or there are not two workers", (int)hung);
    return sockets_worker(f, peers[0]);
}

static void test_connections_outlive_a_store_thread_that_hangs(void **state)
{
    struct fixture *f = *state;
    struct halves halves;
    struct framed_stats stats;
    uint32_t subscription;
    connect_both(f, &halves);
    struct peer **peers = halves.peers[0];
    MUST(f, peer_create_queue(peers[0], "work", 0, &f->err));
    MUST(f, peer_create_queue(peers[0], "news", 0, &f->err));
    MUST(f, peer_consume(peers[2], "news", &subscription, &f->err));
    MUST(f, peer_enqueue(peers[0], "work", "first", NULL, &f->err));

    pid_t first = halves.pids[0];
    unsigned mapped = regions(first);
    assert_true(mapped > 0);
    pid_t second = shed_once(f, peers, first, halves.peers[1][0], halves.pids[1]);
    assert_int_not_equal(second, first);
    assert_int_equal(regions(second), mapped);

    /* And the process that goes on can do it again; it keeps nothing of what it left. */
    struct peer *other;
    pid_t other_pid;
    do
        halves.all[halves.count++] = other = tcp_peer(f);
    while ((other_pid = sockets_worker(f, other)) == second && halves.count < 4 * PEERS);
    assert_int_not_equal(other_pid, second);
    unsigned open = descriptors(second);
    pid_t third = shed_once(f, peers, second, other, other_pid);
    assert_int_not_equal(third, second);
    assert_int_equal(regions(third), mapped);
    assert_int_equal(descriptors(third), open);
    atomic_store(&f->broker.shim->hang_pid, 0);

    MUST(f, peer_stats(peers[0], "work", &stats, &f->err));
    assert_true(stats.depth >= 1 + 2 * (1 + HALF)); /* and some of unknown fate */

    /* The master knows the process by its new id. */
    char text[64];
    struct broker_process victim = {BROKER_WORKER, third};
    broker_kill(&f->broker, &victim, 1);
    if (!wait_until(is_populated, &(struct population){f, third}, RECOVERY_MS))
        fail_msg("a worker that had shed and died was not replaced");
    snprintf(text, sizeof text, "(%d) killed by signal 9", (int)third);
    assert_true(broker_logged(&f->broker, text));
    close_both(&halves);
    fixture_wait_service(f, "work", RECOVERY_MS);
    MUST(f, broker_stop(&f->broker, SIGTERM, &f->err));
    f->passed = true;
}

/* ---- kills under load ---- */

enum {
    CLIENTS = 200,
    QUEUES = 4,
    CONSUMER_EACH = 20,
    VISIBILITY_MS = 1500,
    NUMBERS = 1 << 20,
    PAYLOAD_SIZE = 3000
};

struct client {
    struct peer *peer; /* NULL: its worker was killed */
    uint16_t port;
    bool doomed; /* of the worker that is to be killed */
    bool consumes;
    uint32_t request; /* 0: none */
    uint32_t number;  /* of the message that it sent */
};

struct load {
    struct fixture *f;
    struct client clients[CLIENTS];
    uint64_t inodes[65536];  /* of the broker's sockets, by the port of the client */
    uint32_t numbers;        /* messages sent so far */
    uint8_t *confirmed;      /* by number */
    uint8_t *seen;           /* delivered, by number */
    unsigned unknown, total; /* answers that the fate of a message is unknown; confirmed ones */
    uint64_t random;
};

static unsigned random_below(struct load *load, unsigned bound)
{
    load->random = load->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(load->random >> 33) % bound;
}

static const char *queue_of(const struct load *load, const struct client *client)
{
    static const char *const names[QUEUES] = {"load0", "load1", "load2", "load3"};
    return names[(client - load->clients) % QUEUES];
}

static void load_connect(struct load *load)
{
    struct fixture *f = load->f;
    uint32_t subscription;
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *client = &load->clients[i];
        if (client->peer)
            continue;
        client->peer = tcp_peer(f);
        client->port = sockets_port(client->peer);
        client->consumes = i % CONSUMER_EACH == 0;
        if (client->consumes)
            MUST(f, peer_consume(client->peer, queue_of(load, client), &subscription, &f->err));
    }
}

/* Marks the connections of a worker; how many. */
static unsigned doom(struct load *load, pid_t pid)
{
    struct sockets sockets;
    unsigned count = 0;
    sockets_read(pid, &sockets);
    sockets_inodes(&load->f->broker, load->inodes);
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *client = &load->clients[i];
        client->doomed = sockets_have(&sockets, load->inodes[client->port]);
        count += client->doomed;
    }
    return count;
}

static void send_number(struct load *load, struct client *client)
{
    char text[PAYLOAD_SIZE]; /* large enough to keep a worker busy */
    int size = snprintf(text, sizeof text, "%-*u", PAYLOAD_SIZE - 1, load->numbers);
    struct peer_message message = {.queue = queue_of(load, client),
                                   .payload = str_of(text, (size_t)size)};
    assert_true(load->numbers < NUMBERS);
    client->number = load->numbers++;
    if (peer_enqueue_send(client->peer, &message, 1, &client->request, &load->f->err) != 0)
        client->request = 0;
}

/* The code of the answer; -1: the connection ended. */
static int take_answer(struct load *load, struct client *client)
{
    int code = -1;
    if (client->request)
        code = peer_result(client->peer, client->request, RECOVERY_MS, NULL, &load->f->err);
    client->request = 0;
    load->confirmed[client->number] |= code == FIBP_OK;
    load->total += code == FIBP_OK;
    load->unknown += code == FIBP_STORAGE_ERROR;
    return code;
}

static void take_survivors(struct load *load)
{
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *client = &load->clients[i];
        if (client->doomed)
            continue;
        int code = take_answer(load, client);
        if (code != FIBP_OK && code != FIBP_STORAGE_ERROR)
            fail_msg("connection %u of a worker that was not killed: code %d: %s", i, code,
                     load->f->err.text);
    }
}

/* How many survivors do not get a message confirmed. */
static unsigned try_survivors(struct load *load)
{
    unsigned before = load->total, survivors = 0;
    for (unsigned i = 0; i < CLIENTS; i++)
        if (!load->clients[i].doomed) {
            send_number(load, &load->clients[i]);
            survivors++;
        }
    take_survivors(load);
    return survivors - (load->total - before);
}

static void take_deliveries(struct load *load, struct peer *peer, const char *queue,
                            unsigned timeout_ms)
{
    struct peer_delivery delivery;
    while (peer_receive(peer, timeout_ms, &delivery, &load->f->err) == 1) {
        unsigned long number = strtoul(delivery.payload, NULL, 10);
        assert_true(number < load->numbers);
        load->seen[number] = 1;
        if (peer_ack(peer, queue, &delivery.id, &load->f->err) < 0)
            return;
    }
}

static void bury_doomed(struct load *load)
{
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *client = &load->clients[i];
        if (!client->doomed)
            continue;
        /* What was answered before the death counts. */
        take_answer(load, client);
        if (client->consumes)
            take_deliveries(load, client->peer, queue_of(load, client), 0);
        peer_close(client->peer, false);
        client->peer = NULL;
        client->doomed = false;
    }
}

static bool has_both(void *context)
{
    struct fixture *f = context;
    return broker_count(&f->broker, BROKER_WORKER) == 2;
}

/* Mostly the one that outlived the last kill: a worker that dies soon after its start is not
 * replaced at once. */
static pid_t worker_to_kill(struct load *load)
{
    struct broker_process list[BROKER_PROCESSES_MAX];
    pid_t workers[2];
    unsigned found = 0;
    if (!wait_until(has_both, load->f, RECOVERY_MS))
        fail_msg("there are not two workers");
    bool any = random_below(load, 4) == 0;
    for (unsigned i = 0; i < CLIENTS && !any; i++)
        if (load->clients[i].peer)
            return sockets_worker(load->f, load->clients[i].peer);
    size_t count = broker_processes(&load->f->broker, list, BROKER_PROCESSES_MAX);
    for (size_t i = 0; i < count && found < 2; i++)
        if (list[i].role == BROKER_WORKER)
            workers[found++] = list[i].pid;
    assert_int_equal(found, 2);
    return workers[random_below(load, 2)];
}

/* Spreads the connections over both workers, one of which is new, and chooses one. */
static pid_t choose_victim(struct load *load)
{
    pid_t victim = worker_to_kill(load);
    for (unsigned attempt = 0; attempt < 1000; attempt++) {
        load_connect(load);
        unsigned doomed = doom(load, victim);
        if (doomed >= CLIENTS / 4 && doomed <= CLIENTS * 3 / 4)
            return victim;
        /* It was not ready, or the other one was not: those of the fuller one come again. */
        bool fuller = doomed > CLIENTS / 2;
        for (unsigned i = 0; i < CLIENTS; i += 2) {
            struct client *client = &load->clients[i];
            if (client->doomed != fuller)
                continue;
            take_deliveries(load, client->peer, queue_of(load, client), 0);
            peer_close(client->peer, false);
            client->peer = NULL;
        }
    }
    fail_msg("the connections do not spread");
    return 0;
}

/* Kills a worker while all connections write; how long the others went without service. */
static uint64_t kill_once(struct load *load)
{
    struct broker_process victim = {BROKER_WORKER, choose_victim(load)};
    unsigned at = CLIENTS / 4 + random_below(load, CLIENTS / 2);
    uint64_t killed_ns = 0;
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (i == at) {
            broker_kill(&load->f->broker, &victim, 1);
            killed_ns = time_monotonic_ns();
        }
        send_number(load, &load->clients[i]);
    }
    take_survivors(load);
    while (try_survivors(load) > 0)
        if (time_monotonic_ns() - killed_ns > RECOVERY_MS * 1000000ull)
            fail_msg("the service does not come back");
    uint64_t away_ms = (time_monotonic_ns() - killed_ns) / 1000000u;
    bury_doomed(load);
    for (unsigned i = 0; i < CLIENTS; i += CONSUMER_EACH)
        if (load->clients[i].peer)
            take_deliveries(load, load->clients[i].peer, queue_of(load, &load->clients[i]), 0);
    return away_ms;
}

static unsigned count_lost(const struct load *load)
{
    unsigned lost = 0;
    for (uint32_t i = 0; i < load->numbers; i++)
        lost += load->confirmed[i] && !load->seen[i];
    return lost;
}

/* Everything confirmed is delivered. */
static void drain(struct load *load)
{
    struct fixture *f = load->f;
    uint64_t end_ns = time_monotonic_ns() + RECOVERY_MS * 1000000ull;
    for (unsigned i = 0; i < CLIENTS; i++)
        peer_close(load->clients[i].peer, false);
    struct peer *peers[QUEUES];
    uint32_t subscription;
    for (unsigned i = 0; i < QUEUES; i++) {
        peers[i] = tcp_peer(f);
        MUST(f, peer_consume(peers[i], queue_of(load, &load->clients[i]), &subscription, &f->err));
    }
    while (count_lost(load) > 0) {
        for (unsigned i = 0; i < QUEUES; i++)
            take_deliveries(load, peers[i], queue_of(load, &load->clients[i]), 50);
        if (time_monotonic_ns() > end_ns)
            fail_msg("%u confirmed messages are lost", count_lost(load));
    }
    for (unsigned i = 0; i < QUEUES; i++)
        peer_close(peers[i], true);
}

static unsigned count_logged(const struct broker *broker, const char *text)
{
    char line[1024];
    unsigned count = 0;
    FILE *file = fopen(broker->log, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        count += strstr(line, text) != NULL;
    fclose(file);
    return count;
}

static unsigned number_of(const char *variable, unsigned otherwise)
{
    const char *text = getenv(variable);
    return text ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

static void test_a_death_costs_the_other_worker_no_connection(void **state)
{
    struct fixture *f = *state;
    unsigned kills = number_of("SHED_KILLS", 10),
             limit_ms = number_of("SHED_LIMIT_MS", RECOVERY_MS);
    struct load *load = calloc(1, sizeof *load);
    uint64_t worst_ms = 0;
    assert_non_null(load);
    load->f = f;
    load->random = time_monotonic_ns();
    load->confirmed = calloc(1, NUMBERS);
    load->seen = calloc(1, NUMBERS);
    assert_true(load->confirmed && load->seen);
    struct peer *admin = tcp_peer(f);
    for (unsigned i = 0; i < QUEUES; i++)
        MUST(f,
             peer_create_queue(admin, queue_of(load, &load->clients[i]), VISIBILITY_MS, &f->err));
    peer_close(admin, true);
    for (unsigned i = 0; i < kills; i++) {
        uint64_t away_ms = kill_once(load);
        worst_ms = away_ms > worst_ms ? away_ms : worst_ms;
    }
    drain(load);
    print_message("%u kills: %u messages confirmed, %u of unknown fate, %u recoveries, %u times "
                  "threads were left behind, longest outage %u ms\n",
                  kills, load->total, load->unknown, count_logged(&f->broker, "store serves again"),
                  count_logged(&f->broker, "goes on without its store threads"),
                  (unsigned)worst_ms);
    assert_true(worst_ms <= limit_ms);
    free(load->confirmed);
    free(load->seen);
    free(load);
    f->passed = true;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_connections_outlive_a_store_thread_that_hangs,
                                        fixture_setup_faults, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_a_death_costs_the_other_worker_no_connection,
                                        fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests_name("shed", tests, NULL, NULL);
}
