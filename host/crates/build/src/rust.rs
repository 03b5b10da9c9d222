//! Rust: cargo builds the component by itself; here, paths are taken out of it.
//!
//! Cargo runs in the project's folder, so that the toolchain and the configuration are the project's wherever the build is
//! asked for. Variables that say how code is made for whichever target are taken out of its environment: they are meant for
//! programs of this machine, and would make another component of the same source.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;

use crate::{BuildError, Missing, toolchain};

const TARGET: &str = "wasm32-wasip2";

/// Adds the compiler's target where it is missing; the same script that the SDK carries.
const TARGET_SCRIPT: &str = include_str!("../../../../guest-sdk/rust/wasm-target.sh");

/// What makes a library a component.
const CDYLIB: &str = "cdylib";

/// Variables that say how code is made, for whichever target. Those for the target alone
/// (`CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS`) are the plugin's.
const FOR_ALL_TARGETS: [&str; 6] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_INCREMENTAL",
    "CARGO_BUILD_INCREMENTAL",
];

/// Variables that change a profile begin like this.
const PROFILES: &str = "CARGO_PROFILE_";

pub(crate) fn build(folder: &Path) -> Result<PathBuf, BuildError> {
    let manifest = folder.join("Cargo.toml");
    let manifest = manifest.canonicalize().map_err(|error| BuildError::Disk { path: manifest, error })?;
    let program = toolchain::named("CARGO", "cargo");
    if toolchain::output(&program, &["--version"]).is_none() {
        let what = "plugins in Rust are built with cargo, and there is none here".to_owned();
        return Err(Missing { what, remedy: toolchain::CARGO_REMEDY.to_owned() }.into());
    }
    let tools = Tools { cargo: program, folder: manifest.parent().unwrap_or(folder).to_owned() };
    let metadata = tools.metadata().ok_or_else(|| BuildError::Compile(folder.to_owned()))?;
    let package =
        metadata.plugin(&manifest).map_err(|why| BuildError::NoComponent { project: folder.to_owned(), why })?;
    tools.add_target()?;
    let flags = serde_json::to_string(&tools.remapped(&metadata)).unwrap_or_default();
    let mut build = tools
        .cargo()
        .args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics", "--lib"])
        .args(["--package", &package.id])
        .args(["--config", &format!("target.{TARGET}.rustflags={flags}")])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| BuildError::Disk { path: tools.cargo.clone().into(), error })?;
    let component = build.stdout.take().and_then(|output| artifact(BufReader::new(output), &package.id));
    let status = build.wait().map_err(|error| BuildError::Disk { path: tools.cargo.into(), error })?;
    if !status.success() {
        return Err(BuildError::Compile(folder.to_owned()));
    }
    component.ok_or_else(|| BuildError::NoComponent {
        project: folder.to_owned(),
        why: format!("cargo made no WebAssembly of the library of {}", package.name),
    })
}

/// Files that configure cargo and the choice of a compiler, in the project's folder and in those around it.
const CONFIGURATION: [&str; 4] = [".cargo/config.toml", ".cargo/config", "rust-toolchain.toml", "rust-toolchain"];

/// Packages that the project names by their path, the files of its workspace, and what configures cargo.
pub(crate) fn surroundings(folder: &Path) -> Option<Vec<PathBuf>> {
    let tools = Tools { cargo: toolchain::named("CARGO", "cargo"), folder: folder.to_owned() };
    // Nothing is fetched for this: before the first build, cargo may not know yet.
    let mut cargo = tools.cargo();
    let text = toolchain::printed(cargo.args(["metadata", "--offline", "--format-version=1"]).stderr(Stdio::null()))?;
    let metadata: Metadata = serde_json::from_str(&text).ok()?;
    let mut found = metadata.packages_of_this_machine(&folder.join("Cargo.toml"));
    found.extend(["Cargo.toml", "Cargo.lock"].map(|file| metadata.workspace_root.join(file)));
    for around in folder.ancestors().skip(1) {
        found.extend(CONFIGURATION.map(|file| around.join(file)));
    }
    Some(found)
}

/// The project's own toolchain: what is run in its folder.
struct Tools {
    cargo: OsString,
    folder: PathBuf,
}

impl Tools {
    fn command(&self, program: &OsStr) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder);
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_for_all_targets(name)) {
            command.env_remove(name);
        }
        command
    }

    fn cargo(&self) -> Command {
        self.command(&self.cargo)
    }

    /// What cargo says of the project; when it says that something is wrong, that is on standard error.
    fn metadata(&self) -> Option<Metadata> {
        let text = toolchain::printed_or_said(self.cargo().args(["metadata", "--no-deps", "--format-version=1"]))?;
        serde_json::from_str(&text).ok()
    }
}

