#!/bin/bash
# fuzz.sh BUILD SECONDS JOBS: runs each fuzz target of a build folder for so long, JOBS of them at a time. What a target learnt stays
# in BUILD/corpus, seeds are those of tests/fuzz/TARGET. An input that breaks a target is kept in BUILD/found, beside what it said.
set -euo pipefail
cd "$(dirname "$0")/.."
export build=$1 seconds=$2
mkdir -p "$build/found"

run() {
  local name=$1 log="$build/found/$1.log"
  mkdir -p "$build/corpus/$name"
  if LSAN_OPTIONS=suppressions=tools/sanitizers/leak.txt "$build/$name" -max_total_time="$seconds" -timeout=30 -print_final_stats=1 \
       -artifact_prefix="$build/found/$name-" "$build/corpus/$name" "tests/fuzz/$name" > "$log" 2>&1; then
    sed -n "s/^Done \([0-9]*\) runs in \([0-9]*\) second.*/fuzz: $name: ok, \1 inputs in \2 s/p" "$log"
  else
    echo "fuzz: $name: FAILED"
    grep -aE "check failed|differs|ERROR|SUMMARY|Test unit written|^Base64" "$log" || tail -n 5 "$log"
    return 1
  fi
}
export -f run

find "$build" -maxdepth 1 -name '*_fuzz' -type f -perm -u+x -printf '%f\n' | sort | xargs -P "$3" -I{} bash -c 'run {}'
