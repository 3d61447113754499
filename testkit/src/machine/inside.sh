# On the host's files: control groups of version 2, a disk of its own, then the test's script.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/disk/tmp
{
  mkdir -p /lib/modules /disk /dev/pts /dev/shm
  mount --bind "@MODULES@" /lib/modules
  mount -t tmpfs run /run
  mount -t devpts pts /dev/pts
  mount -t tmpfs shm /dev/shm
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  mount -t securityfs securityfs /sys/kernel/security
  ip link set lo up
  hostname machine
  # What a test writes needs a file system that can be the upper one of an overlay, and be mapped to other users.
  modprobe loop
  truncate -s 4G /disk.img
  mkfs.ext4 -q /disk.img
  mount -o loop /disk.img /disk
  mkdir -m 1777 /disk/tmp
} || echo "machine: not set up"
bash /script.sh
echo "machine: status $?"
echo o >/proc/sysrq-trigger
sleep 60
