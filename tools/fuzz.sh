#!/bin/bash
# fuzz.sh BUILD SECONDS: runs each fuzz target of a build folder for so long. What a target learnt stays in BUILD/corpus,
# seeds are those of tests/fuzz/TARGET. An input that breaks a target is kept in BUILD/found and ends the run.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1 seconds=$2
mkdir -p "$build/found"
targets=$(find "$build" -maxdepth 1 -name '*_fuzz' -type f -perm -u+x | sort)
if [ -z "$targets" ]; then
  echo "fuzz: no targets"
  exit 0
fi
for target in $targets; do
  name=$(basename "$target")
  mkdir -p "$build/corpus/$name"
  seeds=()
  if [ -d "tests/fuzz/$name" ]; then seeds=("tests/fuzz/$name"); fi
  echo "fuzz: $name, $seconds s"
  LSAN_OPTIONS=suppressions=tools/sanitizers/leak.txt "$target" -max_total_time="$seconds" -print_final_stats=1 \
    -artifact_prefix="$build/found/$name-" "$build/corpus/$name" ${seeds[@]+"${seeds[@]}"} 2>&1 |
    { grep -E "ERROR|SUMMARY|BINGO|stat::number_of_executed|stat::new_units|Test unit written" || true; }
done
