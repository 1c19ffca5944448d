/*
 * list - an intrusive doubly linked circular list. Raw pointers: it also lives in memory shared by
 * processes that map it at one address.
 */
#ifndef FILAD_CORE_LIST_H
#define FILAD_CORE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

#define CONTAINER_OF(pointer, type, member)                                                        \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#define LIST_EACH(head, entry)                                                                     \
    for (struct list *entry = (head)->next; entry != (head); entry = entry->next)

/* As LIST_EACH, and `entry` may be removed in the body. */
#define LIST_EACH_SAFE(head, entry)                                                                \
    for (struct list *entry = (head)->next, *entry##_next = entry->next; entry != (head);          \
         entry = entry##_next, entry##_next = entry->next)

static inline void list_init(struct list *head)
{
    head->next = head->prev = head;
}

static inline bool list_empty(const struct list *head)
{
    return head->next == head;
}

/* Inserts `entry` behind `position`: list_insert(&head, e) makes it the first. */
static inline void list_insert(struct list *position, struct list *entry)
{
    entry->next = position->next;
    entry->prev = position;
    position->next->prev = entry;
    position->next = entry;
}

static inline void list_append(struct list *head, struct list *entry)
{
    list_insert(head->prev, entry);
}

/* Removes and leaves the entry linked to itself, so that a second removal does no harm. */
static inline void list_remove(struct list *entry)
{
    entry->prev->next = entry->next;
    entry->next->prev = entry->prev;
    list_init(entry);
}

/* Moves everything of `from` behind the last of `to`; `from` is empty then. */
static inline void list_splice(struct list *to, struct list *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

#endif
