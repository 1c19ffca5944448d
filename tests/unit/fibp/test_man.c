/* The page fibp(7) has every opcode and every code of the tables, by name and number, and no
 * others; what it says of payloads has an entry for each; its examples are what the codec makes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fibp/framed.h"
#include "fibp/numbering.h"
#include "unit/page.h"

static char *read_section(const char *name)
{
    return page_section(page_read("man/fibp.7"), name);
}

static void must_have(const char *page, const char *text)
{
    if (page_count(page, text) != 1)
        fail_msg("fibp(7) has %zu times: %s", page_count(page, text), text + 1);
}

static void test_opcodes(void **state)
{
    (void)state;
    char *page = read_section("OPCODES"), row[128];
    size_t count = 0;
    for (unsigned opcode = 0; opcode <= UINT8_MAX; opcode++) {
        const struct opcode_entry *entry = opcode_find((uint8_t)opcode);
        if (entry == NULL)
            continue;
        count++;
        (void)snprintf(row, sizeof(row), "\n.It %s Ta %02X Ta ", entry->name, opcode);
        must_have(page, row);
    }
    assert_int_equal(page_count(page, "\n.It "), count + 1); /* and the head */
    free(page);
}

static void append_number(char *row, size_t size, enum numbering numbering, enum opcode opcode)
{
    uint8_t byte = numbering_byte(numbering, opcode);
    size_t used = strlen(row);
    if (byte != 0)
        (void)snprintf(row + used, size - used, " Ta %02X", byte);
    else
        (void)snprintf(row + used, size - used, " Ta none");
}

static void test_numberings(void **state)
{
    (void)state;
    char *page = read_section("OPCODES"), row[128];
    for (unsigned opcode = 0; opcode <= UINT8_MAX; opcode++) {
        const struct opcode_entry *entry = opcode_find((uint8_t)opcode);
        if (entry == NULL)
            continue;
        (void)snprintf(row, sizeof(row), "\n.It %s", entry->name);
        append_number(row, sizeof(row), NUMBERING_S3, entry->opcode);
        append_number(row, sizeof(row), NUMBERING_S2, entry->opcode);
        append_number(row, sizeof(row), NUMBERING_S1, entry->opcode);
        strcat(row, "\n");
        must_have(page, row);
    }
    free(page);
}

static void test_every_payload_is_described(void **state)
{
    (void)state;
    char *page = page_read("man/fibp.7"), item[128];
    for (unsigned opcode = 0; opcode <= UINT8_MAX; opcode++) {
        const struct opcode_entry *entry = opcode_find((uint8_t)opcode);
        if (entry == NULL || opcode == OPCODE_PING || opcode == OPCODE_PONG ||
            opcode == OPCODE_DISCONNECT)
            continue;
        (void)snprintf(item, sizeof(item), "\n.It %s\n", entry->name);
        if (page_count(page, item) == 0)
            fail_msg("fibp(7) does not say what %s holds", entry->name);
    }
    free(page);
}

static void test_codes(void **state)
{
    (void)state;
    char *page = read_section("ERROR CODES"), row[128];
    size_t count = 0;
    for (unsigned code = 0; code <= UINT8_MAX; code++) {
        enum fibp_status status = status_from_wire((uint8_t)code);
        if ((unsigned)status != code)
            continue;
        count++;
        (void)snprintf(row, sizeof(row), "\n.It %02X Ta %s Ta ", code, status_name(status));
        must_have(page, row);
    }
    assert_int_equal(count, 18);
    assert_int_equal(page_count(page, " Ta "), 2 * count);
    must_have(page, "\n.It max_version\n");
    must_have(page, "\n.It retry_after_ms\n");
    free(page);
}

static void test_limits(void **state)
{
    (void)state;
    char *page = page_read("man/fibp.7"), text[64];
    (void)snprintf(text, sizeof(text), "\nwhich is at most %u\n", FRAME_LENGTH_MAX);
    must_have(page, text);
    (void)snprintf(text, sizeof(text), "u32 %08X\n", FRAMED_CONSUME_LIMIT);
    assert_int_equal(page_count(page, text), 1);
    free(page);
}

/* The bytes of the example that begins at the page's literal number `index`. */
static struct buf read_example(const char *page, unsigned index)
{
    struct buf bytes;
    const char *at = page;
    buf_init(&bytes, 0);
    for (unsigned i = 0; i <= index; i++) {
        at = strstr(at, "\n.Bd -literal -offset indent\n");
        assert_non_null(at);
        at += strlen("\n.Bd -literal -offset indent\n");
    }
    const char *end = strstr(at, ".Ed");
    for (unsigned value; at < end; at++)
        if (*at != ' ' && *at != '\n' && sscanf(at, "%2x", &value) == 1) {
            buf_append_u8(&bytes, (uint8_t)value);
            at++;
        }
    return bytes;
}

static void test_example_of_a_handshake(void **state)
{
    (void)state;
    char *page = read_section("EXAMPLES");
    struct buf bytes = read_example(page, 0), answer;
    struct frame frame;
    struct wire_reader reader;
    struct framed_handshake request;
    assert_int_equal(frame_parse(str_of(bytes.data, bytes.size), FRAME_LENGTH_MAX, &frame),
                     FRAME_READY);
    assert_int_equal(frame.opcode, OPCODE_HANDSHAKE);
    wire_reader_init(&reader, frame.body);
    assert_true(framed_handshake(&reader, &request));
    assert_int_equal(request.version, 1);
    assert_false(request.has_api_key);

    buf_init(&answer, 0);
    assert_int_equal(framed_handshake_ok(&answer, 1, 0, FRAME_LENGTH_MAX), 0);
    assert_int_equal(bytes.size, frame.size + answer.size);
    assert_memory_equal(bytes.data + frame.size, answer.data, answer.size);
    buf_free(&answer);
    buf_free(&bytes);
    free(page);
}

static void test_example_of_a_message(void **state)
{
    (void)state;
    char *page = read_section("EXAMPLES");
    struct buf bytes = read_example(page, 1);
    struct frame frame;
    struct wire_reader reader;
    struct framed_enqueue_item item;
    uint32_t count;
    assert_int_equal(frame_parse(str_of(bytes.data, bytes.size), FRAME_LENGTH_MAX, &frame),
                     FRAME_READY);
    assert_int_equal(frame.size, bytes.size);
    assert_int_equal(frame.opcode, OPCODE_ENQUEUE);
    assert_int_equal(frame.request_id, 1);
    wire_reader_init(&reader, frame.body);
    assert_true(framed_enqueue_begin(&reader, &count));
    assert_int_equal(count, 1);
    assert_true(framed_enqueue_next(&reader, &item));
    assert_true(str_equal(item.queue, str_from_c("q")));
    assert_int_equal(item.header_count, 0);
    assert_true(str_equal(item.payload, str_from_c("hi")));
    assert_int_equal(wire_remaining(&reader), 0);
    buf_free(&bytes);
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opcodes),
        cmocka_unit_test(test_numberings),
        cmocka_unit_test(test_every_payload_is_described),
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_example_of_a_handshake),
        cmocka_unit_test(test_example_of_a_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
