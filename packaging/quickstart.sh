#!/bin/sh
# quickstart.sh - filad from a fresh Debian 12 or Ubuntu machine, as root or with sudo.
#
#   sh packaging/quickstart.sh         installs what the build needs, builds, and starts a broker in
#                                      ./var with a queue whose tenants are served fairly
#   sh packaging/quickstart.sh test    installs what the tests need too, builds, and runs all tests:
#                                      once as it is, once with the address and undefined-behaviour
#                                      sanitizers
#
# Both may be run again at any time. Nothing is written outside the tree but Debian packages.

set -eu
cd -- "$(dirname -- "$0")/.."
top=$(pwd)

build_packages='gcc libc6-dev make pkg-config binutils libdb5.3-dev libyaml-dev libprotobuf-c-dev
    protobuf-c-compiler libssl-dev liblua5.4-dev'
test_packages='libcmocka-dev g++ clang-format-14 cppcheck mandoc shellcheck dash
    tmux'

# --- helpers -----------------------------------------------------------------------------------

step() {
    printf '\n==> %s\n' "$*"
}

fail() {
    printf 'quickstart: %s\n' "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        fail "neither root nor sudo: install as root: $missing"
    fi
}

is_installed() {
    dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'
}

install_packages() {
    if ! command -v apt-get >/dev/null 2>&1; then
        step 'No apt-get here: configure will name the libraries that are missing'
        return
    fi
    missing=
    for package in "$@"; do
        is_installed "$package" || missing="$missing $package"
    done
    if [ -z "$missing" ]; then
        step 'Every package that is needed is installed'
        return
    fi
    step "Installing with apt-get:$missing"
    as_root apt-get -q update || echo 'quickstart: apt-get update failed, trying without it' >&2
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install \
        $missing || fail "apt-get could not install:$missing"
}

jobs() {
    nproc 2>/dev/null || echo 2
}

# Configures and builds the tree in the working directory; the arguments go to configure.
build() {
    sh ./configure --prefix="$top/var/install" "$@"
    make -j "$(jobs)"
}

# --- the demonstration -------------------------------------------------------------------------

config=$top/var/filad.yaml

fila() {
    "$top/objs/fila" --addr "127.0.0.1:$port" "$@"
}

# Whether a TCP port has a listener, by the kernel's own table: state 0A is listening.
port_is_taken() {
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
        grep -q "^ *[0-9]*: [0-9A-F]*:$(printf '%04X' "$1") [0-9A-F]*:0000 0A"
}

find_port() {
    port=5555
    while port_is_taken "$port"; do
        port=$((port + 1))
        [ "$port" -lt 5655 ] || fail 'no free port from 5555 to 5654'
    done
}

stop_earlier_broker() {
    [ -f "$config" ] && [ -f "$top/var/filad.pid" ] || return 0
    pid=$(cat "$top/var/filad.pid")
    kill -0 "$pid" 2>/dev/null || return 0
    step "Stopping the broker of an earlier run (process $pid)"
    [ -x objs/filad ] && objs/filad -c "$config" -s stop
    tries=0
    while kill -0 "$pid" 2>/dev/null; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || fail "process $pid does not end; see var/error.log"
        sleep 0.1
    done
}

write_config() {
    mkdir -p "$top/var"
    cat >"$config" <<END
user: $(id -un)
group: $(id -gn)
worker_processes: 2
daemon: true
pid_file: $top/var/filad.pid
error_log: {path: $top/var/error.log, level: info}
listen:
  - address: 127.0.0.1:$port
store:
  path: $top/var/store
  cache_size: 32m
shared_memory: 256m
END
}

start_broker() {
    objs/filad -c "$config" -t
    objs/filad -c "$config" || fail 'the broker did not start; see var/error.log'
    tries=0
    until fila queue list >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || fail 'the broker does not answer; see var/error.log'
        sleep 0.1
    done
}

# Asked for each message: tenants share the queue by weight, and three failures are enough.
write_scripts() {
    cat >"$top/var/on_enqueue.lua" <<'END'
local weights = { gold = 3 }

function on_enqueue(msg)
    local tenant = msg.headers.tenant or "unknown"
    return { fairness_key = tenant, weight = weights[tenant] or 1 }
end
END
    cat >"$top/var/on_failure.lua" <<'END'
function on_failure(msg)
    if msg.attempts >= 3 then
        return { action = "dlq" }
    end
    return { action = "retry", delay_ms = 100 * msg.attempts }
end
END
}

