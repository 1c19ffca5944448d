/*
 * mailbox - a lock-free queue of intrusive messages from any number of threads to one. The receiver
 * takes everything at once, in the order of posting. It has no capacity: what is under way is
 * bounded by those who post.
 *
 * Not to be used in the child of a fork during which a thread may have been posting: the child may
 * have the new head and not yet the link behind it.
 */
#ifndef FILAD_CORE_MAILBOX_H
#define FILAD_CORE_MAILBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct mailbox_link {
    struct mailbox_link *next;
};

struct mailbox {
    _Atomic(struct mailbox_link *) head; /* newest first */
};

static inline void mailbox_init(struct mailbox *mailbox)
{
    atomic_init(&mailbox->head, NULL);
}

/* True when it was empty: then, and only then, the receiver needs to be woken. */
static inline bool mailbox_post(struct mailbox *mailbox, struct mailbox_link *link)
{
    struct mailbox_link *head = atomic_load_explicit(&mailbox->head, memory_order_relaxed);
    do {
        link->next = head;
    } while (!atomic_compare_exchange_weak(&mailbox->head, &head, link));
    return head == NULL;
}

static inline bool mailbox_empty(struct mailbox *mailbox)
{
    return atomic_load(&mailbox->head) == NULL;
}

/* Everything posted so far as a chain in the order of posting; NULL when there is nothing. */
static inline struct mailbox_link *mailbox_take(struct mailbox *mailbox)
{
    struct mailbox_link *head = atomic_exchange(&mailbox->head, NULL), *chain = NULL;
    while (head) {
        struct mailbox_link *next = head->next;
        head->next = chain;
        chain = head;
        head = next;
    }
    return chain;
}

#endif
