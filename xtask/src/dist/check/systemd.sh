# Every unit is understood, with the programs at their places.
dpkg -i /with/package.deb
cp /usr/share/doc/passt-rs/examples/*.service /usr/share/doc/passt-rs/examples/*.socket /etc/systemd/system/
cd /etc/systemd/system
systemd-analyze verify --man=no --recursive-errors=no passt@vm.socket passt@vm.service pasta@blue.service
for unit in passt@.service pasta@.service; do
	systemd-analyze security --offline=true --threshold=60 --no-pager $unit | tail -n 1
done
