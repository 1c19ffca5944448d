#!/bin/sh
# What make dist packs, and configure in a tree that was unpacked from it: every option, every
# problem it names, and that distclean leaves what was unpacked.
set -u
cd -- "$(dirname -- "$0")/../.." || exit 1
. tests/process/support/script

step 'the release has every file of the tree and nothing else'
make dist >/dev/null 2>&1 || fail 'make dist'
mkdir "$work/packed"
release="$work/packed/a tree"
gzip -dc objs/filad-*.tar.gz | tar -xf - -C "$work/packed"
mv "$work/packed"/filad-* "$release"
if git rev-parse --git-dir >/dev/null 2>&1 && [ "$(git rev-parse --show-toplevel)" = "$PWD" ]; then
    git ls-files -co --exclude-standard | while read -r name; do
        [ ! -e "$name" ] || echo "./$name"
    done | grep -v '^./[.]gitignore$' | sort >"$work/expected"
    (cd "$release" && find . ! -type d | sort) | same "$work/expected"
fi

cd "$release"
files() {
    find . ! -type d -exec cksum {} \; | sort -k 3
}
files >"$work/before"

step 'called from elsewhere it says where to run make'
mkdir "$work/elsewhere"
(cd "$work/elsewhere" && sh "$release/configure") | grep '^Now run' | is "Now run: make -C $release"
find "$work/elsewhere" -type f | is ''
make distclean >/dev/null 2>&1 || fail 'make distclean'
files | same "$work/before"

refused() {
    expected=$1
    shift
    sh ./configure "$@" >"$work/said" 2>&1 && fail "configure $* is accepted"
    grep -qF -- "$expected" "$work/said" || fail "configure $*: $(cat "$work/said")"
    grep -q 'nothing was written' "$work/said" || fail "configure $*: $(cat "$work/said")"
}

step 'what configure refuses'
refused '--frobnicate: unknown option' --frobnicate
refused 'prefix: unknown option' prefix
refused '--prefix=relative: give an absolute path' --prefix=relative
refused 'may not contain blanks' "--prefix=/a b"
refused 'is not a name of a user' --user=-x
refused "there is no module 'perl'" --without-perl_module
refused 'nothing but --with-header_key_module=dynamic has a value' --with-header_key_module=static
refused 'nothing but' --without-header_key_module=dynamic
refused 'there is no such folder' --add-module=/no/such/folder
refused 'may not contain blanks' '--add-dynamic-module=/a b'
mkdir "$work/third" "$work/third/Bad" "$work/third/fine" "$work/third/header_key"
refused 'is no name of a module' --add-module="$work/third/Bad"
refused 'no .c file there says HOOK_MODULE(fine, ...)' --add-module="$work/third/fine"
echo 'HOOK_MODULE(fine, 1, .conf_size = 0);' >"$work/third/fine/fine.c"
echo 'HOOK_MODULE(header_key, 1, .conf_size = 0);' >"$work/third/header_key/some.c"
refused "there is a module 'header_key' already, in modules/header_key" \
    --add-module="$work/third/header_key"
refused 'there is a module' --add-module="$work/third/fine" --add-dynamic-module="$work/third/fine"
cat >"$work/third/fine/module.conf" <<'END'
# what is wrong with each line
needs nothing_known
libraries -lgood $(bad)
libraries lm
default perhaps
package a;b
colour red
END
for expected in "knows no library 'nothing_known'" "'\$(bad)' has quoting characters" \
    "'lm' does not begin with -l" "default is yes or no, not 'perhaps'" \
    "'a;b' are no names of packages" "unknown word 'colour'"; do
    refused "$expected" --add-module="$work/third/fine"
done
echo 'package no-such-package' >"$work/third/fine/module.conf"
refused "module fine needs the package 'no-such-package'" --add-module="$work/third/fine"
refused '--with-sanitizers=ADDRESS: give a list' --with-sanitizers=ADDRESS
refused "the compiler 'no-such-compiler' cannot build a program" CC=no-such-compiler
refused '2 problems' --frobnicate --prefix=relative
files | same "$work/before"

