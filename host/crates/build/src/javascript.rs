//! JavaScript and TypeScript: a builder of ours finds the modules and lets QuickJS evaluate them; the manifest is put in
//! here. The builder is a program of its own, looked for and, where there is none, built once.

use std::{
    ffi::OsString,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};

use crate::{BuildError, Manifest, Missing, carried, component, toolchain, write_component};

/// The builder's file name.
const BUILDER: &str = "macula-build-js";

/// Names the builder to use; for those who package this program.
const BUILDER_VARIABLE: &str = "MACULA_BUILD_JS";

/// Modules that a project may begin with, when package.json does not say.
const ENTRIES: [&str; 4] = ["src/index.ts", "src/index.js", "index.ts", "index.js"];

/// What the last build was made of: as long as it is the same, its component is.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    builder: String,
    manifest: Option<String>,
    inputs: Vec<(PathBuf, String)>,
}

pub(crate) fn build(folder: &Path, tools: &Path) -> Result<PathBuf, BuildError> {
    let folder = folder.canonicalize().map_err(|error| BuildError::Disk { path: folder.to_owned(), error })?;
    let manifest = Manifest::read(&folder)?;
    let entry = entry(&folder)?;
    let record = folder.join("build").join(format!(".{}.inputs", manifest.name));
    let component = folder.join("build").join(format!("{}.wasm", manifest.name));
    if component.is_file() && is_unchanged(&record, &manifest) {
        return Ok(component);
    }
    check_types(&folder, &entry)?;
    let (module, inputs) = evaluate(&folder, &entry, tools)?;
    let bytes = component::finish(&module, ("JavaScript", ""), manifest.text.as_deref())
        .map_err(|error| BuildError::NoComponent { project: folder.clone(), why: error.to_string() })?;
    let component = write_component(&folder, &manifest.name, &bytes)?;
    remember(&record, &manifest, inputs);
    Ok(component)
}

/// The module that the project begins with: `main` of package.json, or one of the usual.
fn entry(folder: &Path) -> Result<PathBuf, BuildError> {
    #[derive(Deserialize)]
    struct Package {
        main: Option<PathBuf>,
    }
    let file = folder.join("package.json");
    let text = std::fs::read_to_string(&file).map_err(|error| BuildError::Disk { path: file.clone(), error })?;
    let package: Package = serde_json::from_str(&text)
        .map_err(|error| BuildError::Manifest { file: file.clone(), why: error.to_string() })?;
    let why = match package.main {
        Some(main) if folder.join(&main).is_file() => return Ok(folder.join(main)),
        Some(main) => format!("\"main\" is {}, and there is no such file", main.display()),
        None => match ENTRIES.iter().map(|entry| folder.join(entry)).find(|entry| entry.is_file()) {
            Some(entry) => return Ok(entry),
            None => format!("has no \"main\", and there is none of {}", ENTRIES.join(", ")),
        },
    };
    Err(BuildError::Manifest { file, why })
}

fn builder_key() -> String {
    let mut hash = blake3::Hasher::new();
    for files in [carried::js_builder(), carried::js_sdk(), carried::contract()] {
        for (path, text) in files {
            hash.update(path.as_bytes()).update(&[0]).update(text.as_bytes()).update(&[0]);
        }
    }
    hash.finalize().to_hex()[..16].to_owned()
}

fn is_unchanged(record: &Path, manifest: &Manifest) -> bool {
    let Some(last) = std::fs::read(record).ok().and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok()) else {
        return false;
    };
    last.builder == builder_key()
        && last.manifest == manifest.text
        && last.inputs.iter().all(|(path, digest)| digest_of(path).as_ref() == Some(digest))
}

/// Without a record the next build does more than it must, and nothing else.
fn remember(record: &Path, manifest: &Manifest, inputs: Vec<PathBuf>) {
    let inputs = inputs.into_iter().filter_map(|path| digest_of(&path).map(|digest| (path, digest))).collect();
    let last = Record { builder: builder_key(), manifest: manifest.text.clone(), inputs };
    if let Ok(bytes) = serde_json::to_vec(&last) {
        let _ = std::fs::write(record, bytes);
    }
}

fn digest_of(path: &Path) -> Option<String> {
    std::fs::read(path).ok().map(|bytes| blake3::hash(&bytes).to_hex().to_string())
}

