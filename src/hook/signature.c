#include "hook/signature.h"

#include <stdbool.h>
#include <string.h>

#include "hook/hook.h"

static const struct hook_signature ours = HOOK_SIGNATURE;

#define NAME_OF(type) #type,

static const char *const type_names[] = {HOOK_SIGNATURE_TYPES(NAME_OF)};

/* A text of a module that need not be one. */
static bool texts_equal(const char *theirs, const char *mine, size_t size)
{
    return memcmp(theirs, mine, size) == 0;
}

int signature_check(const struct hook_signature *signature, const char *name, struct err *err)
{
    if (!signature || memcmp(signature->magic, ours.magic, sizeof ours.magic) != 0)
        return err_set(err, 0, "module %s has no signature of a filad module", name);
    if (signature->version != ours.version)
        return err_set(err, 0,
                       "module %s is built for version %u of the module interface, this is %u: "
                       "build it again",
                       name, signature->version, ours.version);
    if (signature->size != ours.size)
        return err_set(err, 0, "module %s is built with another signature: build it again", name);
    if (!texts_equal(signature->release, ours.release, sizeof ours.release))
        return err_set(err, 0, "module %s is built for filad %.31s, this is %s: build it again",
                       name, signature->release, ours.release);
    if (!texts_equal(signature->build, ours.build, sizeof ours.build))
        return err_set(err, 0, "module %s is a %.47s build, this is a %s one: build it again", name,
                       signature->build, ours.build);
    for (size_t i = 0; i < HOOK_SIGNATURE_SIZES; i++)
        if (signature->sizes[i] != ours.sizes[i])
            return err_set(err, 0,
                           "module %s is built where %s has %u bytes, here it has %u: build it "
                           "again",
                           name, type_names[i], signature->sizes[i], ours.sizes[i]);
    return 0;
}
