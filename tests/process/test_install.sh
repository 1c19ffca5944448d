#!/bin/sh
# What make install puts where, what make uninstall takes away, and that what is installed works:
# the programs, the library with the example of the README, the commands that the README shows.
set -u
cd -- "$(dirname -- "$0")/../.." || exit 1
. tests/process/support/script

# A blank in the path, as in somebody's home directory.
stage="$work/a stage"
broker=

finish() {
    [ -z "$broker" ] || "$sbin/filad" -c "$conf" -q -s stop
    rm -rf "$work"
}
trap finish EXIT

# A directory as configure set it.
configured() {
    sed -n "s/^$1 = //p" Makefile
}

make_target() {
    make "$1" DESTDIR="$stage" >"$work/make.log" 2>&1 || {
        cat "$work/make.log"
        fail "make $1 does not work"
    }
}

snapshot() {
    (cd "$stage" && find . -printf '%p %M\n' -type f -exec cksum {} \; | sort)
}

for name in sbindir bindir libdir includedir mandir sysconfdir datadir unitdir localstatedir \
    runstatedir user group; do
    eval "$name=\$(configured $name)"
done
# shellcheck disable=SC2154
sbin=$stage$sbindir bin=$stage$bindir lib=$stage$libdir include=$stage$includedir
# shellcheck disable=SC2154
man=$stage$mandir etc=$stage$sysconfdir/filad
# shellcheck disable=SC2154
completions=$stage$datadir/bash-completion/completions
# shellcheck disable=SC2154
unit=$stage$unitdir/filad.service

# --- install and uninstall ---------------------------------------------------------------------

expected_files() {
    abi=$(echo objs/libfila.so.*)
    cat <<END
$sbin/filad
$bin/fila
$lib/libfila.a
$lib/libfila.so
$lib/${abi#objs/}
$lib/pkgconfig/libfila.pc
$include/fila.h
$etc/filad.yaml
$etc/filad.yaml.default
$man/man1/fila.1
$man/man5/filad.yaml.5
$man/man7/fibp.7
$man/man7/filad-lua.7
$man/man7/filad-modules.7
$man/man8/filad.8
$completions/fila
$completions/filad
$unit
END
}

# Others have files there, in directories of the same names.
mkdir -p "$sbin" "$bin" "$lib/pkgconfig" "$include" "$man/man1" "$completions" "$etc" ||
    fail 'the stage cannot be made'
echo other | tee "$sbin/filadx" "$bin/filax" "$lib/libfilax.a" "$lib/pkgconfig/libfilax.pc" \
    "$include/filax.h" "$man/man1/filax.1" "$completions/filax" "$etc/other.yaml" >/dev/null
mkdir -p "$stage$datadir" "$stage$unitdir" "$man/man5" "$man/man7" "$man/man8"
for folder in "$stage$unitdir" "$man/man5" "$man/man7" "$man/man8"; do
    echo other >"$folder/other"
done
snapshot >"$work/before"

step 'what is installed is what is listed, with these modes'
(cd "$stage" && find "$stage" ! -type d | sort) >"$work/others"
make_target install
(cd "$stage" && find "$stage" ! -type d | sort) | comm -13 "$work/others" - >"$work/installed"
expected_files | sort | same "$work/installed"
find "$sbin/filad" "$bin/fila" "$lib"/libfila.so.* -perm 755 | wc -l | is 3
find "$stage" -type f -newer "$work/others" ! -perm 644 ! -perm 755 | is ''

step 'an uninstall takes away exactly that'
make_target uninstall
snapshot | same "$work/before"

step 'a configuration that was changed stays, also through another install'
make_target install
echo '# changed' >>"$etc/filad.yaml"
cksum <"$etc/filad.yaml" >"$work/changed"
make_target install
cksum <"$etc/filad.yaml" | same "$work/changed"
grep -c '^# changed' "$etc/filad.yaml.default" | is 0
make_target uninstall
cksum <"$etc/filad.yaml" | same "$work/changed"
rm "$etc/filad.yaml"
snapshot | same "$work/before"
make_target install

step 'no directory is left to be filled in'
grep -rlE '@[a-z]+@' "$man" "$etc" "$completions" "$unit" "$lib/pkgconfig" | is ''

# --- programs ----------------------------------------------------------------------------------

step 'the sample configuration has the defaults of this build'
sed -e 's/^#\([^ ]\)/\1/' -e 's/^#\( *[a-z -]*[a-z_]*:\)/\1/' "$etc/filad.yaml" >"$work/all.yaml"
mine='{user: nobody, group: nogroup}'
(cd / && "$sbin/filad" -g "$mine" -c /dev/null -q -T) >"$work/defaults" || fail '-T of the defaults'
"$sbin/filad" -g "$mine" -c "$work/all.yaml" -q -T | same "$work/defaults"
sed -n 's/^\([a-z_]*\):.*/\1/p' "$work/defaults" | sort >"$work/sections"
sed -n 's/^#\([a-z_]*\):.*/\1/p' "$etc/filad.yaml" | sort | same "$work/sections"

step 'an output that cannot be written is an error'
for option in -v -V -h -T; do
    "$sbin/filad" -q -g "$mine" -c /dev/null $option >/dev/full 2>"$work/said" && fail "$option"
    grep -c 'could not be written' "$work/said" | is 1
done

step 'without a configuration file the test says that defaults are used'
if [ ! -e "$sysconfdir/filad/filad.yaml" ]; then
    "$sbin/filad" -g "$mine" -t >"$work/said" 2>&1 || fail "-t: $(cat "$work/said")"
    grep -c "no configuration file $sysconfdir/filad/filad.yaml, defaults are used" "$work/said" |
        is 1
fi

step 'the broker starts in the background and serves when the command returns'
conf=$work/filad.yaml
write_conf "$conf"
"$sbin/filad" -c "$conf" -t >/dev/null 2>&1 || fail 'the configuration is refused'
"$sbin/filad" -c "$conf" || fail 'the broker does not start'
broker=yes
FILA_ADDR=unix:$work/socket
PATH=$bin:$sbin:$PATH
export FILA_ADDR PATH

step 'the commands of the README work'
readme_commands() {
    sed -n "/^## $1/,/^## /s/^    \(.*fila .*\)/\1/p" README.md | grep -v '^    filad'
}
readme_commands 'Run it' | grep -c '^fila ' | is 4
readme_commands 'Manage it' | grep -c fila | is 7
readme_commands 'Decide what runs when' | grep -c '^fila ' | is 6
# shellcheck disable=SC2016
sed -n '/^```lua$/,/^```$/p' README.md | grep -v '^```' >"$work/policy.lua"
for section in 'Run it' 'Manage it' 'Decide what runs when'; do
    readme_commands "$section" | sed "s,@policy,@$work/policy,g" >"$work/commands"
    while read -r command; do
        # Whoever waits longer waits in vain.
        case $command in
            *consume*) command="$command --timeout 20000" ;;
        esac
        sh -c "$command" </dev/null >"$work/said" 2>&1 || fail "$command: $(cat "$work/said")"
        [ -s "$work/said" ] || fail "$command says nothing"
    done <"$work/commands"
