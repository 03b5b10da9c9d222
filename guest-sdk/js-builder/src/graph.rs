//! All modules that a plugin is made of, and their paths in the component.
//!
//! The project's are below `app/`, the SDK's below `macula/`, and what lies outside of the project (packages that a workspace
//! shares, linked ones) below `around/N/`, where N folders up is what both are in: no name in a component tells where the
//! project lies. Specifiers are rewritten to lead from one to the other. What a specifier stands for is told by
//! `node_modules`, `package.json`, and `paths` and `baseUrl` of the project's `tsconfig.json`, or `jsconfig.json`. The module `macula` is put together of what is imported from it, so that a part of the SDK that nobody uses brings no
//! interface into the component.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use oxc_resolver::{ResolveOptions, ResolverGeneric, TsconfigDiscovery, TsconfigOptions, TsconfigReferences};

use crate::{disk::Disk, handlers::Handlers, source, world};

/// The SDK's module of all names.
const SDK_INDEX: &str = "macula/index.js";

/// Files that say what specifiers stand for, beside package.json; the first that is there.
const CONFIGS: [&str; 2] = ["tsconfig.json", "jsconfig.json"];

/// Modules of Node that are often asked for without `node:`. Some are packages of npm as well, and are found as those.
const NODE_MODULES: [&str; 18] = [
    "assert",
    "async_hooks",
    "buffer",
    "child_process",
    "crypto",
    "dns",
    "events",
    "fs",
    "fs/promises",
    "http",
    "https",
    "net",
    "os",
    "path",
    "process",
    "stream",
    "util",
    "worker_threads",
];

/// What a component is made of.
pub struct Modules {
    /// Texts by path.
    pub files: BTreeMap<PathBuf, String>,
    /// Interfaces that the modules import: of the contract, and [`world::RANDOM`].
    pub interfaces: BTreeSet<String>,
}

/// What the modules are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    QuickJs,
    /// One that has what browsers have.
    Other,
}

pub struct Graph {
    root: PathBuf,
    sdk: PathBuf,
    disk: Disk,
    resolver: ResolverGeneric<Disk>,
    files: BTreeMap<PathBuf, String>,
    interfaces: BTreeSet<String>,
    /// Names imported from `macula`; `None` for all.
    names: Option<BTreeSet<String>>,
    /// The SDK's names, and the module that has each.
    exports: BTreeMap<String, String>,
}

impl Graph {
    pub fn new(disk: Disk, root: &Path, sdk: &Path) -> Result<Self> {
        let config_file = CONFIGS.into_iter().map(|name| root.join(name)).find(|file| disk.is_file(file));
        let options = ResolveOptions {
            tsconfig: config_file.map(|config_file| {
                TsconfigDiscovery::Manual(TsconfigOptions { config_file, references: TsconfigReferences::Auto })
            }),
            condition_names: vec!["import".into(), "default".into()],
            // Those with JSX are found to be refused by name.
            extensions: [".ts", ".mts", ".js", ".mjs", ".json", ".tsx", ".jsx"].map(String::from).to_vec(),
            extension_alias: vec![
                (".js".into(), vec![".js".into(), ".ts".into()]),
                (".mjs".into(), vec![".mjs".into(), ".mts".into()]),
            ],
            main_fields: vec!["module".into(), "main".into()],
            ..ResolveOptions::default()
        };
        let resolver = ResolverGeneric::new_with_file_system(disk.clone(), options);
        let exports = sdk_exports(&disk, sdk)?;
        Ok(Self {
            root: root.to_owned(),
            sdk: sdk.to_owned(),
            disk,
            resolver,
            files: BTreeMap::new(),
            interfaces: BTreeSet::new(),
            names: Some(BTreeSet::new()),
            exports,
        })
    }

