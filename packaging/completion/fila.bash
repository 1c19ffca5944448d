# Completion of fila(1) for bash.

# The words before the cursor as they were typed: readline splits them at ':' and '=' too.
_fila_words()
{
    local word glue=''

    typed=()
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        if [[ $word == [:=] && ${#typed[@]} -gt 0 ]]; then
            typed[-1]+=$word glue=yes
        elif [[ $glue ]]; then
            typed[-1]+=$word glue=''
        else
            typed+=("$word")
        fi
    done
}

# The options of a command, those of every command apart.
_fila_options()
{
    case $1 in
        'queue create')
            echo --on-enqueue --on-failure --visibility-timeout --max-attempts --dead-letter-headers
            ;;
        'queue update')
            echo --on-enqueue --on-failure --visibility-timeout --max-attempts \
                --dead-letter-headers --no-dead-letter-headers
            ;;
        enqueue) echo -H --header --lines ;;
        consume) echo --count -n --no-ack --nack --timeout ;;
        nack) echo --error ;;
        redrive) echo --count ;;
        'queue purge') echo --yes -y ;;
        'queue peek') echo --count -n --key -k ;;
        'config list') echo --prefix ;;
        top) echo --interval --once ;;
    esac
}

# Names of queues, when there is a broker to ask.
_fila_queues()
{
    "${COMP_WORDS[0]}" ${address:+--addr "$address"} queue list 2>/dev/null |
        awk 'NR > 1 && NF >= 4 { print $1 }'
}

_fila()
{
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local takes='--addr|--on-enqueue|--on-failure|--visibility-timeout|--header|-H|--count|-n'
    takes+='|--nack|--timeout|--error|--prefix|--key|-k|--max-attempts|--interval'
    local -a typed words=()
    local address='' command word i offer=''

    COMPREPLY=()
    _fila_words
    # The words that are neither options nor their values.
    for ((i = 0; i < ${#typed[@]}; i++)); do
        word=${typed[i]}
        case $word in
            --addr=*) address=${word#*=} ;;
            --addr) address=${typed[i + 1]} ;;&
            -?*) [[ $word =~ ^($takes)$ ]] && ((i++)) ;;
            *) words+=("$word") ;;
        esac
    done
    command=${words[0]}
    [[ $command == queue || $command == config ]] && command+=" ${words[1]}"

    case $previous in
        --on-enqueue | --on-failure)
            # A script's source cannot be guessed, a file's name can.
            [[ $current == @* ]] && mapfile -t COMPREPLY < <(compgen -P @ -f -- "${current#@}")
            return
            ;;
    esac
    [[ $previous =~ ^($takes|[:=])$ ]] && return

    if [[ $current == -* ]]; then
        offer="--addr --json -h --help -V --version $(_fila_options "$command")"
    else
        case "${#words[@]} ${words[*]}" in
            '0 ') offer='queue enqueue consume ack nack config redrive dlq top' ;;
            '1 queue') offer='create update delete list inspect pause resume purge peek settings' ;;
            '1 dlq') offer=list ;;
            '1 config') offer='set get list' ;;
            '2 queue update' | '2 queue pause' | '2 queue resume' | '2 queue settings' |\
                '2 queue delete' | '2 queue inspect' | '2 queue purge' |\
                '2 queue peek' | '1 enqueue' | '1 consume' | '1 ack' | '1 nack')
                offer=$(_fila_queues)
                ;;
            '1 redrive') offer=$(_fila_queues | grep '[.]dlq$') ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$offer" -- "$current")
}

complete -F _fila fila
