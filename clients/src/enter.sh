# enter.sh TREE OURS: makes TREE the root of this mount namespace, which is a private one in a rig, and
# stays there. What is written is forgotten. OURS, if not empty, is a directory with programs that take the
# place of the packaged ones.
set -eu
tree=$1
ours=$2
mount --make-rprivate /
mkdir /run/tree
mount -t tmpfs tree /run/tree
cd /run/tree
mkdir upper work root
mount -t overlay -o "lowerdir=$tree,upperdir=upper,workdir=work" tree root
if [ -n "$ours" ]; then
	for program in passt pasta pesto passt-repair qrap; do
		cp --remove-destination "$ours/$program" "root/usr/bin/$program"
	done
fi
cd root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
mkdir dev/net dev/pts dev/shm
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mknod -m 666 dev/net/tun c 10 200
mknod -m 666 dev/fuse c 10 229
mknod -m 666 dev/kvm c 10 232
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
mount -t tmpfs -o mode=755 home home
mkdir -p run/user/1000 run/rig home/user/.config/containers
mount --bind /run/rig run/rig
cat /run/rig/resolv.conf > etc/resolv.conf
echo '127.0.0.1 localhost' > etc/hosts
cat > home/user/.config/containers/containers.conf <<-'END'
	[containers]
	# Nobody has made a keyring for this user.
	keyring = false
	[engine]
	cgroup_manager = "cgroupfs"
	events_logger = "file"
END
chown -R 1000:1000 home/user run/user/1000
chmod 700 run/user/1000
pivot_root . mnt
cd /
umount -l /mnt
exec /run/rig/bin/peer hold
