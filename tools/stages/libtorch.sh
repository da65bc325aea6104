#!/usr/bin/env bash
# Stage: libtorch 2.11.0 (out of PyPI wheels)
set -euo pipefail
. "$(dirname "$0")/../lib.sh"

pins=$ROOT/tools/libtorch.txt
value=$(hash_of "$pins")
stamped "$TORCH_DIR/.complete" "$value" && [ -e "$TORCH_DIR/torch/lib/libtorch_cpu.so" ] &&
  done_already "in .cache/third_party/$(basename "$TORCH_DIR")"

need_mb=3000
free_mb=$(df --output=avail -m "$CACHE" | tail -n 1)
[ "$free_mb" -ge $need_mb ] ||
  fail "$CACHE has $free_mb MB free; unpacking libtorch takes $need_mb MB" "make room, then run the same command again"

aside=$TORCH_DIR.partial
rm -rf "$aside"
mkdir -p "$aside" "$DOWNLOADS"
wheels=()
for name in torch nvidia-cuda-runtime nvidia-cuda-cupti; do
  pip_fetch "$pins" "$name"
  wheels+=("$WHEEL")
done
# Libraries and headers; the Python half of torch stays in the wheel.
unpack() {
  unzip -q -o "${wheels[0]}" 'torch/lib/*' 'torch/include/*' 'torch-*.dist-info/*' -d "$aside" &&
    unzip -q -o "${wheels[1]}" -d "$aside" &&
    unzip -q -o "${wheels[2]}" -d "$aside"
}
run "unpacking" unpack || fail "the wheels could not be unpacked" "delete $DOWNLOADS and run the same command again"
stamp "$aside/.complete" "$value"
rm -rf "$TORCH_DIR"
mv "$aside" "$TORCH_DIR"
rm -f "${wheels[@]}"
