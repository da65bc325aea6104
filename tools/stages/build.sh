#!/usr/bin/env bash
# Stage: build (PRESET, release unless it is set)
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$ROOT"

preset=${PRESET:-release}
# A compiler may take 2 GB for the files that see Beast.
memory_gb=$(awk '/MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo)
jobs=$(nproc)
[ $((memory_gb / 2)) -lt "$jobs" ] && jobs=$((memory_gb / 2))
[ "$jobs" -lt 1 ] && jobs=1

# The CUDA compiler may have come since the last configuration.
cuda_is_new() { [ -x "$CUDA_DIR/bin/nvcc" ] && grep -q '^TROUPE_NVCC:.*NOTFOUND' "build/$preset/CMakeCache.txt"; }
if [ ! -f "build/$preset/build.ninja" ] || cuda_is_new; then
  run "configuring $preset" cmake --preset "$preset" ||
    fail "cmake could not configure the preset $preset" "see the message above; \`make clean\` forgets the old configuration"
fi
note "building $preset with $jobs jobs"
export NINJA_STATUS='      [%f/%t, %es] '
cmake --build --preset "$preset" -j "$jobs" ${TARGET:+--target $TARGET} ||
  fail "the build of $preset failed" "see the compiler's message above; \`make clean\` forgets the old build"
