#!/bin/busybox sh
# The first program of the machine: makes the host's files its root, all that is written stays in memory.
b=/bin/busybox
fail() { $b echo "machine: $1"; $b poweroff -f; }
$b mkdir -p /proc /sys /dev /lower /upper /root
$b mount -t proc proc /proc && $b mount -t sysfs sys /sys && $b mount -t devtmpfs dev /dev || fail "cannot mount"
for module in $(/bin/busybox cat /modules/order); do
  $b insmod "/modules/$module" || fail "cannot load $module"
done
$b mount -t virtiofs -o ro host /lower || fail "the host's files are not there"
$b mount -t tmpfs -o size=1g upper /upper && $b mkdir /upper/root /upper/work || fail "no memory"
$b mount -t overlay -o lowerdir=/lower,upperdir=/upper/root,workdir=/upper/work root /root || fail "no root"
$b cp /inside.sh /script.sh /root/ || fail "no script"
for from in dev proc sys; do $b mount --move /$from /root/$from; done
exec $b switch_root /root /bin/bash /inside.sh
