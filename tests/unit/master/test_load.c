/* What is refused although the configuration itself is right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "master/load.h"

static void test_bootstrap_key(void **state)
{
    static const struct {
        const char *value; /* NULL: not set */
        int result;
    } cases[] = {{NULL, 0}, {"", 0}, {"secret", -1}};
    const char *text = "user: nobody\ngroup: root\npid_file: filad.pid\n"
                       "error_log: {path: stderr}\nstore: {path: store}\n";

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct conf_errors errors;

        unsetenv("FILA_BOOTSTRAP_APIKEY");
        if (cases[i].value)
            assert_int_equal(setenv("FILA_BOOTSTRAP_APIKEY", cases[i].value, 1), 0);
        conf_errors_init(&errors);
        struct conf *conf = conf_load_text("f", str_from_c(text), "/tmp/filad-test-nowhere", NULL,
                                           NULL, 0, &errors);
        assert_non_null(conf);
        assert_int_equal(load_check(conf, &errors), cases[i].result);
        assert_string_equal(conf_errors_text(&errors),
                            cases[i].result == 0
                                ? ""
                                : "filad: FILA_BOOTSTRAP_APIKEY is set in the environment, but "
                                  "this build has no authentication and would let everybody in: "
                                  "unset it\n");
        conf_free(conf);
        conf_errors_free(&errors);
    }
    unsetenv("FILA_BOOTSTRAP_APIKEY");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bootstrap_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
