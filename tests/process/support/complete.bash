#!/bin/bash
# complete.bash SCRIPT WORD... - what bash offers for the last word, one a line, sorted. The words
# are those of the line, split as readline splits them.
set -u
script=$1
shift
COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
# shellcheck source=/dev/null
. "$script" || exit 1

COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
# Readline knows the function by the name of the command without its path.
specification=$(complete -p "${1##*/}") || exit 1
function=${specification#*-F }
COMPREPLY=()
set +u
# Outside of readline there is no completion whose options could be changed.
compopt() { :; }
"${function%% *}" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
[ "${#COMPREPLY[@]}" -eq 0 ] || printf '%s\n' "${COMPREPLY[@]}" | sort
