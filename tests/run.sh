#!/bin/sh
# run.sh - runs test programs and counts what they say.
#
#   tests/run.sh [-t SECONDS] [-v] SUITE:COMMAND...
#
# COMMAND is split at blanks and run from the top of the tree, with a private TMPDIR that is removed
# afterwards. Exit status 0 passes, 77 skips, anything else fails, and so does a command that is
# still running after SECONDS (300; 0 means for ever). Output is shown of what fails; -v shows it
# all, as it comes. The last line counts.

set -uf
cd -- "$(dirname -- "$0")/.." || exit 1

limit=300
verbose=no
while getopts t:v option; do
    case $option in
        t) limit=$OPTARG ;;
        v) verbose=yes ;;
        *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))

scratch=$(mktemp -d "${TMPDIR:-/tmp}/filad-check.XXXXXX") || exit 1
child=
cleanup() {
    [ -z "$child" ] || kill -TERM "$child" 2>/dev/null
    # A database or a socket may still be closing: one more try is enough.
    rm -rf "$scratch" 2>/dev/null || { sleep 1; rm -rf "$scratch"; }
}
trap cleanup EXIT
trap 'exit 130' HUP INT TERM

# Where the programs find what was built, from any working directory.
FILAD_OBJS=$PWD/objs
FILAD_SOURCE=$PWD
# The shims are preloaded before the run-time library of a sanitizer.
ASAN_OPTIONS=${ASAN_OPTIONS:-verify_asan_link_order=0:detect_leaks=1:abort_on_error=0}
UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}
export FILAD_OBJS FILAD_SOURCE ASAN_OPTIONS UBSAN_OPTIONS

passed=0 failed=0 skipped=0

# The name a person wants to read: the program without objs/ and the corpus behind it.
title_of() {
    case $1 in
        sh\ *) printf '%s' "${1#sh }" ;;
        *) printf '%s' "${1%% *}" | sed 's,^objs/,,' ;;
    esac
}

# Runs $1 with its output in $scratch/output; in the background, so that a signal is heard at once.
run_limited() {
    mkdir -p "$scratch/tmp" || exit 1
    # shellcheck disable=SC2086
    if [ "$verbose" = yes ]; then
        TMPDIR=$scratch/tmp timeout -k 10 "$limit" $1 &
    else
        TMPDIR=$scratch/tmp timeout -k 10 "$limit" $1 >"$scratch/output" 2>&1 </dev/null &
    fi
    child=$!
    wait "$child"
    status=$?
    child=
    return "$status"
}

report_failure() {
    failed=$((failed + 1))
    reason="exit status $1"
    case $1 in
        124 | 137) reason="no end after $limit s, or killed" ;;
    esac
    printf 'FAIL %-8s %s (%s)\n' "$suite" "$title" "$reason"
    [ "$verbose" = yes ] || sed 's/^/    /' "$scratch/output"
}

run_one() {
    suite=${1%%:*}
    command=${1#*:}
    title=$(title_of "$command")
    begin=$(date +%s)
    : >"$scratch/output"
    run_limited "$command"
    status=$?
    seconds=$(($(date +%s) - begin))
    case $status in
        0)
            passed=$((passed + 1))
            printf 'ok   %-8s %s (%d s)\n' "$suite" "$title" "$seconds"
            ;;
        77)
            skipped=$((skipped + 1))
            printf 'skip %-8s %s: %s\n' "$suite" "$title" "$(tail -n 1 "$scratch/output")"
            ;;
        *) report_failure "$status" ;;
    esac
    rm -rf "$scratch/tmp"
}

for entry in "$@"; do
    run_one "$entry"
done

counts="$passed passed, $failed failed"
[ "$skipped" -eq 0 ] || counts="$counts, $skipped skipped"
printf '%s\n' "$counts"
[ "$failed" -eq 0 ]
