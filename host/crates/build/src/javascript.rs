//! JavaScript and TypeScript: a builder of ours finds the modules and lets QuickJS evaluate them, or hands them to the tool
//! of the engine that package.json chooses; the manifest is put in here. The builder is a program of its own, looked for
//! and, where there is none, built once.

mod package;
mod starlingmonkey;
mod types;

use std::{
    ffi::OsString,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use macula_files::{Draft, Mode};
use serde::{Deserialize, Serialize};

use self::{
    package::{Engine, Package},
    starlingmonkey::Tool,
};
use crate::{BuildError, Manifest, Missing, carried, component, toolchain, write_component};

/// The builder's file name.
const BUILDER: &str = "macula-build-js";

/// Names the builder to use; for those who package this program.
const BUILDER_VARIABLE: &str = "MACULA_BUILD_JS";

/// What a component is made of. As long as it is the same, and the files that went in are, so is the component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Recipe {
    builder: String,
    engine: String,
    entry: PathBuf,
    manifest: Option<String>,
}

/// What the last build was made of.
#[derive(Serialize, Deserialize)]
struct Record {
    recipe: Recipe,
    inputs: Vec<(PathBuf, String)>,
}

pub(crate) fn build(folder: &Path, tools: &Path) -> Result<PathBuf, BuildError> {
    let folder = folder.canonicalize().map_err(|error| BuildError::Disk { path: folder.to_owned(), error })?;
    let manifest = Manifest::read(&folder)?;
    let package = Package::read(&folder)?;
    let tool = match package.engine {
        Engine::QuickJs => None,
        Engine::StarlingMonkey => Some(Tool::find(&folder)?),
    };
    let recipe = Recipe {
        builder: builder_key(),
        engine: tool.as_ref().map_or_else(|| "quickjs".into(), |tool| format!("starlingmonkey {}", tool.version)),
        entry: package.entry.clone(),
        manifest: manifest.text.clone(),
    };
    let record = folder.join("build").join(format!(".{}.inputs", manifest.name));
    let component = folder.join("build").join(format!("{}.wasm", manifest.name));
    if component.is_file() && is_unchanged(&record, &recipe) {
        return Ok(component);
    }
    let typed = types::check(&folder, &package.entry)?;
    let builder = Builder::find(tools)?;
    let (component, mut inputs) = match tool {
        None => builder.evaluate(&folder, &package.entry)?,
        Some(tool) => builder.hand_over(&folder, &package.entry, &tool)?,
    };
    let bytes = component::finish(&component, ("JavaScript", ""), manifest.text.as_deref())
        .map_err(|error| BuildError::NoComponent { project: folder.clone(), why: error.to_string() })?;
    let component = write_component(&folder, &manifest.name, &bytes)?;
    inputs.extend(typed);
    // What is there next time has to be what was written now.
    inputs.push(component.clone());
    remember(&record, recipe, inputs);
    Ok(component)
}

fn builder_key() -> String {
    let mut hash = blake3::Hasher::new();
    for files in [carried::js_builder(), carried::js_sdk(), carried::contract()] {
        for (path, text) in files {
            hash.update(path.as_bytes()).update(&[0]).update(text.as_bytes()).update(&[0]);
        }
    }
    hash.update(starlingmonkey::carried().as_bytes());
    hash.finalize().to_hex()[..16].to_owned()
}

fn is_unchanged(record: &Path, recipe: &Recipe) -> bool {
    let Some(last) = std::fs::read(record).ok().and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok()) else {
        return false;
    };
    last.recipe == *recipe && last.inputs.iter().all(|(path, digest)| digest_of(path).as_ref() == Some(digest))
}

/// Without a record the next build does more than it must, and nothing else.
fn remember(record: &Path, recipe: Recipe, inputs: Vec<PathBuf>) {
    let inputs = inputs.into_iter().filter_map(|path| digest_of(&path).map(|digest| (path, digest))).collect();
    if let Ok(bytes) = serde_json::to_vec(&Record { recipe, inputs }) {
        let _ = macula_files::write(record, &bytes);
    }
}

fn digest_of(path: &Path) -> Option<String> {
    std::fs::read(path).ok().map(|bytes| blake3::hash(&bytes).to_hex().to_string())
}

