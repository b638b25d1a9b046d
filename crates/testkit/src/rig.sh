# Makes the network of a rig. Runs as root in the rig's own mount, PID and network namespaces.
set -eu
fail() { echo "SKIP: $*"; exit 77; }

mount --make-rprivate /
resolv=$(readlink -f /etc/resolv.conf || echo /etc/resolv.conf)
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/rig/bin "$(dirname "$resolv")"
mkdir -m 1777 /run/rig/tmp
[ -e "$resolv" ] || : > "$resolv"
printf 'nameserver 203.0.113.53\nnameserver 2001:db8:51::53\nsearch rig.example\n' \
	> /run/rig/resolv.conf
mount --bind /run/rig/resolv.conf "$resolv"

mkdir -p /dev/net 2>/dev/null || fail "no directory /dev/net"
mount -t tmpfs -o mode=755 tmpfs /dev/net
mknod -m 0666 /dev/net/tun c 10 200 || fail "a device node for /dev/net/tun cannot be made"
( : <> /dev/net/tun ) 2>/dev/null || fail "the kernel has no tun device"

nodad() {
	for key in all default; do
		echo 0 > /proc/sys/net/ipv6/conf/$key/accept_dad
		echo 0 > /proc/sys/net/ipv6/conf/$key/dad_transmits
	done
	ip link set lo up
}
outside() { nsenter --net=/run/netns/outside -- "$@"; }
far() { nsenter --net=/run/netns/far -- "$@"; }

ip netns add outside || fail "network namespaces cannot be made"
ip netns add far
nodad
echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range
for ns in outside far; do
	nsenter --net=/run/netns/$ns -- sh -euc "$(cat <<-'EOF'
		for key in all default; do
			echo 0 > /proc/sys/net/ipv6/conf/$key/accept_dad
			echo 0 > /proc/sys/net/ipv6/conf/$key/dad_transmits
			echo 1 > /proc/sys/net/ipv6/conf/$key/forwarding
		done
		echo 1 > /proc/sys/net/ipv4/ip_forward
		# A test may provoke many ICMP errors in a second.
		echo 0 > /proc/sys/net/ipv4/icmp_ratelimit
		echo 0 > /proc/sys/net/ipv6/icmp/ratelimit
		ip link set lo up
	EOF
	)"
done

ip link add eth0 mtu 65520 type veth peer name out0 mtu 65520 netns outside
ip link set eth0 up
nsenter --net=/run/netns/outside -- ip -b - <<'EOF'
link set out0 up
addr add 203.0.113.1/24 dev out0
addr add 203.0.113.10/24 dev out0
addr add 203.0.113.53/24 dev out0
addr add 2001:db8:51::1/64 dev out0 nodad
addr add 2001:db8:51::10/64 dev out0 nodad preferred_lft 0
addr add 2001:db8:51::53/64 dev out0 nodad preferred_lft 0
addr add fe80::1/64 dev out0 nodad
link add far0 mtu 65520 type veth peer name far1 mtu 65520 netns far
link set far0 up
addr add 192.0.2.1/24 dev far0
addr add 2001:db8:98::1/64 dev far0 nodad
route add unreachable 198.18.66.0/24
route add prohibit 198.18.67.0/24
route add unreachable 2001:db8:66::/64
route add prohibit 2001:db8:67::/64
EOF
far ip -b - <<'EOF'
link set far1 up
addr add 192.0.2.2/24 dev far1
addr add 198.18.0.1/32 dev lo
addr add 2001:db8:98::2/64 dev far1 nodad
addr add 2001:db8:99::1/128 dev lo nodad
route add default via 192.0.2.1
route add default via 2001:db8:98::1
EOF
outside ip -b - <<'EOF'
route add 198.18.0.1/32 via 192.0.2.2
route add 2001:db8:99::1/128 via 2001:db8:98::2
EOF
ip -b - <<'EOF'
addr add 203.0.113.2/24 dev eth0
addr add 2001:db8:51::2/64 dev eth0 nodad
route add default via 203.0.113.1
route add default via fe80::1 dev eth0
EOF
