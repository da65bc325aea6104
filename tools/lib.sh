# Shared by tools/setup and its stages (bash): output, failures, downloads, stamps.
# A stage prints through say/note, ends with `done_already` or returns, and fails with `fail`.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=$ROOT/.cache
DOWNLOADS=$CACHE/downloads
VENV=$CACHE/venv
PEERS=$CACHE/venv-peers
MODEL_DIR=$CACHE/models/SmolLM2-135M-Instruct
CUDA_DIR=$CACHE/third_party/cuda-13.0

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' plain=$'\e[0m'; else bold='' dim='' red='' plain=''; fi

say() { printf '%s\n' "$*"; }

# A line below the stage's title.
note() { printf '      %s\n' "$*"; }

# fail WHAT REMEDY: ends the stage; tools/setup adds its name.
fail() {
  printf '      %s%s%s\n' "$red" "$1" "$plain" >&2
  [ -n "${2:-}" ] && printf '      what to do: %s\n' "$2" >&2
  exit 1
}

# run LABEL COMMAND...: runs it with its output in a log and shows that it goes on: on a terminal by a
# counter, elsewhere by a line now and then; with RUN_WATCH=FOLDER also how much has arrived in there.
# Shows the end of the log when the command fails, and returns its status.
run() {
  local label=$1 log begin=$SECONDS next=15 pid status
  shift
  mkdir -p "$CACHE/logs"
  log=$CACHE/logs/$(printf '%s' "$label" | tr -c 'A-Za-z0-9.\n' '-').log
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  trap 'kill "$pid" 2>/dev/null; exit 130' TERM INT
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    if [ -t 1 ]; then
      printf '\r\e[K      %s ... %d s%s' "$label" $((SECONDS - begin)) "$(arrived)"
    elif [ $((SECONDS - begin)) -ge $next ]; then
      note "$label ... $((SECONDS - begin)) s$(arrived)"
      next=$((next + 15))
    fi
  done
  wait "$pid" && status=0 || status=$?
  trap - TERM INT
  [ -t 1 ] && printf '\r\e[K'
  if [ "$status" = 0 ]; then
    note "$label: $((SECONDS - begin)) s"
  else
    tail -n 20 "$log" | sed 's/^/      | /' >&2
    note "the whole output is in $log" >&2
  fi
  return "$status"
}

arrived() {
  [ -z "${RUN_WATCH:-}" ] || du -sm "$RUN_WATCH" 2>/dev/null | awk '{ printf ", %d MB", $1 }'
}

# stamped FILE VALUE / stamp FILE VALUE: whether FILE says that VALUE was completed; says so.
stamped() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }
stamp() { printf '%s\n' "$2" >"$1.partial" && mv -f "$1.partial" "$1"; }

hash_of() { cat "$@" | sha256sum | cut -c1-16; }

# Ends a stage that has nothing to do; tools/setup prints the reason beside its title.
done_already() {
  printf '%s' "$*" >"${STAGE_REPORT:-/dev/null}"
  exit 0
}

# as_root COMMAND...: for apt-get. Fails with the exact command where that is not possible.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif sudo -n true 2>/dev/null; then
    sudo -n "$@"
  else
    fail "this needs root, and sudo asks for a password" "run once: sudo $*"
  fi
}

# apt_install NAME...: installs what is missing among them; refreshes the package lists when needed.
apt_install() {
  local missing=() name
  for name in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
  done
  [ ${#missing[@]} = 0 ] && return 0
  note "missing: ${missing[*]}"
  if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
    fail "packages are missing and installing them needs root" \
      "run once: sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}"
  fi
  # An interrupted run leaves packages unpacked but not configured, which apt-get would refuse.
  as_root dpkg --configure -a >/dev/null 2>&1 || true
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -y -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300)
  if ! apt-cache show "${missing[@]}" >/dev/null 2>&1; then
    run "apt-get update" as_root "${apt[@]}" update ||
      note "some package lists could not be refreshed; going on with those that are there"
  fi
  run "apt-get install" as_root "${apt[@]}" install --no-install-recommends "${missing[@]}" && return 0
  # Lists that are there but old name files that the mirror no longer has.
  run "apt-get update" as_root "${apt[@]}" update || true
  run "apt-get install" as_root "${apt[@]}" install --no-install-recommends "${missing[@]}" ||
    fail "apt-get could not install: ${missing[*]}" \
      "check the network and /etc/apt/sources.list (Debian 12 main is needed), then run the same command again"
}

# pip_fetch REQUIREMENT_FILE NAME: downloads the one wheel that the file pins for NAME into DOWNLOADS
# and sets WHEEL to it. A wheel that is there already with the right hash is not fetched again.
pip_fetch() {
  local line version hash aside
  line=$(grep -i "^$2==" "$1") || fail "$1 does not pin $2" "restore the file: git checkout $1"
  version=${line#*==} version=${version%% *} hash=${line##*sha256:}
  WHEEL=$(find "$DOWNLOADS" -maxdepth 1 -name "${2//-/_}-$version-*.whl" 2>/dev/null | head -n 1)
  if [ -n "$WHEEL" ] && echo "$hash  $WHEEL" | sha256sum --check --status; then
    note "$(basename "$WHEEL"): downloaded before"
    return 0
  fi
  aside=$DOWNLOADS/partial-$2
  rm -rf "$aside"
  mkdir -p "$aside/tmp"
  printf '%s\n' "$line" >"$aside/requirement.txt"
  # The tags are fixed, because the library does not depend on the Python that this machine has.
  RUN_WATCH=$aside TMPDIR=$aside/tmp run "download of $2 $version" "$VENV/bin/python" -m pip download --disable-pip-version-check --no-cache-dir --no-deps \
    --only-binary=:all: --implementation cp --python-version 3.11 --abi cp311 --abi abi3 --abi none \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --platform any \
    --retries 5 --require-hashes -r "$aside/requirement.txt" -d "$aside" ||
    fail "$2 $version could not be downloaded" \
      "check that pip reaches PyPI (pip config list; PIP_INDEX_URL), then run the same command again"
  WHEEL=$(find "$aside" -maxdepth 1 -name '*.whl' | head -n 1)
  [ -n "$WHEEL" ] || fail "pip left no wheel in $aside" "run the same command again"
  mv -f "$WHEEL" "$DOWNLOADS/"
  WHEEL=$DOWNLOADS/$(basename "$WHEEL")
  rm -rf "$aside"
}
