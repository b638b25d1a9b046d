# Generated from the table of flags.
_passt() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} i=1
    COMPREPLY=()
    # bash takes the equals sign of --option=value as a word of its own.
    [[ $cur == = ]] && cur=
    [[ $prev == = && COMP_CWORD -gt 2 ]] && prev=${COMP_WORDS[COMP_CWORD-2]}
    case $prev in
        --stats) :; return ;;
        -l|--log-file) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        --log-size) :; return ;;
        --runas) :; return ;;
        -c|--conf-path) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        -p|--pcap) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        -P|--pid) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        --ready-fd) :; return ;;
        -s|--socket|--socket-path) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        --repair-path) mapfile -t COMPREPLY < <(compgen -W 'none' -- "$cur"); return ;;
        -F|--fd) :; return ;;
        -m|--mtu) :; return ;;
        -a|--address) :; return ;;
        -n|--netmask) :; return ;;
        -M|--mac-addr) :; return ;;
        -g|--gateway) :; return ;;
        -i|--interface) mapfile -t COMPREPLY < <(compgen -W "$(ls /sys/class/net)" -- "$cur"); return ;;
        -o|--outbound) :; return ;;
        --outbound-if4) mapfile -t COMPREPLY < <(compgen -W "$(ls /sys/class/net)" -- "$cur"); return ;;
        --outbound-if6) mapfile -t COMPREPLY < <(compgen -W "$(ls /sys/class/net)" -- "$cur"); return ;;
        --map-host-loopback) mapfile -t COMPREPLY < <(compgen -W 'none' -- "$cur"); return ;;
        --map-guest-addr) mapfile -t COMPREPLY < <(compgen -W 'none' -- "$cur"); return ;;
        -D|--dns) mapfile -t COMPREPLY < <(compgen -W 'none' -- "$cur"); return ;;
        --dns-forward) :; return ;;
        --dns-host) :; return ;;
        -S|--search) mapfile -t COMPREPLY < <(compgen -W 'none' -- "$cur"); return ;;
        -H|--hostname) :; return ;;
        --fqdn) :; return ;;
        -t|--tcp-ports) mapfile -t COMPREPLY < <(compgen -W 'none all' -- "$cur"); return ;;
        -u|--udp-ports) mapfile -t COMPREPLY < <(compgen -W 'none all' -- "$cur"); return ;;
    esac
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W '-d --debug --trace --stats -q --quiet -f --foreground -e --stderr -l --log-file --log-size --runas -c --conf-path -h --help --version --doctor -p --pcap -P --pid --ready-fd --chroot-fallback -s --socket --socket-path --print-capabilities --repair-path -F --fd -1 --one-off -m --mtu -a --address -n --netmask -M --mac-addr -g --gateway -i --interface -o --outbound --outbound-if4 --outbound-if6 --map-host-loopback --no-map-gw --map-guest-addr -4 --ipv4-only -6 --ipv6-only -D --dns --dns-forward --dns-host -S --search --no-dhcp-dns --no-dhcp-search -H --hostname --fqdn --no-tcp --no-udp --no-icmp --no-dhcp --no-dhcpv6 --no-ndp --no-ra -t --tcp-ports -u --udp-ports --freebind --no-splice' -- "$cur")
    else
        mapfile -t COMPREPLY < <(compgen -W '' -- "$cur")
    fi
}
complete -o filenames -F _passt passt
