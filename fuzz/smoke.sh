#!/usr/bin/env bash
# Runs every fuzz target for a few seconds (7 unless the first argument sets another number), one after the other: about a
# minute. Prints a note and does nothing without a nightly toolchain or cargo-fuzz. Further arguments are libFuzzer's.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-7}
[ $# -gt 0 ] && shift

if ! rustup toolchain list 2>/dev/null | grep -q '^nightly'; then
    echo "fuzz: skipped: no nightly toolchain; add one with \`rustup toolchain install nightly\`"
    exit 0
fi
if ! command -v cargo-fuzz >/dev/null; then
    echo "fuzz: skipped: no cargo-fuzz; add it with \`cargo install cargo-fuzz\`"
    exit 0
fi
# Without a sanitizer: what is fuzzed is safe Rust, and an address sanitizer halves the number of inputs.
cargo +nightly fuzz build --fuzz-dir . -s none
failed=0
for target in $(cargo +nightly fuzz list --fuzz-dir .); do
    mkdir -p "corpus/$target" "artifacts/$target"
    binary=$(ls -t target/*/release/"$target" | head -n 1)
    log=$(mktemp)
    # The last line with counters is what was reached when the time was up.
    if "$binary" -max_total_time="$seconds" -rss_limit_mb=2560 -timeout=25 -artifact_prefix="artifacts/$target/" \
        "$@" "corpus/$target" "seeds/$target" >"$log" 2>&1; then
        echo "fuzz: $target: $(grep -oE 'Done [0-9]+ runs in [0-9]+ second' "$log" | tail -n 1)s, $(grep -oE 'cov: [0-9]+ ft: [0-9]+' "$log" | tail -n 1)"
    else
        echo "fuzz: $target FAILED"
        grep -m 1 -A 5 'panicked at' "$log" || true
        tail -n 40 "$log"
        failed=1
    fi
    rm -f "$log"
done
exit $failed
