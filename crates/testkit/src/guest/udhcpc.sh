#!/bin/sh
# What udhcpc runs: takes over what the server says, all of it.
case $1 in bound | renew) ;; *) exit 0 ;; esac
[ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
ip addr add "$ip/$mask" dev "$interface"
for one in $router; do
	ip route add default via "$one" dev "$interface"
done
{
	[ -z "$search" ] || echo "search $search"
	for one in $dns; do echo "nameserver $one"; done
} > /etc/resolv.conf
