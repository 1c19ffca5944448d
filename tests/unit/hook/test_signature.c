#include "hook/signature.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "hook/hook.h"

static void refused(const struct hook_signature *signature, const char *expected)
{
    struct err err = {0};

    assert_int_equal(signature_check(signature, "m", &err), -1);
    if (!strstr(err.text, expected))
        fail_msg("%s", err.text);
}

static void test_every_difference_is_refused(void **state)
{
    const struct hook_signature right = HOOK_SIGNATURE;
    struct hook_signature other = right;
    struct err err;

    (void)state;
    assert_int_equal(signature_check(&right, "m", &err), 0);
    refused(NULL, "module m has no signature");
    other.magic[0] ^= 1;
    refused(&other, "has no signature");
    other = right;
    other.version++;
    refused(&other, "of the module interface, this is ");
    other = right;
    other.size--;
    refused(&other, "another signature");
    other = right;
    other.release[0] = 'x';
    refused(&other, "built for filad x.1.0, this is " FILAD_VERSION);
    other = right;
    strcpy(other.build, "strange");
    refused(&other, "is a strange build");
    for (size_t i = 0; i < HOOK_SIGNATURE_SIZES; i++) {
        other = right;
        other.sizes[i]++;
        refused(&other, "bytes");
    }
    other = right;
    other.sizes[0] = 4;
    refused(&other, "where void * has 4 bytes, here it has 8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_difference_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
