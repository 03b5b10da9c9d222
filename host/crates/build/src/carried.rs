//! Texts that this program carries: the contract, the SDKs, the templates of new projects.

use std::{io, path::Path};

use crate::Template;

/// Paths below a folder, with `/`, and what is in them.
pub(crate) type Files = &'static [(&'static str, &'static str)];

include!(concat!(env!("OUT_DIR"), "/carried.rs"));

/// The contract: `wit/`.
pub(crate) fn contract() -> Files {
    WIT
}

/// The Rust SDK, but for its Cargo.toml, which inherits from this project's.
pub(crate) fn rust_sdk() -> Files {
    RUST_SDK
}

/// The Go SDK.
pub(crate) fn go_sdk() -> Files {
    GO_SDK
}

/// What a new project begins with.
pub(crate) fn template(template: Template) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    // What JavaScript has and TypeScript has otherwise.
    const OF_JS_ALONE: [&str; 2] = ["jsconfig.json", "src/index.js"];
    let (base, own): (Files, Files) = match template {
        Template::Rust => (&[], RUST_TEMPLATE),
        Template::Go => (&[], GO_TEMPLATE),
        Template::Js => (&[], JS_TEMPLATE),
        Template::Ts => (JS_TEMPLATE, TS_TEMPLATE),
    };
    let is_taken = |path: &str| OF_JS_ALONE.contains(&path) || own.iter().any(|(other, _)| *other == path);
    base.iter().filter(move |(path, _)| !is_taken(path)).chain(own)
}

/// The JavaScript SDK.
pub(crate) fn js_sdk() -> Files {
    JS_SDK
}

/// The source of the JavaScript builder.
pub(crate) fn js_builder() -> Files {
    JS_BUILDER
}

/// Writes files below a folder; those that are there and the same are left alone.
pub(crate) fn write(files: Files, folder: &Path) -> io::Result<()> {
    for (path, text) in files {
        let path = folder.join(path);
        if std::fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
            continue;
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        macula_files::write(&path, text.as_bytes()).map_err(|error| error.error)?;
    }
    Ok(())
}