fn is_for_all_targets(variable: &OsStr) -> bool {
    variable.to_str().is_some_and(|name| FOR_ALL_TARGETS.contains(&name) || name.starts_with(PROFILES))
}

/// What cargo says of a project, as far as it matters here.
#[derive(Deserialize)]
struct Metadata {
    /// Of the workspace that the project is, or is in.
    packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
    /// What depends on what; not there when dependencies were not asked for.
    resolve: Option<Resolve>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    dependencies: Vec<String>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    /// The registry or repository that it is from; nothing when it lies on this machine.
    source: Option<String>,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

/// What cargo makes of a package: its library, one of its programs, its build script, and so on.
#[derive(Default, Deserialize)]
struct Target {
    #[serde(default)]
    kind: Vec<String>,
}

impl Target {
    fn is_component(&self) -> bool {
        self.kind.iter().any(|kind| kind == CDYLIB)
    }
}

impl Metadata {
    /// Folders of the packages that the one with this manifest depends on, and that lie on this machine.
    fn packages_of_this_machine(&self, manifest: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let nodes = self.resolve.iter().flat_map(|resolve| &resolve.nodes);
        let nodes: BTreeMap<&str, &Node> = nodes.map(|node| (node.id.as_str(), node)).collect();
        let packages: BTreeMap<&str, &Package> =
            self.packages.iter().map(|package| (package.id.as_str(), package)).collect();
        let own = self.packages.iter().find(|package| package.manifest_path == manifest);
        let mut seen = BTreeSet::new();
        let mut open: Vec<&str> = own.map(|package| package.id.as_str()).into_iter().collect();
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            let is_here = |package: &&&Package| package.source.is_none();
            found.extend(packages.get(id).filter(is_here).and_then(|package| package.manifest_path.parent()));
            open.extend(nodes.get(id).into_iter().flat_map(|node| node.dependencies.iter().map(String::as_str)));
        }
        found.into_iter().map(Path::to_owned).collect()
    }

    /// The package that the project is, or why it makes no component.
    fn plugin(&self, manifest: &Path) -> Result<&Package, String> {
        let is_plugin = |package: &&Package| package.targets.iter().any(Target::is_component);
        match self.packages.iter().find(|package| package.manifest_path == manifest) {
            Some(package) if is_plugin(&package) => Ok(package),
            Some(_) => Err(format!("this makes no component: its [lib] needs crate-type = [\"{CDYLIB}\"]")),
            None => {
                let plugins =
                    self.packages.iter().filter(is_plugin).filter_map(|package| package.manifest_path.parent());
                let plugins: Vec<String> = plugins.map(|folder| folder.display().to_string()).collect();
                Err(match plugins.as_slice() {
                    [] => format!(
                        "this is a workspace, and none of its packages makes a component: the [lib] of one needs \
                         crate-type = [\"{CDYLIB}\"]"
                    ),
                    plugins => {
                        format!("this is a workspace; name the folder of one of its plugins: {}", plugins.join(", "))
                    }
                })
            }
        }
    }
}

fn missing(what: &str) -> Missing {
    Missing { what: what.to_owned(), remedy: format!("rustup target add {TARGET}") }
}

