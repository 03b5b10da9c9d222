//! `MACULA_HOME`: keys and state on disk.
//!
//! ```text
//! <home>/                       0700
//!   clock                       0600  the time that was seen: see `home/clock.rs`
//!   clock.lock                  0600  held while that is written
//!   realms/<realm>.key          0600  root key of a realm that was made here, 32 bytes in hexadecimal
//!   realms/<realm>.pin          0600  did:key of the root of a realm that was made elsewhere
//!   realms/<realm>.revocations  0600  what was revoked from here: see `revocation_log.rs`
//!   tokens/<cid>.ucan           0600  delegations, each with its proofs: UCAN containers
//!   nodes/<name>/               0700  one running process at a time, by file lock
//!     lock
//!     key                       0600  the node's key, 32 bytes in hexadecimal
//!     relay.key                 0600  of the relay embedded in a host
//!     revocations               0600  what the host has been told
//!     relay-revocations         0600  what the relay has been told
//!     epoch                     the epoch of the last run, decimal
//!     slots/<namespace>+<label>.json  0600  what a slot held, holds and may do
//!     packages/<name>@<version>.record  0600  what packages are, as signed
//!     run.json                  0600  while running: addresses and node id
//! ```
//!
//! Files are written beside their place, flushed and renamed, so a crash leaves the old or the new one.

mod clock;
mod files;
mod realms;
mod slots;
mod tokens;

use std::{
    fs::{self, File, OpenOptions},
    io,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ed25519_dalek::SigningKey;
use macula_transport::LocalNode;
use macula_wire::{NodeId, RealmName, hello::Role};
use serde::{Deserialize, Serialize};

use self::files::{is_absent, key_at, make_directory, read_key, remove_drafts, stored, write_private};
pub use self::{
    clock::StoredClock,
    realms::{RealmEntry, RealmError},
    slots::{PackageFiles, StateFile},
    tokens::{StoredTokens, TokenFileError, read_tokens},
};
use crate::{LoggedRevocation, RevocationLog};

/// Name of the realm that is there without configuration.
pub const LOCAL_REALM: &str = "local.dev";

/// What lies beside the files that all processes of this home write, and is older than that, nobody is writing any more.
const SHARED_DRAFT_PATIENCE: Duration = Duration::from_secs(3600);

/// A number in decimal.
const EPOCH_BYTES_MAX: u64 = 64;
/// Addresses, a name and ids.
const ANNOUNCEMENT_BYTES_MAX: u64 = 64 << 10;

/// The directory that holds everything this user's nodes keep.
#[derive(Debug, Clone)]
pub struct Home {
    path: PathBuf,
}

/// Why the home cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// No place to put it.
    #[error("there is no home directory; set MACULA_HOME to a folder")]
    Nowhere,
    /// It is not there, and cannot be made.
    #[error("cannot use {} as MACULA_HOME: {error}; set MACULA_HOME to a folder that this user can write to", path.display())]
    Unusable {
        /// Where it was to be.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Reading or writing failed.
    #[error("cannot {action} {path}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        reason: String,
    },
    /// Another process runs under this name.
    #[error("a node named {name:?} is already running ({running}); stop it or choose another --name")]
    NameInUse {
        /// The name.
        name: String,
        /// What is known of it.
        running: String,
    },
    /// A name that is no single folder name.
    #[error("{0:?} is no node name (expected 1 to 64 characters of a-z, A-Z, 0-9, '-' and '_')")]
    Name(String),
    /// A private file that others can read.
    #[error("{path} can be read by others (mode {mode:o}); run: chmod 600 {path}")]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// What a running node tells other processes of the same user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningNode {
    /// Name in `nodes/`.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// Its id; the embedded relay's when it has one.
    pub node: NodeId,
    /// Where its relay listens; `None` for a host that only dials out.
    pub relay: Option<SocketAddr>,
    /// The relays that it dials, when it embeds none.
    pub relays: Vec<String>,
    /// Where health and metrics are served.
    pub health: Option<SocketAddr>,
    /// The host's own id, under which it answers administration.
    pub admin: Option<NodeId>,
    /// The realm in which it does.
    #[serde(default = "local_realm_name")]
    pub realm: RealmName,
    /// Whether it runs plugins; a relay does not.
    #[serde(default = "runs_plugins_by_default")]
    pub runs_plugins: bool,
}

/// Of a node that does not say, because it is older.
fn runs_plugins_by_default() -> bool {
    true
}

