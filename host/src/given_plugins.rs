//! Plugins that `run` was given, and where their settings come from: the manifest that was named or lies beside the component,
//! with what the config file says of the plugin on top.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use macula_files::NotRead;
use macula_node::{deploy::PackageQuery, wire::Mcid};
use macula_runtime::{
    Ability, Grant, ManifestLayer, ManifestSource, PluginHandle, Prepared, Reconfigured, Runtime, StartError,
    read_manifest_text,
};

use crate::{config::File, failure::Failure};

/// A plugin to run.
#[derive(Debug)]
pub(crate) struct GivenPlugin {
    pub(crate) component: Component,
    pub(crate) manifest: Option<PathBuf>,
}

/// Where its component is.
#[derive(Debug)]
pub(crate) enum Component {
    File(PathBuf),
    /// On this node, or on others of the mesh.
    Content(Mcid),
    /// The newest version of a package that fits.
    Package(PackageQuery),
}

impl Component {
    /// The name of its table in the config file's `[plugin]`: a file's stem, a content id, the whole name of a package.
    fn settings_key(&self) -> String {
        match self {
            Self::File(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            Self::Content(mcid) => mcid.to_string(),
            Self::Package(query) => query.name.to_string(),
        }
    }

    /// Where its manifest may lie; only a file has anything beside it.
    fn manifest_beside(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.with_extension("toml")),
            Self::Content(_) | Self::Package(_) => None,
        }
    }
}

impl GivenPlugin {
    /// What its manifest is now, beside the one in the component; `None` when there is nothing beside that.
    pub(crate) fn manifest(&self, file: &File) -> Result<Option<ManifestSource>, Failure> {
        let base = match (&self.manifest, self.component.manifest_beside()) {
            (Some(named), _) => Some(named.clone()),
            (None, beside) => beside.filter(|path| path.exists()),
        };
        let key = self.component.settings_key();
        if !file.plugin.contains_key(&key) {
            return Ok(base.map(ManifestSource::Path));
        }
        let text = |path: &Path| match read_manifest_text(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if matches!(error.why, NotRead::NotFound) && self.manifest.is_none() => Ok(None),
            Err(error) => Err(Failure::from(error)),
        };
        let layer = |path: &Path, text, table| ManifestLayer { origin: path.display().to_string(), text, table };
        let mut layers = Vec::new();
        if let Some(path) = &base {
            layers.extend(text(path)?.map(|text| layer(path, text, Vec::new())));
        }
        layers.push(layer(&file.path, file.text.clone(), vec!["plugin".to_owned(), key]));
        Ok(Some(ManifestSource::Layers(layers)))
    }
}

/// Says of which tables of the config file no plugin takes notice.
pub(crate) fn warn_of_strangers<'a>(file: &File, plugins: impl Iterator<Item = &'a GivenPlugin>) {
    let known: Vec<String> = plugins.map(|plugin| plugin.component.settings_key()).collect();
    for name in file.plugin.keys().filter(|name| !known.contains(name)) {
        tracing::warn!("[plugin.{name:?}] of the config file is about no plugin that this host was given");
    }
}

/// Those that run.
pub(crate) struct Given {
    runtime: Runtime,
    grant: Grant,
    plugins: Vec<(Arc<GivenPlugin>, PluginHandle)>,
}

impl Given {
    pub(crate) fn new(runtime: Runtime, grant: Grant) -> Self {
        Self { runtime, grant, plugins: Vec::new() }
    }

    pub(crate) async fn start(&mut self, plugin: GivenPlugin, prepared: Prepared) -> Result<(), StartError> {
        let started = self.runtime.start_prepared(prepared, &self.grant).await?;
        tracing::info!(plugin = %started.name(), mcid = %started.mcid(), "plugin started");
        self.plugins.push((Arc::new(plugin), started));
        Ok(())
    }

