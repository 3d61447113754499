#!/usr/bin/env bash
# Installs the Debian packages that a purpose needs and that are missing: debian.sh build|run|test|fuzz|bench.
# Asks no package server when nothing is missing.
set -euo pipefail

declare -A needs=(
  [build]="gcc libc6-dev libseccomp-dev make pkg-config"
  [run]=""
  [test]="apparmor bind9-dnsutils busybox-static ca-certificates conntrack containerd containernetworking-plugins crun curl dbus-daemon dnsmasq-base docker-registry docker.io e2fsprogs etcd-client etcd-server ethtool iproute2 iptables kmod libseccomp-dev mount nftables nginx-light openssl qemu-system-common qemu-system-x86 runc secilc systemd tcpdump util-linux wrk"
  [fuzz]="g++"
  [bench]="busybox-static containerd containernetworking-plugins crun curl dnsmasq-base docker-registry etcd-server iperf3 iproute2 iptables iputils-ping nftables runc wrk"
)
purpose=${1:?usage: debian.sh build|run|test|fuzz|bench}
packages=${needs[$purpose]?unknown purpose $purpose}

# kubectl is the person's tool: any version does, Debian's where there is none.
if [ "$purpose" != build ] && ! command -v kubectl >/dev/null; then
  packages="$packages kubernetes-client"
fi

missing=()
for p in $packages; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
done

# Tests boot this kernel in a virtual machine, for it gives its controllers to version 2 control groups. It is unpacked and
# not installed: this machine goes on with its own.
kernel=/var/cache/knode-test/kernel
lacks_kernel() { [ "$purpose" = test ] && [ ! -e "$kernel/complete" ]; }

[ ${#missing[@]} -eq 0 ] && ! lacks_kernel && exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "debian.sh: these packages are missing and only root can install them: ${missing[*]:-a kernel for tests}" >&2
  exit 1
fi
[ ${#missing[@]} -eq 0 ] || echo "installing from Debian: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# A service that a package would start at once is none of our business.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
[ ${#missing[@]} -eq 0 ] || apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null

unpack_kernel() {
  local at package
  package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
  at=$(mktemp -d)
  chmod 755 "$at"
  (cd "$at" && apt-get download -qq "$package" 2>/dev/null)
  rm -rf "$kernel"
  mkdir -p "$kernel"
  dpkg-deb -x "$at"/linux-image-*.deb "$kernel"
  rm -rf "$at"
  depmod -b "$kernel" "$(ls "$kernel/lib/modules")"
  touch "$kernel/complete"
}
if lacks_kernel; then
  echo "unpacking a kernel from Debian for virtual machines"
  unpack_kernel
fi
