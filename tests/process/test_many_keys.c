/*
 * Many fairness keys: rates that do not fall with their number, memory and files that do not grow
 * with the keys there have been, a zone that is too small for them. MANY_KEYS chooses how many one
 * queue gets, one message each; from LARGE_RUN on, rates and sizes are judged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/include/fila.h"
#include "os/time.h"
#include "process/support/fixture.h"

#define KEYS 3000
#define LARGE_RUN 100000
#define BATCH 1000
#define IDLE_MS 150000u /* until lanes that are empty for a minute are gone */

static unsigned key_count(void)
{
    const char *text = getenv("MANY_KEYS");
    return text ? (unsigned)strtoul(text, NULL, 10) : KEYS;
}

static double per_second(uint64_t began_ns, unsigned count)
{
    return count * 1e9 / (double)(time_monotonic_ns() - began_ns);
}

/* `count` messages, the i-th with key number i % keys. Their codes' first that is not 0. */
static enum fila_code enqueue(struct fila *client, const char *queue, unsigned count, unsigned keys,
                              size_t key_size)
{
    static struct fila_message messages[BATCH];
    static struct fila_header headers[BATCH];
    static struct fila_enqueue_result results[BATCH];
    static char names[BATCH][1024];
    struct fila_error error = FILA_ERROR_INIT;
    for (unsigned done = 0; done < count; done += BATCH) {
        unsigned now = count - done < BATCH ? count - done : BATCH;
        for (unsigned i = 0; i < now; i++) {
            memset(names[i], 'k', key_size);
            int size = snprintf(names[i], sizeof(names[i]), "key-%u", (done + i) % keys);
            if ((size_t)size < key_size)
                names[i][size] = '-';
            headers[i] = (struct fila_header){
                .name = fila_text("tenant"),
                .value = {names[i], (size_t)size > key_size ? (size_t)size : key_size}};
            messages[i] = (struct fila_message){.queue = fila_text(queue),
                                                .headers = &headers[i],
                                                .header_count = 1,
                                                .payload = fila_text("message")};
        }
        if (fila_enqueue_many(client, messages, now, results, &error) != 0) {
            enum fila_code code = error.code;
            if (code != FILA_OVERLOADED) /* there was room for none of them */
                fail_msg("enqueue: %s", error.text);
            fila_error_clear(&error);
            return code;
        }
        for (unsigned i = 0; i < now; i++)
            if (results[i].code != FILA_OK)
                return results[i].code;
    }
    return FILA_OK;
}

static void on_acked(void *context, const enum fila_code *codes, size_t count,
                     const struct fila_error *error)
{
    _Atomic unsigned *acked = context;
    for (size_t i = 0; i < count; i++)
        if (!error && codes[i] == FILA_OK)
            (*acked)++;
}

struct acked {
    _Atomic unsigned count;
    unsigned wanted;
};

static bool all_acked(void *context)
{
    struct acked *acked = context;
    return acked->count >= acked->wanted;
}

static void drain(struct fila *client, const char *queue, unsigned count)
{
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_delivery *got[BATCH];
    struct fila_ack acks[BATCH];
    struct acked acked = {.wanted = count};
    struct fila_consumer *consumer = fila_consume(client, queue, &error);
    if (!consumer)
        fail_msg("consume: %s", error.text);
    for (unsigned done = 0; done < count;) {
        int received = fila_receive_many(consumer, PEER_PATIENCE_MS, got, BATCH, &error);
        if (received <= 0)
            fail_msg("%u of %u received: %s", done, count, error.text);
        for (int i = 0; i < received; i++)
            acks[i] = (struct fila_ack){got[i]->queue, got[i]->id};
        if (fila_ack_many_async(client, acks, (size_t)received, on_acked, &acked.count, &error) !=
            0)
            fail_msg("ack: %s", error.text);
        for (int i = 0; i < received; i++)
            fila_delivery_free(got[i]);
        done += (unsigned)received;
    }
    assert_true(wait_until(all_acked, &acked, PEER_PATIENCE_MS));
    fila_consumer_free(consumer);
}

/* --- rates --- */

static void test_rates(void **state)
{
    static const unsigned keys[] = {10, 1000, 100000};
    struct fixture *f = *state;
    struct fila *client = fixture_client(f);
    struct fila_error error = FILA_ERROR_INIT;
    bool large = key_count() >= LARGE_RUN;
    unsigned count = large ? 200000 : 3000;
    double in[3], out[3];
    for (unsigned i = 0; i < 3; i++) {
        char queue[16];
        snprintf(queue, sizeof(queue), "rates-%u", i);
        if (fila_queue_create(client, queue, NULL, &error) != 0)
            fail_msg("create: %s", error.text);
        uint64_t began_ns = time_monotonic_ns();
        assert_int_equal(enqueue(client, queue, count, keys[i], 0), FILA_OK);
        in[i] = per_second(began_ns, count);
        began_ns = time_monotonic_ns();
        drain(client, queue, count);
        out[i] = per_second(began_ns, count);
        print_message("%6u keys: %6.0f/s enqueued (%.2f), %6.0f/s delivered and acked (%.2f)\n",
                      keys[i], in[i], in[i] / in[0], out[i], out[i] / out[0]);
    }
    /* Each message has a lane of its own to be found, written or read; nothing grows beyond that.
     */
    if (large) {
        assert_true(in[2] > in[1] * 0.4);
        assert_true(out[2] > out[1] * 0.4);
    }
    fila_close(client);
    f->passed = true;
}