done

# --- library -----------------------------------------------------------------------------------

step 'the library shows what the header declares and nothing else'
declared=$work/declared
tr '\n' ' ' <"$include/fila.h" | grep -oE 'FILA_API [^(]*\(' | grep -oE 'fila_[a-z_]+\($' |
    tr -d '(' | sort >"$declared"
wc -l <"$declared" | grep -qE '^[0-9]{2}$' || fail 'no functions found in fila.h'
nm -D --defined-only "$lib/libfila.so" | sed -n 's/.* [^A] \(.*\)@@FILA_0$/\1/p' | sort |
    same "$declared"
nm -D --defined-only "$lib/libfila.so" | grep -vc '@@FILA_0$' | is 1
nm -g --defined-only "$lib/libfila.a" | sed -n 's/^[0-9a-f]* [A-Z] \(.*\)/\1/p' |
    grep -v '^__odr_asan' | sort | same "$declared"
readelf -d "$lib/libfila.so" | grep -c "soname: \[$(readlink "$lib/libfila.so")\]" | is 1

step 'the header compiles alone, as C11 and as C++'
printf '#include <fila.h>\n#include <fila.h>\n' >"$work/header.c"
strict='-Wall -Wextra -Wpedantic -Werror -fsyntax-only'
# shellcheck disable=SC2086
$CC -std=c11 $strict -I"$include" "$work/header.c" || fail 'C11'
for standard in c++11 c++20; do
    # shellcheck disable=SC2086
    ${CXX:-c++} -x c++ -std=$standard $strict -I"$include" "$work/header.c" || fail "$standard"
done

step 'the example of the README compiles with pkg-config, links both ways and runs'
# shellcheck disable=SC2016
sed -n '/^```c$/,/^```$/p' README.md | grep -v '^```' |
    sed 's|\(fila_options_init(&options);\).*|\1 options.address = getenv("FILA_ADDR");|
        s|#include <stdio.h>|&\n#include <stdlib.h>|' >"$work/greet.c"
# pkgconf cannot quote a root with a blank in it.
ln -s "$stage" "$work/root"
flags() {
    PKG_CONFIG_SYSROOT_DIR=$work/root PKG_CONFIG_PATH=$work/root$libdir/pkgconfig \
        PKG_CONFIG_LIBDIR='' "${PKG_CONFIG:-pkg-config}" "$@" libfila ||
        fail 'pkg-config does not know libfila'
}
flags --modversion | is "$(configured version)"
warnings='-std=c11 -Wall -Wextra -Werror'
eval "$CC $warnings ${SANITIZE:-} -o $work/greet $work/greet.c $(flags --cflags --libs)" ||
    fail 'the example does not compile'
readelf -d "$work/greet" | grep -c "$(readlink "$lib/libfila.so")" | is 1
LD_LIBRARY_PATH=$lib "$work/greet" | is hello
if [ -z "${SANITIZE:-}" ]; then
    # The C library warns that looking up names needs its shared parts.
    eval "$CC $warnings -static -o $work/static $work/greet.c $(flags --static --cflags --libs)" \
        2>"$work/said" || fail "not static: $(cat "$work/said")"
    readelf -d "$work/static" | grep -c NEEDED | is 0
    "$work/static" | is hello
fi

step 'the unit is one that systemd takes'
if command -v systemd-analyze >/dev/null 2>&1; then
    # It looks for the programs where they are to be.
    sed -e "s|$sbindir/filad|/bin/true|" "$unit" >"$work/filad.service"
    systemd-analyze verify --man=no "$work/filad.service" >"$work/said" 2>&1
    grep -c filad.service "$work/said" | is 0
fi

step 'the broker stops'
"$sbin/filad" -c "$conf" -s stop || fail 'it does not'
broker=
[ ! -e "$work/run/filad.pid" ] || fail 'the pid file is left'