fn local_realm_name() -> RealmName {
    LOCAL_REALM.parse().expect("a constant name")
}

/// One node's state, held for this process alone until dropped.
#[derive(Debug)]
pub struct NodeState {
    home: Home,
    name: String,
    path: PathBuf,
    key: SigningKey,
    epoch: u64,
    run: Run,
    _lock: File,
}

/// Which run of a node this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// Nobody can know it from before.
    First,
    /// Others may look for it.
    Again,
}

impl Home {
    /// Opens `path`, making it when it is not there.
    ///
    /// # Errors
    /// When it cannot be made or is no directory that this user can write to.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, HomeError> {
        let home = Self::at(path);
        make_directory(&home.path).map_err(|error| match error {
            HomeError::Io { path, error, .. } => HomeError::Unusable { path, error },
            other => other,
        })?;
        Ok(home)
    }

    /// The home at `path`, whether it is there or not: what is not there holds nothing.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The default place: the platform's data directory.
    ///
    /// # Errors
    /// [`HomeError::Nowhere`] when the platform has none for this user.
    pub fn default_path() -> Result<PathBuf, HomeError> {
        let directories = directories::ProjectDirs::from("", "", "macula").ok_or(HomeError::Nowhere)?;
        Ok(directories.data_dir().to_owned())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The node `name`, locked for this process, with a new epoch.
    ///
    /// # Errors
    /// [`HomeError::NameInUse`] while another process runs under it, and whatever reading and writing can do.
    pub fn node(&self, name: &str) -> Result<NodeState, HomeError> {
        let path = self.node_path(name)?;
        make_directory(&path)?;
        let lock = lock(&path.join("lock")).map_err(|refusal| match refusal {
            LockRefusal::Held => HomeError::NameInUse { name: name.to_owned(), running: self.describe(name) },
            LockRefusal::Io(error) => HomeError::Io { action: "lock", path: path.join("lock"), error },
        })?;
        remove_drafts(&path, Duration::ZERO);
        // Of one that was killed: it runs nowhere now.
        let _ = fs::remove_file(path.join(ANNOUNCEMENT));
        for shared in ["realms", "tokens"] {
            remove_drafts(&self.path.join(shared), SHARED_DRAFT_PATIENCE);
        }
        let key = key_at(&path.join("key"))?;
        let run = if path.join("epoch").exists() { Run::Again } else { Run::First };
        let epoch = next_epoch(&path.join("epoch"))?;
        Ok(NodeState { home: self.clone(), name: name.to_owned(), path, key, epoch, run, _lock: lock })
    }

    /// The key of the node `name`, without running it; made when it is not there.
    ///
    /// # Errors
    /// When the key cannot be read or written.
    pub fn node_key(&self, name: &str) -> Result<NodeId, HomeError> {
        let path = self.node_path(name)?;
        make_directory(&path)?;
        Ok(key_at(&path.join("key"))?.verifying_key().into())
    }

    /// All keys of this home that can be granted something: of nodes, and of the relays inside hosts. Those that cannot be
    /// read are left out.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn keys(&self) -> Result<Vec<(String, SigningKey)>, HomeError> {
        let mut keys = Vec::new();
        for name in self.nodes()? {
            let path = self.path.join("nodes").join(&name);
            keys.extend(read_key(&path.join("key")).ok().map(|key| (name.clone(), key)));
            let relay = path.join("relay.key");
            keys.extend(read_key(&relay).ok().map(|key| (format!("{name} (its relay)"), key)));
        }
        Ok(keys)
    }

    /// The id of the relay inside the host `name`, if it has run with one.
    ///
    /// # Errors
    /// When its key cannot be read.
    pub fn relay_key(&self, name: &str) -> Result<Option<NodeId>, HomeError> {
        let path = self.node_path(name)?.join("relay.key");
        if path.exists() { Ok(Some(read_key(&path)?.verifying_key().into())) } else { Ok(None) }
    }

    /// Names of all nodes that have a key here, sorted.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn nodes(&self) -> Result<Vec<String>, HomeError> {
        let directory = self.path.join("nodes");
        let entries = match fs::read_dir(&directory) {
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            other => other.map_err(|error| HomeError::Io { action: "read", path: directory, error })?,
        };
        // What is no node's folder is somebody else's business.
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| self.node_path(name).is_ok_and(|path| path.join("key").exists()))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The running nodes of this home, as they describe themselves. What a crashed one left behind is skipped.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn running(&self) -> Result<Vec<RunningNode>, HomeError> {
        let mut running = Vec::new();
        for name in self.nodes()? {
            let path = self.path.join("nodes").join(&name);
            if !is_locked(&path.join("lock")) {
                continue;
            }
            let text = announced(&path);
            if let Ok(node) = serde_json::from_slice(&text) {
                running.push(node);
            }
        }
        Ok(running)
    }

    /// Whether a node other than `name` runs and has not said yet where.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn is_another_starting(&self, name: &str) -> Result<bool, HomeError> {
        let others = self.nodes()?.into_iter().filter(|other| other != name);
        let mut paths = others.map(|other| self.path.join("nodes").join(other));
        Ok(paths.any(|path| is_locked(&path.join("lock")) && !path.join(ANNOUNCEMENT).exists()))
    }

    fn describe(&self, name: &str) -> String {
        let text = announced(&self.path.join("nodes").join(name));
        match serde_json::from_slice::<RunningNode>(&text) {
            Ok(node) => format!("process {}", node.pid),
            Err(_) => "starting up".into(),
        }
    }

    fn node_path(&self, name: &str) -> Result<PathBuf, HomeError> {
        let good = (1..=64).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if good { Ok(self.path.join("nodes").join(name)) } else { Err(HomeError::Name(name.to_owned())) }
    }
}

