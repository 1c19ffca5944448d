#!/bin/sh
# format.sh - sources look as .clang-format says; `format.sh -i` makes them so.
# Other versions than 14 break some lines elsewhere, so it has to be that one.
set -u
cd -- "$(dirname -- "$0")/../.." || exit 1
. tests/lint/common

format=clang-format-14
command -v "$format" >/dev/null 2>&1 || format=clang-format
need_program "$format" clang-format-14
case $("$format" --version) in
    *' version 14.'*) ;;
    *)
        echo "clang-format is not version 14 (Debian: clang-format-14)"
        exit 1
        ;;
esac

if [ "${1:-}" = -i ]; then
    c_files | xargs "$format" -i
    exit
fi
complaints=$(mktemp) || exit 1
trap 'rm -f "$complaints"' EXIT
c_files | xargs "$format" --dry-run 2>&1 | awk -F: '
    / warning: / && !(($1, $2) in seen) {
        seen[$1, $2] = 1
        lines[$1]++
        if (!($1 in first))
            first[$1] = $2
    }
    / error: / || /[Cc]ould not|unknown key/ { print }
    END {
        for (file in lines)
            print file ":" first[file] ": " lines[file] " lines to format, this is the first"
    }
' | sort >"$complaints"
[ -s "$complaints" ] && echo "'sh tests/lint/format.sh -i' puts this right:"
finish "$complaints"
