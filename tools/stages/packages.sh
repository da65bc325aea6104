#!/usr/bin/env bash
# Stage: system packages (tools/packages.txt)
set -euo pipefail
. "$(dirname "$0")/../lib.sh"

[ "$(uname -m)" = x86_64 ] ||
  fail "this machine is a $(uname -m); Troupe is built for x86_64" "use an x86_64 machine"
command -v apt-get >/dev/null ||
  fail "there is no apt-get: the set-up knows Debian 12 only" "use a Debian 12 machine or container"

mapfile -t names < <(grep -v '^#' "$ROOT/tools/packages.txt")
installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${names[@]}" 2>/dev/null | grep -c ' installed$' || true)
[ "$installed" -ge ${#names[@]} ] && done_already "all ${#names[@]} are installed"
apt_install "${names[@]}"
