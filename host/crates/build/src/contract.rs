//! The contract, and the part of it that one component speaks: its world.

use std::path::Path;

use wit_parser::{Resolve, SourceMap, WorldId};

use crate::carried;

/// The version of the contract that is spoken.
pub(crate) const VERSION: &str = "0.1.0";

/// Interfaces that a component may import.
pub(crate) const IMPORTS: [&str; 9] =
    ["pubsub", "rpc", "content", "kv", "timers", "log", "config", "identity", "trace"];

#[cfg(test)]
/// Handlers that a component may export.
pub(crate) const EXPORTS: [&str; 6] =
    ["lifecycle", "message-handler", "call-handler", "timer-handler", "config-handler", "state-handler"];

/// A world with these imports and exports, in the contract.
///
/// # Panics
/// Never for names of [`IMPORTS`] and [`EXPORTS`]: the contract is part of this crate.
pub(crate) fn world(imports: &[&str], exports: &[&str]) -> (Resolve, WorldId) {
    let mut resolve = Resolve::default();
    let mut contract = SourceMap::new();
    for (file, text) in carried::contract() {
        contract.push(Path::new(file), *text);
    }
    let contract = contract.parse().unwrap_or_else(|(_, error)| panic!("wit/ is well-formed: {error:?}"));
    resolve.push_group(contract).unwrap_or_else(|error| panic!("wit/ is complete: {error:?}"));
    let package = resolve
        .push_source("component.wit", &world_text(imports, exports))
        .unwrap_or_else(|error| panic!("the world is of the contract's interfaces: {error}"));
    let world = resolve.select_world(&[package], None).unwrap_or_else(|error| panic!("it has one world: {error}"));
    (resolve, world)
}

/// The same as text, for tools that read WIT.
pub(crate) fn world_text(imports: &[&str], exports: &[&str]) -> String {
    let mut text = String::from("package macula:build;\n\nworld component {\n");
    for (direction, interfaces) in [("import", imports), ("export", exports)] {
        for interface in interfaces {
            text.push_str(&format!("    {direction} macula:plugin/{interface}@{VERSION};\n"));
        }
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_can_be_in_a_world() {
        let (resolve, world) = world(&IMPORTS, &EXPORTS);
        // `types` comes along.
        assert_eq!(resolve.worlds[world].imports.len(), IMPORTS.len() + 1);
        assert_eq!(resolve.worlds[world].exports.len(), EXPORTS.len());
    }
}
