#!/usr/bin/env bash
# Stage: Python tools for downloads and model conversion
set -euo pipefail
. "$(dirname "$0")/../lib.sh"

requirements=$ROOT/tools/requirements-convert.txt
value=$(hash_of "$requirements")
stamped "$VENV/.converter" "$value" && "$VENV/bin/python" -c '' 2>/dev/null &&
  done_already "$("$VENV/bin/python" --version) in .cache/venv"

if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
  # Debian's own Python first: python3-venv belongs to it. Another one on the PATH will do as well.
  for python in /usr/bin/python3 $(type -ap python3); do
    [ -x "$python" ] || continue
    rm -rf "$VENV"
    run "virtual environment with $python" "$python" -m venv "$VENV" && break
  done
  "$VENV/bin/python" -m pip --version >/dev/null 2>&1 ||
    fail "no python3 on this machine can make a virtual environment" "install one that can: apt-get install python3 python3-venv"
fi
run "pip install -r tools/requirements-convert.txt" \
  "$VENV/bin/python" -m pip install --disable-pip-version-check --retries 5 -r "$requirements" ||
  fail "pip could not install $requirements" "check that pip reaches PyPI, then run the same command again"
stamp "$VENV/.converter" "$value"
