#include "store/log_checksum.h"

#include <dlfcn.h>
#include <pthread.h>

#include <db.h>

#include "core/bytes.h"
#include "os/log.h"

#define BASE 33u
#define BASE_2 (BASE * BASE)
#define BASE_4 (BASE_2 * BASE_2)
#define BASE_8 (BASE_4 * BASE_4) /* all modulo 2^32 */

#define EVERY_SECOND_BYTE UINT64_C(0x00ff00ff00ff00ff)
#define EVERY_SECOND_PAIR UINT64_C(0x0000ffff0000ffff)

#define SAMPLE_SIZE 1031

/* Eight digits at once: neighbours are joined in lanes that are wide enough for the sum, first
 * bytes (at most 34 * 255), then pairs. */
static inline uint32_t eight_digits(uint64_t bytes)
{
    uint64_t pairs = (bytes >> 8 & EVERY_SECOND_BYTE) * BASE + (bytes & EVERY_SECOND_BYTE);
    uint64_t fours = (pairs >> 16 & EVERY_SECOND_PAIR) * BASE_2 + (pairs & EVERY_SECOND_PAIR);
    return (uint32_t)(fours >> 32) * BASE_4 + (uint32_t)fours;
}

uint32_t log_checksum(const void *data, size_t size)
{
    const uint8_t *p = data;
    uint32_t sum = 0;
    for (; size >= 8; size -= 8, p += 8)
        sum = sum * BASE_8 + eight_digits(bytes_get_u64(p));
    while (size--)
        sum = sum * BASE + *p++;
    return sum;
}

/* --- in the library's place --- */

typedef u_int32_t library_function(DB *db, const void *data, u_int32_t size);

library_function __ham_func4;

static library_function *original; /* set when it is to be used */

u_int32_t __ham_func4(DB *db, const void *data, u_int32_t size)
{
    return original ? original(db, data, size) : log_checksum(data, size);
}

static void compare(void)
{
    uint8_t sample[SAMPLE_SIZE];
    library_function *library = (library_function *)(uintptr_t)dlsym(RTLD_NEXT, "__ham_func4");
    if (!library)
        return; /* it has none that anybody could call */
    for (uint32_t i = 0; i < SAMPLE_SIZE; i++)
        sample[i] = (uint8_t)(i * 2654435761u >> 13);
    for (uint32_t size = 0; size < SAMPLE_SIZE; size += 5) {
        if (library(NULL, sample, size) == log_checksum(sample, size))
            continue;
        log_write(LOG_INFO, "store", "Berkeley DB computes its checksums in another way");
        original = library;
        return;
    }
}

bool log_checksum_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, compare);
    return !original;
}
