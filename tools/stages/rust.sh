#!/usr/bin/env bash
# Stage: Rust toolchain (for the tokenizer)
set -euo pipefail
. "$(dirname "$0")/../lib.sh"

# The newest of the toolchains at hand, if it is new enough; cmake/Cargo.cmake looks at the same ones.
needed=1.85
for cargo in $(type -ap cargo) "$HOME/.cargo/bin/cargo" /usr/bin/cargo; do
  [ -x "$cargo" ] && [ -x "${cargo%cargo}rustc" ] || continue
  version=$("$cargo" --version 2>/dev/null | awk '{ print $2 }') || continue
  [ -n "$version" ] && [ "$(printf '%s\n' "$needed" "$version" | sort -V | head -n 1)" = "$needed" ] &&
    done_already "cargo $version ($cargo)"
done

# Debian's plain cargo is 1.63; the -web packages are the newer line that Debian keeps for browsers.
apt_install rustc-web cargo-web
/usr/bin/cargo --version >/dev/null ||
  fail "cargo-web is installed, but /usr/bin/cargo does not run" "reinstall it: apt-get install --reinstall cargo-web rustc-web"
