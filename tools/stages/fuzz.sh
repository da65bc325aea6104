#!/usr/bin/env bash
# Stage: clang with libFuzzer
set -euo pipefail
. "$(dirname "$0")/../lib.sh"

dpkg-query -W -f '${db:Status-Status}\n' clang-16 libclang-rt-16-dev 2>/dev/null | grep -c '^installed$' | grep -qx 2 &&
  done_already "installed"
apt_install clang-16 libclang-rt-16-dev
