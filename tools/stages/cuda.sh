#!/usr/bin/env bash
# Stage: CUDA compiler 13.0 (out of PyPI wheels; no GPU needed)
set -euo pipefail
. "$(dirname "$0")/../lib.sh"

pins=$ROOT/tools/cuda.txt
value=$(hash_of "$pins")
stamped "$CUDA_DIR/.complete" "$value" && [ -x "$CUDA_DIR/bin/nvcc" ] &&
  done_already "in .cache/third_party/$(basename "$CUDA_DIR")"

# With CUDA_OPTIONAL set (make serve) a machine that cannot have it gets a build without GPUs.
if [ -n "${CUDA_OPTIONAL:-}" ]; then
  CUDA_OPTIONAL='' STAGE_REPORT='' bash "$0" && exit 0
  done_already "left out: the build will serve on the CPU only (\`make cuda\` tries again)"
fi

need_mb=600
free_mb=$(df --output=avail -m "$CACHE" | tail -n 1)
[ "$free_mb" -ge $need_mb ] ||
  fail "$CACHE has $free_mb MB free; the CUDA compiler takes $need_mb MB" "make room, then run the same command again"

aside=$CUDA_DIR.partial
rm -rf "$aside"
mkdir -p "$aside" "$DOWNLOADS"
wheels=()
for name in nvidia-cuda-nvcc nvidia-cuda-crt nvidia-nvvm nvidia-cuda-cccl nvidia-cuda-runtime; do
  pip_fetch "$pins" "$name"
  wheels+=("$WHEEL")
done
unpack() {
  local wheel
  for wheel in "${wheels[@]}"; do
    unzip -q -o "$wheel" 'nvidia/cu13/*' -d "$aside/wheels" || return 1
  done
  # The wheels' common folder is the toolkit; zip files do not keep the permission to run.
  mv "$aside"/wheels/nvidia/cu13/* "$aside/" && rm -r "$aside/wheels" &&
    chmod +x "$aside"/bin/* "$aside"/nvvm/bin/*
}
run "unpacking" unpack || fail "the wheels could not be unpacked" "delete $DOWNLOADS and run the same command again"
"$aside/bin/nvcc" --version >/dev/null ||
  fail "nvcc was unpacked, but it does not run here" "see the message above"
stamp "$aside/.complete" "$value"
rm -rf "$CUDA_DIR"
mv "$aside" "$CUDA_DIR"
rm -f "${wheels[@]}"