step 'every library that is missing is named with its packages'
cat >"$work/cc" <<'END'
#!/bin/sh
# A compiler on a machine without any of the libraries.
for argument in "$@"; do
    case $argument in
        *.c) grep -qE '<(db|yaml|lua|cmocka|openssl/ssl|protobuf-c/protobuf-c)[.]h>' "$argument" &&
            exit 1 ;;
    esac
done
exec ${REAL_CC:-cc} "$@"
END
chmod +x "$work/cc"
REAL_CC=$CC
export REAL_CC
sh ./configure CC="$work/cc" PROTOC_C=no-such-program >"$work/said" 2>&1 && fail 'it is accepted'
sed -n 's/^configure: \(.*\)/\1/p' "$work/said" >"$work/problems"
cat >"$work/expected" <<'END'
Berkeley DB 5.3 not found (Debian: libdb5.3-dev, Fedora: libdb-devel)
libyaml not found (Debian: libyaml-dev, Fedora: libyaml-devel)
protobuf-c 1.3 not found (Debian: libprotobuf-c-dev, Fedora: protobuf-c-devel)
the program protoc-c not found (Debian: protobuf-c-compiler, Fedora: protobuf-c-compiler)
OpenSSL 3 not found (Debian: libssl-dev, Fedora: openssl-devel)
Lua 5.4 not found (Debian: liblua5.4-dev, Fedora: lua-devel)
6 problems, nothing was written
END
same "$work/expected" <"$work/problems"
files | same "$work/before"

step 'what only a module needs is not looked for without it'
sed -i 's/(db|.*)\[[.]\]h>/lua[.]h>/' "$work/cc"
sh ./configure CC="$work/cc" >"$work/said" 2>&1 && fail 'Lua is not missed'
sh ./configure CC="$work/cc" --without-lua_module >"$work/said" 2>&1 ||
    fail "configure: $(cat "$work/said")"
grep -c 'checking for Lua' "$work/said" | is 0
make distclean >/dev/null 2>&1

step 'without pkg-config the usual places are tried'
sh ./configure PKG_CONFIG=no-such-program >"$work/said" 2>&1 ||
    fail "configure: $(cat "$work/said")"
grep -c 'no, trying the usual places' "$work/said" | is 1

step 'every option is accepted and takes effect'
cat >"$work/variables" <<'END'
prefix=/opt/filad
sbindir=/s
bindir=/b
libdir=/l
includedir=/i
mandir=/m
datadir=/d
unitdir=/u
sysconfdir=/e
localstatedir=/v
runstatedir=/r
user=some_user
group=some-group
END
# shellcheck disable=SC2046
CPPFLAGS=-DENVIRONMENT sh ./configure $(sed 's/^/--/' "$work/variables") --with-debug \
    --without-header_key_module --without-lua_module --with-sanitizers=undefined CC="$CC" \
    CFLAGS='-O1 -DQUOTED="a b"' LDFLAGS=-Wl,-O1 >"$work/said" 2>&1 || fail "configure: $(cat "$work/said")"
while IFS='=' read -r name value; do
    sed -n "s/^$name = //p" Makefile | is "$value"
done <"$work/variables"
sed -n 's/^CFLAGS = //p' Makefile | is '-O1 -DQUOTED="a b"'
sed -n 's/^LDFLAGS = //p' Makefile | is -Wl,-O1
sed -n 's/^CPPFLAGS = //p' Makefile | is -DENVIRONMENT
sed -n 's/^SANITIZERS = //p' Makefile | is undefined
sed -n 's/^MODULES = //p' objs/modules.mk | is ''
sed -n 's/^MODULES_LEFT_OUT = //p' objs/modules.mk | grep -qw header_key || fail 'header_key is not left out'
grep -c 'FILAD_DEBUG 1' objs/version.h | is 1
grep -c 'FILAD_USER "some_user"' objs/config.h | is 1
grep HAVE_ objs/config.h >"$work/said" && fail "$(cat "$work/said")"

step 'the defaults for --prefix=/usr'
sh ./configure --prefix=/usr >/dev/null 2>&1
sed -n 's/^sysconfdir = //p' Makefile | is /etc
sed -n 's/^localstatedir = //p' Makefile | is /var
sed -n 's/^runstatedir = //p' Makefile | is /run

step 'distclean leaves what was unpacked'
make distclean >/dev/null 2>&1
files | same "$work/before"