impl NodeState {
    /// Which run of the node this is.
    pub fn run(&self) -> Run {
        self.run
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its directory, for stores and caches of its own.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its key.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Its id.
    pub fn id(&self) -> NodeId {
        self.key.verifying_key().into()
    }

    /// Of this run: larger than that of any earlier one, and on disk before this value was given out.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What it says of itself on links.
    pub fn local(&self, role: Role) -> LocalNode {
        LocalNode { key: self.key.clone(), role, epoch: self.epoch }
    }

    /// The relay inside this host: a node of its own, with a key of its own.
    ///
    /// # Errors
    /// When its key cannot be read or written.
    pub fn embedded_relay(&self) -> Result<LocalNode, HomeError> {
        Ok(LocalNode { key: key_at(&self.path.join("relay.key"))?, role: Role::Relay, epoch: self.epoch })
    }

    /// Opens a log of revocations of this node, for its host or for its relay; gives what is known, with what was revoked
    /// from this home.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn revocations(&self, role: Role) -> Result<(RevocationLog, Vec<LoggedRevocation>), HomeError> {
        let name = if role == Role::Relay { "relay-revocations" } else { "revocations" };
        let path = self.path.join(name);
        let (log, mut known) =
            RevocationLog::open(&path).map_err(|error| HomeError::Io { action: "open", path, error })?;
        known.extend(self.home.revocations()?);
        Ok((log, known))
    }

    /// Tells other processes of this user how to reach the node.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn announce(&self, running: &RunningNode) -> Result<(), HomeError> {
        let text = serde_json::to_vec_pretty(running).expect("plain data always encodes");
        write_private(&self.path.join(ANNOUNCEMENT), &text)
    }
}

impl Drop for NodeState {
    fn drop(&mut self) {
        // What stays behind is recognised by the free lock.
        let _ = fs::remove_file(self.path.join(ANNOUNCEMENT));
    }
}

/// What a running node says of itself, in its folder.
const ANNOUNCEMENT: &str = "run.json";

enum LockRefusal {
    Held,
    Io(io::Error),
}

/// Others look whether a lock is held by taking it for a moment; that is not a running node.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

fn lock(path: &Path) -> Result<File, LockRefusal> {
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map_err(LockRefusal::Io)?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(fs::TryLockError::Error(error)) => return Err(LockRefusal::Io(error)),
        }
    }
    Err(LockRefusal::Held)
}

/// Whether a process holds the lock. Shared with others who ask, so that they do not take one another for a node.
fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock))
}

/// What the node of this folder tells; empty when it does not run, or nothing that could be read.
fn announced(node: &Path) -> Vec<u8> {
    stored(&node.join(ANNOUNCEMENT), ANNOUNCEMENT_BYTES_MAX).ok().flatten().unwrap_or_default()
}

