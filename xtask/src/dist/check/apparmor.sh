# Every profile can be compiled where the package puts it, and another one that includes an abstraction, as libvirt's do.
dpkg -i /with/package.deb
cat > /tmp/machine <<'END'
abi <abi/4.0>,
include <tunables/global>
profile machine {
	include <abstractions/base>
	/usr/bin/passt Cx -> passt,
	signal (send) peer=machine//passt,
	profile passt {
		include <abstractions/passt>
		/usr/bin/passt r,
		owner /run/user/[0-9]*/libvirt/qemu/run/passt/* rw,
	}
}
END
for profile in $(sed 's|^|/etc/apparmor.d/|' /with/profiles) /tmp/machine; do
	echo "$profile"
	apparmor_parser -QK "$profile"
done
