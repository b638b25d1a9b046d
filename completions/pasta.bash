# Generated from the table of flags.
_pasta() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} i=1
    COMPREPLY=()
    # bash takes the equals sign of --option=value as a word of its own.
    [[ $cur == = ]] && cur=
    [[ $prev == = && COMP_CWORD -gt 2 ]] && prev=${COMP_WORDS[COMP_CWORD-2]}
    while ((i < COMP_CWORD)); do
        case ${COMP_WORDS[i]} in
        --) ((i++)); break ;;
        --stats|-l|--log-file|--log-size|--runas|-c|--conf-path|-p|--pcap|-P|--pid|--ready-fd|--repair-path|-I|--ns-ifname|--ns-mac-addr|--netns|--userns|-m|--mtu|-a|--address|-n|--netmask|-M|--mac-addr|-g|--gateway|-i|--interface|-o|--outbound|--outbound-if4|--outbound-if6|--map-host-loopback|--map-guest-addr|-D|--dns|--dns-forward|--dns-host|-S|--search|-H|--hostname|--fqdn|-t|--tcp-ports|-u|--udp-ports|-T|--tcp-ns|-U|--udp-ns)
            [[ ${COMP_WORDS[i+1]} == = ]] && ((i++))
            ((i += 2)) ;;
        -*) ((i++)) ;;
        *) break ;;
        esac
    done
    if ((i < COMP_CWORD)); then
        declare -F _command_offset >/dev/null && _command_offset "$i"
        return
    fi
    case $prev in
        --stats) :; return ;;
        -l|--log-file) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        --log-size) :; return ;;
        --runas) :; return ;;
        -c|--conf-path) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        -p|--pcap) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        -P|--pid) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        --ready-fd) :; return ;;
        --repair-path) mapfile -t COMPREPLY < <(compgen -W 'none' -- "$cur"); return ;;
        -I|--ns-ifname) :; return ;;
        --ns-mac-addr) :; return ;;
        --netns) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        --userns) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
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
        -t|--tcp-ports) mapfile -t COMPREPLY < <(compgen -W 'none all auto' -- "$cur"); return ;;
        -u|--udp-ports) mapfile -t COMPREPLY < <(compgen -W 'none all auto' -- "$cur"); return ;;
        -T|--tcp-ns) mapfile -t COMPREPLY < <(compgen -W 'none all auto' -- "$cur"); return ;;
        -U|--udp-ns) mapfile -t COMPREPLY < <(compgen -W 'none all auto' -- "$cur"); return ;;
    esac
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W '-d --debug --trace --stats -q --quiet -f --foreground -e --stderr -l --log-file --log-size --runas -c --conf-path -h --help --version --doctor -p --pcap -P --pid --ready-fd --chroot-fallback --print-capabilities --repair-path -I --ns-ifname --ns-mac-addr --netns --userns --netns-only --no-pidns --no-netns-quit --config-net --no-copy-routes --no-copy-addrs -m --mtu -a --address -n --netmask -M --mac-addr -g --gateway -i --interface -o --outbound --outbound-if4 --outbound-if6 --map-host-loopback --no-map-gw --map-guest-addr -4 --ipv4-only -6 --ipv6-only -D --dns --dns-forward --dns-host -S --search --dhcp-dns --dhcp-search -H --hostname --fqdn --no-tcp --no-udp --no-icmp --no-dhcp --no-dhcpv6 --no-ndp --no-ra -t --tcp-ports -u --udp-ports -T --tcp-ns -U --udp-ns --freebind --host-lo-to-ns-lo --no-splice --splice-only' -- "$cur")
    else
        mapfile -t COMPREPLY < <(compgen -c -- "$cur")
    fi
}
complete -o filenames -F _pasta pasta
