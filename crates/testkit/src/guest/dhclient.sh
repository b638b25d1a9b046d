#!/bin/sh
# What dhclient -6 runs.
case $reason in
PREINIT6)
	ip link set "$interface" up
	# It sends from its link-local address.
	until ip -6 addr show dev "$interface" scope link | grep -v tentative | grep -q inet6; do
		sleep 0.1
	done
	;;
BOUND6 | RENEW6 | REBIND6)
	ip -6 addr add "$new_ip6_address/$new_ip6_prefixlen" dev "$interface"
	for one in $new_dhcp6_name_servers; do echo "nameserver $one"; done > /tmp/dhcp6
	echo "search $new_dhcp6_domain_search" >> /tmp/dhcp6
	;;
esac
