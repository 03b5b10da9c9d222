# Recipes for people; `just --list` shows them. CI runs `.ci/run`.

# Format, lints and licences
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo deny check

# All tests
test:
    cargo test --workspace

# Rebuild the example components in examples/prebuilt
guests:
    examples/build.sh

# Measure; prints a table
bench *part:
    cargo build --release --workspace
    cargo run --release -p macula-bench -- {{part}}

# Fuzz one decoder for a minute
fuzz target:
    cd tests/fuzz && cargo +nightly fuzz run {{target}} -- -max_total_time=60