/// Lets TypeScript's own compiler look, where the project has it: the builder takes types out and checks none.
fn check_types(folder: &Path, entry: &Path) -> Result<(), BuildError> {
    let is_typescript = entry.extension().is_some_and(|end| end == "ts" || end == "mts");
    if !is_typescript && !folder.join("tsconfig.json").is_file() {
        return Ok(());
    }
    let compiler = folder.join("node_modules/.bin/tsc");
    if !compiler.is_file() {
        let mut stderr = std::io::stderr().lock();
        let _ = writeln!(
            stderr,
            "types are taken out, not checked: this project has no TypeScript (npm install --save-dev typescript)"
        );
        return Ok(());
    }
    let status = Command::new(&compiler)
        .args(["--noEmit", "--pretty"])
        .current_dir(folder)
        .stdout(Stdio::from(std::io::stderr()))
        .status()
        .map_err(|error| BuildError::Disk { path: compiler, error })?;
    if status.success() { Ok(()) } else { Err(BuildError::Compile(folder.to_owned())) }
}

#[derive(Deserialize)]
struct Report {
    inputs: Vec<PathBuf>,
}

fn evaluate(folder: &Path, entry: &Path, tools: &Path) -> Result<(Vec<u8>, Vec<PathBuf>), BuildError> {
    let kept = tools.join(format!("js-{}", builder_key()));
    let builder = builder(&kept)?;
    let sdk = kept.join("sdk");
    let contract = kept.join("wit");
    carried::write(carried::js_sdk(), &sdk).map_err(|error| BuildError::Disk { path: sdk.clone(), error })?;
    carried::write(carried::contract(), &contract)
        .map_err(|error| BuildError::Disk { path: contract.clone(), error })?;
    let build = folder.join("build");
    std::fs::create_dir_all(&build).map_err(|error| BuildError::Disk { path: build.clone(), error })?;
    let output = build.join(format!("core-{}.wasm.part", std::process::id()));
    let run = Command::new(&builder)
        .args([entry, folder, &sdk, &contract, &kept.join("cache"), &output])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| BuildError::Disk { path: builder.clone().into(), error })?;
    let module = std::fs::read(&output);
    let _ = std::fs::remove_file(&output);
    if !run.status.success() {
        return Err(BuildError::Compile(folder.to_owned()));
    }
    let module = module.map_err(|error| BuildError::Disk { path: output, error })?;
    let report: Report = serde_json::from_slice(&run.stdout).map_err(|error| BuildError::NoComponent {
        project: folder.to_owned(),
        why: format!("{} is of another version: {error}", Path::new(&builder).display()),
    })?;
    Ok((module, report.inputs))
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
            remedy: "pip install rustup-init, or put macula-build-js beside macula-host".into(),
        }
        .into());
    }
    let source = kept.join("builder");
    let disk = |path: &Path| {
        let path = path.to_owned();
        move |error| BuildError::Disk { path, error }
    };
    carried::write(carried::js_builder(), &source).map_err(disk(&source))?;
    let _ = writeln!(
        std::io::stderr().lock(),
        "building {BUILDER}, which makes components of JavaScript: once, for some minutes"
    );
    let target = std::env::var_os("MACULA_BUILD_JS_TARGET").map_or_else(|| kept.join("target"), PathBuf::from);
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
    let part = kept.join(format!("{BUILDER}.part"));
    std::fs::copy(target.join("release").join(BUILDER), &part).map_err(disk(&part))?;
    std::fs::rename(&part, builder).map_err(disk(builder))?;
    if target.starts_with(kept) {
        let _ = std::fs::remove_dir_all(&target);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_begins_with_its_main_or_the_usual() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
        write("package.json", "{}");
        let error = entry(folder.path()).unwrap_err().to_string();
        assert!(error.contains("has no \"main\", and there is none of src/index.ts"), "{error}");
        write("index.js", "");
        assert_eq!(entry(folder.path()).unwrap(), folder.path().join("index.js"));
        write("package.json", "{\"main\": \"other.js\"}");
        let error = entry(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("\"main\" is other.js, and there is no such file"), "{error}");
        write("package.json", "{");
        assert!(matches!(entry(folder.path()), Err(BuildError::Manifest { .. })));
    }

    #[test]
    fn a_build_is_the_same_until_something_of_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("index.js");
        let record = folder.path().join("record");
        std::fs::write(&input, "1").unwrap();
        let manifest = |text: &str| Manifest { text: Some(text.into()), name: "x".into() };
        assert!(!is_unchanged(&record, &manifest("a")));
        remember(&record, &manifest("a"), vec![input.clone()]);
        assert!(is_unchanged(&record, &manifest("a")));
        assert!(!is_unchanged(&record, &manifest("b")));
        std::fs::write(&input, "2").unwrap();
        assert!(!is_unchanged(&record, &manifest("a")));
        std::fs::remove_file(&input).unwrap();
        assert!(!is_unchanged(&record, &manifest("a")));
    }
}
