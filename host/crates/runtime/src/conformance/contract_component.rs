//! Components for tests that speak the contract, or something near it.

use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve};

/// A component of the world `name` of the contract's package, with these changes to `wit/` and these `worlds` beside those
/// there. Its functions do nothing but trap.
pub(crate) fn contract_component(name: &str, worlds: &str, changes: &[(&str, &str)]) -> Vec<u8> {
    const PACKAGE: &str = "package macula:plugin@0.1.0;";
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../wit");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    // One text has one package line.
    let mut text = format!("{PACKAGE}\n{worlds}\n");
    for file in files {
        text.push_str(&std::fs::read_to_string(file).unwrap().replace(PACKAGE, ""));
    }
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    let mut resolve = Resolve::default();
    let package = resolve.push_str("contract.wit", &text).unwrap();
    let world = resolve.packages[package].worlds[name];
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Standard32);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}
