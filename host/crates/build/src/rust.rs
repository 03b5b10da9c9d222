//! Rust: cargo builds the component by itself; here, paths are taken out of it.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;

use crate::{BuildError, Missing, toolchain};

const TARGET: &str = "wasm32-wasip2";

/// Adds the compiler's target where it is missing; the same script that the SDK carries.
const TARGET_SCRIPT: &str = include_str!("../../../../guest-sdk/rust/wasm-target.sh");

pub(crate) fn build(folder: &Path) -> Result<PathBuf, BuildError> {
    let manifest = folder.join("Cargo.toml");
    let manifest = manifest.canonicalize().map_err(|error| BuildError::Disk { path: manifest, error })?;
    let cargo = toolchain::named("CARGO", "cargo");
    if toolchain::output(&cargo, &["--version"]).is_none() {
        let what = "plugins in Rust are built with cargo, and there is none here".to_owned();
        return Err(Missing { what, remedy: toolchain::CARGO_REMEDY.to_owned() }.into());
    }
    add_target()?;
    let flags = remapped(&cargo, &manifest);
    let flags = serde_json::to_string(&flags).unwrap_or_default();
    let mut build = Command::new(&cargo)
        .args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics", "--manifest-path"])
        .arg(&manifest)
        .args(["--config", &format!("target.{TARGET}.rustflags={flags}")])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| BuildError::Disk { path: cargo.clone().into(), error })?;
    let component = build.stdout.take().and_then(|output| artifact(BufReader::new(output), &manifest));
    let status = build.wait().map_err(|error| BuildError::Disk { path: cargo.into(), error })?;
    if !status.success() {
        return Err(BuildError::Compile(folder.to_owned()));
    }
    component.ok_or_else(|| BuildError::NoComponent {
        project: folder.to_owned(),
        why: "this makes no component: its [lib] needs crate-type = [\"cdylib\"]".into(),
    })
}

fn missing(what: &str) -> Missing {
    Missing { what: what.to_owned(), remedy: format!("rustup target add {TARGET}") }
}

fn add_target() -> Result<(), BuildError> {
    let mut script = Command::new("bash")
        .arg("-s")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|_| missing(&format!("the compiler's target {TARGET} could not be looked for without bash")))?;
    if let Some(mut input) = script.stdin.take() {
        // When it ends early it has said why.
        let _ = input.write_all(TARGET_SCRIPT.as_bytes());
    }
    match script.wait() {
        Ok(status) if status.success() => Ok(()),
        _ => Err(missing(&format!("the Rust compiler lacks the target {TARGET}")).into()),
    }
}

/// Flags that take paths out of panic messages: the same source makes the same component wherever it lies. Cargo leaves
/// them out of the names of crates.
fn remapped(cargo: &std::ffi::OsString, manifest: &Path) -> Vec<String> {
    #[derive(Default, Deserialize)]
    struct Metadata {
        workspace_root: PathBuf,
        target_directory: PathBuf,
    }
    let arguments = ["metadata", "--no-deps", "--format-version=1", "--manifest-path", &manifest.to_string_lossy()];
    let metadata: Metadata =
        toolchain::output(cargo, &arguments).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let mut flags = Vec::new();
    let mut remap = |from: &Path, to: &str| {
        if !from.as_os_str().is_empty() {
            flags.push(format!("--remap-path-prefix={}={to}", from.display()));
        }
    };
    remap(&metadata.workspace_root, "/plugin");
    remap(&metadata.target_directory, "/target");
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    if let Some(home) = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo"))) {
        for registry in std::fs::read_dir(home.join("registry/src")).into_iter().flatten().flatten() {
            remap(&registry.path(), "/registry");
        }
        remap(&home.join("git/checkouts"), "/git");
    }
    let rustc = toolchain::named("RUSTC", "rustc");
    let sysroot = toolchain::output(&rustc, &["--print", "sysroot"]).unwrap_or_default();
    let version = toolchain::output(&rustc, &["--version", "--verbose"]).unwrap_or_default();
    if let Some(commit) = version.lines().find_map(|line| line.strip_prefix("commit-hash: ")) {
        remap(&Path::new(sysroot.trim()).join("lib/rustlib/src/rust"), &format!("/rustc/{commit}"));
    }
    flags
}

/// The component among what cargo says that it made.
fn artifact(lines: impl BufRead, manifest: &Path) -> Option<PathBuf> {
    /// One line of cargo's machine-readable output, as far as it matters here.
    #[derive(Deserialize)]
    struct CargoLine {
        reason: String,
        #[serde(default)]
        manifest_path: PathBuf,
        #[serde(default)]
        filenames: Vec<PathBuf>,
    }
    let mut component = None;
    for line in lines.lines().map_while(Result::ok) {
        let Ok(line) = serde_json::from_str::<CargoLine>(&line) else { continue };
        if line.reason == "compiler-artifact" && line.manifest_path == manifest {
            let wasm = line.filenames.into_iter().find(|file| file.extension().is_some_and(|end| end == "wasm"));
            component = wasm.or(component);
        }
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_that_of_the_project_and_not_of_a_dependency() {
        let lines = concat!(
            "{\"reason\":\"compiler-artifact\",\"manifest_path\":\"/dep/Cargo.toml\",\"filenames\":[\"/t/dep.wasm\"]}\n",
            "not json\n",
            "{\"reason\":\"compiler-artifact\",\"manifest_path\":\"/p/Cargo.toml\",\"filenames\":[\"/t/p.rlib\",\"/t/p.wasm\"]}\n",
            "{\"reason\":\"build-finished\",\"success\":true}\n",
        );
        assert_eq!(artifact(lines.as_bytes(), Path::new("/p/Cargo.toml")), Some("/t/p.wasm".into()));
        assert_eq!(artifact("".as_bytes(), Path::new("/p/Cargo.toml")), None);
    }
}
