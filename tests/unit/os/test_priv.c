#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>

#include "os/priv.h"

#include "unit/os/scratch.h"

static void test_lookup(void **state)
{
    (void)state;
    struct priv priv;
    struct err err;
    struct passwd *nobody = getpwnam("nobody");
    assert_non_null(nobody);
    assert_int_equal(priv_lookup("nobody", NULL, &priv, &err), 0);
    assert_int_equal(priv.uid, nobody->pw_uid);
    assert_int_equal(priv.gid, nobody->pw_gid);
    assert_in_range(priv.group_count, 1, PRIV_GROUPS_MAX);
    assert_int_equal(priv_lookup("nobody", "", &priv, &err), 0);
    assert_int_equal(priv.gid, nobody->pw_gid);
    assert_int_equal(priv_lookup("nobody", "root", &priv, &err), 0);
    assert_int_equal(priv.gid, 0);
}

static void test_unknown_names(void **state)
{
    (void)state;
    struct priv priv;
    struct err err;
    assert_int_equal(priv_lookup("no-such-user-here", NULL, &priv, &err), -1);
    assert_int_equal(err.code, ENOENT);
    assert_string_equal(err.text, "there is no user \"no-such-user-here\"");
    assert_int_equal(priv_lookup("nobody", "no-such-group", &priv, &err), -1);
    assert_string_equal(err.text, "there is no group \"no-such-group\"");
}

static int drop_body(void *argument)
{
    struct priv *priv = argument;
    struct err err;
    gid_t groups[PRIV_GROUPS_MAX];
    if (priv_drop(priv, &err) != 0)
        return 1;
    if (getuid() != priv->uid || geteuid() != priv->uid || getegid() != priv->gid)
        return 2;
    if (getgroups(PRIV_GROUPS_MAX, groups) != (int)priv->group_count)
        return 3;
    if (setuid(0) == 0 || setgid(0) == 0 || open("/etc/shadow", O_RDONLY) >= 0)
        return 4;
    return priv_is_root() ? 5 : 0;
}

/* Without root: dropping to somebody else is refused. */
static int refused_body(void *argument)
{
    struct err err;
    return priv_drop(argument, &err) == -1 && err.code == EPERM ? 0 : 1;
}

static void test_drop(void **state)
{
    (void)state;
    struct priv priv;
    struct err err;
    assert_int_equal(priv_lookup("nobody", NULL, &priv, &err), 0);
    assert_int_equal(priv_is_root(), geteuid() == 0);
    if (priv_is_root())
        assert_int_equal(scratch_fork(drop_body, &priv), 0);
    else
        assert_int_equal(scratch_fork(refused_body, &priv), 0);
}

static int drop_to_root_body(void *argument)
{
    struct err err;
    return priv_drop(argument, &err);
}

static void test_staying_root_is_no_failure(void **state)
{
    (void)state;
    struct priv priv;
    struct err err;
    if (!priv_is_root())
        return;
    assert_int_equal(priv_lookup("root", NULL, &priv, &err), 0);
    assert_int_equal(scratch_fork(drop_to_root_body, &priv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lookup),
        cmocka_unit_test(test_unknown_names),
        cmocka_unit_test(test_drop),
        cmocka_unit_test(test_staying_root_is_no_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
