#!/bin/sh
# The completions for bash offer what --help shows: every command, every option, and nothing else.
set -u
cd -- "$(dirname -- "$0")/../.." || exit 1
. tests/process/support/script

offered() {
    program=$1
    shift
    bash tests/process/support/complete.bash "packaging/completion/$program.bash" \
        "objs/$program" "$@" || fail "no completion for $program"
}

# The options in a help text, long ones and letters.
options_of() {
    sed -n 's/^  \(-.*\)/\1/p' | sed 's/   .*//' | grep -oE '(^|[ ,])--?[A-Za-z][a-z-]*' |
        tr -d ' ,' | sort -u
}

# The commands in a help text without their arguments, which are in capitals.
commands_of() {
    sed -n '/^commands:/,/^$/s/^  \([a-z][a-z ]*[a-z]\).*/\1/p'
}

step 'filad'
{
    objs/filad -h | options_of
    echo --help
    echo --version
} | sort >"$work/expected"
grep -c . "$work/expected" | is 13
offered filad - | same "$work/expected"
offered filad -q - | same "$work/expected"
objs/filad -h | sed -n 's/.*tell the running broker: //p' | sed 's/,\| or/\n/g' | tr -d ' ' | sort \
    >"$work/expected"
offered filad -s '' | same "$work/expected"
offered filad -s rel | is reload
offered filad -c packaging/quick | is packaging/quickstart.sh
offered filad -p packag | is packaging
offered filad -g '' | is ''

step 'the commands of fila'
objs/fila --help | commands_of >"$work/commands"
grep -c . "$work/commands" | is 20
cut -d ' ' -f 1 "$work/commands" | sort -u >"$work/expected"
offered fila '' | same "$work/expected"
offered fila --json --addr localhost : 5555 '' | same "$work/expected"
sed -n 's/^queue //p' "$work/commands" | sort >"$work/expected"
offered fila queue '' | same "$work/expected"
offered fila --addr = unix : /x queue '' | same "$work/expected"
offered fila queue in | is inspect

step 'the options of fila'
objs/fila --help | options_of >"$work/expected"
offered fila - | same "$work/expected"
while read -r command; do
    # shellcheck disable=SC2086
    objs/fila $command --help | options_of >"$work/expected"
    # shellcheck disable=SC2086
    offered fila $command - | same "$work/expected"
    # shellcheck disable=SC2086
    offered fila --addr localhost $command --json - | same "$work/expected"
    # shellcheck disable=SC2086
    for option in $(objs/fila $command --help | sed -n 's/^  \(.*--[a-z-]* [A-Z=]*\) .*/\1/p' |
        grep -oE -- '--?[A-Za-z][a-z-]*'); do
        offered fila $command "$option" '' | is ''
    done
done <"$work/commands"
offered fila queue create --on-enqueue @packaging/quick | is @packaging/quickstart.sh
offered fila enqueue -H tenant = '' | is ''
offered fila enqueue --li | is --lines

step 'names of queues come from the broker'
cat >"$work/fila" <<'END'
#!/bin/sh
[ "$*" = "--addr host:1 queue list" ] || exit 1
printf '%s\n' 'NAME  DEPTH  IN FLIGHT  CONSUMERS' 'other  1  0  0' \
    'orders.dlq  1  0  0'
END
chmod +x "$work/fila"
bash tests/process/support/complete.bash packaging/completion/fila.bash "$work/fila" \
    --addr host : 1 consume ot | is other
bash tests/process/support/complete.bash packaging/completion/fila.bash "$work/fila" \
    --addr host : 1 redrive o | is orders.dlq
