#include "event/channel.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/types.h>

#include "os/sock.h"

#define CHANNEL_HEADER offsetof(struct channel_message, text)

int channel_pair(int fds[2], struct err *err)
{
    if (sock_pair(fds) < 0)
        return err_set_errno(err, errno, "channel: socketpair");
    return 0;
}

int channel_send(int fd, enum channel_type type, uint64_t value, const char *text, struct err *err)
{
    struct channel_message message = {
        .version = CHANNEL_VERSION,
        .type = (uint16_t)type,
        .value = value,
    };
    size_t size = text ? strnlen(text, CHANNEL_TEXT_SIZE - 1) : 0;

    if (size)
        memcpy(message.text, text, size);
    message.text_size = (uint32_t)size;
    if (sock_send(fd, &message, CHANNEL_HEADER + size, NULL, 0) < 0)
        return err_set_errno(err, errno, "channel: send message %d", (int)type);
    return 0;
}

static int channel_check(const struct channel_message *message, size_t size, struct err *err)
{
    if (size < CHANNEL_HEADER)
        return err_set(err, EPROTO, "channel: message of %zu bytes", size);
    if (message->version != CHANNEL_VERSION)
        return err_set(err, EPROTO, "channel: message of version %u", message->version);
    if (message->type < CHANNEL_READY || message->type >= CHANNEL_TYPES)
        return err_set(err, EPROTO, "channel: message of unknown type %u", message->type);
    if (message->text_size >= CHANNEL_TEXT_SIZE || message->text_size != size - CHANNEL_HEADER)
        return err_set(err, EPROTO, "channel: message %u says %u bytes of text and has %zu",
                       message->type, message->text_size, size - CHANNEL_HEADER);
    return 0;
}

/* A peer that ends with messages unread makes the next call here fail once with ECONNRESET; what it
 * had sent before, its last words perhaps, is still there behind that. */
static ssize_t channel_take(int fd, struct channel_message *message)
{
    ssize_t size = -1;

    for (int attempt = 0; attempt < 2; attempt++) {
        unsigned no_descriptors = 0;

        size = sock_receive(fd, message, sizeof *message, NULL, &no_descriptors);
        if (size >= 0 || errno != ECONNRESET)
            break;
    }
    return size;
}

int channel_receive(int fd, struct channel_message *message, struct err *err)
{
    ssize_t size = channel_take(fd, message);

    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return 0;
    if (size == 0 || (size < 0 && errno == ECONNRESET))
        return err_set(err, 0, "channel: the other process is gone");
    if (size < 0 && errno == EMSGSIZE)
        return err_set(err, EPROTO, "channel: message too long or with a stray descriptor");
    if (size < 0)
        return err_set_errno(err, errno, "channel: receive");
    if (channel_check(message, (size_t)size, err) < 0)
        return -1;
    message->text[message->text_size] = '\0';
    return 1;
}
