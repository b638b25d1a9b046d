# The package takes the place of passt: it can be installed, its programs run, its files are those it lists.
cd /with
depends=$(dpkg-deb -f package.deb Depends)
echo "Depends: $depends"
dpkg -i package.deb
dpkg --verify passt-rs
dpkg-query -W -f '${db:Status-Abbrev} ${Provides}\n' passt-rs | grep -q '^ii  passt$'
for program in passt pasta passt.avx2 pasta.avx2 passt-repair pesto qrap; do
	test -x /usr/bin/$program
	# Nothing that asks the name service switch, or loads a library, is called.
	calls=$(objdump -T /usr/bin/$program)
	if echo "$calls" | grep -wE 'getaddrinfo|gethostbyname.*|getpw.*|getgr.*|dlopen'; then
		echo "$program calls that"
		exit 1
	fi
done
for program in passt pasta pesto; do
	/usr/bin/$program --version | grep -q "^$program "
done
test "$(/usr/bin/passt.avx2 --version | head -n 1 | cut -d ' ' -f 1)" = passt
test "$(/usr/bin/pasta.avx2 --version | head -n 1 | cut -d ' ' -f 1)" = pasta
for page in passt pasta passt.avx2 pasta.avx2 passt-repair pesto qrap; do
	test -e /usr/share/man/man1/$page.1.gz
done
for file in abstractions/passt abstractions/pasta usr.bin.passt usr.bin.pasta usr.bin.passt-repair usr.bin.pesto; do
	grep -qx "/etc/apparmor.d/$file" /var/lib/dpkg/info/passt-rs.conffiles
	test -f /etc/apparmor.d/$file
done
dpkg --purge passt-rs
test ! -e /usr/bin/passt
test ! -e /etc/apparmor.d/usr.bin.passt
