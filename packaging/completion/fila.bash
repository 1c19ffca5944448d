# bash completion for fila(1)

_fila() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
    local global='--addr --json --help --version'
    local -a words=()
    local addr='' queues i word
    COMPREPLY=()

    # The words in front of the cursor that are neither options nor their values.
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case $word in
            --addr)
                addr=${COMP_WORDS[i+1]}
                ((i++))
                ;;
            --on-enqueue | --on-failure | --visibility-timeout | --header | -H | --count | -n | \
                --nack | --timeout | --error)
                ((i++))
                ;;
            -*) ;;
            *) words+=("$word") ;;
        esac
    done

    case $prev in
        --on-enqueue | --on-failure)
            # A script's source cannot be guessed, a file's name can.
            if [[ $cur == @* ]]; then
                mapfile -t COMPREPLY < <(compgen -P @ -f -- "${cur#@}")
            fi
            return
            ;;
        --addr | --visibility-timeout | --header | -H | --count | -n | --nack | --timeout | --error)
            return
            ;;
    esac

    if [[ $cur == -* ]]; then
        local options=$global
        case "${words[*]:0:2}" in
            'queue create'*) options+=' --on-enqueue --on-failure --visibility-timeout' ;;
            enqueue*) options+=' --header --lines' ;;
            consume*) options+=' --count --no-ack --nack --timeout' ;;
            nack*) options+=' --error' ;;
        esac
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
        return
    fi

    case "${#words[@]} ${words[*]}" in
        '0 ') mapfile -t COMPREPLY < <(compgen -W 'queue enqueue consume ack nack' -- "$cur") ;;
        '1 queue') mapfile -t COMPREPLY < <(compgen -W 'create delete list inspect' -- "$cur") ;;
        '2 queue delete' | '2 queue inspect' | '1 enqueue' | '1 consume' | '1 ack' | '1 nack')
            # Names of queues, when there is a broker to ask.
            queues=$("${COMP_WORDS[0]}" ${addr:+--addr "$addr"} queue list 2>/dev/null |
                awk 'NR > 1 && NF >= 4 { print $1 }')
            mapfile -t COMPREPLY < <(compgen -W "$queues" -- "$cur")
            ;;
    esac
}

complete -F _fila fila
