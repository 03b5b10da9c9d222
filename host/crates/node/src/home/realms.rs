//! Realms of a home: those that were made here, whose root key is here, and those that are pinned.

use std::fs;

use ed25519_dalek::SigningKey;
use macula_auth::{PinError, Pins};
use macula_wire::{NodeId, RealmName};

use super::{
    Home, HomeError, LOCAL_REALM,
    files::{is_absent, key_at, make_directory, read_key, write_first},
    local_realm_name,
};
use crate::{LoggedRevocation, RealmAccess, RevocationLog};

const KEY: &str = ".key";
const PIN: &str = ".pin";
const REVOCATIONS: &str = ".revocations";

/// A realm of a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealmEntry {
    /// Its name.
    pub name: RealmName,
    /// Its root.
    pub root: NodeId,
    /// Whether its root key is here.
    pub has_key: bool,
}

impl RealmEntry {
    /// Another realm that has this one's root, or this one with another root, if there is any. Whoever holds a root key knows its
    /// realm: a pin does not contradict that.
    pub fn contradicted_by<'a>(&self, realms: &'a [Self]) -> Option<&'a Self> {
        let counts = |other: &&Self| other.has_key || !self.has_key;
        realms.iter().filter(counts).find(|other| (other.name == self.name) != (other.root == self.root))
    }
}

/// Why a realm is not made or pinned. Nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RealmError {
    /// The files.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// What is pinned already.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// It was made here: its root key is here.
    #[error("the root key of realm {0} is here: it is not pinned but owned")]
    Own(RealmName),
    /// It is there.
    #[error("realm {name} is known here, under {root}; a realm's root never changes")]
    Known {
        /// Its name.
        name: RealmName,
        /// Its root.
        root: NodeId,
    },
}

impl Home {
    /// The realm `local.dev`: its root key is made at first use, once, whoever comes first.
    ///
    /// # Errors
    /// When the key cannot be read or written.
    pub fn local_realm(&self) -> Result<RealmAccess, HomeError> {
        let directory = self.path.join("realms");
        make_directory(&directory)?;
        Ok(RealmAccess::by_root(local_realm_name(), key_at(&directory.join(format!("{LOCAL_REALM}{KEY}")))?))
    }

    /// Makes a realm with a root key of its own.
    ///
    /// # Errors
    /// See [`RealmError`].
    pub fn new_realm(&self, name: &RealmName) -> Result<NodeId, RealmError> {
        if let Some(root) = self.pins()?.root(name) {
            return Err(RealmError::Known { name: name.clone(), root: *root });
        }
        let directory = self.path.join("realms");
        make_directory(&directory)?;
        Ok(key_at(&directory.join(format!("{name}{KEY}")))?.verifying_key().into())
    }

    /// Pins the root of a realm that was made elsewhere; the same again changes nothing.
    ///
    /// # Errors
    /// See [`RealmError`].
    pub fn pin_realm(&self, name: &RealmName, root: &NodeId) -> Result<(), RealmError> {
        let mut pins = self.pins()?;
        let is_known = pins.root(name).is_some();
        pins.pin(name.clone(), *root)?;
        if !is_known {
            let directory = self.path.join("realms");
            make_directory(&directory)?;
            let path = directory.join(format!("{name}{PIN}"));
            write_first(&path, format!("{root}\n").as_bytes())?;
            // Another process may have been faster, with another root.
            let pinned = self.read_pin(&path)?;
            if pinned != *root {
                return Err(PinError::Name { name: name.clone(), root: pinned }.into());
            }
        }
        Ok(())
    }

