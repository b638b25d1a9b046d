# Generated from the table of flags.
_pesto() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} i=1
    COMPREPLY=()
    # bash takes the equals sign of --option=value as a word of its own.
    [[ $cur == = ]] && cur=
    [[ $prev == = && COMP_CWORD -gt 2 ]] && prev=${COMP_WORDS[COMP_CWORD-2]}
    case $prev in
        -C|--clear) mapfile -t COMPREPLY < <(compgen -W 'HOST SPLICE' -- "$cur"); return ;;
        -t|--tcp-ports) mapfile -t COMPREPLY < <(compgen -W 'none all auto' -- "$cur"); return ;;
        -u|--udp-ports) mapfile -t COMPREPLY < <(compgen -W 'none all auto' -- "$cur"); return ;;
        -T|--tcp-ns) mapfile -t COMPREPLY < <(compgen -W 'none all auto' -- "$cur"); return ;;
        -U|--udp-ns) mapfile -t COMPREPLY < <(compgen -W 'none all auto' -- "$cur"); return ;;
    esac
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W '-d --debug -s --show -h --help --version -A --add -D --delete -C --clear -t --tcp-ports -u --udp-ports -T --tcp-ns -U --udp-ns' -- "$cur")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    fi
}
complete -o filenames -F _pesto pesto
