# The profile of containers that ask for none of the node's own (knode).
profile knode-default flags=(attach_disconnected,mediate_deleted) {
  capability,
  network,
  unix,
  file,
  umount,

  # Whoever is not confined may signal and trace what is; of the confined those of this profile each other.
  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  signal (send, receive) peer=knode-default,
  ptrace (tracedby, readby) peer=unconfined,
  ptrace (trace, read, tracedby, readby) peer=knode-default,

  deny mount,

  # Of /proc: processes' own directories, and the limits of shared memory, which are the pod's.
  deny /proc/[^0-9s]** w,
  deny /proc/s[^ey]** w,
  deny /proc/sysvipc/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/k[^e]** w,
  deny /proc/sys/kernel/[^s]** w,
  deny /proc/sys/kernel/s[^h]** w,
  deny /proc/sys/kernel/sh[^m]** w,
  deny /proc/{sysrq-trigger,kcore,kmem,mem} rwklx,

  # Of /sys: control groups, where they are mounted to be written to.
  deny /sys/[^f]** wklx,
  deny /sys/f[^s]** wklx,
  deny /sys/fs/[^c]** wklx,
  deny /sys/fs/c[^g]** wklx,
  deny /sys/{firmware,kernel/security,devices/virtual/powercap}/** rwklx,
}