impl Tools {
    fn add_target(&self) -> Result<(), BuildError> {
        let mut script =
            self.command("bash".as_ref()).arg("-s").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().map_err(
                |_| missing(&format!("the compiler's target {TARGET} could not be looked for without bash")),
            )?;
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
    fn remapped(&self, metadata: &Metadata) -> Vec<String> {
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
        let said = |arguments: &[&str]| {
            let said = toolchain::printed(self.command(&rustc).args(arguments).stderr(Stdio::null()));
            said.unwrap_or_default()
        };
        let (sysroot, version) = (said(&["--print", "sysroot"]), said(&["--version", "--verbose"]));
        if let Some(commit) = version.lines().find_map(|line| line.strip_prefix("commit-hash: ")) {
            remap(&Path::new(sysroot.trim()).join("lib/rustlib/src/rust"), &format!("/rustc/{commit}"));
        }
        flags
    }
}

/// The component among what cargo says that it made: the library of the package, and none of its programs.
fn artifact(lines: impl BufRead, package: &str) -> Option<PathBuf> {
    /// One line of cargo's machine-readable output, as far as it matters here.
    #[derive(Deserialize)]
    struct CargoLine {
        reason: String,
        #[serde(default)]
        package_id: String,
        #[serde(default)]
        target: Target,
        #[serde(default)]
        filenames: Vec<PathBuf>,
    }
    let mut component = None;
    // To the end: cargo waits when nobody reads.
    for line in lines.lines().map_while(Result::ok) {
        let Ok(line) = serde_json::from_str::<CargoLine>(&line) else { continue };
        if line.reason == "compiler-artifact" && line.package_id == package && line.target.is_component() {
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
    fn the_component_is_the_library_of_the_project_and_neither_a_program_nor_a_dependency() {
        let made = |package: &str, kind: &str, file: &str| {
            format!(
                "{{\"reason\":\"compiler-artifact\",\"package_id\":\"{package}\",\"target\":{{\"kind\":[\"{kind}\"]}},\
                 \"filenames\":[\"/t/p.rlib\",\"/t/{file}\"]}}\n"
            )
        };
        let lines = [
            made("dep", "cdylib", "dep.wasm"),
            "not json\n".to_owned(),
            made("p", "custom-build", "build-script"),
            made("p", "cdylib", "p.wasm"),
            made("p", "bin", "aaa.wasm"),
            "{\"reason\":\"build-finished\",\"success\":true}\n".to_owned(),
        ];
        assert_eq!(artifact(lines.concat().as_bytes(), "p"), Some("/t/p.wasm".into()));
        assert_eq!(artifact(made("p", "bin", "aaa.wasm").as_bytes(), "p"), None);
        assert_eq!(artifact("".as_bytes(), "p"), None);
    }

    #[test]
    fn of_a_workspace_the_plugin_is_the_package_in_the_folder() {
        let metadata = |packages: &[(&str, &str)]| -> Metadata {
            let package = |(name, kind): &(&str, &str)| {
                let targets = serde_json::json!([{ "kind": [kind] }, { "kind": ["bin"] }]);
                let manifest_path = format!("/w/{name}/Cargo.toml");
                serde_json::json!({ "id": name, "name": name, "manifest_path": manifest_path, "targets": targets })
            };
            let packages: Vec<_> = packages.iter().map(package).collect();
            let metadata =
                serde_json::json!({ "packages": packages, "workspace_root": "/w", "target_directory": "/w/target" });
            serde_json::from_value(metadata).unwrap()
        };
        let several = metadata(&[("a", "cdylib"), ("b", "cdylib"), ("tool", "lib")]);
        let plugin = |metadata: &Metadata, manifest: &str| {
            metadata.plugin(Path::new(manifest)).map(|package| package.id.clone())
        };
        assert_eq!(plugin(&several, "/w/b/Cargo.toml").as_deref(), Ok("b"));
        let error = plugin(&several, "/w/tool/Cargo.toml").unwrap_err();
        assert_eq!(error, "this makes no component: its [lib] needs crate-type = [\"cdylib\"]");
        let error = plugin(&several, "/w/Cargo.toml").unwrap_err();
        assert_eq!(error, "this is a workspace; name the folder of one of its plugins: /w/a, /w/b");
        let error = plugin(&metadata(&[("tool", "lib")]), "/w/Cargo.toml").unwrap_err();
        assert!(error.starts_with("this is a workspace, and none of its packages makes a component"), "{error}");
    }

    #[test]
    fn packages_of_this_machine_are_those_that_the_project_leads_to() {
        let package = |name: &str, source: Option<&str>| {
            let manifest_path = format!("/w/{name}/Cargo.toml");
            serde_json::json!({ "id": name, "name": name, "source": source, "manifest_path": manifest_path, "targets": [] })
        };
        let metadata: Metadata = serde_json::from_value(serde_json::json!({
            "packages": [
                package("plugin", None), package("lib", None), package("serde", Some("registry")), package("other", None),
                package("deep", None),
            ],
            "workspace_root": "/w",
            "target_directory": "/w/target",
            "resolve": { "nodes": [
                { "id": "plugin", "dependencies": ["lib", "serde"] },
                { "id": "lib", "dependencies": ["deep", "plugin"] },
                { "id": "serde", "dependencies": [] },
            ] },
        }))
        .unwrap();
        let mut found = metadata.packages_of_this_machine(Path::new("/w/plugin/Cargo.toml"));
        found.sort();
        assert_eq!(found, ["/w/deep", "/w/lib", "/w/plugin"].map(PathBuf::from));
    }

    #[test]
    fn flags_for_programs_of_this_machine_are_not_the_plugins() {
        let is_left_out = |name: &str| is_for_all_targets(name.as_ref());
        assert!(["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_PROFILE_RELEASE_DEBUG"].into_iter().all(is_left_out));
        for kept in
            ["CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS", "CARGO_HOME", "CARGO_TARGET_DIR", "RUSTUP_TOOLCHAIN", "PATH"]
        {
            assert!(!is_left_out(kept), "{kept}");
        }
    }
}
