//! What a component is, told from its bytes before anything of it is compiled or run.
//!
//! Reads imports, exports and the embedded manifest, and refuses what could not run here with one sentence that names
//! the culprit. That the rest of the file is whole, and the types of its handlers, is looked at by [`examine`] and before the
//! component is compiled. The rules stand in `docs/plugins/runtime.md`.

use std::collections::{BTreeMap, BTreeSet};

use macula_wire::Mcid;
use serde::{Deserialize, Serialize};
use wasmparser::{ComponentExternalKind, CustomSectionReader, Encoding, KnownCustom, Parser, Payload};

use crate::{conformance, manifest};

/// The package this host speaks, and the versions of it.
const PACKAGE: &str = "macula:plugin/";
const VERSION_PREFIX: &str = "0.1.";

/// Interfaces of the package that a component may import.
const CAPABILITIES: [&str; 10] =
    ["types", "pubsub", "rpc", "content", "kv", "timers", "log", "config", "identity", "trace"];

/// WASI 0.2 as far as it is stubbed: what language runtimes import whatever the plugin does.
const WASI: [&str; 20] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// Custom sections, and tools, that are told.
const SECTIONS_MAX: usize = 64;

/// Bytes of a manifest at most: it is text that a person writes.
pub const MANIFEST_BYTES_MAX: usize = 64 << 10;

/// What a plugin can handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ability {
    /// Start, health and stop.
    Lifecycle,
    /// Messages of subscriptions.
    MessageHandler,
    /// Calls to procedures it offers.
    CallHandler,
    /// Ticks of timers.
    TimerHandler,
    /// Changes of settings and rights.
    ConfigHandler,
    /// Snapshot and restore.
    StateHandler,
}

impl Ability {
    /// All six.
    pub const ALL: [Self; 6] = [
        Self::Lifecycle,
        Self::MessageHandler,
        Self::CallHandler,
        Self::TimerHandler,
        Self::ConfigHandler,
        Self::StateHandler,
    ];

    /// The name of the interface, without package and version.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle",
            Self::MessageHandler => "message-handler",
            Self::CallHandler => "call-handler",
            Self::TimerHandler => "timer-handler",
            Self::ConfigHandler => "config-handler",
            Self::StateHandler => "state-handler",
        }
    }
}

/// What is known about a component without running it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// Its content id.
    pub mcid: Mcid,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Interfaces it imports, as written: what it could ever ask of the host.
    pub imports: Vec<String>,
    /// Interfaces it exports, as written.
    pub exports: Vec<String>,
    /// What it can handle.
    pub abilities: Vec<Ability>,
    /// The text of the embedded manifest.
    pub manifest: Option<String>,
    /// Bytes of code and data in its core modules.
    pub core_bytes: u64,
    /// Custom sections, at all levels, each name once.
    pub sections: Vec<Section>,
    /// What it was made with, by its own word: `Go 1.26.8`, `wit-component 0.254.2`.
    pub made_with: Vec<String>,
}

/// A custom section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Bytes of all sections of this name.
    pub bytes: u64,
}

impl Inspection {
    /// The interfaces of the contract that it imports, without package, version, and the types that all rest on.
    pub fn capabilities(&self) -> Vec<&str> {
        let named = self.imports.iter().filter_map(|import| import.strip_prefix(PACKAGE)?.split('@').next());
        named.filter(|name| *name != "types").collect()
    }

    /// How many interfaces of WASI it imports.
    pub fn wasi_imports(&self) -> usize {
        self.imports.iter().filter(|import| import.starts_with("wasi:")).count()
    }
}