    /// Forgets which root a realm's name stands for; what it was, if it was pinned. A realm that was made here stays.
    ///
    /// # Errors
    /// See [`RealmError`].
    pub fn unpin_realm(&self, name: &RealmName) -> Result<bool, RealmError> {
        let directory = self.path.join("realms");
        if directory.join(format!("{name}{KEY}")).exists() {
            return Err(RealmError::Own(name.clone()));
        }
        let path = directory.join(format!("{name}{PIN}"));
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(HomeError::Io { action: "remove", path, error }.into()),
        }
    }

    /// All realms of this home, by name. A pin that cannot be read, or is none, is left out with a warning: it must not stop
    /// what is about other realms.
    ///
    /// # Errors
    /// When the directory or a key cannot be read, or others may read a key.
    pub fn realms(&self) -> Result<Vec<RealmEntry>, HomeError> {
        let directory = self.path.join("realms");
        let entries = match fs::read_dir(&directory) {
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            other => other.map_err(|error| HomeError::Io { action: "read", path: directory, error })?,
        };
        let mut realms = Vec::new();
        for entry in entries.flatten() {
            let file = entry.file_name();
            let Some(file) = file.to_str() else { continue };
            let named = |suffix| file.strip_suffix(suffix).and_then(|name| name.parse::<RealmName>().ok());
            if let Some(name) = named(KEY) {
                let root = read_key(&entry.path())?.verifying_key().into();
                realms.push(RealmEntry { name, root, has_key: true });
            } else if let Some(name) = named(PIN) {
                match self.read_pin(&entry.path()) {
                    Ok(root) => realms.push(RealmEntry { name, root, has_key: false }),
                    Err(error) => tracing::warn!("a realm is left out: {error}"),
                }
            }
        }
        realms.sort_by(|one, other| (&one.name, !one.has_key).cmp(&(&other.name, !other.has_key)));
        Ok(realms)
    }

    fn read_pin(&self, path: &std::path::Path) -> Result<NodeId, HomeError> {
        /// An id has about sixty characters.
        const PIN_BYTES_MAX: u64 = 4 << 10;
        let text = macula_files::read_text(path, PIN_BYTES_MAX)
            .map_err(|error| HomeError::Damaged { path: path.to_owned(), reason: error.why.to_string() })?;
        let damaged =
            |error: macula_wire::NodeIdError| HomeError::Damaged { path: path.to_owned(), reason: error.to_string() };
        text.trim().parse().map_err(damaged)
    }

    /// Which root each realm's name stands for here.
    ///
    /// # Errors
    /// As [`Home::realms`]; also when two files contradict one another.
    pub fn pins(&self) -> Result<Pins, HomeError> {
        let mut pins = Pins::default();
        for RealmEntry { name, root, .. } in self.realms()? {
            let path = self.path.join("realms").join(format!("{name}{PIN}"));
            pins.pin(name, root).map_err(|error| HomeError::Damaged { path, reason: error.to_string() })?;
        }
        Ok(pins)
    }

    /// The root key of a realm that was made here.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn realm_key(&self, name: &RealmName) -> Result<Option<SigningKey>, HomeError> {
        let path = self.path.join("realms").join(format!("{name}{KEY}"));
        if path.exists() { Ok(Some(read_key(&path)?)) } else { Ok(None) }
    }

    /// Where revocations that were made here are kept, for the nodes of this home to find.
    ///
    /// # Errors
    /// When it can be neither read nor made.
    pub fn realm_revocations(&self, name: &RealmName) -> Result<RevocationLog, HomeError> {
        let directory = self.path.join("realms");
        make_directory(&directory)?;
        let path = directory.join(format!("{name}{REVOCATIONS}"));
        let opened = RevocationLog::open(&path);
        opened.map(|(log, _)| log).map_err(|error| HomeError::Io { action: "open", path, error })
    }

    /// All revocations that were made here.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn revocations(&self) -> Result<Vec<LoggedRevocation>, HomeError> {
        let mut revocations = Vec::new();
        for RealmEntry { name, .. } in self.realms()? {
            let path = self.path.join("realms").join(format!("{name}{REVOCATIONS}"));
            let read = RevocationLog::read(&path);
            revocations.extend(read.map_err(|error| HomeError::Io { action: "read", path, error })?);
        }
        Ok(revocations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RealmName {
        text.parse().unwrap()
    }

    #[test]
    fn a_realms_root_never_changes() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let root = home.new_realm(&name("io.example")).unwrap();
        assert!(matches!(home.new_realm(&name("io.example")), Err(RealmError::Known { .. })));
        let other = SigningKey::from_bytes(&[7; 32]).verifying_key().into();
        assert!(matches!(home.pin_realm(&name("io.example"), &other), Err(RealmError::Pin(_))));
        assert!(matches!(home.pin_realm(&name("io.alias"), &root), Err(RealmError::Pin(_))), "one name a root");
        home.pin_realm(&name("io.other"), &other).unwrap();
        home.pin_realm(&name("io.other"), &other).unwrap();
        let realms = home.realms().unwrap();
        let listed: Vec<_> = realms.iter().map(|realm| (realm.name.as_str(), realm.has_key)).collect();
        assert_eq!(listed, [("io.example", true), ("io.other", false)]);
        assert_eq!(home.pins().unwrap().root(&name("io.other")), Some(&other));
        assert!(home.realm_key(&name("io.other")).unwrap().is_none());
        std::fs::write(directory.path().join("realms/io.bad.pin"), "did:key:z").unwrap();
        assert_eq!(home.realms().unwrap().len(), 2, "what is damaged stops nothing else");
        assert!(matches!(home.pin_realm(&name("io.bad"), &root), Err(RealmError::Pin(_) | RealmError::Home(_))));
    }

    #[test]
    fn a_wrong_pin_can_be_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let [wrong, right] = [7, 8].map(|seed| SigningKey::from_bytes(&[seed; 32]).verifying_key().into());
        home.pin_realm(&name("io.example"), &wrong).unwrap();
        let refused = home.pin_realm(&name("io.example"), &right).unwrap_err();
        assert!(refused.to_string().contains("macula-host realm unpin io.example"), "{refused}");
        assert!(home.unpin_realm(&name("io.example")).unwrap());
        assert!(!home.unpin_realm(&name("io.example")).unwrap());
        home.pin_realm(&name("io.example"), &right).unwrap();
        home.new_realm(&name("io.own")).unwrap();
        assert!(matches!(home.unpin_realm(&name("io.own")), Err(RealmError::Own(_))));
    }
}
