#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>

#include "core/list.h"
#include "core/mailbox.h"

struct message {
    struct mailbox_link link;
    unsigned sender, number;
};

static void test_order_and_wake_up(void **state)
{
    (void)state;
    struct mailbox mailbox;
    struct message messages[3];
    mailbox_init(&mailbox);
    assert_true(mailbox_empty(&mailbox));
    assert_null(mailbox_take(&mailbox));
    assert_true(mailbox_post(&mailbox, &messages[0].link));
    assert_false(mailbox_post(&mailbox, &messages[1].link));
    assert_false(mailbox_post(&mailbox, &messages[2].link));
    struct mailbox_link *link = mailbox_take(&mailbox);
    for (unsigned i = 0; i < 3; i++, link = link->next)
        assert_ptr_equal(link, &messages[i].link);
    assert_null(link);
    assert_true(mailbox_empty(&mailbox));
    assert_true(mailbox_post(&mailbox, &messages[0].link));
}

enum { SENDERS = 3, MESSAGES = 20000 };

struct sender {
    pthread_t thread;
    struct mailbox *mailbox;
    unsigned woken;
    struct message messages[MESSAGES];
};

static void *send_all(void *argument)
{
    struct sender *sender = argument;
    for (unsigned i = 0; i < MESSAGES; i++)
        sender->woken += mailbox_post(sender->mailbox, &sender->messages[i].link);
    return NULL;
}

static void test_many_senders(void **state)
{
    (void)state;
    struct mailbox mailbox;
    struct sender *senders = calloc(SENDERS, sizeof(*senders));
    unsigned next[SENDERS] = {0}, received = 0, batches = 0, woken = 0;
    mailbox_init(&mailbox);
    for (unsigned s = 0; s < SENDERS; s++) {
        senders[s].mailbox = &mailbox;
        for (unsigned i = 0; i < MESSAGES; i++) {
            senders[s].messages[i].sender = s;
            senders[s].messages[i].number = i;
        }
        assert_int_equal(pthread_create(&senders[s].thread, NULL, send_all, &senders[s]), 0);
    }
    while (received < SENDERS * MESSAGES) {
        struct mailbox_link *link = mailbox_take(&mailbox);
        batches += link != NULL;
        for (; link; received++) {
            struct message *message = CONTAINER_OF(link, struct message, link);
            link = link->next;
            assert_int_equal(message->number, next[message->sender]++);
        }
    }
    for (unsigned s = 0; s < SENDERS; s++) {
        pthread_join(senders[s].thread, NULL);
        woken += senders[s].woken;
    }
    assert_int_equal(woken, batches);
    free(senders);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_wake_up),
        cmocka_unit_test(test_many_senders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
