#!/usr/bin/env bash
# Stage: peers to measure against (transformers, CTranslate2)
set -euo pipefail
. "$(dirname "$0")/../lib.sh"

requirements=$ROOT/tests/bench/requirements.txt
value=$(hash_of "$requirements")
stamped "$PEERS/.complete" "$value" && done_already "in .cache/venv-peers"
"$PEERS/bin/python" -m pip --version >/dev/null 2>&1 ||
  run "virtual environment" "$(readlink -f "$VENV/bin/python")" -m venv --clear "$PEERS" ||
  fail "no virtual environment could be made in $PEERS" "see the message above"
RUN_WATCH=$PEERS run "pip install -r tests/bench/requirements.txt" \
  "$PEERS/bin/python" -m pip install --disable-pip-version-check --no-cache-dir --retries 5 -r "$requirements" ||
  fail "pip could not install $requirements" "check that pip reaches PyPI and that 8 GB are free, then run the same command again"
stamp "$PEERS/.complete" "$value"