    /// Adds the plugin's first module, and what stands between its handlers and the contract; gives the text of the
    /// component's own first module.
    pub fn add_entry(&mut self, entry: &Path, handlers: &Handlers, engine: Engine) -> Result<String> {
        let staged = self.add_project_module(entry)?;
        let mut text = String::new();
        let mut parts = Vec::new();
        if self.mentions(&["console."]) {
            parts.push("console.js");
        }
        // However it is written: what is added in vain costs an import.
        match engine {
            Engine::QuickJs if self.mentions(&["random", "crypto"]) => parts.push("random.js"),
            Engine::Other if self.mentions(&["crypto"]) => parts.push("crypto-guard.js"),
            _ => {}
        }
        for part in parts {
            self.add_sdk_module(part)?;
            text.push_str(&format!("import \"./macula/{part}\";\n"));
        }
        text.push_str(&format!("import plugin from {:?};\n", format!("./{}", staged.display())));
        let mut openers = Vec::new();
        for (key, opener) in
            [("subscriptions", "openSubscriptions"), ("procedures", "openProcedures"), ("timers", "openTimers")]
        {
            if handlers.has(key) {
                self.add_sdk_module(&format!("exports/{key}.js"))?;
                text.push_str(&format!("import {{ {opener} }} from \"./macula/exports/{key}.js\";\n"));
                openers.push(opener);
            }
        }
        for interface in handlers.interfaces() {
            let name = interface.trim_end_matches("-handler");
            self.add_sdk_module(&format!("exports/{name}.js"))?;
            let openers = if interface == "lifecycle" { format!(", [{}]", openers.join(", ")) } else { String::new() };
            text.push_str(&format!(
                "import {{ {name} as make_{name} }} from \"./macula/exports/{name}.js\";\nexport const {} = make_{name}(plugin{openers});\n",
                camel_case(interface)
            ));
        }
        Ok(text)
    }

    fn mentions(&self, words: &[&str]) -> bool {
        self.files.values().any(|module| words.iter().any(|word| module.contains(word)))
    }

    /// Gives what has been found.
    pub fn finish(mut self) -> Result<Modules> {
        let names = self.names.take();
        let wanted: Vec<(String, String)> = self
            .exports
            .iter()
            .filter(|(name, _)| names.as_ref().is_none_or(|names| names.contains(*name)))
            .map(|(name, module)| (name.clone(), module.clone()))
            .collect();
        let mut index = String::new();
        for (name, module) in wanted {
            self.add_sdk_module(&module)?;
            index.push_str(&format!("export {{ {name} }} from \"./{module}\";\n"));
        }
        self.files.insert(SDK_INDEX.into(), index);
        Ok(Modules { files: self.files, interfaces: self.interfaces })
    }

    fn add_sdk_module(&mut self, module: &str) -> Result<PathBuf> {
        let file = self.sdk.join(module);
        self.add(&file, Path::new("macula").join(module))
    }

    fn add_project_module(&mut self, file: &Path) -> Result<PathBuf> {
        let mut staged = place(&self.root, file).into_os_string();
        if source::Kind::of(file) != source::Kind::JavaScript {
            staged.push(".js");
        }
        self.add(file, staged.into())
    }

    /// Reads a module and all it leads to. Modules may lead to each other in a circle: a module is known before what it
    /// leads to is read.
    fn add(&mut self, file: &Path, staged: PathBuf) -> Result<PathBuf> {
        if self.files.contains_key(&staged) {
            return Ok(staged);
        }
        self.files.insert(staged.clone(), String::new());
        let source = source::read(&self.disk, file)?;
        let mut replacements = Vec::new();
        for request in &source.requests {
            let target = self
                .resolve(file, request)
                .with_context(|| format!("{}: import of {:?}", file.display(), request.specifier))?;
            if let Some(target) = target {
                let specifier = format!("{:?}", relative(&staged, &target));
                replacements.extend(request.places.iter().map(|place| (place.clone(), specifier.clone())));
                // Here all modules are JavaScript.
                replacements.extend(request.attributes.iter().map(|place| (place.clone(), String::new())));
            }
        }
        replacements.sort_by_key(|(place, _)| std::cmp::Reverse(place.start));
        let mut text = source.text;
        for (place, specifier) in replacements {
            text.replace_range(place, &specifier);
        }
        self.files.insert(staged.clone(), text);
        Ok(staged)
    }