make_queue() {
    write_scripts
    fila queue delete demo >/dev/null 2>&1 || :
    fila queue create demo --on-enqueue "@$top/var/on_enqueue.lua" \
        --on-failure "@$top/var/on_failure.lua"
}

# 200 messages of a noisy tenant and then 5 of a quiet one.
enqueue_messages() {
    count=1
    while [ "$count" -le 200 ]; do
        echo "noisy $count"
        count=$((count + 1))
    done | fila enqueue demo -H tenant=noisy --lines >/dev/null
    for count in 1 2 3 4 5; do
        fila enqueue demo -H tenant=quiet "quiet $count" >/dev/null
    done
}

demo() {
    # shellcheck disable=SC2086
    install_packages $build_packages
    stop_earlier_broker
    step 'Configuring and building in objs/'
    build
    find_port
    step "Starting a broker on 127.0.0.1:$port, store and log under ./var"
    write_config
    start_broker
    step "Creating the queue 'demo': its script takes the header 'tenant' as the fairness key"
    make_queue
    step 'Enqueueing 200 messages of a noisy tenant, then 5 of a quiet one'
    enqueue_messages
    step 'Consuming and acknowledging them; the first 12: the quiet tenant does not wait'
    fila consume demo -n 205 --timeout 10000 | sed -n 1,12p
    step 'What is left'
    fila queue inspect demo
    cat <<END

The broker is running. Try:   echo hello | objs/fila --addr 127.0.0.1:$port enqueue demo
                              objs/fila --addr 127.0.0.1:$port consume demo -n 1
                              objs/fila --addr 127.0.0.1:$port top
The queue's scripts:          var/on_enqueue.lua, var/on_failure.lua
Stop it with:                 objs/filad -c var/filad.yaml -s stop
END
}

# --- the tests ---------------------------------------------------------------------------------

passed=0 failed=0 skipped=0

# Adds up the last line of a run of the tests; a run without one has failed.
count_results() {
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$1" | tail -n 1)
    if [ -z "$line" ]; then
        failed=$((failed + 1))
        return
    fi
    passed=$((passed + ${line%% passed*}))
    line=${line#*, }
    failed=$((failed + ${line%% failed*}))
    case $line in
        *skipped) line=${line#*, } skipped=$((skipped + ${line%% skipped*})) ;;
    esac
}

check() {
    log=$top/var/check.log
    { make -j "$(jobs)" check "$@" || echo "make check $*: did not pass"; } 2>&1 | tee "$log"
    count_results "$log"
    sed -n '/^What failed:$/,/^[0-9]* passed, /p' "$log" >>"$top/var/failures"
}

# Warnings are errors with the compiler that we know; another one may warn of other things.
warnings_as_errors() {
    case $(${CC:-cc} -dumpversion) in
        12 | 12.*) echo -Werror ;;
    esac
}

# A second tree, so that objs/ keeps the plain build: the one that users get who have no git.
unpack_release() {
    rm -rf "$1"
    mkdir -p "$1"
    make dist
    gzip -dc objs/filad-*.tar.gz | tar -xf - -C "$1" --strip-components=1
}

tests() {
    # shellcheck disable=SC2086
    install_packages $build_packages $test_packages
    mkdir -p var
    : >var/failures
    step 'Building, with every warning an error where the compiler is gcc 12'
    build CFLAGS="-O2 -g $(warnings_as_errors)"
    step 'Running every test'
    check

    step 'Building the release in var/sanitized, with the address and undefined-behaviour sanitizers'
    unpack_release var/sanitized
    cd var/sanitized
    build --with-sanitizers=address,undefined CFLAGS='-O1 -g'
    step 'Running the unit tests, fuzz replays and process tests with them'
    check SUITE='unit fuzz process'
    cd "$top"

    step 'All together'
    cat var/failures
    total="$passed passed, $failed failed"
    [ "$skipped" -eq 0 ] || total="$total, $skipped skipped"
    echo "$total"
    [ "$failed" -eq 0 ]
}

case ${1:-demo} in
    demo) demo ;;
    test) tests ;;
    *)
        echo 'usage: sh packaging/quickstart.sh [test]' >&2
        exit 2
        ;;
esac