/// max(stored + 1, milliseconds since 1970), stored durably before it is used.
fn next_epoch(path: &Path) -> Result<u64, HomeError> {
    let damaged = |what: &str| HomeError::Damaged {
        path: path.to_owned(),
        reason: format!("{what}; when the clock is right, remove the file and the clock is used instead"),
    };
    let stored = match stored(path, EPOCH_BYTES_MAX)? {
        None => 0,
        Some(text) => {
            let text = String::from_utf8_lossy(&text);
            text.trim().parse::<u64>().map_err(|error| damaged(&format!("expected a number: {error}")))?
        }
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let next = stored.checked_add(1).ok_or_else(|| damaged("it cannot grow any more"))?;
    let epoch = now.max(next);
    write_private(path, epoch.to_string().as_bytes())?;
    Ok(epoch)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path().join("home")).unwrap();
        (directory, home)
    }

    fn announcement(node: &NodeState) -> RunningNode {
        RunningNode {
            name: node.name().into(),
            pid: 7,
            node: node.id(),
            relay: None,
            relays: Vec::new(),
            health: None,
            admin: None,
            realm: local_realm_name(),
            runs_plugins: true,
        }
    }

    #[test]
    fn keys_stay_and_epochs_grow() {
        let (_directory, home) = home();
        let (id, epoch) = {
            let node = home.node("host").unwrap();
            (node.id(), node.epoch())
        };
        let node = home.node("host").unwrap();
        assert_eq!(node.id(), id);
        assert!(node.epoch() > epoch);
        assert_eq!(home.nodes().unwrap(), ["host"]);
        assert_eq!(home.node_key("host").unwrap(), id);
        let mode = fs::metadata(node.path().join("key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mode = fs::metadata(home.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn an_epoch_ahead_of_the_clock_still_grows() {
        let (_directory, home) = home();
        drop(home.node("host").unwrap());
        let path = home.path().join("nodes/host/epoch");
        fs::write(&path, (u64::MAX / 4).to_string()).unwrap();
        assert_eq!(home.node("host").unwrap().epoch(), u64::MAX / 4 + 1);
        for damaged in ["soon", "", "-1", "18446744073709551615"] {
            fs::write(&path, damaged).unwrap();
            assert!(home.node("host").unwrap_err().to_string().contains("remove the file"), "{damaged}");
        }
    }

    #[test]
    fn one_process_at_a_time() {
        let (_directory, home) = home();
        let node = home.node("host").unwrap();
        assert!(matches!(home.node("host"), Err(HomeError::NameInUse { .. })));
        assert!(home.node("other").is_ok());
        assert!(matches!(home.node("../up"), Err(HomeError::Name(_))));
        let running = announcement(&node);
        node.announce(&running).unwrap();
        assert_eq!(home.running().unwrap(), [running]);
        let text = home.node("host").unwrap_err().to_string();
        assert!(text.contains("process 7"), "{text}");
        drop(node);
        assert_eq!(home.running().unwrap(), []);
    }

    #[test]
    fn the_local_realm_is_one_for_all_who_come_at_once() {
        let (_directory, home) = home();
        let roots: Vec<NodeId> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| home.local_realm().unwrap().root())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(roots.windows(2).all(|pair| pair[0] == pair[1]));
        let left: Vec<_> = fs::read_dir(home.path().join("realms")).unwrap().collect();
        assert_eq!(left.len(), 1, "no drafts are left");
    }

    #[test]
    fn what_others_left_there_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let home = Home::open(directory.path()).unwrap();
        let node = home.node("host").unwrap();
        let mode = fs::metadata(directory.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o1777, "a folder that was there keeps its mode");
        let running = announcement(&node);
        node.announce(&running).unwrap();
        for name in ["broken", "a b"] {
            fs::create_dir(home.path().join("nodes").join(name)).unwrap();
            fs::write(home.path().join("nodes").join(name).join("key"), "zz").unwrap();
        }
        assert_eq!(home.running().unwrap(), [running], "a damaged neighbour does not hide a running node");
        assert_eq!(home.nodes().unwrap(), ["broken", "host"]);
        drop(node);
        fs::write(home.path().join("nodes/host/.key.0123456789abcdef.draft"), "secret").unwrap();
        drop(home.node("host").unwrap());
        assert!(!home.path().join("nodes/host/.key.0123456789abcdef.draft").exists());
    }

    #[test]
    fn damaged_and_exposed_keys_are_refused_by_name() {
        let (_directory, home) = home();
        drop(home.node("host").unwrap());
        let path = home.path().join("nodes/host/key");
        fs::write(&path, "short").unwrap();
        assert!(home.node("host").unwrap_err().to_string().contains("nodes/host/key is damaged"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(home.node("host").unwrap_err().to_string().contains("chmod 600"));
    }
}
