# Short names for the commands that CONTRIBUTING.md explains. `.ci/run` is the definition of a passing change.

# List the recipes
default:
    @just --list

# Format all Rust sources
fmt:
    cargo fmt --all

# Check the format and run the lints
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Run the tests of one crate: `just test-crate agenthost-gate`
test-crate crate *args:
    cargo test -p {{ crate }} {{ args }}

# Run the quick tests: all but those that build crates with cargo
test *args:
    cargo test --workspace -- --skip slow:: {{ args }}

# Run the tests that build crates with cargo
test-slow *args:
    cargo test --workspace --test all slow:: {{ args }}

# Run all tests
test-all *args:
    cargo test --workspace {{ args }}

# Build the API documentation with warnings as errors
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --workspace --exclude agenthost-tests --exclude agenthost-guests

# Update docs/cli.md and the snapshots of screens, which needs `cargo install cargo-insta`
bless:
    AGENTHOST_BLESS=1 cargo test --workspace --lib reference
    cargo insta test --accept --workspace --test all -- screens:: inspect::

# Check licenses, bans and sources of the dependencies
deny:
    cargo deny check licenses bans sources

# Fuzz every target for a few seconds
fuzz *args:
    fuzz/smoke.sh {{ args }}

# Attack the command line with the corpus of docs/security.md
attack *args:
    cargo xtask attack {{ args }}

# Run everything that a change must pass
ci:
    .ci/run
