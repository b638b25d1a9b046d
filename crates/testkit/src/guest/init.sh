#!/bin/busybox sh
# The guest's first process: loads the network card's driver and then does what it is told on the
# second serial line. The network is left alone, unless the kernel's command line has ip=dhcp.
#
# A request is a line "ID COMMAND"; the answer is byte 2, ID, the command's output, byte 3, ID and
# the status. The kernel writes to the first serial line only.
/bin/busybox --install -s /bin
export PATH=/bin:/sbin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do
	insmod "/modules/$module.ko" || echo "no $module" > /dev/kmsg
done
hostname guest
ip link set lo up
# So that one server can hold the same port of both families.
echo 1 > /proc/sys/net/ipv6/bindv6only
# Debian's kernel leaves ip=dhcp to this program of the initial file system, which asks at once if the
# carrier is there, and otherwise in ten seconds.
case " $(cat /proc/cmdline) " in
*" ip=dhcp "*)
	ip link set eth0 up
	until [ "$(cat /sys/class/net/eth0/carrier)" = 1 ]; do sleep 0.1; done
	ipconfig -t 20 -c dhcp eth0 > /tmp/ipconfig 2>&1
	;;
esac
agent() {
	stty raw -echo
	printf 'guest agent ready\n'
	while read -r id command; do
		printf '\002%s\n' "$id"
		(eval "$command") < /dev/null 2>&1
		printf '\n\003%s %s\n' "$id" "$?"
	done
}
# The first process inherits orphans. This shell forgets what it has read of a line when a child ends,
# so it is not the one that reads.
agent < /dev/ttyS1 > /dev/ttyS1 2>&1 &
wait