/* --- sizes --- */

/* KiB of the zone that were ever touched, of all processes. */
static uint64_t zone_kib(struct fixture *f)
{
    struct broker_process list[BROKER_PROCESSES_MAX];
    size_t count = broker_processes(&f->broker, list, BROKER_PROCESSES_MAX);
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        char path[64], line[512];
        bool zone = false;
        snprintf(path, sizeof(path), "/proc/%d/smaps", (int)list[i].pid);
        FILE *in = fopen(path, "r");
        while (in && fgets(line, sizeof(line), in)) {
            if (strstr(line, " rw-s ") || strstr(line, " r--p ") || strstr(line, " rw-p "))
                zone = strstr(line, "/dev/zero") != NULL;
            else if (zone && strncmp(line, "Pss:", 4) == 0)
                sum += strtoull(line + 4, NULL, 10);
        }
        if (in)
            fclose(in);
    }
    return sum;
}

static uint64_t file_kib(struct fixture *f)
{
    char path[BROKER_PATH_SIZE + 32];
    struct stat info;
    snprintf(path, sizeof(path), "%s/queues/1.db", f->broker.store);
    return stat(path, &info) == 0 ? (uint64_t)info.st_size >> 10 : 0;
}

static bool file_is_small(void *context)
{
    return file_kib(context) <= 1024;
}

static void test_sizes(void **state)
{
    struct fixture *f = *state;
    unsigned keys = key_count();
    struct fila *client = fixture_client(f);
    struct fila_error error = FILA_ERROR_INIT;
    uint64_t full[2], file[2];
    if (fila_queue_create(client, "keys", NULL, &error) != 0)
        fail_msg("create: %s", error.text);
    print_message("before: zone %llu KiB\n", (unsigned long long)zone_kib(f));
    for (unsigned round = 0; round < 2; round++) {
        uint64_t began_ns = time_monotonic_ns();
        assert_int_equal(enqueue(client, "keys", keys, keys, 0), FILA_OK);
        double in = per_second(began_ns, keys);
        full[round] = zone_kib(f);
        file[round] = file_kib(f);
        began_ns = time_monotonic_ns();
        drain(client, "keys", keys);
        print_message("%u keys, one message each: %.0f/s enqueued, %.0f/s delivered and acked; "
                      "zone %llu KiB, file %llu KiB\n",
                      keys, in, per_second(began_ns, keys), (unsigned long long)full[round],
                      (unsigned long long)file[round]);
        if (keys < LARGE_RUN)
            continue;
        began_ns = time_monotonic_ns();
        if (!wait_until(file_is_small, f, IDLE_MS)) /* all K records are gone */
            fail_msg("the file has %llu KiB still", (unsigned long long)file_kib(f));
        print_message("file %llu KiB after %.0f s\n", (unsigned long long)file_kib(f),
                      (double)(time_monotonic_ns() - began_ns) / 1e9);
    }
    if (keys >= LARGE_RUN) {
        assert_true(full[1] < full[0] + full[0] / 10);
        assert_true(file[1] < file[0] + file[0] / 10);
    }
    fila_close(client);
    f->passed = true;
}

/* --- no room --- */

#define SMALL_KEYS 10000 /* what a zone of 64 MiB holds easily */

static unsigned depth_of(struct fila *client, const char *queue)
{
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_queue_stats *stats = fila_queue_stats(client, queue, &error);
    if (!stats)
        fail_msg("statistics: %s", error.text);
    unsigned depth = (unsigned)stats->depth;
    fila_queue_stats_free(stats);
    return depth;
}

static bool takes_new_keys(void *context)
{
    enum fila_code code = enqueue(context, "small", SMALL_KEYS, SMALL_KEYS, 900);
    drain(context, "small", depth_of(context, "small"));
    return code == FILA_OK;
}

/* Keys that are gone make room for others long before the minute that they stay otherwise. */
static void test_no_room(void **state)
{
    struct fixture *f = *state;
    struct fila *client = fixture_client(f);
    struct fila_error error = FILA_ERROR_INIT;
    if (fila_queue_create(client, "small", NULL, &error) != 0)
        fail_msg("create: %s", error.text);
    assert_int_equal(enqueue(client, "small", 1000000, 1000000, 1000), FILA_OVERLOADED);
    unsigned depth = depth_of(client, "small");
    print_message("%u keys of 1,000 bytes fill a zone of 64 MiB\n", depth);
    assert_true(depth > SMALL_KEYS);
    /* A key that is there takes messages still. */
    assert_int_equal(enqueue(client, "small", 1, 1, 1000), FILA_OK);
    drain(client, "small", depth + 1);
    uint64_t began_ms = time_monotonic_ms();
    assert_true(wait_until(takes_new_keys, client, PEER_PATIENCE_MS));
    print_message("room for %u others %llu ms after the last ack\n", SMALL_KEYS,
                  (unsigned long long)(time_monotonic_ms() - began_ms));
    fila_close(client);
    f->passed = true;
}

static int setup(void **state)
{
    const struct broker_options options = {
        .workers = 2, .shared_memory = "1g", .cache_size = "256m", .reserve = "64m"};
    return fixture_setup_with(state, &options, true);
}

static int setup_small(void **state)
{
    const struct broker_options options = {.workers = 1, .shared_memory = "64m"};
    return fixture_setup_with(state, &options, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rates, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_sizes, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_no_room, setup_small, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
