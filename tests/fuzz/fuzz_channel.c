/* Messages between processes: the input is sent as it is, in datagrams of the sizes that its first
 * bytes say; a message is refused or whole. */
#include "fuzz/fuzz.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "event/channel.h"

static int ends[2] = {-1, -1};

static void check(struct str datagram)
{
    struct channel_message message;
    struct err err = {0};

    if (datagram.size == 0)
        return;
    REQUIRE(send(ends[0], datagram.data, datagram.size, MSG_DONTWAIT) == (ssize_t)datagram.size);
    int result = channel_receive(ends[1], &message, &err);
    REQUIRE(result != 0);
    if (result < 0) {
        REQUIRE(err.text[0] != '\0');
    } else {
        REQUIRE(message.type >= CHANNEL_READY && message.type < CHANNEL_TYPES);
        REQUIRE(message.text_size < CHANNEL_TEXT_SIZE && message.text[message.text_size] == '\0');
        REQUIRE(offsetof(struct channel_message, text) + message.text_size == datagram.size);
    }
    REQUIRE(channel_receive(ends[1], &message, &err) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = str_of(data, size);
    struct err err;

    if (ends[0] < 0)
        REQUIRE(channel_pair(ends, &err) == 0);
    check(fuzz_bytes(&input, size / 2));
    check(input);
    return 0;
}
