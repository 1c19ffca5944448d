#!/bin/sh
# Our scripts are POSIX sh which shellcheck and dash accept.
set -u
cd -- "$(dirname -- "$0")/../.." || exit 1
. tests/lint/common
need_program shellcheck shellcheck
need_program dash dash

scripts='configure tests/run.sh tests/lint/common tests/process/support/script'
for script in tests/lint/*.sh tests/process/*.sh packaging/*.sh; do
    [ -f "$script" ] && scripts="$scripts $script"
done
bash_scripts=
for script in .ci/run packaging/completion/*.bash tests/process/support/*.bash; do
    [ -f "$script" ] && bash_scripts="$bash_scripts $script"
done

status=0
# shellcheck disable=SC2086
shellcheck -x -s sh $scripts || status=1
for script in $scripts; do
    dash -n "$script" || status=1
done
# shellcheck disable=SC2086
[ -z "$bash_scripts" ] || shellcheck -x -s bash $bash_scripts || status=1
exit "$status"
