/*
 * signature - what a module was compiled for. The compiler fills a constant struct in every module;
 * a broker loads only those whose struct equals its own. The first three members keep their place
 * for ever, the rest may change with HOOK_VERSION.
 */
#ifndef FILAD_HOOK_SIGNATURE_H
#define FILAD_HOOK_SIGNATURE_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "version.h"

#define HOOK_SIGNATURE_MAGIC "filamod"

/* clang knows no __SANITIZE_ADDRESS__. */
#ifdef __has_feature
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define HOOK_SANITIZER " address-sanitizer"
#else
#define HOOK_SANITIZER ""
#endif
#if FILAD_DEBUG
#define HOOK_DEBUG " debug"
#else
#define HOOK_DEBUG ""
#endif

/* What is passed between broker and modules. */
#define HOOK_SIGNATURE_TYPES(TYPE)                                                                 \
    TYPE(void *)                                                                                   \
    TYPE(max_align_t)                                                                              \
    TYPE(enum hook_role)                                                                           \
    TYPE(struct hook_module)                                                                       \
    TYPE(struct hook_queue)                                                                        \
    TYPE(struct hook_message)                                                                      \
    TYPE(struct hook_verdict)                                                                      \
    TYPE(struct hook_failure)                                                                      \
    TYPE(struct hook_decision)                                                                     \
    TYPE(struct hook_breaker)                                                                      \
    TYPE(struct hook_services)                                                                     \
    TYPE(struct hook_memory)                                                                       \
    TYPE(struct hook_statistic)                                                                    \
    TYPE(struct hook_command)                                                                      \
    TYPE(struct hook_page)                                                                         \
    TYPE(struct hook_http_request)                                                                 \
    TYPE(struct hook_http_response)                                                                \
    TYPE(struct conf)                                                                              \
    TYPE(struct schema_key)                                                                        \
    TYPE(struct str)                                                                               \
    TYPE(struct buf)                                                                               \
    TYPE(struct err)                                                                               \
    TYPE(struct uuid)

#define HOOK_SIGNATURE_COUNT_ONE(type) +1
#define HOOK_SIGNATURE_SIZE_OF(type) sizeof(type),
#define HOOK_SIGNATURE_SIZES (0 HOOK_SIGNATURE_TYPES(HOOK_SIGNATURE_COUNT_ONE))

struct hook_signature {
    char magic[8];
    uint32_t size;    /* of this struct */
    uint32_t version; /* HOOK_VERSION */
    char release[32]; /* of filad, since modules use its functions */
    char build[48];   /* options that change what is compiled */
    uint32_t sizes[HOOK_SIGNATURE_SIZES];
};

/* For HOOK_MODULE, which includes what the types need. */
#define HOOK_SIGNATURE                                                                             \
    {                                                                                              \
        HOOK_SIGNATURE_MAGIC, sizeof(struct hook_signature), HOOK_VERSION, FILAD_VERSION,          \
            "plain" HOOK_DEBUG HOOK_SANITIZER,                                                     \
        {                                                                                          \
            HOOK_SIGNATURE_TYPES(HOOK_SIGNATURE_SIZE_OF)                                           \
        }                                                                                          \
    }

/* -1 with the first difference from this broker's own: "module NAME is built for ...". */
int signature_check(const struct hook_signature *signature, const char *name, struct err *err)
    __attribute__((warn_unused_result));

#endif
