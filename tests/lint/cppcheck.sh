#!/bin/sh
# cppcheck.sh - static analysis. What it is wrong about is silenced in place with a comment
# "cppcheck-suppress id ; why".
set -u
cd -- "$(dirname -- "$0")/../.." || exit 1
. tests/lint/common
need_program cppcheck cppcheck

# Results are kept from run to run for sources that have not changed.
mkdir -p objs/cppcheck || exit 1
files=$(c_files src modules bench tests/kill tests/fuzz | grep '[.]c$')
[ -n "$files" ] || exit 0
# System headers are not read, the libraries posix and gnu stand for them. readdir is safe here: no
# two threads share a directory stream; and users are looked up before there are threads. In uuid.c
# it does not see bytes_put_u64 fill the id.
printf '%s\n' "$files" | cppcheck --file-list=- --quiet --error-exitcode=1 -j 2 \
    --cppcheck-build-dir=objs/cppcheck --enable=warning,performance,portability \
    --std=c11 --language=c --platform=unix64 --library=posix,gnu --inline-suppr \
    --suppress=missingIncludeSystem --suppress=missingInclude --suppress=unmatchedSuppression \
    --suppress=readdirCalled --suppress=getpwnamCalled \
    --suppress=getgrnamCalled --suppress=uninitvar:src/core/uuid.c \
    --suppress=normalCheckLevelMaxBranches --suppress='*:objs/*' \
    -D_GNU_SOURCE -D__linux__ -Isrc -Isrc/client/include -Imodules -Itests \
    --template='{file}:{line}: {severity}: {message} [{id}]'
