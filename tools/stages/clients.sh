#!/usr/bin/env bash
# Stage: Python clients for the end-to-end tests
set -euo pipefail
. "$(dirname "$0")/../lib.sh"

requirements=$ROOT/tests/e2e/requirements.txt
[ -f "$requirements" ] || done_already "none needed"
value=$(hash_of "$requirements")
stamped "$VENV/.clients" "$value" && done_already "in .cache/venv"
run "pip install -r tests/e2e/requirements.txt" \
  "$VENV/bin/python" -m pip install --disable-pip-version-check --no-deps --retries 5 -r "$requirements" ||
  fail "pip could not install $requirements" "check that pip reaches PyPI, then run the same command again"
stamp "$VENV/.clients" "$value"
