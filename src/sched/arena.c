#include "sched/arena.h"

#include <string.h>

#include "core/list.h"
#include "os/lock.h"

#define ARENA_MAGIC 0x4152454eu
#define PAGE_BITS 16
#define PAGE ((size_t)1 << PAGE_BITS)
#define ORDERS 16     /* runs of up to 2^15 pages: 2 GiB */
#define SPARE_PAGES 2 /* empty slab pages a class keeps, so that a border case does not thrash */

static const uint16_t class_sizes[] = {32,  48,   64,   96,   128,  192,  256,  384,  512,
                                       768, 1024, 1536, 2048, 4096, 6144, 8192, 16384};
#define CLASSES (sizeof(class_sizes) / sizeof(class_sizes[0]))

enum page_state { PAGE_UNUSED, PAGE_FREE, PAGE_SLAB, PAGE_RUN };

/* Describes one page; for runs and free blocks only the first page's is meaningful. */
struct page {
    struct list link;    /* free list of its order, or its class's pages with room */
    void *free;          /* slab: freed objects, linked through their first word */
    uint32_t used;       /* slab: objects in use */
    uint32_t carved;     /* slab: objects ever handed out; those behind were never touched */
    uint8_t state;       /* enum page_state */
    uint8_t order;       /* free block or run: 2^order pages */
    uint8_t class_index; /* slab */
    bool listed;         /* slab: is in its class's list */
};

struct slab_class {
    struct list partial; /* pages with room */
    uint32_t empty;      /* of these, pages without any object */
};

struct arena {
    uint32_t magic;
    uint32_t page_count;
    uint8_t *pages_start; /* page 0 */
    const _Atomic uint64_t *generation;
    uint64_t expected;
    struct lock lock;
    _Atomic uint64_t used_pages;
    struct list free[ORDERS];
    struct slab_class classes[CLASSES];
    struct page pages[];
};

static size_t page_index(const struct arena *arena, const struct page *page)
{
    return (size_t)(page - arena->pages);
}

static uint8_t *page_memory(const struct arena *arena, const struct page *page)
{
    return arena->pages_start + (page_index(arena, page) << PAGE_BITS);
}

static void block_add(struct arena *arena, size_t index, unsigned order)
{
    struct page *page = &arena->pages[index];
    page->state = PAGE_FREE;
    page->order = (uint8_t)order;
    list_insert(&arena->free[order], &page->link);
}

struct arena *arena_create(void *memory, uint64_t size, const _Atomic uint64_t *generation)
{
    struct arena *arena = memory;
    if (size < sizeof(*arena) + 16 * PAGE)
        return NULL;
    uint64_t count = (size - sizeof(*arena)) / (PAGE + sizeof(struct page));
    uint8_t *start = (uint8_t *)memory + sizeof(*arena) + count * sizeof(struct page);
    start = (uint8_t *)(((uintptr_t)start + PAGE - 1) & ~(PAGE - 1));
    uint64_t room = (uint64_t)((uint8_t *)memory + size - start) >> PAGE_BITS;
    if (room < count)
        count = room;
    arena->magic = ARENA_MAGIC;
    arena->page_count = count > UINT32_MAX ? UINT32_MAX : (uint32_t)count;
    arena->pages_start = start;
    arena->generation = generation;
    arena->expected = atomic_load(generation);
    lock_init(&arena->lock);
    atomic_init(&arena->used_pages, 0);
    for (unsigned i = 0; i < ORDERS; i++)
        list_init(&arena->free[i]);
    for (unsigned i = 0; i < CLASSES; i++) {
        list_init(&arena->classes[i].partial);
        arena->classes[i].empty = 0;
    }
    size_t index = 0;
    while (index < arena->page_count) { /* blocks aligned to their own size, as buddies must be */
        unsigned order = index ? (unsigned)__builtin_ctzll(index) : ORDERS - 1;
        if (order >= ORDERS)
            order = ORDERS - 1;
        while (index + ((size_t)1 << order) > arena->page_count)
            order--;
        block_add(arena, index, order);
        index += (size_t)1 << order;
    }
    return arena;
}

static struct page *run_alloc(struct arena *arena, unsigned order)
{
    unsigned found = order;
    while (found < ORDERS && list_empty(&arena->free[found]))
        found++;
    if (found >= ORDERS)
        return NULL;
    struct page *page = CONTAINER_OF(arena->free[found].next, struct page, link);
    list_remove(&page->link);
    while (found > order) {
        found--;
        block_add(arena, page_index(arena, page) + ((size_t)1 << found), found);
    }
    page->state = PAGE_RUN;
    page->order = (uint8_t)order;
    atomic_fetch_add(&arena->used_pages, (uint64_t)1 << order);
    return page;
}

