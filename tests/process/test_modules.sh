#!/bin/sh
# Modules from outside of the tree, built in and as shared objects, in a real broker; and everything
# that load_module refuses. The tree is a copy that takes over the objects built here.
set -u
cd -- "$(dirname -- "$0")/../.." || exit 1
. tests/process/support/script

top=$PWD
fila=$top/objs/fila
tree=$work/tree
conf=$work/filad.yaml
running=

# What the test has done to the configuration must not keep the broker from being stopped.
finish() {
    if [ -n "$running" ]; then
        configure_broker ''
        filad -q -s stop || :
    fi
    rm -rf "$work"
}
trap finish EXIT

filad() {
    "$tree/objs/filad" -c "$conf" -p "$work" "$@"
}

# --- building ----------------------------------------------------------------------------------

# A copy of the example under another name, below $work/third.
copy_example() {
    mkdir -p "$work/third/$1"
    for file in example.c module.conf; do
        sed "s/example/$1/g" "modules/example/$file" >"$work/third/$1/$file"
    done
}

step 'a module is built in, others as shared objects, from folders elsewhere'
copy_example alpha
copy_example gamma
copy_example delta
sed -i 's/[.]section = "delta"/.section = "gamma"/' "$work/third/delta/example.c"
mkdir -p "$tree/objs"
for name in src modules man conf packaging; do
    ln -s "$top/$name" "$tree/$name"
done
cp -p configure Makefile.in "$tree"
(cd objs && find . -name '*.pb-c.[ch]' >"$work/list" &&
    tar -cf - src modules stamps config.h version.h modules.c modules.mk modules.[od] filad.exports \
        -T "$work/list" 2>/dev/null; :) | tar -xf - -C "$tree/objs"
options="--add-module=$work/third/alpha --add-dynamic-module=$work/third/gamma"
options="$options --add-dynamic-module=$work/third/delta"
sed "s|^exec .*|& $options|" objs/reconfigure >"$work/reconfigure"
(cd "$tree" && sh "$work/reconfigure" >"$work/build.log" 2>&1 &&
    make objs/filad objs/gamma_module.so objs/delta_module.so >>"$work/build.log" 2>&1) ||
    fail "$(cat "$work/build.log")"
modules=$work/modules
mkdir "$modules"
install -m 755 "$tree/objs/gamma_module.so" "$tree/objs/delta_module.so" "$modules"

# --- working -----------------------------------------------------------------------------------

# A load_module list, and the settings of both modules.
configure_broker() {
    write_conf "$conf"
    sed -i '/^header_key/d' "$conf"
    echo 'alpha: {header: tenant}' >>"$conf"
    printf 'load_module: [%s]\n' "$1" >>"$conf"
    [ -z "${2-}" ] || echo "$2" >>"$conf"
}

value_of() {
    filad -x statistics | sed -n "s/^$1 //p"
}

step 'a configuration with a module is tested and shown'
configure_broker modules/gamma_module.so 'gamma: {header: region, separator: "/"}'
filad -T >"$work/shown" 2>"$work/said" || fail "$(cat "$work/said")"
grep -qF -- "  - \"$modules/gamma_module.so\"" "$work/shown" || fail "$(cat "$work/shown")"
grep -A 2 '^gamma:' "$work/shown" | tr -d '\n' | is 'gamma:  header: region  separator: /'

step 'both modules are at work'
filad || fail 'the broker does not start'
running=yes
call() {
    "$fila" --addr "unix:$work/socket" "$@"
}
call queue create orders >/dev/null
call enqueue orders -H tenant=acme-eu-1 one >/dev/null
call enqueue orders -H tenant=umbrella-9 two >/dev/null
call enqueue orders -H region=eu/west three >/dev/null
value_of alpha_messages | is 3
value_of alpha_stamped | is 2
value_of gamma_messages | is 3
value_of gamma_stamped | is 1
value_of gamma_queues | is 1
call consume orders -n 3 --json | grep -oE '"fairness_key": "[a-z]*"' | tr -d ' ' | sort |
    tr '\n' ' ' |
    is '"fairness_key":"acme" "fairness_key":"eu" "fairness_key":"umbrella" '
filad -x alpha.show | is 'the key is what stands before - in tenant'
filad -x gamma.show | is 'the key is what stands before / in region'
filad -x modules | grep -v '^ ' | tail -n 2 >"$work/shown"
printf '%s\n' 'alpha: built in' "gamma: $modules/gamma_module.so" | same "$work/shown"
for name in master keeper worker; do
    grep -c "gamma: begins in a $name" "$work/log/error.log" | is 1
done

step 'what a command refuses'
filad -x alpha.other >"$work/said" 2>&1 && fail 'a command that is not there'
is 'filad: alpha.other: module alpha has no such command' <"$work/said"
filad -x nothing >"$work/said" 2>&1 && fail 'a command of no module'
is 'filad: nothing: no such command' <"$work/said"
filad -x 'modules all' >"$work/said" 2>&1 && fail 'an argument that is not taken'
is 'filad: modules takes no argument' <"$work/said"
filad -x modulesall >"$work/said" 2>&1 && fail 'a command whose beginning is one'
is 'filad: modulesall: no such command' <"$work/said"

