#!/usr/bin/env bash
# Builds the examples for wasm32-wasip2, and puts the components into prebuilt/.
#
#   build.sh            all of them
#   build.sh echo       only these
#   build.sh --check    builds all, and fails when prebuilt/ differs
#
# The same source and toolchain give the same bytes wherever the project lies: paths are taken out of the components.
set -euo pipefail

examples=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
project=$(dirname "$examples")
all=(calculator echo lookup sensor-alert word-count)
target=wasm32-wasip2

check=
if [[ ${1:-} == --check ]]; then check=1; shift; fi
plugins=("$@")
if (($# == 0)); then plugins=("${all[@]}"); fi
for plugin in "${plugins[@]}"; do
    [[ -f $examples/$plugin/macula.toml ]] || { echo "build.sh: no example $plugin; there are: ${all[*]}" >&2; exit 2; }
done

"$project/guest-sdk/rust/wasm-target.sh"

cd "$examples"
cargo fetch --quiet --locked --target "$target"

# Panic messages name source files: of this project, of the libraries cargo has fetched, and of the standard library.
output=${CARGO_TARGET_DIR:-$examples/target}
flags=("--remap-path-prefix=$project=/macula" "--remap-path-prefix=$output=/target")
for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
    flags+=("--remap-path-prefix=$registry=/registry")
done
commit=$(rustc --version --verbose | awk '/^commit-hash:/ {print $2}')
flags+=("--remap-path-prefix=$(rustc --print sysroot)/lib/rustlib/src/rust=/rustc/$commit")

packages=("${plugins[@]/#/--package=}")
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; echo "${flags[*]}") CARGO_TARGET_DIR=$output \
    RUSTC_WRAPPER=$project/guest-sdk/rust/reproducible-rustc.sh REPRODUCIBLE_ROOT=$project \
    cargo build --locked --release --target "$target" "${packages[@]}"

mkdir -p prebuilt
differs=0
for plugin in "${plugins[@]}"; do
    built=$output/$target/release/${plugin//-/_}.wasm
    if [[ -n $check ]]; then
        cmp --silent "$built" "prebuilt/$plugin.wasm" || { echo "build.sh: prebuilt/$plugin.wasm differs" >&2; differs=1; }
    else
        cp "$built" "prebuilt/$plugin.wasm"
    fi
    printf '%-14s %7d bytes\n' "$plugin" "$(stat --format=%s "$built")"
done
exit "$differs"
