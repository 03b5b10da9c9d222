//! JavaScript and TypeScript: a builder of ours finds the modules and lets QuickJS evaluate them, or hands them to the tool
//! of the engine that package.json chooses; the manifest is put in here. The builder is a program of its own, looked for
//! and, where there is none, built once.

mod package;
mod record;
mod starlingmonkey;
mod types;

use std::{
    ffi::OsString,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::UNIX_EPOCH,
};

use macula_files::{Draft, Mode};
use serde::Deserialize;

use self::{
    package::{Engine, Package},
    record::{Moment, Recipe, Record, Sight, Sights},
    starlingmonkey::Tool,
};
use crate::{BuildError, Manifest, Missing, carried, component, toolchain, write_component};

/// The builder's file name.
const BUILDER: &str = "macula-build-js";

/// Names the builder to use; for those who package this program.
const BUILDER_VARIABLE: &str = "MACULA_BUILD_JS";

pub(crate) fn build(folder: &Path, tools: &Path) -> Result<PathBuf, BuildError> {
    let folder = folder.canonicalize().map_err(|error| BuildError::Disk { path: folder.to_owned(), error })?;
    let manifest = Manifest::read(&folder)?;
    let package = Package::read(&folder)?;
    let tool = match package.engine {
        Engine::QuickJs => None,
        Engine::StarlingMonkey => Some(Tool::find(&folder)?),
    };
    let recipe = Recipe {
        builder: format!("{}{}", builder_key(), chosen_builder().map(|program| mark_of(&program)).unwrap_or_default()),
        engine: tool.as_ref().map_or_else(|| "quickjs".into(), |tool| format!("starlingmonkey {}", tool.version)),
        // Where it leads, too, should it be a link.
        entry: package.entry.canonicalize().unwrap_or_else(|_| package.entry.clone()),
        manifest: manifest.text.clone(),
    };
    let record = record_of(&folder, &manifest);
    let component = folder.join("build").join(format!("{}.wasm", manifest.name));
    if component.is_file() && Record::read(&record).is_some_and(|last| last.is_unchanged(&recipe)) {
        return Ok(component);
    }
    let stamp = part(&folder, "moment")?;
    let begin = Moment::now(&stamp).map_err(|error| BuildError::Disk { path: stamp, error })?;
    let typed = types::check(&folder, &package.entry, begin)?;
    let builder = Builder::find(tools)?;
    let (component, mut sights) = match tool {
        None => builder.evaluate(&folder, &package.entry)?,
        Some(tool) => builder.hand_over(&folder, &package.entry, &tool)?,
    };
    let bytes = component::finish(&component, ("JavaScript", ""), manifest.text.as_deref())
        .map_err(|error| BuildError::NoComponent { project: folder.clone(), why: error.to_string() })?;
    let component = write_component(&folder, &manifest.name, &bytes)?;
    sights.extend(typed);
    // What is there next time has to be what was written now.
    sights.push((component.clone(), Sight::of_bytes(&bytes)));
    Record::new(recipe, sights).write(&record);
    Ok(component)
}

/// Files that the last build read, and packages that are links.
pub(crate) fn surroundings(folder: &Path) -> Option<Vec<PathBuf>> {
    let manifest = Manifest::read(folder).ok()?;
    let last = Record::read(&record_of(folder, &manifest));
    let files = last.iter().flat_map(Record::files).filter(|file| !package::is_installed(file)).map(Path::to_owned);
    Some(files.chain(package::linked(folder)).collect())
}

/// Where it is kept what the last build was made of.
fn record_of(folder: &Path, manifest: &Manifest) -> PathBuf {
    folder.join("build").join(format!(".{}.inputs", manifest.name))
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

#[derive(Deserialize)]
struct Report {
    sights: Sights,
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

    /// The component, with QuickJS, and what was seen for it.
    fn evaluate(&self, folder: &Path, entry: &Path) -> Result<(Vec<u8>, Sights), BuildError> {
        let output = part(folder, "core")?;
        let sights = self.run("component", folder, entry, &[&self.cache, &output]);
        let component = std::fs::read(&output);
        let _ = std::fs::remove_file(&output);
        let sights = sights?;
        Ok((component.map_err(|error| BuildError::Disk { path: output, error })?, sights))
    }

    /// The component that another engine's tool makes of the modules, and what was seen for it.
    fn hand_over(&self, folder: &Path, entry: &Path, tool: &Tool) -> Result<(Vec<u8>, Sights), BuildError> {
        let modules = part(folder, "modules")?;
        let made = self.run("modules", folder, entry, &[&modules]).and_then(|sights| {
            let component = tool.componentize(&modules, &self.program, &self.cache)?;
            Ok((component.ok_or_else(|| BuildError::Compile(folder.to_owned()))?, sights))
        });
        let _ = std::fs::remove_dir_all(&modules);
        made
    }

    fn run(&self, product: &str, folder: &Path, entry: &Path, to: &[&Path]) -> Result<Sights, BuildError> {
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
        Ok(report.sights)
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

/// The builder that somebody has put there: the one that the environment names, or the one beside this program.
fn chosen_builder() -> Option<OsString> {
    let beside = || std::env::current_exe().ok().map(|program| program.with_file_name(BUILDER));
    std::env::var_os(BUILDER_VARIABLE).or_else(|| beside().filter(|path| path.is_file()).map(OsString::from))
}

/// What changes when another program is put in a builder's place: its length, and when it was written.
fn mark_of(builder: &OsString) -> String {
    let metadata = std::fs::metadata(builder).ok();
    let written = metadata.as_ref().and_then(|metadata| metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok());
    metadata.map(|metadata| format!(" {} {:?}", metadata.len(), written)).unwrap_or_default()
}

/// The builder: one that somebody has put there, or the one built here.
fn builder(kept: &Path) -> Result<OsString, BuildError> {
    if let Some(builder) = chosen_builder() {
        return Ok(builder);
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

    /// With a builder that says what it read, and a file that is saved before the build is over.
    #[test]
    fn what_is_saved_while_the_builder_runs_is_built_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let (entry, program) = (root.join("index.js"), root.join("builder"));
        let builds = |script: &str| {
            let read = serde_json::to_string(&[(&entry, Sight::of_bytes(b"old"))]).unwrap();
            let script = format!("{script}\nshift 6; echo component > $1; echo '{{\"sights\":{read}}}'");
            std::fs::write(&entry, "old").unwrap();
            toolchain::put_tool(&program, &script);
            let builder = Builder {
                program: program.clone().into(),
                sdk: root.to_owned(),
                contract: root.to_owned(),
                cache: root.to_owned(),
            };
            let (component, sights) = builder.evaluate(root, &entry).unwrap();
            assert_eq!(component, b"component\n");
            let recipe = Recipe { builder: "b".into(), engine: "quickjs".into(), entry: entry.clone(), manifest: None };
            Record::new(recipe.clone(), sights).is_unchanged(&recipe)
        };
        assert!(builds("true"));
        assert!(!builds("echo new > $2"));
    }

    #[test]
    fn another_builder_makes_another_component() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("builder");
        std::fs::write(&program, "1").unwrap();
        let first = mark_of(&program.clone().into());
        assert_eq!(mark_of(&program.clone().into()), first);
        std::fs::write(&program, "12").unwrap();
        assert_ne!(mark_of(&program.into()), first);
    }
}
