#!/usr/bin/env bash
# Stage: a clean Debian root, into which the package is installed
set -euo pipefail
. "$(dirname "$0")/../lib.sh"

archive=$CACHE/debian-bookworm.tar
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
stamped "$archive.made" "minbase from $mirror" && [ -f "$archive" ] && done_already ".cache/debian-bookworm.tar"
[ "$(id -u)" = 0 ] || done_already "left out: making it and changing into it need root"
apt_install debootstrap
aside=$(mktemp -d)
# debootstrap may leave its /proc mounted.
clean_up() {
  ! mountpoint -q "$aside/root/proc" || umount -l "$aside/root/proc"
  rm -rf --one-file-system "$aside"
}
trap clean_up EXIT
RUN_WATCH=$aside run "debootstrap bookworm" debootstrap --variant=minbase bookworm "$aside/root" "$mirror" ||
  fail "debootstrap could not make a Debian root from $mirror" \
    "check the network, or name a mirror with DEBIAN_MIRROR, then run the same command again"
tar -C "$aside/root" --one-file-system -cf "$archive.partial" .
mv -f "$archive.partial" "$archive"
stamp "$archive.made" "minbase from $mirror"
