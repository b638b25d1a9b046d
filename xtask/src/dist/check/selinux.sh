# Every module compiles by itself, and all of them together with every module of Debian's policy, whose
# neverallow rules they must keep.
cp -r /with/packaging/selinux /tmp/selinux
cd /tmp/selinux
for module in passt pasta passt-repair pesto; do
	checkmodule -M -m -o $module.mod $module.te
	semodule_package -o $module.pp -m $module.mod -f $module.fc
	test -s $module.pp
done
mkdir others
for package in /policy/usr/share/selinux/default/*.pp.bz2; do
	bunzip2 -c "$package" > "others/$(basename "$package" .bz2)"
done
mv others/base.pp .
semodule_link -o all.lnk base.pp others/*.pp passt.pp pasta.pp passt-repair.pp pesto.pp > /dev/null
semodule_expand all.lnk policy
test -s policy
