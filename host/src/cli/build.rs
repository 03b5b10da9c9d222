//! `macula-host build [DIR]`: from source to component. Rust, by cargo.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::CommonFlags;
use crate::{failure::Failure, output};

/// Adds the compiler's target where it is missing; the same script that the SDK carries.
const WASM_TARGET_SCRIPT: &str = include_str!("../../../guest-sdk/rust/wasm-target.sh");
const TARGET: &str = "wasm32-wasip2";

#[derive(Debug, Args)]
pub(super) struct Build {
    /// Folder with the plugin's Cargo.toml
    #[arg(default_value = ".")]
    directory: PathBuf,
}

/// What came of a build.
#[derive(Debug, Serialize)]
pub(super) struct Built {
    pub(super) component: PathBuf,
    mcid: String,
    bytes: usize,
    imports: Vec<String>,
}

impl Build {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let built = build(&self.directory)?;
        if common.json {
            output::json(&built);
        } else {
            let size = built.bytes as f64 / 1024.0;
            output::line(format_args!("{} ({size:.1} KiB)\n  content id  {}", built.component.display(), built.mcid));
            output::line(format_args!("  imports     {}", built.imports.join(", ")));
        }
        Ok(())
    }
}

/// Builds the plugin in `directory`. The compiler's messages go to standard error as they are.
pub(super) fn build(directory: &Path) -> Result<Built, Failure> {
    let manifest = directory.join("Cargo.toml");
    if !directory.is_dir() {
        return Err(Failure::not_found(format!("there is no folder {}", directory.display())));
    }
    if !manifest.is_file() {
        let message = format!("{} holds no Cargo.toml; this version builds plugins in Rust", directory.display());
        return Err(Failure::not_found(message));
    }
    add_target()?;
    let component = compile(&manifest)?;
    let bytes = std::fs::read(&component)?;
    let inspection =
        macula_runtime::inspect(&bytes).map_err(|refusal| Failure::failed(refusal).during(component.display()))?;
    Ok(Built { component, mcid: inspection.mcid.to_string(), bytes: bytes.len(), imports: inspection.imports })
}

fn add_target() -> Result<(), Failure> {
    let mut script =
        Command::new("bash").arg("-s").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().map_err(|error| {
            Failure::failed(format!("cannot run bash, which checks for the target {TARGET}: {error}"))
        })?;
    if let Some(mut input) = script.stdin.take() {
        input.write_all(WASM_TARGET_SCRIPT.as_bytes())?;
    }
    if script.wait()?.success() {
        Ok(())
    } else {
        Err(Failure::failed(format!("the Rust compiler lacks {TARGET}; run: rustup target add {TARGET}")))
    }
}

/// One line of cargo's machine-readable output, as far as it matters here.
#[derive(Deserialize)]
struct CargoLine {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

fn compile(manifest: &Path) -> Result<PathBuf, Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo)
        .args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics", "--manifest-path"])
        .arg(manifest)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::failed(format!("cannot run cargo: {error}; plugins in Rust are built with it")))?;
    let wanted = manifest.canonicalize()?;
    let mut component = None;
    if let Some(output) = build.stdout.take() {
        for line in BufReader::new(output).lines() {
            let Ok(line) = serde_json::from_str::<CargoLine>(&line?) else { continue };
            if line.reason == "compiler-artifact" && line.manifest_path == wanted {
                let wasm = line.filenames.into_iter().find(|file| file.extension().is_some_and(|end| end == "wasm"));
                component = wasm.or(component);
            }
        }
    }
    if !build.wait()?.success() {
        return Err(Failure::failed(format!("{} does not compile; see the messages above", manifest.display())));
    }
    component.ok_or_else(|| {
        Failure::failed(format!("{} makes no component: its [lib] needs crate-type = [\"cdylib\"]", manifest.display()))
    })
}
