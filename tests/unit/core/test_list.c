#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/list.h"

struct node {
    struct list list;
    int number;
};

static int number(const struct list *entry)
{
    return CONTAINER_OF(entry, const struct node, list)->number;
}

/* The list holds exactly these numbers, in both directions. */
static void check(const struct list *head, const int *numbers, size_t count)
{
    const struct list *entry = head->next;
    for (size_t i = 0; i < count; i++, entry = entry->next)
        assert_int_equal(number(entry), numbers[i]);
    assert_ptr_equal(entry, head);
    entry = head->prev;
    for (size_t i = count; i-- > 0; entry = entry->prev)
        assert_int_equal(number(entry), numbers[i]);
    assert_ptr_equal(entry, head);
    assert_int_equal(list_empty(head), count == 0);
}

static void test_insert_append_remove(void **state)
{
    (void)state;
    struct list head;
    struct node a = {.number = 1}, b = {.number = 2}, c = {.number = 3};
    list_init(&head);
    check(&head, NULL, 0);
    list_append(&head, &b.list);
    list_append(&head, &c.list);
    list_insert(&head, &a.list);
    check(&head, (const int[]){1, 2, 3}, 3);
    list_remove(&b.list);
    list_remove(&b.list);
    check(&head, (const int[]){1, 3}, 2);
    list_insert(&a.list, &b.list);
    check(&head, (const int[]){1, 2, 3}, 3);
    LIST_EACH_SAFE(&head, entry)
    {
        list_remove(entry);
    }
    check(&head, NULL, 0);
}

static void test_splice(void **state)
{
    (void)state;
    struct list to, from;
    struct node nodes[4];
    list_init(&to);
    list_init(&from);
    for (int i = 0; i < 4; i++) {
        nodes[i].number = i;
        list_append(i < 2 ? &to : &from, &nodes[i].list);
    }
    list_splice(&to, &from);
    check(&to, (const int[]){0, 1, 2, 3}, 4);
    check(&from, NULL, 0);
    list_splice(&to, &from);
    check(&to, (const int[]){0, 1, 2, 3}, 4);
    list_splice(&from, &to);
    check(&from, (const int[]){0, 1, 2, 3}, 4);
    check(&to, NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_insert_append_remove),
        cmocka_unit_test(test_splice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