/// Why bytes are no plugin for this host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Neither a component nor a core module.
    #[error("this is no WebAssembly file (expected it to begin with the bytes 00 61 73 6d)")]
    NotWasm,
    /// A core module.
    #[error(
        "this is a core WebAssembly module, not a component; build it for wasm32-wasip2, or make a component of it with `wasm-tools component new`"
    )]
    CoreModule,
    /// The file breaks off or is damaged.
    #[error("this WebAssembly file is damaged: {0}")]
    Damaged(String),
    /// None of the six handlers.
    #[error(
        "this component handles nothing: it exports none of macula:plugin@0.1.0's lifecycle, message-handler, call-handler, timer-handler, config-handler, state-handler"
    )]
    NoHandler,
    /// A handler of a version that this host does not speak.
    #[error("this component exports {0}, and this host speaks macula:plugin@0.1.x")]
    HandlerVersion(String),
    /// An interface of the package in a version that this host does not speak.
    #[error("this component imports {0}, and this host speaks macula:plugin@0.1.x")]
    ImportVersion(String),
    /// WASI that plugins do not get.
    #[error(
        "this component imports {0}, which plugins do not get: of WASI there are clocks, randomness, and an empty file system and environment, in version 0.2"
    )]
    Wasi(String),
    /// A function, or something else, under the name of an interface.
    #[error("{0} is the name of an interface, and in this component it is something else")]
    NoInstance(String),
    /// A handler's function has another type than in the contract.
    #[error("this component does not fit macula:plugin@0.1.0, in {handler}'s {function}: {why}")]
    HandlerType {
        /// The handler's interface.
        handler: &'static str,
        /// Its function.
        function: String,
        /// What differs.
        why: String,
    },
    /// An interface that this host has never heard of.
    #[error("this component imports {0}, which this host does not offer")]
    UnknownImport(String),
    /// The embedded manifest is too large or no UTF-8.
    #[error("the embedded manifest is not text of at most {MANIFEST_BYTES_MAX} bytes")]
    Manifest,
}

/// Looks at a component.
///
/// # Errors
/// When it could not run on this host.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, Refusal> {
    let outline = Outline::read(bytes)?;
    outline.imports.iter().try_for_each(|import| check_import(import))?;
    let abilities = abilities(&outline.exports)?;
    if abilities.is_empty() {
        return Err(Refusal::NoHandler);
    }
    Ok(Inspection {
        mcid: Mcid::of(bytes),
        size_bytes: bytes.len() as u64,
        imports: outline.imports,
        exports: outline.exports,
        abilities,
        manifest: outline.manifest.map(text_of_manifest).transpose()?,
        core_bytes: outline.core_bytes,
        sections: outline.sections.into_iter().map(|(name, bytes)| Section { name: readable(name), bytes }).collect(),
        made_with: outline.made_with.into_iter().collect(),
    })
}

/// Looks at all of a component: as [`inspect`], and that no part of it is damaged, and that its handlers have the types of the
/// contract. Takes some milliseconds for each megabyte.
///
/// # Errors
/// When it could not run on this host.
pub fn examine(bytes: &[u8]) -> Result<Inspection, Refusal> {
    let inspection = inspect(bytes)?;
    conformance::check(bytes)?;
    Ok(inspection)
}

/// What stands at the outermost level of a component.
#[derive(Default)]
struct Outline<'a> {
    imports: Vec<String>,
    exports: Vec<String>,
    manifest: Option<&'a [u8]>,
    core_bytes: u64,
    sections: BTreeMap<&'a str, u64>,
    made_with: BTreeSet<String>,
}

impl<'a> Outline<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Refusal> {
        if !bytes.starts_with(b"\0asm") {
            return Err(Refusal::NotWasm);
        }
        let mut outline = Self::default();
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(|error| damaged(&error))? {
                Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => return Err(Refusal::CoreModule),
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(imports) if depth == 0 => {
                    for import in imports {
                        let import = import.map_err(|error| damaged(&error))?;
                        // Types alone bring nothing in; they only name what an instance has.
                        if import.ty.kind() != ComponentExternalKind::Type {
                            check_is_instance(import.name.name, import.ty.kind())?;
                            outline.imports.push(import.name.name.to_owned());
                        }
                    }
                }
                Payload::ComponentExportSection(exports) if depth == 0 => {
                    for export in exports {
                        let export = export.map_err(|error| damaged(&error))?;
                        check_is_instance(export.name.name, export.kind)?;
                        outline.exports.push(export.name.name.to_owned());
                    }
                }
                Payload::CodeSectionStart { size, .. } => outline.core_bytes += u64::from(size),
                Payload::DataSection(data) => outline.core_bytes += data.range().len() as u64,
                // The outermost wins: whoever made the component knows best.
                Payload::CustomSection(section)
                    if section.name() == manifest::SECTION && (depth == 0 || outline.manifest.is_none()) =>
                {
                    outline.note(&section);
                    outline.manifest = Some(section.data());
                }
                Payload::CustomSection(section) => outline.note(&section),
                _ => {}
            }
        }
        Ok(outline)
    }
}

