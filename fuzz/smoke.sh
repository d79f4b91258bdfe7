#!/usr/bin/env bash
# Runs every fuzz target for a few seconds (7 unless the first argument sets another number), one after the other: about a
# minute. Prints a note and does nothing without a nightly toolchain or cargo-fuzz. Further arguments are libFuzzer's.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-7}
[ $# -gt 0 ] && shift

if ! rustup toolchain list 2>/dev/null | grep -q '^nightly'; then
    echo "skipped: cargo-fuzz: no nightly toolchain; add one with \`rustup toolchain install nightly\`"
    exit 0
fi
if ! command -v cargo-fuzz >/dev/null; then
    echo "skipped: cargo-fuzz: not installed; add it with \`cargo install cargo-fuzz\`"
    exit 0
fi
echo "ran: cargo-fuzz"
# Without a sanitizer: what is fuzzed is safe Rust, and an address sanitizer halves the number of inputs. The profile `dev` compiles
# faster, and has debug assertions, too.
cargo +nightly fuzz build --dev --fuzz-dir . -s none
failed=0
for target in $(cargo +nightly fuzz list --fuzz-dir .); do
    mkdir -p "corpus/$target" "artifacts/$target"
    binary=$(ls -t target/*/debug/"$target" | head -n 1)
    log=$(mktemp)
    # The last line with counters is what was reached when the time was up.
    if "$binary" -max_total_time="$seconds" -rss_limit_mb=2560 -timeout=25 -artifact_prefix="artifacts/$target/" \
        "$@" "corpus/$target" "seeds/$target" >"$log" 2>&1; then
        echo "fuzz: $target: $(grep -oE 'Done [0-9]+ runs in [0-9]+ second' "$log" | tail -n 1)s, $(grep -oE 'cov: [0-9]+ ft: [0-9]+' "$log" | tail -n 1)"
    else
        echo "fuzz: $target FAILED"
        # The panic up to libFuzzer's own report, or the end of the log if it was a timeout or a lack of memory.
        if grep -q 'panicked at' "$log"; then
            sed -n '/panicked at/,/^==[0-9]*== ERROR/p' "$log" | head -n 40
        else
            tail -n 40 "$log"
        fi
        grep 'Test unit written to' "$log" || true
        failed=1
    fi
    rm -f "$log"
done
exit $failed
