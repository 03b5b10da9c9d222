//! From a core module to a component: the contract's types are embedded, WASI preview 1 is adapted, and the manifest put
//! in as a section of its own. All in this process.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasm_metadata::AddMetadata;
use wasmparser::{KnownCustom, Name, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding};

use crate::contract;

/// The custom section that hosts look for the manifest in.
const MANIFEST_SECTION: &str = "macula:manifest";

/// Why a core module makes no component.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ComponentError {
    /// What the compiler made is no WebAssembly.
    #[error("the compiler's output is damaged: {0}")]
    Damaged(#[from] wasmparser::BinaryReaderError),
    /// It does not fit the contract.
    #[error("the compiled module does not fit the contract: {0}")]
    Contract(String),
}

/// Makes a component that exports the handlers in `exports`, and imports what the module uses.
pub(crate) fn encode(module: &[u8], exports: &[&str]) -> Result<Vec<u8>, ComponentError> {
    let (resolve, world) = contract::world(&contract::IMPORTS, exports);
    let mut module = without_names(module)?;
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).map_err(misfit)?;
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|encoder| {
            encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)
        })
        .and_then(|mut encoder| encoder.encode())
        .map_err(misfit)
}

/// Says in the component what it was made with, and puts its manifest in.
pub(crate) fn finish(
    component: &[u8],
    language: (&str, &str),
    manifest: Option<&str>,
) -> Result<Vec<u8>, ComponentError> {
    let mut metadata = AddMetadata::default();
    metadata.language.push((language.0.to_owned(), language.1.to_owned()));
    metadata.processed_by.push(("macula-host".to_owned(), env!("CARGO_PKG_VERSION").to_owned()));
    let mut component = metadata.to_wasm(component).map_err(misfit)?;
    if let Some(manifest) = manifest {
        append_section(&mut component, MANIFEST_SECTION, manifest.as_bytes());
    }
    Ok(component)
}

fn misfit(error: impl std::fmt::Display) -> ComponentError {
    ComponentError::Contract(format!("{error:#}"))
}

/// The names of all functions, as the compiler wrote them.
pub(crate) fn function_names(module: &[u8]) -> Result<Vec<String>, ComponentError> {
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        let Payload::CustomSection(section) = payload? else { continue };
        let KnownCustom::Name(subsections) = section.as_known() else { continue };
        for subsection in subsections {
            let Name::Function(functions) = subsection? else { continue };
            for function in functions {
                names.push(function?.name.to_owned());
            }
        }
    }
    Ok(names)
}

/// The module without its section of names, which nothing needs in service and takes a tenth of it.
fn without_names(module: &[u8]) -> Result<Vec<u8>, ComponentError> {
    let mut kept = Vec::with_capacity(module.len());
    let mut end = 8.min(module.len());
    kept.extend_from_slice(&module[..end]);
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        let Some((_, range)) = payload.as_section() else { continue };
        // From the end of the section before: its id and length stand in front of the range.
        let is_names = matches!(&payload, Payload::CustomSection(section) if section.name() == "name");
        if !is_names {
            kept.extend_from_slice(&module[end..range.end]);
        }
        end = range.end;
    }
    Ok(kept)
}

/// Appends a custom section: 0, the length, the name with its length, the data.
fn append_section(component: &mut Vec<u8>, name: &str, data: &[u8]) {
    let mut body = Vec::with_capacity(data.len() + name.len() + 5);
    push_leb128(&mut body, name.len());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(data);
    component.push(0);
    push_leb128(component, body.len());
    component.extend_from_slice(&body);
}

fn push_leb128(bytes: &mut Vec<u8>, mut number: usize) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module whose one function has a name, and which speaks the simplest handler.
    const MODULE: &str = r#"(module $m
        (memory (export "memory") 1)
        (func $handle (export "macula:plugin/config-handler@0.1.0#on-rights-changed"))
        (func $keys (export "macula:plugin/config-handler@0.1.0#on-config-changed") (param i32 i32) (result i32) i32.const 8)
        (func $more (export "macula:plugin/timer-handler@0.1.0#on-timer") (param i32 i32 i64 i32) (result i32) i32.const 8)
        (func $cabi_realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 64))"#;

    #[test]
    fn a_component_exports_what_is_asked_for_and_carries_its_manifest() {
        let module = wat::parse_str(MODULE).unwrap();
        assert!(function_names(&module).unwrap().contains(&"handle".to_owned()));
        let component = encode(&module, &["config-handler"]).unwrap();
        let component = finish(&component, ("Go", "1.26"), Some("name = \"x\"")).unwrap();
        let mut exports = Vec::new();
        let mut manifest = None;
        for payload in Parser::new(0).parse_all(&component) {
            match payload.unwrap() {
                Payload::ComponentExportSection(section) => {
                    exports.extend(section.into_iter().map(|export| export.unwrap().name.name.to_owned()));
                }
                Payload::CustomSection(section) if section.name() == MANIFEST_SECTION => {
                    manifest = Some(section.data().to_vec());
                }
                _ => {}
            }
        }
        assert!(exports.contains(&"macula:plugin/config-handler@0.1.0".to_owned()), "{exports:?}");
        assert!(!exports.iter().any(|export| export.contains("timer-handler")), "{exports:?}");
        assert_eq!(manifest.as_deref(), Some(b"name = \"x\"".as_slice()));
    }

    #[test]
    fn names_are_taken_out_and_nothing_else() {
        let module = wat::parse_str(MODULE).unwrap();
        let stripped = without_names(&module).unwrap();
        assert!(stripped.len() < module.len());
        assert!(function_names(&stripped).unwrap().is_empty());
        wasmparser::validate(&stripped).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let module = wat::parse_str("(module (func (export \"f\")))").unwrap();
        let error = encode(&module, &["timer-handler"]).unwrap_err().to_string();
        assert!(error.contains("timer-handler"), "{error}");
        assert!(matches!(encode(b"\0asm?", &[]), Err(ComponentError::Damaged(_))));
    }
}
