#!/bin/bash
# Installs what building (setup.sh run), testing (test) or checking (check) needs and this machine lacks: Debian packages,
# then DuckDB by npm as its lockfile pins it. Where all is there it only looks, which takes a few hundredths of a second.
set -euo pipefail
cd "$(dirname "$0")/.."
verb=${1:-test}

say() { printf 'setup: %s\n' "$*" >&2; }

wanted_packages() {
  awk -v verb="$verb" '
    BEGIN { rank["run"] = 1; rank["test"] = 2; rank["check"] = 3; if (!(verb in rank)) exit 2 }
    /^[^#]/ && NF == 2 && rank[$2] <= rank[verb] { print $1 }' tools/debian-packages.txt
}

npm_suffices() {  # lockfiles of version 3 are read from npm 7 on
  command -v node >/dev/null && command -v npm >/dev/null || return 1
  local major
  major=$(node --version | sed 's/^v\([0-9]*\).*/\1/')
  [ "$major" -ge 16 ]
}

missing_packages() {
  local wanted
  wanted=$(wanted_packages) || { say "no such verb: $verb (run, test, check)"; exit 2; }
  # dpkg-query fails for a name that it has never seen; what it prints for the others is still right.
  comm -23 <(sort <<<"$wanted") \
           <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $wanted 2>/dev/null | awk '$1 == "installed" {print $2}' | sort)
}

install_packages() {
  local as_root=""
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      say "not root and no sudo; as root run: apt-get install --no-install-recommends $*"
      exit 1
    fi
    as_root="sudo"
  fi
  say "installing $# Debian packages: $*"
  $as_root apt-get update -q
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

install_duckdb() {
  local lock=third_party/duckdb/package-lock.json modules=third_party/duckdb/node_modules
  [ -z "${DUCKDB_ROOT:-}" ] || return 0
  # The copy of the lockfile is written last: it says that the whole of it was installed.
  if ! cmp -s "$lock" "$modules/.installed-lock.json"; then
    say "installing DuckDB (npm ci in third_party/duckdb)"
    (cd third_party/duckdb && npm ci)
    cp "$lock" "$modules/.installed-lock.json"
  fi
}

if [ "$(uname -m)" != x86_64 ]; then
  say "Millstream is built for x86-64 only; this machine is $(uname -m)"
  exit 1
fi
if ! command -v dpkg-query >/dev/null; then
  say "this is not Debian; install what tools/debian-packages.txt names by other means"
else
  missing=$(missing_packages)
  if npm_suffices; then
    missing=$(grep -vxE 'nodejs|npm' <<<"$missing" || true)
  fi
  # shellcheck disable=SC2086  # a list of names
  [ -z "$missing" ] || install_packages $missing
fi
install_duckdb
