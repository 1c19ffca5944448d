#!/bin/sh
# fila top in a terminal: what it shows, its keys, sizes, a broker that goes and comes, and that the
# terminal is as before whatever ends it.
set -u
cd -- "$(dirname -- "$0")/../.." || exit 1
. tests/process/support/script

command -v tmux >/dev/null 2>&1 || {
    echo 'tmux is not installed'
    exit 77
}

conf=$work/filad.yaml
broker=

in_tmux() {
    tmux -S "$work/tmux" -f /dev/null "$@"
}

finish() {
    in_tmux kill-server >/dev/null 2>&1 || :
    [ -z "$broker" ] || objs/filad -c "$conf" -q -s stop || :
    rm -rf "$work"
}
trap finish EXIT

start_broker() {
    objs/filad -c "$conf" || fail 'the broker does not start'
    broker=yes
}

# Starts a command in a terminal of $1 columns and $2 rows; a shell stays behind it.
open_terminal() {
    columns=$1 rows=$2
    shift 2
    in_tmux new-session -d -x "$columns" -y "$rows" \
        "stty -g >$work/before; $* ; echo status=\$?; stty -g >$work/after; read -r line"
}

screen() {
    in_tmux capture-pane -p
}

# Waits until the screen has a line that matches.
shows() {
    tries=0
    until screen | grep -q -- "$1"; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || {
            screen
            fail "the screen never shows '$1'"
        }
        sleep 0.1
    done
}

shows_not() {
    tries=0
    while screen | grep -q -- "$1"; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || fail "the screen still shows '$1'"
        sleep 0.1
    done
}

press() {
    in_tmux send-keys "$@"
}

# The program has ended with this status and left the terminal as it was.
ended() {
    shows "status=$1"
    shows_not 'QUEUE'
    tries=0
    until [ -s "$work/after" ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || fail 'the shell does not go on'
        sleep 0.1
    done
    same "$work/before" <"$work/after"
    rm "$work/after"
    in_tmux kill-server || :
    tries=0
    while in_tmux has-session 2>/dev/null; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || fail 'tmux does not end'
        sleep 0.1
    done
}

write_conf "$conf"
start_broker
FILA_ADDR=unix:$work/socket
export FILA_ADDR
# The scripts run with LC_ALL=C: that is the view in ASCII.
top="env FILA_ADDR=$FILA_ADDR objs/fila top --interval 100"
utf8="env LC_ALL=C.UTF-8 FILA_ADDR=$FILA_ADDR objs/fila top --interval 100"

step 'what scripts get'
objs/fila top </dev/null 2>&1 | is 'fila: top: standard input and output are no terminal: use --once or --json'
objs/fila queue create alpha >/dev/null
objs/fila queue create beta >/dev/null
seq 1 50 | objs/fila enqueue beta --lines >/dev/null
objs/fila top --once --interval 100 >"$work/once"
grep -q '^beta  *50 ' "$work/once" || fail "no queue in $(cat "$work/once")"
objs/fila top --once --interval 100 --json |
    grep -q '"name": "beta", "depth": 50, .*"enqueued_total": 50, .*"enqueued_per_second": 0' ||
    fail 'no queue in JSON'
if objs/fila top --interval 5 2>/dev/null; then fail 'an interval of 5 ms'; fi

step 'the view and its keys'
open_terminal 100 20 "$top"
shows '^beta  *50 '
shows '^fila top .*queues 4 '
shows 'vDEPTH'
screen | grep -n '^beta ' | cut -d : -f 1 | is 7
press r
shows '\^DEPTH'
press r
press s
shows 'vENQ/S'
press /
press bet
shows '^/bet_'
shows_not '^alpha '
press Enter
shows '2 of 4 match "bet"'
press Escape
shows '^alpha '
press p
shows 'PAUSED'
seq 1 7 | objs/fila enqueue beta --lines >/dev/null
press p
shows '^beta  *57 '

step 'rates'
seq 1 2000 | objs/fila enqueue alpha --lines >/dev/null
shows '^enqueued .*[1-9]'
shows '^alpha .*[#*+=]'
# Shown of an interval in which something was written: that goes on until it was seen.
: >"$work/busy"
while [ -e "$work/busy" ]; do
    objs/fila enqueue alpha.dlq busy >/dev/null
done &
busy=$!
shows 'commit   p50 [0-9]'
rm "$work/busy"
wait "$busy"

step 'other sizes'
in_tmux resize-window -x 20 -y 5
shows '^alpha  *2000$'
screen | wc -l | is 5
in_tmux resize-window -x 160 -y 30
shows ' DEAD$'
press q
ended 0

step 'UTF-8, colours, and none'
open_terminal 100 20 "$utf8"
shows '^alpha .*▁'
in_tmux capture-pane -p -e | grep -q "$(printf '\033\\[1m')" || fail 'no colours'
press C-c
ended 0
open_terminal 100 20 "NO_COLOR=1 $top"
shows '^alpha '
if in_tmux capture-pane -p -e | grep -q "$(printf '\033')"; then fail 'colours'; fi

step 'a broker that goes and comes'
objs/filad -c "$conf" -q -s stop
broker=
shows 'NOT CONNECTED'
shows 'trying again'
shows '^alpha '
start_broker
shows_not 'NOT CONNECTED'
shows '^beta  *57 '

step 'a signal'
pid=$(in_tmux list-panes -F '#{pane_pid}')
# shellcheck disable=SC2046
kill -TERM $(cat "/proc/$pid/task/$pid/children")
ended 143
objs/fila queue list | grep -q '^beta  *57 ' || fail 'the broker is not served any more'