step 'a reload follows the list, and one with a mistake changes nothing'
configure_broker modules/gamma_module.so,modules/no_module.so
filad -s reload >"$work/said" 2>&1 && fail 'a module that is not there'
grep -q 'no_module.so: No such file' "$work/said" || fail "$(cat "$work/said")"
configure_broker modules/gamma_module.so
filad -x gamma.show | is 'the key is what stands before / in region'
configure_broker ''
filad -s reload || fail 'a reload without the module'
value_of gamma_messages | is ''
value_of alpha_messages | is 3
grep -c 'gamma: ends in the master' "$work/log/error.log" | is 1
configure_broker "$modules/gamma_module.so"
filad -s reload || fail 'a reload with the module again'
value_of gamma_messages | is 3
filad -x gamma.show | is 'keys are left as they are'
call enqueue orders -H region=eu/west four >/dev/null
value_of gamma_messages | is 4
value_of gamma_stamped | is 1

step 'a module that was replaced needs a restart'
install -m 755 "$tree/objs/gamma_module.so" "$modules"
filad -s reload >"$work/said" 2>&1 && fail 'a module that was replaced'
grep -q 'has changed since it was loaded; it needs a restart' "$work/said" ||
    fail "$(cat "$work/said")"
filad -s stop
running=

# --- refusing ----------------------------------------------------------------------------------

refused() {
    expected=$1
    configure_broker "$2"
    filad -t >"$work/said" 2>&1 && fail "load_module: [$2] is accepted"
    grep -qF -- "$expected" "$work/said" || fail "load_module: [$2]: $(cat "$work/said")"
    line=$(grep -n ^load_module "$conf")
    grep -q "^$conf:${line%%:*}:[0-9]*: " "$work/said" || fail "no place: $(cat "$work/said")"
}

# A copy of gamma_module.so in which the byte at an offset into its signature is another.
damage() {
    cp -p "$modules/gamma_module.so" "$work/damaged.so"
    at=$(grep -abo filamod "$work/damaged.so" | cut -d : -f 1 | head -n 1)
    printf '\177' | dd of="$work/damaged.so" bs=1 seek=$((at + $1)) conv=notrunc 2>/dev/null
}

step 'a module with another signature'
damage 12
refused 'is built for version 127 of the module interface, this is' "$work/damaged.so"
damage 16
refused 'is built for filad' "$work/damaged.so"
damage 96
refused "is built where void * has 127 bytes" "$work/damaged.so"
damage 0
refused 'has no signature' "$work/damaged.so"

step 'what is no module'
echo 'nothing that can be loaded' >"$work/text.so"
echo 'int nothing;' >"$work/empty.c"
echo 'void nowhere(void); void (*const there)(void) = nowhere;' >"$work/missing.c"
for name in empty missing; do
    "$CC" -shared -fPIC -o "$work/$name.so" "$work/$name.c" || fail "compile $name.c"
done
refused 'no.so: No such file' "$work/no.so"
refused 'is not a file' "$work"
refused 'text.so' "$work/text.so"
refused 'it has no filad_module' "$work/empty.so"
refused 'undefined symbol: nowhere' "$work/missing.so"

step 'what clashes'
gamma=$modules/gamma_module.so
refused 'module gamma is loaded twice' "$gamma, $gamma"
ln -s "$gamma" "$work/link.so"
refused 'module gamma is loaded twice' "$gamma, $work/link.so"
cp -p "$gamma" "$work/copy.so"
refused "there is a module gamma already, from $gamma" "$gamma, $work/copy.so"
refused "module delta: its section \`gamma\` is that of module gamma" \
    "$gamma, $modules/delta_module.so"
sed 's/gamma/alpha/g' "$gamma" >"$work/alpha.so"
chmod 755 "$work/alpha.so"
refused 'there is a module alpha already, which is built in' "$work/alpha.so"

step 'a file that others may write'
chmod g+w "$work/copy.so"
refused 'copy.so may be written by others (mode 775): chmod go-w' "$work/copy.so"
chmod 757 "$work/copy.so"
refused '(mode 757)' "$work/copy.so"
chmod 755 "$work/copy.so"
mkdir "$work/open"
cp -p "$gamma" "$work/open/copy.so"
chmod 777 "$work/open"
refused "$work/open may be written by others" "$work/open/copy.so"
chmod 1777 "$work/open"
configure_broker "$work/open/copy.so"
filad -q -t || fail 'a directory with the sticky bit'
if [ "$(id -u)" -eq 0 ]; then
    chown nobody "$work/copy.so"
    refused 'neither to root nor to user 0' "$work/copy.so"
fi
