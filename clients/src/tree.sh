# tree.sh DIR PACKAGE...: makes a Debian sid tree with these packages in DIR/root.
set -eu
dir=$1
shift
new=$dir/root.partial
rm -rf "$dir/root" "$new"
debootstrap --variant=minbase --include=ca-certificates sid "$new" http://deb.debian.org/debian

# The Release file of a snapshot may be past its date.
cat > "$new/etc/apt/apt.conf.d/90clients" <<-'END'
	Acquire::Check-Valid-Until "false";
	Acquire::Languages "none";
	APT::Install-Recommends "false";
	DPkg::Options { "--force-unsafe-io"; };
END
cat > "$new/etc/dpkg/dpkg.cfg.d/90clients" <<-'END'
	path-exclude=/usr/share/man/*
	path-exclude=/usr/share/locale/*
END
# No service is started: this is no machine.
printf '#!/bin/sh\nexit 101\n' > "$new/usr/sbin/policy-rc.d"
chmod 755 "$new/usr/sbin/policy-rc.d"
cat /etc/resolv.conf > "$new/etc/resolv.conf"

unshare --mount --propagation private -- sh -euc '
	cd "$0"
	mount --bind . .
	cd "$0"
	mount -t proc proc proc
	mount -t sysfs sysfs sys
	mount --rbind /dev dev
	pivot_root . mnt
	cd /
	umount -l /mnt
	export DEBIAN_FRONTEND=noninteractive LC_ALL=C
	export PATH=/usr/sbin:/usr/bin:/sbin:/bin
	apt-get -q update
	apt-get -qy install "$@"
	apt-get clean
	rm -rf /var/lib/apt/lists/*
	useradd --create-home --uid 1000 --shell /bin/sh user
	echo user:100000:65536 > /etc/subuid
	echo user:100000:65536 > /etc/subgid
' "$new" "$@"
mv "$new" "$dir/root"
