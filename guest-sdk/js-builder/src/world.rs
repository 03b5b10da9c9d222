//! The world of one component: the part of the contract that it speaks.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result};
use wit_parser::{Resolve, WorldId};

const VERSION: &str = "0.1.0";

/// Where random numbers come from, which the engine does not ask for by itself.
pub const RANDOM: &str = "wasi:random/random@0.2.12";

/// The part of it that is used.
const RANDOM_PACKAGE: &str = "package wasi:random@0.2.12;

interface random {
    get-random-bytes: func(len: u64) -> list<u8>;
}
";

/// The world with these imports and exports: interfaces of the contract, and [`RANDOM`]. `contract` is the folder of the
/// contract's files.
pub fn of(contract: &Path, imports: &BTreeSet<String>, exports: &[&str]) -> Result<(Resolve, WorldId)> {
    let mut resolve = Resolve::default();
    resolve.push_dir(contract).with_context(|| contract.display().to_string())?;
    if imports.contains(RANDOM) {
        resolve.push_str("random.wit", RANDOM_PACKAGE)?;
    }
    let package = resolve.push_str("component.wit", &text(imports, exports))?;
    let world = resolve.select_world(&[package], None)?;
    Ok((resolve, world))
}

/// The same as text.
pub fn text(imports: &BTreeSet<String>, exports: &[&str]) -> String {
    let mut world = String::from("package macula:build;\n\nworld component {\n");
    for interface in imports {
        match interface.as_str() {
            RANDOM => world.push_str(&format!("    import {RANDOM};\n")),
            interface => world.push_str(&format!("    import macula:plugin/{interface}@{VERSION};\n")),
        }
    }
    for interface in exports {
        world.push_str(&format!("    export macula:plugin/{interface}@{VERSION};\n"));
    }
    world.push_str("}\n");
    world
}