    /// Puts in force what their settings are now. One that has wrong ones, or refuses them, keeps the old ones.
    pub(crate) async fn reconfigure(&self, file: File) {
        let file = Arc::new(file);
        warn_of_strangers(&file, self.plugins.iter().map(|(plugin, _)| &**plugin));
        if self.plugins.is_empty() {
            tracing::info!("asked to read settings again: this host was given no plugins that have any here");
        }
        for (plugin, handle) in &self.plugins {
            let name = handle.name();
            let (given, now) = (Arc::clone(plugin), Arc::clone(&file));
            let reading = tokio::task::spawn_blocking(move || given.manifest(&now));
            let manifest = match reading.await.unwrap_or_else(|_| Err(Failure::failed("this host is stopping"))) {
                Ok(manifest) => manifest,
                Err(failure) => {
                    tracing::error!(plugin = %name, %failure, "its settings stay as they are");
                    continue;
                }
            };
            match self.runtime.reconfigure(handle, manifest, &self.grant).await {
                Ok(Reconfigured::Unchanged) => tracing::info!(plugin = %name, "its settings have not changed"),
                Ok(Reconfigured::Told(keys)) => {
                    tracing::info!(plugin = %name, keys = keys.join(", "), "it has new settings");
                }
                Ok(_) if handle.inspection().abilities.contains(&Ability::StateHandler) => {
                    tracing::info!(plugin = %name, "it was begun anew with new settings, and its state");
                }
                Ok(_) => {
                    tracing::warn!(plugin = %name, "it was begun anew with new settings; what it had in memory is gone, since it exports no state-handler");
                }
                Err(error) => tracing::error!(plugin = %name, %error, "its settings stay as they are"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use macula_runtime::Manifest;

    use super::*;

    fn file(text: &str) -> File {
        File { path: "macula.toml".into(), text: text.to_owned(), ..toml::from_str(text).unwrap() }
    }

    fn manifest(plugin: &GivenPlugin, config: &str) -> Result<Manifest, String> {
        let layers = match plugin.manifest(&file(config)).map_err(|failure| failure.to_string())? {
            None => Vec::new(),
            Some(ManifestSource::Layers(layers)) => layers,
            Some(ManifestSource::Path(path)) => {
                let text = fs::read_to_string(&path).unwrap();
                vec![ManifestLayer { origin: path.display().to_string(), text, table: Vec::new() }]
            }
            Some(other) => panic!("{other:?}"),
        };
        Manifest::resolve_layers(None, &layers, "greeter").map_err(|error| error.to_string())
    }

    fn settings(plugin: &GivenPlugin, config: &str) -> Vec<String> {
        let settings = manifest(plugin, config).unwrap().config;
        settings.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    #[test]
    fn the_config_file_is_on_top_of_the_manifest_that_is_named_or_beside() {
        let folder = tempfile::tempdir().unwrap();
        let component = Component::File(folder.path().join("greeter.wasm"));
        let mut plugin = GivenPlugin { component, manifest: None };
        let config = "[plugin.greeter.config]\ngreeting = \"Hi\"\n";
        assert!(plugin.manifest(&file("")).unwrap().is_none());
        assert_eq!(settings(&plugin, config), ["greeting=Hi"]);
        fs::write(folder.path().join("greeter.toml"), "[config]\ngreeting = \"Hello\"\nloud = true\n").unwrap();
        assert_eq!(settings(&plugin, ""), ["greeting=Hello", "loud=true"]);
        assert_eq!(settings(&plugin, config), ["greeting=Hi", "loud=true"]);
        assert_eq!(
            settings(&plugin, "[plugin.greeter.config.greeting]\nat = \"dawn\"\n"),
            ["greeting.at=dawn", "loud=true"]
        );
        let named = folder.path().join("named.toml");
        fs::write(&named, "[config]\nloud = false\n").unwrap();
        plugin.manifest = Some(named.clone());
        assert_eq!(settings(&plugin, config), ["greeting=Hi", "loud=false"]);
        fs::remove_file(named).unwrap();
        assert!(plugin.manifest(&file(config)).unwrap_err().to_string().contains("named.toml"));
    }

    /// Goal: what is wrong is shown with the line on which its author has written it, in the file that has it.
    #[test]
    fn errors_have_the_lines_of_the_file_that_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let component = Component::File(folder.path().join("greeter.wasm"));
        let plugin = GivenPlugin { component, manifest: None };
        let beside = folder.path().join("greeter.toml");
        fs::write(&beside, "version = \"1\"\nsubscribe = [\"in.**\"]\n").unwrap();
        let above = "# Mine\n[node]\nname = \"host\"\n\n[plugin.other.config]\na = 1\n\n";
        for (table, line, what) in [
            ("[plugin.greeter]\nversoin = \"2\"\n", 9, "versoin"),
            ("[plugin.greeter]\nversion = 2\n", 9, "expected a string"),
            ("[plugin.greeter]\npublish = [\n  \"a\",\n  \"b..c\",\n]\n", 11, "empty segment"),
            ("[plugin.greeter]\n[[plugin.greeter.subscriptions]]\npattern = \"out.x\"\n", 10, "out.x"),
            ("[plugin.greeter.limits]\nmemory-mib = \"much\"\n", 8, "[limits]"),
        ] {
            let error = manifest(&plugin, &format!("{above}{table}")).unwrap_err();
            assert!(error.starts_with(&format!("macula.toml, line {line}: ")) && error.contains(what), "{error}");
        }
        fs::write(&beside, "version = \"1\"\n\nsubscribe = [\"in..x\"]\n").unwrap();
        let error = manifest(&plugin, "[plugin.greeter.config]\na = 1\n").unwrap_err();
        assert!(error.contains("greeter.toml, line 3: "), "{error}");
    }
}