impl<'a> Outline<'a> {
    fn note(&mut self, section: &CustomSectionReader<'a>) {
        // Of a component with thousands, the first will do.
        if self.sections.len() < SECTIONS_MAX || self.sections.contains_key(section.name()) {
            *self.sections.entry(section.name()).or_default() += section.data().len() as u64;
        }
        let KnownCustom::Producers(producers) = section.as_known() else { return };
        let values = producers.into_iter().flatten().flat_map(|field| field.values.into_iter().flatten());
        for value in values.take(SECTIONS_MAX - self.made_with.len().min(SECTIONS_MAX)) {
            self.made_with.insert(readable(format!("{} {}", value.name, value.version).trim()));
        }
    }
}

/// Names are for people: no control characters, and not longer than a line.
fn readable(text: &str) -> String {
    readable_up_to(text, 80)
}

fn readable_up_to(text: &str, length: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(length).collect()
}

/// What the library says of damage may have several lines, and quote the file.
pub(crate) fn damaged(error: &wasmparser::BinaryReaderError) -> Refusal {
    let why = error.message().lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    Refusal::Damaged(format!("{} at byte {}", readable_up_to(&why, 200), error.offset()))
}

/// The name of an interface in the contract's package, and its version.
pub(crate) fn interface_of(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(PACKAGE)?.split_once('@')
}

/// A name like `namespace:package/interface` is that of an interface, and what bears it is an instance of one. Libraries
/// that read components rest on that.
fn check_is_instance(name: &str, kind: ComponentExternalKind) -> Result<(), Refusal> {
    let is_interface = name.contains(':') && name.contains('/');
    if is_interface && kind != ComponentExternalKind::Instance {
        return Err(Refusal::NoInstance(readable(name)));
    }
    Ok(())
}

fn check_import(import: &str) -> Result<(), Refusal> {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    if let Some(interface) = name.strip_prefix(PACKAGE) {
        return match CAPABILITIES.contains(&interface) {
            true if version.starts_with(VERSION_PREFIX) => Ok(()),
            true => Err(Refusal::ImportVersion(import.to_owned())),
            false => Err(Refusal::UnknownImport(import.to_owned())),
        };
    }
    if name.starts_with("wasi:") {
        let known = WASI.contains(&name) && version.starts_with("0.2.");
        return if known { Ok(()) } else { Err(Refusal::Wasi(import.to_owned())) };
    }
    Err(Refusal::UnknownImport(import.to_owned()))
}

fn abilities(exports: &[String]) -> Result<Vec<Ability>, Refusal> {
    let mut abilities = Vec::new();
    for export in exports {
        let Some((interface, version)) = interface_of(export) else { continue };
        let Some(ability) = Ability::ALL.into_iter().find(|ability| ability.interface() == interface) else { continue };
        if !version.starts_with(VERSION_PREFIX) {
            return Err(Refusal::HandlerVersion(export.clone()));
        }
        abilities.push(ability);
    }
    abilities.sort();
    Ok(abilities)
}

