#!/bin/sh
# Rebuilds ../probe.wasm from this folder. Needs the Rust target wasm32-wasip2.
set -eu
cd "$(dirname "$0")"
# Panic messages name source files; where they lie is nobody's business.
flags="--remap-path-prefix=$(pwd -P)=/probe"
for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
    flags="$flags --remap-path-prefix=$registry=/registry"
done
output="${TMPDIR:-/tmp}/macula-probe"
RUSTFLAGS="$flags" cargo build --locked --release --target wasm32-wasip2 --target-dir "$output"
cp "$output/wasm32-wasip2/release/probe.wasm" ../probe.wasm
