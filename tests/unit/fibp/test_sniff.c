#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "fibp/sniff.h"

static void test_decisions(void **state)
{
    (void)state;
    static const struct {
        struct str bytes;
        enum sniff_result result;
    } cases[] = {
        {{NULL, 0}, SNIFF_MORE},
        {{(const uint8_t *)"\x00", 1}, SNIFF_FRAMED},
        {{(const uint8_t *)"\x01\x00\x00\x00", 4}, SNIFF_FRAMED},
        {{(const uint8_t *)"\xff", 1}, SNIFF_FRAMED},
        {{(const uint8_t *)"F", 1}, SNIFF_MORE},
        {{(const uint8_t *)"FIB", 3}, SNIFF_MORE},
        {{(const uint8_t *)"FIBP", 4}, SNIFF_PREFACE},
        {{(const uint8_t *)"FIBP\x01\x00", 6}, SNIFF_PREFACE},
        {{(const uint8_t *)"FX", 2}, SNIFF_BAD},
        {{(const uint8_t *)"FIBQ", 4}, SNIFF_BAD},
        {{(const uint8_t *)"\x16\x03\x01", 3}, SNIFF_TLS},
        {{(const uint8_t *)"PRI * HTTP/2.0", 14}, SNIFF_HTTP},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(sniff(cases[i].bytes), cases[i].result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_decisions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
