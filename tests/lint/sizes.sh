#!/bin/sh
# sizes.sh - a source has at most 1000 lines and a function at most 120, braces included.
set -u
cd -- "$(dirname -- "$0")/../.." || exit 1
. tests/lint/common

# shellcheck disable=SC2016
check_sizes='
function end_of_file() {
    if (lines > 1000)
        print file ": " lines " lines, at most 1000"
}
FNR == 1 { end_of_file(); file = FILENAME; inside = 0 }
{ lines = FNR }
# A body starts with a brace in the first column and ends with one.
/^\{/ { inside = FNR; name = heading }
/^\}/ && inside {
    if (FNR - inside + 1 > 120)
        print file ":" inside ": " FNR - inside + 1 " lines, at most 120: " name
    inside = 0
}
/^[A-Za-z_].*\(/ { heading = $0 }
END { end_of_file() }
'

complaints=$(mktemp) || exit 1
trap 'rm -f "$complaints"' EXIT
c_files | grep '[.]c$' | xargs awk "$check_sizes" >"$complaints"
finish "$complaints"
