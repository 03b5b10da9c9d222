//! The config file: `$MACULA_HOME/macula.toml`, or `--config`. Keys are the flags' names; an unknown one is an error.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use macula_files::NotRead;
use macula_node::Home;
use serde::Deserialize;

use crate::failure::Failure;

/// More is no config file.
const BYTES_MAX: u64 = 1 << 20;

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct File {
    /// For `run` and client verbs.
    #[serde(default)]
    pub(crate) node: NodeTable,
    /// For `relay`.
    #[serde(default)]
    pub(crate) relay: NodeTable,
    /// By realm name.
    #[serde(default)]
    pub(crate) realm: BTreeMap<String, RealmTable>,
    /// By the stem of the component's file: as the file beside a component, which it overrides.
    #[serde(default)]
    pub(crate) plugin: BTreeMap<String, PluginTable>,
    /// Where it was read from.
    #[serde(skip)]
    pub(crate) path: PathBuf,
    /// As it was read, for the lines of what is wrong in a plugin's table.
    #[serde(skip)]
    pub(crate) text: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct NodeTable {
    pub(crate) name: Option<String>,
    pub(crate) listen: Option<String>,
    #[serde(default)]
    pub(crate) relay: Vec<String>,
    pub(crate) health: Option<String>,
    /// Files of delegations.
    #[serde(default)]
    pub(crate) token: Vec<PathBuf>,
    pub(crate) realm: Option<String>,
    pub(crate) priority: Option<String>,
    pub(crate) timeout: Option<String>,
    pub(crate) tls_mode: Option<String>,
    /// Content that a host keeps, and that one plugin may have of it.
    pub(crate) content_max: Option<String>,
    pub(crate) plugin_content_max: Option<String>,
    /// Level from which plugins' logs are published.
    pub(crate) publish_logs: Option<String>,
    /// PEM files of a certificate that a public authority vouches for.
    pub(crate) tls_cert: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RealmTable {
    /// How messages must be vouched for to be taken: attested, signed or sealed.
    pub(crate) auth_min: Option<String>,
}

/// Settings and limits of a plugin, in the form of a manifest.
type PluginTable = toml::Table;

impl File {
    /// Some keys mean something for one of the two tables only.
    fn refuse_misplaced(self, path: &Path) -> Result<Self, Failure> {
        let relay = &self.relay;
        for (key, is_there) in [
            ("realm", relay.realm.is_some()),
            ("priority", relay.priority.is_some()),
            ("timeout", relay.timeout.is_some()),
            ("tls-mode", relay.tls_mode.is_some()),
            ("content-max", relay.content_max.is_some()),
            ("plugin-content-max", relay.plugin_content_max.is_some()),
            ("publish-logs", relay.publish_logs.is_some()),
        ] {
            if is_there {
                return Err(Failure::usage(format!("{}: {key} belongs in [node], not in [relay]", path.display())));
            }
        }
        Ok(self)
    }

    pub(crate) fn read(given: Option<&Path>, home: &Home) -> Result<Self, Failure> {
        let default = home.path().join("macula.toml");
        let path = given.unwrap_or(&default);
        match macula_files::read_text(path, BYTES_MAX) {
            Ok(text) => {
                let mut file: Self = toml::from_str(&text).map_err(|error| {
                    // The error's own text shows the line and points at the place.
                    Failure::usage(format!("{}: {}", path.display(), error.to_string().trim_end()))
                })?;
                (file.path, file.text) = (path.to_owned(), text);
                file.refuse_misplaced(path)
            }
            Err(error) => match error.why {
                NotRead::NotFound if given.is_none() => Ok(Self::default()),
                NotRead::NotFound => Err(Failure::not_found(format!("there is no config file {}", path.display()))),
                _ => Err(Failure::from(error)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_named_with_their_line() {
        let error = toml::from_str::<File>("[node]\nlisten = \"127.0.0.1:1\"\nlissten = 1\n").unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("lissten"), "{error}");
        let file: File =
            toml::from_str("[plugin.\"sensor-alert\".config]\nthreshold = 3\n[realm.\"io.example\"]\n").unwrap();
        assert!(file.plugin.contains_key("sensor-alert"));
    }
}