static void run_free(struct arena *arena, struct page *page)
{
    size_t index = page_index(arena, page);
    unsigned order = page->order;
    atomic_fetch_sub(&arena->used_pages, (uint64_t)1 << order);
    page->state = PAGE_UNUSED;
    while (order + 1 < ORDERS) {
        size_t buddy = index ^ ((size_t)1 << order);
        if (buddy + ((size_t)1 << order) > arena->page_count)
            break;
        struct page *other = &arena->pages[buddy];
        if (other->state != PAGE_FREE || other->order != order)
            break;
        list_remove(&other->link);
        other->state = PAGE_UNUSED;
        index &= ~((size_t)1 << order);
        order++;
    }
    block_add(arena, index, order);
}

static unsigned class_of(size_t size)
{
    unsigned i = 0;
    while (i < CLASSES && class_sizes[i] < size)
        i++;
    return i;
}

static struct page *slab_page(struct arena *arena, unsigned class_index)
{
    struct slab_class *slab = &arena->classes[class_index];
    if (!list_empty(&slab->partial))
        return CONTAINER_OF(slab->partial.next, struct page, link);
    struct page *page = run_alloc(arena, 0);
    if (!page)
        return NULL;
    page->state = PAGE_SLAB;
    page->class_index = (uint8_t)class_index;
    page->free = NULL;
    page->used = page->carved = 0;
    page->listed = true;
    list_insert(&slab->partial, &page->link);
    slab->empty++;
    return page;
}

static void *slab_alloc(struct arena *arena, unsigned class_index)
{
    size_t size = class_sizes[class_index];
    struct slab_class *slab = &arena->classes[class_index];
    struct page *page = slab_page(arena, class_index);
    if (!page)
        return NULL;
    void *object = page->free;
    if (object)
        memcpy(&page->free, object, sizeof(page->free));
    else
        object = page_memory(arena, page) + size * page->carved++;
    if (page->used++ == 0)
        slab->empty--;
    if (!page->free && page->carved == PAGE / size) {
        list_remove(&page->link);
        page->listed = false;
    }
    return object;
}

static void slab_free(struct arena *arena, struct page *page, void *object)
{
    struct slab_class *slab = &arena->classes[page->class_index];
    memcpy(object, &page->free, sizeof(page->free));
    page->free = object;
    if (!page->listed) {
        list_insert(&slab->partial, &page->link);
        page->listed = true;
    }
    if (--page->used > 0)
        return;
    if (slab->empty < SPARE_PAGES) {
        slab->empty++;
        return;
    }
    list_remove(&page->link);
    page->order = 0;
    run_free(arena, page);
}

static bool acquire(struct arena *arena)
{
    return arena->magic == ARENA_MAGIC &&
           lock_acquire(&arena->lock, arena->generation, arena->expected) == LOCK_HELD;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    void *memory = NULL;
    unsigned class_index = class_of(size);
    if (!acquire(arena))
        return NULL;
    if (class_index < CLASSES) {
        memory = slab_alloc(arena, class_index);
    } else {
        unsigned order = 0;
        while (order < ORDERS && (PAGE << order) < size)
            order++;
        struct page *page = order < ORDERS ? run_alloc(arena, order) : NULL;
        memory = page ? page_memory(arena, page) : NULL;
    }
    lock_release(&arena->lock);
    return memory;
}

void arena_free(struct arena *arena, void *memory)
{
    if (!memory || !acquire(arena))
        return;
    struct page *page =
        &arena->pages[(size_t)((uint8_t *)memory - arena->pages_start) >> PAGE_BITS];
    if (page->state == PAGE_SLAB)
        slab_free(arena, page, memory);
    else if (page->state == PAGE_RUN)
        run_free(arena, page);
    lock_release(&arena->lock);
}

uint64_t arena_used(const struct arena *arena)
{
    return atomic_load(&arena->used_pages) << PAGE_BITS;
}

uint64_t arena_size(const struct arena *arena)
{
    return (uint64_t)arena->page_count << PAGE_BITS;
}

static void *hash_alloc(void *context, size_t size)
{
    return arena_alloc(context, size);
}

static void hash_release(void *context, void *memory, size_t size)
{
    (void)size;
    arena_free(context, memory);
}

struct hash_allocator arena_hash_allocator(struct arena *arena)
{
    return (struct hash_allocator){.alloc = hash_alloc, .free = hash_release, .context = arena};
}
