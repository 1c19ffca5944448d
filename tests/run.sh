#!/bin/sh
# run.sh - runs test programs and counts what they say.
#
#   tests/run.sh [-j JOBS] [-t SECONDS] [-v] SUITE:COMMAND...
#
# COMMAND is split at blanks and run from the top of the tree, with a private TMPDIR that is removed
# afterwards. Exit status 0 passes, 77 skips, anything else fails, and so does a command that is
# still running after SECONDS (600; 0 means for ever). Output is shown of what fails, and its end
# once more when all have run; -v shows it all, as it comes. The last line counts.
#
# With -j so many run at a time, but for those that have to run alone; tests/schedule tells which.

set -uf
cd -- "$(dirname -- "$0")/.." || exit 1

limit=600
verbose=no
jobs=1
while getopts j:t:v option; do
    case $option in
        j) jobs=$OPTARG ;;
        t) limit=$OPTARG ;;
        v) verbose=yes ;;
        *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ "$verbose" = no ] || jobs=1

scratch=$(mktemp -d "${TMPDIR:-/tmp}/filad-check.XXXXXX") || exit 1
children=
cleanup() {
    # shellcheck disable=SC2086
    [ -z "$children" ] || { kill -TERM $children && wait; } 2>/dev/null
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

# --- one test -----------------------------------------------------------------------------------

# The name a person wants to read: the program without objs/ and the corpus behind it.
title_of() {
    case $1 in
        sh\ *) printf '%s' "${1#sh }" ;;
        *) printf '%s' "${1%% *}" | sed 's,^objs/,,' ;;
    esac
}

# Runs $1 with its output in $place/output; in the background, so that a signal is heard at once.
run_limited() {
    mkdir -p "$place/tmp" || exit 1
    # shellcheck disable=SC2086
    if [ "$verbose" = yes ]; then
        TMPDIR=$place/tmp timeout -k 10 "$limit" $1 3<&- &
    else
        TMPDIR=$place/tmp timeout -k 10 "$limit" $1 >"$place/output" 2>&1 </dev/null 3<&- &
    fi
    children=$!
    wait "$children"
    status=$?
    children=
    return "$status"
}

describe_failure() {
    reason="exit status $1"
    case $1 in
        124 | 137) reason="no end after $limit s, or killed" ;;
    esac
    printf 'FAIL %-8s %s (%s)\n' "$suite" "$title" "$reason"
}

# Leaves in $place the output, and what is to be said of it in a file named after its result.
run_one() {
    suite=${1%%:*}
    command=${1#*:}
    title=$(title_of "$command")
    begin=$(date +%s)
    : >"$place/output"
    run_limited "$command"
    status=$?
    seconds=$(($(date +%s) - begin))
    rm -rf "$place/tmp"
    case $status in
        0) printf 'ok   %-8s %s (%d s)\n' "$suite" "$title" "$seconds" >"$place/passed" ;;
        77)
            reason=$(tail -n 1 "$place/output")
            printf 'skip %-8s %s: %s\n' "$suite" "$title" "$reason" >"$place/skipped"
            ;;
        *) describe_failure "$status" >"$place/failed" ;;
    esac
}

# --- several ------------------------------------------------------------------------------------

say() {
    cat "$scratch/$1/passed" "$scratch/$1/skipped" "$scratch/$1/failed" 2>/dev/null
    [ "$verbose" = yes ] || [ ! -e "$scratch/$1/failed" ] ||
        sed 's/^/    /' "$scratch/$1/output"
}

# Runs what nobody else has taken of a list with lines "NUMBER ENTRY"; $2 is called with the number.
work() {
    while read -r number entry <&3; do
        place=$scratch/$number
        mkdir "$place" 2>/dev/null || continue
        run_one "$entry"
        "$2" "$number"
    done 3<"$1"
}

work_beside() {
    children=
    trap - EXIT
    # shellcheck disable=SC2086
    trap '[ -z "$children" ] || kill -TERM $children 2>/dev/null; exit 130' HUP INT TERM
    work "$1" echo >&4
}

# One process prints, so that what is said of a test stays in one piece.
print_done() {
    trap - EXIT HUP INT TERM
    while read -r number; do
        say "$number"
    done <"$scratch/done"
}

# Runs a list, $2 at a time.
run_list() {
    if [ "$2" -le 1 ]; then
        work "$1" say
        return
    fi
    mkfifo "$scratch/done" || exit 1
    print_done &
    children=$!
    exec 4>"$scratch/done"
    left=$2
    while [ "$left" -gt 0 ]; do
        work_beside "$1" &
        children="$children $!"
        left=$((left - 1))
    done
    exec 4>&-
    # shellcheck disable=SC2086
    wait $children
    children=
    rm "$scratch/done"
}

# Prints all entries as "MARK PLACE NUMBER ENTRY" with the marks and the order of tests/schedule.
schedule() {
    printf '%s\n' "$@" | awk '
        BEGIN {
            while ((getline <"tests/schedule") > 0)
                if ($1 == "early" || $1 == "alone") {
                    mark[$2] = $1
                    place[$2] = ++places
                }
        }
        {
            title = $0
            sub(/^[^:]*:/, "", title)
            if (!sub(/^sh /, "", title)) {
                sub(/ .*/, "", title)
                sub(/^objs\//, "", title)
            }
            known = title in mark
            print known ? mark[title] : "late", known ? place[title] : places + 1, NR, $0
        }' | sort -s -k 2,2n
}

# How many have a result.
count() {
    find "$scratch" -mindepth 2 -maxdepth 2 -name "$1" | wc -l
}

# The end of the output of what failed once more: of a long run often only the end is looked at.
repeat_failures() {
    printf '\nWhat failed:\n'
    awk '{ print $3 }' "$scratch/all" | sort -n | while read -r number; do
        [ -e "$scratch/$number/failed" ] || continue
        cat "$scratch/$number/failed"
        tail -n 30 "$scratch/$number/output" | sed 's/^/    /'
    done
    printf '\n'
}

schedule "$@" >"$scratch/all"
sed -n 's/^\(early\|late\) [0-9]* //p' "$scratch/all" >"$scratch/together"
sed -n 's/^alone [0-9]* //p' "$scratch/all" >"$scratch/alone"
run_list "$scratch/together" "$jobs"
run_list "$scratch/alone" 1

passed=$(count passed)
skipped=$(count skipped)
failed=$(($# - passed - skipped))
[ "$failed" -eq 0 ] || [ "$verbose" = yes ] || repeat_failures
counts="$passed passed, $failed failed"
[ "$skipped" -eq 0 ] || counts="$counts, $skipped skipped"
printf '%s\n' "$counts"
[ "$failed" -eq 0 ]
