#!/usr/bin/env bash
# Fuzzes each target for a while, guided by coverage: scripts/fuzz.sh [SECONDS] [TARGET...]. Needs clang and root.
# What a run finds lies in target/fuzz/<target>; a crash stays there as crash-* and fails the run.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-300}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(ls fuzz/corpus)

# libFuzzer's instrumentation by the stable compiler.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --release --locked --quiet --manifest-path fuzz/harness/Cargo.toml --target "$host" --target-dir target/fuzz/build
program=target/fuzz/build/$host/release/fuzz

failed=0
for target in "${targets[@]}"; do
  found=target/fuzz/$target
  mkdir -p "$found"
  echo "-- $target, $seconds s"
  KNODE_FUZZ_TARGET=$target "$program" "$found" "fuzz/corpus/$target" -artifact_prefix="$found/" \
    -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=20 -print_final_stats=1 -verbosity=0 || failed=1
done
exit $failed
