# Completion of filad(8) for bash.

_filad()
{
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}

    COMPREPLY=()
    case $previous in
        -c)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            return
            ;;
        -p)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -d -- "$current")
            return
            ;;
        -s)
            mapfile -t COMPREPLY < <(compgen -W 'stop quit reload reopen upgrade' -- "$current")
            return
            ;;
        -x)
            mapfile -t COMPREPLY < <(compgen -W 'modules statistics' -- "$current")
            return
            ;;
        -g)
            return
            ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W '-c -p -g -t -T -q -s -x -v -V -h --help --version' -- "$current")
}

complete -F _filad filad
