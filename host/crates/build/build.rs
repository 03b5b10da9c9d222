//! Puts the SDKs, the contract and the project templates into this crate, as lists of path and text.

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

fn main() {
    let own = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = own.join("../../..").canonicalize().expect("this crate lies in its workspace");
    let mut source = String::new();
    list(&mut source, "WIT", &root.join("wit"), &[]);
    list(
        &mut source,
        "RUST_SDK",
        &root.join("guest-sdk/rust"),
        &["Cargo.toml", "tests", "wasm-target.sh", "reproducible-rustc.sh"],
    );
    list(&mut source, "GO_SDK", &root.join("guest-sdk/go"), &[]);
    list(&mut source, "JS_SDK", &root.join("guest-sdk/js"), &["node_modules", "test"]);
    list(&mut source, "JS_BUILDER", &root.join("guest-sdk/js-builder"), &["target"]);
    for language in ["rust", "go", "js", "ts"] {
        list(&mut source, &format!("{}_TEMPLATE", language.to_uppercase()), &own.join("templates").join(language), &[]);
    }
    let manifest = standalone(&root.join("Cargo.toml"), &root.join("guest-sdk/rust/Cargo.toml"));
    writeln!(source, "pub(crate) static RUST_SDK_MANIFEST: &str = {manifest:?};").expect("a String takes everything");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("carried.rs");
    fs::write(out, source).expect("cargo's folder is writable");
}

/// Writes `static NAME: Files`, with all files below `folder` but those named.
fn list(source: &mut String, name: &str, folder: &Path, without: &[&str]) {
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files = Vec::new();
    walk(folder, folder, without, &mut files);
    files.sort();
    writeln!(source, "static {name}: Files = &[").expect("a String takes everything");
    for file in files {
        let path = file.strip_prefix(folder).expect("it was found below the folder");
        writeln!(source, "    ({:?}, include_str!({:?})),", path.display().to_string(), file.display().to_string())
            .expect("a String takes everything");
    }
    source.push_str("];\n");
}

fn walk(root: &Path, folder: &Path, without: &[&str], files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { panic!("{} is missing", folder.display()) };
    for entry in entries {
        let path = entry.expect("a folder that can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Tests of the Go SDK itself; projects need what they rest on, not them.
        let is_test = name.ends_with("_test.go") && !root.ends_with("templates/go");
        if is_test || folder == root && without.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, without, files);
        } else {
            files.push(path);
        }
    }
}

/// The SDK's Cargo.toml for a place outside this workspace: what it inherits is written out.
fn standalone(workspace: &Path, member: &Path) -> String {
    println!("cargo::rerun-if-changed={}", workspace.display());
    let read = |path: &Path| fs::read_to_string(path).expect("it is part of this project");
    let workspace: toml::Table = read(workspace).parse().expect("cargo has read it");
    let mut member: toml::Table = read(member).parse().expect("cargo has read it");
    let workspace = workspace["workspace"].as_table().expect("the workspace's root");
    inherit(&mut member["package"], &workspace["package"]);
    member.remove("lints");
    for dependencies in ["dependencies", "dev-dependencies"] {
        if let Some(table) = member.get_mut(dependencies) {
            inherit(table, &workspace["dependencies"]);
        }
    }
    if let Some(toml::Value::Table(targets)) = member.get_mut("target") {
        for (_, target) in targets.iter_mut() {
            if let Some(table) = target.get_mut("dependencies") {
                inherit(table, &workspace["dependencies"]);
            }
        }
    }
    toml::to_string(&member).expect("TOML that was read can be written")
}

fn inherit(table: &mut toml::Value, from: &toml::Value) {
    let table = table.as_table_mut().expect("a table in every Cargo.toml");
    for (key, value) in table.iter_mut() {
        let inherits = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
        if inherits {
            *value = from.get(key).unwrap_or_else(|| panic!("the workspace has no {key}")).clone();
        }
    }
}
