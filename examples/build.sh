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
# In other languages; `macula-host build` builds them.
others=(echo-go echo-js invoice-js sensor-alert-go sensor-alert-js tax-go)
target=wasm32-wasip2

check=
if [[ ${1:-} == --check ]]; then check=1; shift; fi
plugins=("$@")
if (($# == 0)); then plugins=("${all[@]}" "${others[@]}"); fi
built_here=()
rust=()
for plugin in "${plugins[@]}"; do
    if [[ " ${others[*]} " == *" $plugin "* ]]; then built_here+=("$plugin"); else rust+=("$plugin"); fi
done
plugins=("${rust[@]}")
for plugin in "${plugins[@]}"; do
    [[ -f $examples/$plugin/macula.toml ]] || { echo "build.sh: no example $plugin; there are: ${all[*]}" >&2; exit 2; }
done

differs=0
# Takes a component that was built, or compares it with the one that is there.
settle() {
    if [[ -n $check ]]; then
        cmp --silent "$1" "$examples/prebuilt/$2.wasm" || { echo "build.sh: prebuilt/$2.wasm differs" >&2; differs=1; }
    else
        cp "$1" "$examples/prebuilt/$2.wasm"
    fi
    printf '%-16s %8d bytes\n' "$2" "$(stat --format=%s "$1")"
}

for plugin in "${built_here[@]}"; do
    (cd "$project" && cargo run --quiet --locked --bin macula-host -- build "examples/$plugin" >/dev/null)
    settle "$examples/$plugin/build/${plugin%-*}.wasm" "$plugin"
done
if ((${#plugins[@]} == 0)); then exit "$differs"; fi

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

for plugin in "${plugins[@]}"; do
    settle "$output/$target/release/${plugin//-/_}.wasm" "$plugin"
done
exit "$differs"
