# enter.sh TREE WITH SCRIPT: makes TREE the root of this mount namespace, with WITH at /with, and runs SCRIPT there.
set -eu
tree=$1 with=$2 script=$3
mount -t tmpfs scratch /tmp
mkdir /tmp/upper /tmp/work /tmp/root
mount -t overlay -o "lowerdir=$tree,upperdir=/tmp/upper,workdir=/tmp/work" tree /tmp/root
cd /tmp/root
mkdir -p with
mount --bind "$with" with
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /dev dev
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
pivot_root . mnt
cd /
umount -l /mnt
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root DEBIAN_FRONTEND=noninteractive
exec sh -euc "$script"