fn text_of_manifest(data: &[u8]) -> Result<String, Refusal> {
    if data.len() > MANIFEST_BYTES_MAX {
        return Err(Refusal::Manifest);
    }
    String::from_utf8(data.to_vec()).map_err(|_| Refusal::Manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLER: &str = r#"(component $c) (instance $i (instantiate $c))"#;

    fn component(body: &str) -> Vec<u8> {
        wat::parse_str(format!("(component {body})")).unwrap()
    }

    fn handling(body: &str) -> Vec<u8> {
        component(&format!("{body} {HANDLER} (export \"macula:plugin/message-handler@0.1.0\" (instance $i))"))
    }

    fn custom_section(mut component: Vec<u8>, name: &str, data: &[u8]) -> Vec<u8> {
        let mut body = vec![u8::try_from(name.len()).unwrap()];
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(data);
        assert!(body.len() < 128, "one byte of length is enough for tests");
        component.extend([0, u8::try_from(body.len()).unwrap()]);
        component.extend(body);
        component
    }

    #[test]
    fn tells_abilities_and_imports() {
        let bytes =
            handling(r#"(import "macula:plugin/pubsub@0.1.0" (instance)) (import "wasi:cli/stdout@0.2.6" (instance))"#);
        let inspection = inspect(&bytes).unwrap();
        assert_eq!(inspection.abilities, [Ability::MessageHandler]);
        assert_eq!(inspection.imports, ["macula:plugin/pubsub@0.1.0", "wasi:cli/stdout@0.2.6"]);
        assert_eq!(inspection.mcid, Mcid::of(&bytes));
        assert_eq!(inspection.manifest, None);
    }

    #[test]
    fn finds_the_manifest_outside_and_inside() {
        let outside = custom_section(handling(""), manifest::SECTION, b"name = \"out\"");
        assert_eq!(inspect(&outside).unwrap().manifest.as_deref(), Some("name = \"out\""));
        let inside = handling(r#"(core module (@custom "macula:manifest" "name = \"in\""))"#);
        assert_eq!(inspect(&inside).unwrap().manifest.as_deref(), Some("name = \"in\""));
        let both = custom_section(inside, manifest::SECTION, b"name = \"out\"");
        assert_eq!(inspect(&both).unwrap().manifest.as_deref(), Some("name = \"out\""));
        let binary = custom_section(handling(""), manifest::SECTION, &[0xff, 0xfe]);
        assert_eq!(inspect(&binary), Err(Refusal::Manifest));
    }

    #[test]
    fn refuses_by_name() {
        let import = |name: &str| handling(&format!("(import {name:?} (instance))"));
        for (bytes, expected) in [
            (b"#!/bin/sh".to_vec(), "no WebAssembly file"),
            (Vec::new(), "no WebAssembly file"),
            (wat::parse_str("(module)").unwrap(), "a core WebAssembly module, not a component"),
            (component(""), "exports none of"),
            (
                import("wasi:http/outgoing-handler@0.2.3"),
                "imports wasi:http/outgoing-handler@0.2.3, which plugins do not",
            ),
            (import("wasi:sockets/tcp@0.2.0"), "imports wasi:sockets/tcp@0.2.0"),
            (import("wasi:clocks/monotonic-clock@0.3.0"), "imports wasi:clocks/monotonic-clock@0.3.0"),
            (import("acme:db/store@1.0.0"), "imports acme:db/store@1.0.0, which this host does not offer"),
            (import("macula:plugin/pubsub@0.2.0"), "imports macula:plugin/pubsub@0.2.0, and this host speaks"),
            (import("macula:plugin/lasers@0.1.0"), "imports macula:plugin/lasers@0.1.0, which this host does not"),
            (handling("(import \"naked\" (func))"), "imports naked"),
            (
                component(&format!("{HANDLER} (export \"macula:plugin/message-handler@0.2.0\" (instance $i))")),
                "exports macula:plugin/message-handler@0.2.0, and this host speaks macula:plugin@0.1.x",
            ),
        ] {
            let text = inspect(&bytes).unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
        let mut cut = handling("");
        cut.truncate(cut.len() - 3);
        assert!(matches!(inspect(&cut), Err(Refusal::Damaged(_))));
    }
}
