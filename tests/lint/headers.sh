#!/bin/sh
# headers.sh - every header compiles alone, twice, without a warning, and has its include guard.
# CC and LIBRARY_CFLAGS come from make; objs/ must hold what is generated.
set -u
cd -- "$(dirname -- "$0")/../.." || exit 1
. tests/lint/common

CC=${CC:-cc}
flags="-std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes
    -Wmissing-prototypes -Werror -fsyntax-only -I. -Iobjs
    -Isrc -Isrc/client/include -Imodules -Itests"

complaints=$(mktemp) || exit 1
trap 'rm -f "$complaints"' EXIT
c_files | grep '[.]h$' | while read -r header; do
    # shellcheck disable=SC2086
    printf '#include "%s"\n#include "%s"\n' "$header" "$header" |
        $CC $flags ${LIBRARY_CFLAGS:-} -x c - >>"$complaints" 2>&1
done
finish "$complaints"
