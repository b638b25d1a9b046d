# Generated from the table of flags.
_qrap() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} i=1
    COMPREPLY=()
    # bash takes the equals sign of --option=value as a word of its own.
    [[ $cur == = ]] && cur=
    [[ $prev == = && COMP_CWORD -gt 2 ]] && prev=${COMP_WORDS[COMP_CWORD-2]}
    if ((COMP_CWORD > 1)) && [[ ${COMP_WORDS[1]} =~ ^[0-9]+$ ]]; then
        declare -F _command_offset >/dev/null && _command_offset 2
        return
    fi
    case $prev in
    esac
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W '' -- "$cur")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    fi
}
complete -o filenames -F _qrap qrap
