#!/usr/bin/env bash
# A RUSTC_WRAPPER that makes components independent of where a project lies.
#
# Cargo derives a crate's `-C metadata` from its path, and rustc derives from that the names, and so the order, of
# functions: the same source at another path would be another component. For crates below REPRODUCIBLE_ROOT this
# takes name and version instead.
set -euo pipefail

arguments=()
for argument; do
    if [[ $argument == metadata=* && ${CARGO_MANIFEST_DIR:-} == "$REPRODUCIBLE_ROOT"/* ]]; then
        argument=metadata=$CARGO_PKG_NAME-$CARGO_PKG_VERSION
    fi
    arguments+=("$argument")
done
exec "${arguments[@]}"
