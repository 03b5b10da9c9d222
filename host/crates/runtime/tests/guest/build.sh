#!/bin/sh
# Rebuilds ../probe.wasm from this folder. Needs the Rust target wasm32-wasip2.
set -eu
cd "$(dirname "$0")"
cargo build --release --target wasm32-wasip2 --target-dir "${TMPDIR:-/tmp}/macula-probe"
cp "${TMPDIR:-/tmp}/macula-probe/wasm32-wasip2/release/probe.wasm" ../probe.wasm
