#!/bin/sh
# man.sh - mandoc accepts the manual pages without a warning, and our pages that they refer to are
# there.
set -u
cd -- "$(dirname -- "$0")/../.." || exit 1
. tests/lint/common
need_program mandoc mandoc

complaints=$(mktemp) || exit 1
trap 'rm -f "$complaints"' EXIT
for page in man/*.[1-8]; do
    mandoc -Tlint -Wwarning "$page" || :
    sed -n 's/^[.]Xr \(fi[^ ]*\) \([1-8]\).*/\1.\2/p' "$page" | while read -r other; do
        [ -f "man/$other" ] || echo "$page: there is no man/$other"
    done
done >"$complaints" 2>&1
finish "$complaints"
