#!/bin/sh
# layers.sh - a layer includes its own headers and those of the layers above it, nothing else.
set -u
cd -- "$(dirname -- "$0")/../.." || exit 1
. tests/lint/common

# shellcheck disable=SC2016
check_layers='
BEGIN {
    layers = "core os event conf fibp store sched hook broker worker keeper master"
    count = split(layers, order, " ")
    above = "config.h version.h"
    for (i = 1; i <= count; i++) {
        above = above " " order[i]
        allowed[order[i]] = above
    }
    allowed["filad.c"] = above
    allowed["client"] = "core os fibp client fila.h"
    allowed["include"] = "fila"
    allowed["cli"] = "config.h core os fibp client cli fila.h"
    # Core is arithmetic over memory: no system calls, no threads of its own.
    forbidden["core"] = "^(unistd|fcntl|pthread|signal|sys/[a-z]+|netinet/[a-z]+|time|syslog)[.]h$"
}

function layer_of(path,    parts, n) {
    n = split(path, parts, "/")
    if (parts[1] == "modules") {
        allowed[parts[2]] = "config.h version.h core os conf hook fibp " parts[2]
        return parts[2]
    }
    return parts[2] == "client" && parts[3] == "include" ? "include" : parts[2]
}

function complain(text) {
    print FILENAME ":" FNR ": " text
}

FNR == 1 {
    layer = layer_of(FILENAME)
    if (!(layer in allowed))
        complain(layer " is not a layer; the layers are listed in tests/lint/layers.sh")
}

/^[ \t]*#[ \t]*include[ \t]*"/ {
    split($0, quoted, "\"")
    target = quoted[2]
    sub(/\/.*/, "", target)
    if ((layer in allowed) && index(" " allowed[layer] " ", " " target " ") == 0)
        complain(layer " may not include \"" quoted[2] "\"")
    if (quoted[2] ~ /[.]c$/)
        complain("a source may not include a source")
}

/^[ \t]*#[ \t]*include[ \t]*</ {
    system_header = $0
    sub(/^[^<]*</, "", system_header)
    sub(/>.*/, "", system_header)
    if ((layer in forbidden) && system_header ~ forbidden[layer])
        complain(layer " may not include <" system_header ">")
}
'

complaints=$(mktemp) || exit 1
trap 'rm -f "$complaints"' EXIT
c_files src modules | xargs awk "$check_layers" >"$complaints"
finish "$complaints"
