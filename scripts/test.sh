#!/usr/bin/env bash
# Runs every check and test, goes on after a failure, and closes with the sum: "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0

# A check that has no tests of its own to count.
check() {
  local name=$1 started=$SECONDS
  shift
  if "$@" >"$log" 2>&1; then
    passed=$((passed + 1))
    echo "ok      $name ($((SECONDS - started)) s)"
  else
    failed=$((failed + 1))
    cat "$log"
    echo "FAILED  $name: $*"
  fi
}

# A run of cargo test, counted by its own closing lines; one that ends badly without any counts as one.
suite() {
  local name=$1 started=$SECONDS status p f
  shift
  "$@" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  p=$(sed -nE 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed;.*/\1/p' "$log" | awk "{n += \$1} END {print n + 0}")
  f=$(sed -nE 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed;.*/\2/p' "$log" | awk "{n += \$1} END {print n + 0}")
  [ "$status" -ne 0 ] && [ "${f:-0}" -eq 0 ] && f=1
  passed=$((passed + ${p:-0})) failed=$((failed + ${f:-0}))
  echo "-- $name: ${p:-0} passed, ${f:-0} failed ($((SECONDS - started)) s)"
}

check "format" cargo fmt --all --check
check "lints" cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
check "dependency rules, sizes" cargo xtask tidy
check "licences, sources" cargo deny --offline --log-level error check --hide-inclusion-graph licenses bans sources
# No documentation holds code that runs, and the lints build the examples: both would only cost time here.
suite "unit and integration tests" cargo test --locked --workspace --exclude knode-e2e --lib --bins --tests --no-fail-fast --quiet
if [ "$(id -u)" -ne 0 ]; then
  echo "FAILED  end to end: these tests make network namespaces and mounts; run them as root"
  failed=$((failed + 1))
else
  suite "end to end" cargo test --locked --package knode-e2e --no-fail-fast -- --test-threads=1
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