#[derive(Deserialize)]
struct Report {
    inputs: Vec<PathBuf>,
}

/// Our builder, and what it needs.
struct Builder {
    program: OsString,
    sdk: PathBuf,
    contract: PathBuf,
    /// Where compiled code of engines is kept.
    cache: PathBuf,
}

impl Builder {
    fn find(tools: &Path) -> Result<Self, BuildError> {
        let kept = tools.join(format!("js-{}", builder_key()));
        let program = builder(&kept)?;
        let (sdk, contract) = (kept.join("sdk"), kept.join("wit"));
        for (files, folder) in [(carried::js_sdk(), &sdk), (carried::contract(), &contract)] {
            carried::write(files, folder).map_err(|error| BuildError::Disk { path: folder.clone(), error })?;
        }
        Ok(Self { program, sdk, contract, cache: kept.join("cache") })
    }

    /// The component, with QuickJS, and the files that went in.
    fn evaluate(&self, folder: &Path, entry: &Path) -> Result<(Vec<u8>, Vec<PathBuf>), BuildError> {
        let output = part(folder, "core")?;
        let inputs = self.run("component", folder, entry, &[&self.cache, &output]);
        let component = std::fs::read(&output);
        let _ = std::fs::remove_file(&output);
        let inputs = inputs?;
        Ok((component.map_err(|error| BuildError::Disk { path: output, error })?, inputs))
    }

    /// The component that another engine's tool makes of the modules, and the files that went in.
    fn hand_over(&self, folder: &Path, entry: &Path, tool: &Tool) -> Result<(Vec<u8>, Vec<PathBuf>), BuildError> {
        let modules = part(folder, "modules")?;
        let made = self.run("modules", folder, entry, &[&modules]).and_then(|inputs| {
            let component = tool.componentize(&modules, &self.program, &self.cache)?;
            Ok((component.ok_or_else(|| BuildError::Compile(folder.to_owned()))?, inputs))
        });
        let _ = std::fs::remove_dir_all(&modules);
        made
    }

    fn run(&self, product: &str, folder: &Path, entry: &Path, to: &[&Path]) -> Result<Vec<PathBuf>, BuildError> {
        let run = Command::new(&self.program)
            .arg(product)
            .args([entry, folder, &self.sdk, &self.contract])
            .args(to)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| BuildError::Disk { path: self.program.clone().into(), error })?;
        if !run.status.success() {
            return Err(BuildError::Compile(folder.to_owned()));
        }
        let report: Report = serde_json::from_slice(&run.stdout).map_err(|error| BuildError::NoComponent {
            project: folder.to_owned(),
            why: format!("{} is of another version: {error}", Path::new(&self.program).display()),
        })?;
        Ok(report.inputs)
    }
}

/// A place for what is made on the way, in the project's own folder for such things.
fn part(folder: &Path, name: &str) -> Result<PathBuf, BuildError> {
    let build = folder.join("build");
    std::fs::create_dir_all(&build).map_err(|error| BuildError::Disk { path: build.clone(), error })?;
    clear_away(&build);
    Ok(build.join(format!("{name}-{}.part", std::process::id())))
}

/// Removes what builds left behind that were killed; those of processes that are still there are theirs.
fn clear_away(build: &Path) {
    for entry in std::fs::read_dir(build).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_suffix(".part").and_then(|rest| rest.rsplit_once('-'));
        let Some((_, process)) = process.filter(|(_, process)| process.bytes().all(|b| b.is_ascii_digit())) else {
            continue;
        };
        if !is_gone(process) {
            continue;
        }
        // What cannot be removed is in nobody's way.
        let _ = std::fs::remove_file(entry.path()).or_else(|_| std::fs::remove_dir_all(entry.path()));
    }
}

/// Whether a process has ended; false where the system does not tell.
fn is_gone(process: &str) -> bool {
    let processes = Path::new("/proc");
    processes.join("self").exists() && !processes.join(process).exists()
}

