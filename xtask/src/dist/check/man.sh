# Manual pages without a complaint of either reader, found by every name.
dpkg -i /with/package.deb
for page in passt pasta passt-repair pesto qrap; do
	zcat /usr/share/man/man1/$page.1.gz > /tmp/$page.1
	mandoc -T lint -W error /tmp/$page.1
	complaint=$(man --warnings -E UTF-8 -l -Tutf8 -Z /tmp/$page.1 2>&1 >/dev/null)
	test -z "$complaint" || { echo "$complaint"; exit 1; }
done