    /// The path of what is asked for; `None` for the contract, which keeps its name.
    fn resolve(&mut self, from: &Path, request: &source::Request) -> Result<Option<PathBuf>> {
        let specifier = request.specifier.as_str();
        if let Some(interface) = specifier.strip_prefix("macula:plugin/") {
            self.interfaces.insert(interface.split('@').next().unwrap_or_default().to_owned());
            return Ok(None);
        }
        if specifier == "macula" {
            self.take_names(request)?;
            return Ok(Some(SDK_INDEX.into()));
        }
        if specifier == world::RANDOM && from.starts_with(&self.sdk) {
            self.interfaces.insert(specifier.to_owned());
            return Ok(None);
        }
        if specifier.starts_with("wasi:") {
            bail!("plugins reach the world by the contract alone, not by WASI");
        }
        if from.starts_with(&self.sdk) {
            let file = from.parent().unwrap_or(from).join(specifier).canonicalize()?;
            let below = file.strip_prefix(&self.sdk)?.to_owned();
            return self.add(&file, Path::new("macula").join(below)).map(Some);
        }
        let found = self.resolver.resolve_file(from, specifier).map_err(|error| {
            if specifier.starts_with("node:") || NODE_MODULES.contains(&specifier) {
                anyhow!("plugins run without Node: there are no files, no network and no processes")
            } else {
                anyhow!("{error}; packages of npm are looked for in node_modules")
            }
        })?;
        self.add_project_module(&found.full_path()).map(Some)
    }

    fn take_names(&mut self, request: &source::Request) -> Result<()> {
        match (&request.names, &mut self.names) {
            (None, names) => *names = None,
            (Some(asked), names) => {
                for name in asked {
                    if !self.exports.contains_key(name) {
                        let known: Vec<&str> = self.exports.keys().map(String::as_str).collect();
                        bail!("macula has no {name}; it has {}", known.join(", "));
                    }
                    names.iter_mut().for_each(|names| {
                        names.insert(name.clone());
                    });
                }
            }
        }
        Ok(())
    }
}

/// The SDK's names, from its index: `export { a, b } from './module.js';` lines.
fn sdk_exports(disk: &Disk, sdk: &Path) -> Result<BTreeMap<String, String>> {
    let index = source::read(disk, &sdk.join("index.js"))?;
    let mut exports = BTreeMap::new();
    for request in index.requests {
        let module = request.specifier.trim_start_matches("./").to_owned();
        for name in request.names.unwrap_or_default() {
            exports.insert(name, module.clone());
        }
    }
    Ok(exports)
}

/// Where a module that is not the SDK's lies in the component.
fn place(root: &Path, file: &Path) -> PathBuf {
    if let Ok(below) = file.strip_prefix(root) {
        return Path::new("app").join(below);
    }
    let both = root.ancestors().find(|ancestor| file.starts_with(ancestor)).unwrap_or(Path::new("/"));
    let up = root.components().count() - both.components().count();
    Path::new("around").join(up.to_string()).join(file.strip_prefix(both).unwrap_or(file))
}

/// A specifier that leads from one module to another.
fn relative(from: &Path, to: &Path) -> String {
    let mut from: Vec<Component<'_>> = from.parent().unwrap_or(Path::new("")).components().collect();
    let mut to: Vec<Component<'_>> = to.components().collect();
    while let (Some(a), Some(b)) = (from.first(), to.first()) {
        if a != b {
            break;
        }
        from.remove(0);
        to.remove(0);
    }
    let mut path = if from.is_empty() { "./".to_owned() } else { "../".repeat(from.len()) };
    path.push_str(&to.iter().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/"));
    path
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('-');
    let mut result = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        result.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        result.push_str(letters.as_str());
    }
    result
}

#[cfg(test)]
mod tests;