/// The builder: the one that the environment names, the one beside this program, or the one built here.
fn builder(kept: &Path) -> Result<OsString, BuildError> {
    if let Some(builder) = std::env::var_os(BUILDER_VARIABLE) {
        return Ok(builder);
    }
    let beside = std::env::current_exe().ok().map(|program| program.with_file_name(BUILDER));
    if let Some(beside) = beside.filter(|path| path.is_file()) {
        return Ok(beside.into());
    }
    let builder = kept.join(BUILDER);
    if !builder.is_file() {
        build_builder(kept, &builder)?;
    }
    Ok(builder.into())
}

/// Builds the builder from the source that this program carries.
fn build_builder(kept: &Path, builder: &Path) -> Result<(), BuildError> {
    let cargo = toolchain::named("CARGO", "cargo");
    if toolchain::output(&cargo, &["--version"]).is_none() {
        return Err(Missing {
            what: format!("plugins in JavaScript are built with {BUILDER}, which lies neither beside this program nor in {}, and there is no cargo to build it with", kept.display()),
            remedy: format!("{}; or put macula-build-js beside macula-host", toolchain::CARGO_REMEDY),
        }
        .into());
    }
    let source = kept.join("builder");
    let disk = |path: &Path| {
        let path = path.to_owned();
        move |error| BuildError::Disk { path, error }
    };
    // Of several processes that find no builder, one builds it, and the others wait.
    std::fs::create_dir_all(kept).map_err(disk(kept))?;
    let lock = kept.join("lock");
    let held = File::create(&lock).and_then(|file| file.lock().map(|()| file)).map_err(disk(&lock))?;
    if builder.is_file() {
        return Ok(());
    }
    carried::write(carried::js_builder(), &source).map_err(disk(&source))?;
    let _ = writeln!(
        std::io::stderr().lock(),
        "building {BUILDER}, which makes components of JavaScript: once, for about ten minutes on two cores"
    );
    let target = kept.join("target");
    let status = Command::new(&cargo)
        .args(["build", "--release", "--locked", "--manifest-path"])
        .arg(source.join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdout(Stdio::null())
        .status()
        .map_err(|error| BuildError::Disk { path: cargo.into(), error })?;
    if !status.success() {
        return Err(BuildError::Compile(source));
    }
    let draft = Draft::at(builder, Mode::Default)?;
    let built = target.join("release").join(BUILDER);
    let copied = File::open(&built).and_then(|mut program| {
        std::io::copy(&mut program, &mut draft.file())?;
        draft.file().set_permissions(program.metadata()?.permissions())
    });
    copied.map_err(disk(&built))?;
    draft.put()?;
    let _ = std::fs::remove_dir_all(&target);
    drop(held);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_build_left_is_cleared_away() {
        let folder = tempfile::tempdir().unwrap();
        // No process has this number.
        let (old, old_folder) =
            (folder.path().join("build/core-4194305.part"), folder.path().join("build/modules-4194305.part"));
        let running = folder.path().join("build/core-1.part");
        std::fs::create_dir_all(&old_folder).unwrap();
        for file in [&old, &running] {
            std::fs::write(file, "").unwrap();
        }
        part(folder.path(), "core").unwrap();
        assert_eq!([&old, &old_folder, &running].map(|path| path.exists()), [false, false, true]);
    }

    #[test]
    fn a_build_is_the_same_until_something_of_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("index.js");
        let record = folder.path().join("record");
        std::fs::write(&input, "1").unwrap();
        let recipe = Recipe {
            builder: "b".into(),
            engine: "quickjs".into(),
            entry: "index.js".into(),
            manifest: Some("name = \"x\"".into()),
        };
        assert!(!is_unchanged(&record, &recipe));
        remember(&record, recipe.clone(), vec![input.clone()]);
        assert!(is_unchanged(&record, &recipe));
        for other in [
            Recipe { builder: "c".into(), ..recipe.clone() },
            Recipe { engine: "starlingmonkey 0.23.0".into(), ..recipe.clone() },
            Recipe { entry: "other.js".into(), ..recipe.clone() },
            Recipe { manifest: None, ..recipe.clone() },
        ] {
            assert!(!is_unchanged(&record, &other), "{other:?}");
        }
        std::fs::write(&input, "2").unwrap();
        assert!(!is_unchanged(&record, &recipe));
        std::fs::remove_file(&input).unwrap();
        assert!(!is_unchanged(&record, &recipe));
    }
}
