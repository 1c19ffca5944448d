#include "hook/tally.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "hook/hook.h"
#include "os/shm.h"

struct tally_entry {
    const struct hook_module *module; /* stays in memory: modules are never unloaded */
    size_t first, count;              /* rows */
    bool shown;
};

struct tally {
    _Atomic uint64_t *values; /* [slot * TALLY_ROWS + row], shared */
    size_t size;              /* of it, bytes */
    unsigned slots;
    size_t count, rows; /* in use */
    struct tally_entry entries[TALLY_ROWS];
};

struct tally *tally_create(unsigned slots, struct err *err)
{
    struct tally *tally = calloc(1, sizeof *tally);

    if (!tally) {
        err_set(err, ENOMEM, "statistics of modules: out of memory");
        return NULL;
    }
    tally->slots = slots;
    tally->size = slots * TALLY_ROWS * sizeof *tally->values;
    tally->values = shm_map(tally->size, err);
    if (!tally->values) {
        free(tally);
        return NULL;
    }
    return tally;
}

void tally_destroy(struct tally *tally)
{
    if (!tally)
        return;
    shm_unmap((void *)tally->values, tally->size);
    free(tally);
}

static struct tally_entry *find_entry(const struct tally *tally, const struct hook_module *module)
{
    for (size_t i = 0; i < tally->count; i++)
        if (tally->entries[i].module == module)
            return (struct tally_entry *)(uintptr_t)&tally->entries[i];
    return NULL;
}

static int enter(struct tally *tally, const struct hook_module *module, struct err *err)
{
    struct tally_entry *entry = find_entry(tally, module);
    size_t count = 0;

    if (entry) {
        entry->shown = true;
        return 0;
    }
    while (module->statistics[count].name)
        count++;
    if (tally->rows + count > TALLY_ROWS || tally->count == TALLY_ROWS)
        return err_set(err, ENOSPC, "module %s: modules have more than %d statistics together",
                       module->name, TALLY_ROWS);
    tally->entries[tally->count++] =
        (struct tally_entry){.module = module, .first = tally->rows, .count = count, .shown = true};
    tally->rows += count;
    return 0;
}

int tally_enter(struct tally *tally, const struct hook_module *const *modules, struct err *err)
{
    for (size_t i = 0; i < tally->count; i++)
        tally->entries[i].shown = false;
    for (; *modules; modules++)
        if ((*modules)->statistics && enter(tally, *modules, err) < 0)
            return -1;
    return 0;
}

_Atomic uint64_t *tally_values(const struct tally *tally, const struct hook_module *module,
                               unsigned slot)
{
    const struct tally_entry *entry = find_entry(tally, module);

    return entry && slot < tally->slots ? &tally->values[slot * TALLY_ROWS + entry->first] : NULL;
}

void tally_ended(const struct tally *tally, unsigned slot)
{
    for (size_t i = 0; i < tally->count; i++) {
        const struct tally_entry *entry = &tally->entries[i];
        _Atomic uint64_t *values = &tally->values[slot * TALLY_ROWS + entry->first];

        for (size_t row = 0; row < entry->count; row++)
            if (entry->module->statistics[row].kind == HOOK_GAUGE)
                atomic_store(&values[row], 0);
    }
}

static uint64_t sum_of(const struct tally *tally, size_t row)
{
    uint64_t sum = 0;

    for (unsigned slot = 0; slot < tally->slots; slot++)
        sum += atomic_load_explicit(&tally->values[slot * TALLY_ROWS + row], memory_order_relaxed);
    return sum;
}

void tally_visit(const struct tally *tally,
                 void (*visit)(void *context, const struct hook_module *module,
                               const struct hook_statistic *row, uint64_t value),
                 void *context)
{
    for (size_t i = 0; i < tally->count; i++) {
        const struct tally_entry *entry = &tally->entries[i];

        for (size_t row = 0; entry->shown && row < entry->count; row++)
            visit(context, entry->module, &entry->module->statistics[row],
                  sum_of(tally, entry->first + row));
    }
}
