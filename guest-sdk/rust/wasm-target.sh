#!/usr/bin/env bash
# Gives the Rust toolchain the target wasm32-wasip2; does nothing when it is there.
#
# rustup adds it. Where rustup is missing or cannot download, the standard library is built from the packages `rust-src`
# (of exactly rustc's version: another one does not compile) and `wasi-libc` of Debian's backports, into rustc's sysroot,
# which must be writable. Afterwards plain cargo works, as after rustup.
#
#   wasm-target.sh            add it the way that works
#   NO_RUSTUP=1 wasm-target.sh   build it, do not ask rustup
set -euo pipefail

target=wasm32-wasip2
sysroot=$(rustc --print sysroot)
libraries=$sysroot/lib/rustlib/$target/lib

# Complete is what has the standard library: an interrupted build may have left the folder.
if compgen -G "$libraries/libstd-*.rlib" >/dev/null; then exit 0; fi

if [[ -z ${NO_RUSTUP:-} ]] && command -v rustup >/dev/null && timeout 120 rustup target add "$target"; then
    exit 0
fi

fail() { echo "wasm-target.sh: $*" >&2; exit 1; }
command -v apt-get >/dev/null || fail "no rustup that can add $target, and no apt-get to build it from Debian's packages"

version=$(rustc --version | cut -d' ' -f2)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A package list of its own, beside the system's: backports need not be enabled, and nothing is installed.
# The mirror is the one the system uses.
mirror=$(cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null |
    awk '/^URIs:/ || /^deb / {print $2; exit}' || true)
[[ $mirror == http* ]] || fail "no Debian mirror in /etc/apt: set up apt first"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
mkdir -p "$work"/{lists/partial,cache/archives/partial,std/src}
printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" \
    "${DEBIAN_SUITE:-trixie-backports}" >"$work/sources.list"
options=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::Lists=$work/lists"
    -o "Dir::Cache=$work/cache" -o APT::Sandbox::User="$(id -un)")
cd "$work"
apt-get -qq "${options[@]}" update
package=$(apt-cache "${options[@]}" madison rust-src | awk -v v="$version" 'index($3, v "+") == 1 {print $3; exit}')
[[ -n $package ]] || fail "Debian has no rust-src $version, which rustc $version needs"
apt-get -qq "${options[@]}" download "rust-src=$package" wasi-libc
for deb in *.deb; do dpkg -x "$deb" root; done

# Cargo looks for the standard library's source in the sysroot.
source=$sysroot/lib/rustlib/src/rust
if [[ ! -e $source ]]; then
    mkdir -p "${source%/*}"
    cp -r "root/usr/src/rustc-$version" "$source"
fi

# An empty crate makes cargo build the whole standard library; its results are moved to where rustc looks for them.
# In panic messages, its files are called as in the standard library that rustup brings.
commit=$(rustc --version --verbose | awk '/^commit-hash:/ {print $2}')
separator=$'\x1f'
printf '[package]\nname = "std-seed"\nversion = "0.0.0"\nedition = "2024"\n' >std/Cargo.toml
: >std/src/lib.rs
(
    cd std
    RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$work/target" \
        CARGO_ENCODED_RUSTFLAGS="-Cembed-bitcode=yes${separator}-Lnative=$work/root/usr/lib/$target${separator}--remap-path-prefix=$source=/rustc/$commit" \
        cargo build --quiet --release -Zbuild-std=std,panic_abort --target "$target"
)
mkdir -p "$libraries/self-contained"
cp root/usr/lib/$target/{crt1-command.o,crt1-reactor.o,libc.a} "$libraries/self-contained/"
rm -f "target/$target/release/deps/"libstd_seed*
# The standard library last: it is what tells that the target is complete.
for library in "target/$target/release/deps/"*.rlib; do
    [[ $library == */libstd-*.rlib ]] || cp "$library" "$libraries/"
done
cp "target/$target/release/deps/"libstd-*.rlib "$libraries/"
echo "wasm-target.sh: built $target from rust-src $package"
