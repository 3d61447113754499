#!/usr/bin/env bash
# Installs the Debian packages that a purpose needs and that are missing: debian.sh build|run|test|fuzz|bench.
# Asks no package server when nothing is missing.
set -euo pipefail

declare -A needs=(
  [build]="gcc libc6-dev libseccomp-dev make pkg-config"
  [run]=""
  [test]="bind9-dnsutils busybox-static ca-certificates conntrack containerd containernetworking-plugins crun curl dbus-daemon dnsmasq-base docker-registry docker.io e2fsprogs etcd-client etcd-server ethtool iproute2 iptables libseccomp-dev mount nftables nginx-light openssl runc systemd tcpdump util-linux wrk"
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
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "debian.sh: these packages are missing and only root can install them: ${missing[*]}" >&2
  exit 1
fi
echo "installing from Debian: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# A service that a package would start at once is none of our business.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
