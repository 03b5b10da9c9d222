//! Content on disk: what is here, on whose behalf, and how much of it may be.
//!
//! ```text
//! index.redb            what is here: size, groups, owners, pins, last use
//! data/ab/bafk….data    the bytes
//! data/ab/bafk….tree    the outboard, if there is more than one group
//! draft/1.data, .tree   being written; removed at the next start
//! ```
//!
//! The index is in memory as well, and there it is looked up; a change counts when it is on the disk. Bytes are made durable
//! before the index says that they are here, so it never says too much: files that it does not know are removed at the
//! next start. What is read is verified against the MCID, and struck from the index when it does not belong to it.
//!
//! Who [`Writer`] and [`Partial`] write for pays with a quota before the disk is touched. When the node's is used up, content
//! that was used longest ago goes, but none that is pinned, open, or being written.
//!
//! No lock is held while bytes are read, written or hashed. Bounds: [`CONTENTS_MAX`] contents, [`CONTENT_BYTES_MAX`] each,
//! [`OWNERS_MAX`] owners each. Specified in `docs/protocol/content.md`, “Stored”.

mod blob;
mod entry;
mod files;
mod index;
mod partial;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    io,
    sync::Arc,
};

use macula_wire::{Digest, Fault, Mcid};
use parking_lot::Mutex;

pub use self::{blob::Blob, entry::Owner, partial::Partial, writer::Writer};
use self::{
    entry::{Entry, data_name, tree_name},
    files::Files,
    index::{Index, Loaded},
};
use crate::{Geometry, GroupSet, Node, Walk, disk::Disk};

/// Contents that one store holds. As many can be provided on one link; the index of so many takes about 30 MB of memory.
pub const CONTENTS_MAX: usize = 65_536;
/// Bytes of one content: 1 TiB, an outboard of 4 GiB.
pub const CONTENT_BYTES_MAX: u64 = 1 << 40;
/// Owners of one content, so that a record stays small.
pub const OWNERS_MAX: usize = 256;
/// Things that have happened and were not asked for; older ones are dropped.
const EVENTS_MAX: usize = 4096;

/// How much may be here.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Bytes of all content with its outboards. Default 10 GiB.
    pub bytes_max: u64,
    /// Bytes of the content of one plugin. The operator has no bound but the node's. Default 256 MiB.
    pub plugin_bytes_max: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { bytes_max: 10 << 30, plugin_bytes_max: 256 << 20 }
    }
}

/// Why something cannot be done. Unless said otherwise, nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It is not here, or is not this owner's.
    #[error("{0} is not here")]
    NotFound(Mcid),
    /// Some of it is missing.
    #[error("{0} is not complete here")]
    Incomplete(Mcid),
    /// A quota is used up, and nothing can go.
    #[error("the quota of {whose} is used up: {bytes_max} bytes")]
    QuotaExceeded {
        /// Whose: `the node`, or an owner's.
        whose: String,
        /// How large it is.
        bytes_max: u64,
    },
    /// The disk is full. What was begun is given up.
    #[error("the disk is full")]
    DiskFull,
    /// More than [`CONTENT_BYTES_MAX`], or than SHA-256 content may have.
    #[error("more than {0} bytes")]
    TooLarge(u64),
    /// More than [`CONTENTS_MAX`], or [`OWNERS_MAX`] of one.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// It is being written already.
    #[error("{0} is being written")]
    Busy(Mcid),
    /// What is on the disk does not belong to it. That is not here any more, and can be fetched again.
    #[error("{0} is damaged on the disk")]
    Corrupt(Mcid),
    /// The disk. What was begun is given up.
    #[error("the disk: {0}")]
    Io(io::Error),
}

impl StoreError {
    /// What whoever asked for it is told.
    pub fn fault(&self) -> Fault {
        let text = self.to_string();
        match self {
            Self::NotFound(_) | Self::Incomplete(_) | Self::Corrupt(_) => Fault::NotFound(text),
            Self::QuotaExceeded { .. } | Self::TooMany(_) | Self::TooLarge(_) => Fault::QuotaExceeded(text),
            Self::Busy(_) => Fault::Conflict(text),
            Self::DiskFull | Self::Io(_) => Fault::Unavailable(text),
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::StorageFull { Self::DiskFull } else { Self::Io(error) }
    }
}

/// What has become of content, for those who tell others of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreEvent {
    /// All of it is here.
    Complete(Mcid),
    /// It is not, or not all of it any more.
    Gone(Mcid),
}

/// One content, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Its id.
    pub content: Mcid,
    /// In bytes.
    pub size: u64,
    /// The groups that are here; `None` when all are.
    pub groups: Option<GroupSet>,
    /// On whose behalf.
    pub owners: BTreeSet<Owner>,
    /// Who keeps it from being evicted.
    pub pins: BTreeSet<Owner>,
    /// When it was used last, in ms since 1970.
    pub used: u64,
}

/// What [`Store::open`] found to mend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mended {
    /// The index could not be read: it was set aside, and what is on the disk and verifies is the operator's now. Of content that is
    /// named by SHA-256, nothing is.
    pub index_was_damaged: bool,
    /// Contents whose files were gone or cut.
    pub lost: Vec<Mcid>,
    /// Files that nobody knows, of writes that were cut short; removed.
    pub files_removed: usize,
}

/// See the module. Clones are the same store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    disk: Arc<dyn Disk>,
    config: StoreConfig,
    /// Taken before `state`, and held while a change is made durable, so that the last one to be is the newest.
    index: Mutex<Index>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<Mcid, Entry>,
    /// Blobs that are open.
    open: HashMap<Mcid, usize>,
    writing: BTreeSet<Mcid>,
    /// Bytes of entries, and of what is being written.
    bytes: u64,
    by_owner: HashMap<Owner, u64>,
    drafts: u64,
    events: VecDeque<StoreEvent>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// Opens the store on a disk, one process at a time, and removes what writes that were cut short have left.
    ///
    /// # Errors
    /// As the disk says.
    pub fn open(disk: Arc<dyn Disk>, config: StoreConfig) -> Result<(Self, Mended), StoreError> {
        let Loaded { index, entries, was_damaged } = Index::open(&disk)?;
        let files: HashMap<String, u64> = disk.list()?.into_iter().collect();
        let mut mended = Mended { index_was_damaged: was_damaged, ..Mended::default() };
        let (mut state, mut known) = (State::default(), BTreeSet::new());
        let found = if was_damaged { find_contents(&*disk, &files)? } else { Vec::new() };
        let mut changed: Vec<_> = found.iter().map(|(content, entry)| (content.clone(), Some(entry.clone()))).collect();
        for (content, entry) in entries.into_iter().chain(found) {
            let has = |name: &str, bytes: u64| bytes == 0 || files.get(name).is_some_and(|found| *found >= bytes);
            let (data, tree) = (data_name(&content), tree_name(&content));
            if has(&data, entry.size) && has(&tree, entry.geometry().outboard_bytes()) {
                known.extend([data, tree]);
                state.add(&content, entry);
            } else {
                changed.push((content.clone(), None));
                mended.lost.push(content);
            }
        }
        let store = Self(Arc::new(Inner { disk, config, index: Mutex::new(index), state: Mutex::new(state) }));
        if !changed.is_empty() {
            store.0.index.lock().commit(&changed)?;
        }
        for name in files.keys() {
            let is_ours = name.starts_with("data/") || name.starts_with("draft/");
            if is_ours && !known.contains(name) {
                store.0.disk.remove(name)?;
                mended.files_removed += 1;
            }
        }
        Ok((store, mended))
    }

    /// How much may be here.
    pub fn config(&self) -> &StoreConfig {
        &self.0.config
    }

    /// Begins content whose id is not known yet.
    ///
    /// # Errors
    /// As the disk says.
    pub fn writer(&self, owner: Owner) -> Result<Writer, StoreError> {
        Writer::new(self.clone(), owner)
    }

    /// Stores bytes, as of `now` in ms since 1970. The same bytes again cost nothing.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn put(&self, owner: Owner, bytes: &[u8], now: u64) -> Result<Mcid, StoreError> {
        let mut writer = self.writer(owner)?;
        writer.write(bytes)?;
        writer.finish(now)
    }

    /// Begins to take in content that is known by its id, or goes on with it.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while somebody else does; as the disk says.
    pub fn partial(&self, owner: Owner, content: &Mcid) -> Result<Partial, StoreError> {
        Partial::new(self.clone(), owner, content)
    }

    /// Opens content for reading, also when only some of it is here. It is not evicted while it is open.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; as the disk says.
    pub fn blob(&self, owner: &Owner, content: &Mcid, now: u64) -> Result<Blob, StoreError> {
        let entry = {
            let mut state = self.0.state.lock();
            let entry = state.visible_mut(owner, content)?;
            entry.used = now;
            let entry = entry.clone();
            *state.open.entry(content.clone()).or_default() += 1;
            entry
        };
        Blob::new(self.clone(), content.clone(), &entry)
    }

    /// Whether all of it is here, as far as this owner may know.
    pub fn has(&self, owner: &Owner, content: &Mcid) -> bool {
        self.0.state.lock().visible(owner, content).is_some_and(Entry::is_complete)
    }

    /// What is here of one content.
    pub fn stat(&self, owner: &Owner, content: &Mcid) -> Option<Stat> {
        self.0.state.lock().visible(owner, content).map(|entry| stat(content, entry))
    }

    /// All that this owner may see, the operator everything, by id.
    pub fn list(&self, owner: &Owner) -> Vec<Stat> {
        let state = self.0.state.lock();
        let visible = state.entries.iter().filter(|(_, entry)| entry.is_visible_to(owner));
        let mut list: Vec<Stat> = visible.map(|(content, entry)| stat(content, entry)).collect();
        list.sort_by(|one, other| one.content.cmp(&other.content));
        list
    }

    /// How many contents are here, whole or in part.
    pub fn contents(&self) -> usize {
        self.0.state.lock().entries.len()
    }

    /// Bytes on the disk, of an owner or of all.
    pub fn usage(&self, owner: Option<&Owner>) -> u64 {
        let state = self.0.state.lock();
        owner.map_or(state.bytes, |owner| state.by_owner.get(owner).copied().unwrap_or(0))
    }

    /// Keeps content from being evicted, on behalf of an owner that sees it. Twice is once.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Incomplete`]; as the disk says.
    pub fn pin(&self, owner: &Owner, content: &Mcid) -> Result<(), StoreError> {
        self.change(content, |state| {
            let entry = state.visible_mut(owner, content)?;
            if !entry.is_complete() {
                return Err(StoreError::Incomplete(content.clone()));
            }
            if entry.pins.len() >= OWNERS_MAX && !entry.pins.contains(owner) {
                return Err(StoreError::TooMany("pins of one content"));
            }
            entry.pins.insert(owner.clone());
            Ok(())
        })
    }

    /// Lets it be evicted again, as far as this owner is concerned.
    ///
    /// # Errors
    /// As the disk says; what is not pinned, or not here, is none.
    pub fn unpin(&self, owner: &Owner, content: &Mcid) -> Result<(), StoreError> {
        self.change(content, |state| {
            if let Some(entry) = state.entries.get_mut(content) {
                entry.pins.remove(owner);
            }
            Ok(())
        })
    }

    /// Another owner has it too: it may fetch it, and need not, because it is here.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; its quota; as the disk says.
    pub fn adopt(&self, owner: &Owner, content: &Mcid, now: u64) -> Result<(), StoreError> {
        let config = &self.0.config;
        self.change(content, |state| {
            let entry = state.entries.get(content).ok_or_else(|| StoreError::NotFound(content.clone()))?;
            if !entry.owners.contains(owner) {
                if entry.owners.len() >= OWNERS_MAX {
                    return Err(StoreError::TooMany("owners of one content"));
                }
                state.pay(config, owner, entry.bytes())?;
            }
            let entry = state.entries.get_mut(content).expect("looked up above");
            entry.owners.insert(owner.clone());
            entry.used = now;
            Ok(())
        })
    }

    /// This owner has no use for it any more, nor a pin. It goes when it is nobody's. The operator removes it for all.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Busy`] while it is being written; as the disk says.
    pub fn remove(&self, owner: &Owner, content: &Mcid) -> Result<(), StoreError> {
        let is_gone = {
            let mut state = self.0.state.lock();
            if state.writing.contains(content) {
                return Err(StoreError::Busy(content.clone()));
            }
            let entry = state.visible_mut(owner, content)?;
            let bytes = entry.bytes();
            entry.pins.remove(owner);
            let was_owner = entry.owners.remove(owner);
            let is_gone = entry.owners.is_empty() || *owner == Owner::Operator;
            if was_owner {
                state.give_back(owner, bytes);
            }
            if is_gone {
                state.forget(content);
            }
            is_gone
        };
        self.commit([content.clone()])?;
        if is_gone { self.remove_files(content) } else { Ok(()) }
    }

    /// Reads all of a content and verifies it; `progress` is told of bytes done. What is damaged is struck.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Corrupt`]; as the disk says.
    pub fn verify(&self, content: &Mcid, now: u64, mut progress: impl FnMut(u64)) -> Result<(), StoreError> {
        let blob = self.blob(&Owner::Operator, content, now)?;
        let mut damaged = Vec::new();
        let mut done = 0;
        scan(blob.files(), blob.root(), blob.groups(), |node, bytes, is_good| {
            if !is_good {
                damaged.push(node);
            }
            done += bytes;
            progress(done);
        })?;
        for node in &damaged {
            self.strike(content, *node)?;
        }
        if damaged.is_empty() { Ok(()) } else { Err(StoreError::Corrupt(content.clone())) }
    }

    /// What has become complete or is gone, in order.
    pub fn poll_event(&self) -> Option<StoreEvent> {
        self.0.state.lock().events.pop_front()
    }

    /// What was read does not belong to the content: it is not here any more. Of a damaged parent, nothing is.
    ///
    /// # Errors
    /// As the disk says; it is struck all the same until the store is opened again.
    pub fn strike(&self, content: &Mcid, node: Node) -> Result<(), StoreError> {
        self.change(content, |state| {
            let Some(entry) = state.entries.get_mut(content) else { return Ok(()) };
            let was_complete = entry.is_complete();
            let mut groups = entry.present();
            match node {
                Node::Group(group) => groups.remove(&GroupSet::from(group..group + 1)),
                Node::Parent(_) => groups = GroupSet::new(),
            }
            entry.groups = Some(groups);
            if was_complete {
                state.say(StoreEvent::Gone(content.clone()));
            }
            Ok(())
        })
    }

    /// Makes a change to one content, and then makes it durable.
    fn change(
        &self,
        content: &Mcid,
        change: impl FnOnce(&mut State) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        change(&mut self.0.state.lock())?;
        self.commit([content.clone()])
    }

    /// Makes durable what the state says of these contents.
    fn commit(&self, contents: impl IntoIterator<Item = Mcid>) -> Result<(), StoreError> {
        let mut index = self.0.index.lock();
        let records: Vec<_> = {
            let state = self.0.state.lock();
            contents.into_iter().map(|content| (content.clone(), state.entries.get(&content).cloned())).collect()
        };
        Ok(index.commit(&records)?)
    }

    /// Makes room for what an owner is about to write: what was used longest ago goes.
    fn reserve(&self, owner: &Owner, bytes: u64) -> Result<(), StoreError> {
        let victims = {
            let mut state = self.0.state.lock();
            let victims = state.victims(&self.0.config, bytes)?;
            state.pay(&self.0.config, owner, bytes)?;
            state.bytes += bytes;
            for victim in &victims {
                state.forget(victim);
            }
            victims
        };
        if victims.is_empty() {
            return Ok(());
        }
        let removed = self.commit(victims.iter().cloned());
        let removed = removed.and_then(|()| victims.iter().try_for_each(|victim| self.remove_files(victim)));
        if removed.is_err() {
            self.release(owner, bytes);
        }
        removed
    }

    fn release(&self, owner: &Owner, bytes: u64) {
        let mut state = self.0.state.lock();
        state.bytes -= bytes;
        state.give_back(owner, bytes);
    }

    fn remove_files(&self, content: &Mcid) -> Result<(), StoreError> {
        self.0.disk.remove(&data_name(content))?;
        Ok(self.0.disk.remove(&tree_name(content))?)
    }
}

/// Reads and verifies groups, and what leads to them; tells of each node, how many bytes it has, and whether it is good. Of
/// what is below a parent that is not, nothing can be told.
fn scan(
    files: &Files,
    root: [u8; 32],
    groups: &GroupSet,
    mut tell: impl FnMut(Node, u64, bool),
) -> Result<(), StoreError> {
    let mut walk = Walk::new(root, files.geometry, groups.clone());
    while let Some(node) = walk.node() {
        let bytes = files.read(node)?;
        let is_good = walk.accept(&bytes).is_ok();
        tell(node, bytes.len() as u64, is_good);
        match node {
            Node::Group(group) if !is_good => {
                // On behind it, by the way from the root.
                let ahead = groups.difference(&GroupSet::from(0..group + 1));
                walk = Walk::new(root, files.geometry, ahead);
            }
            Node::Parent(_) if !is_good => break,
            _ => {}
        }
    }
    Ok(())
}

/// What can be told of content without an index: by its name, its length, and what verifies.
fn find_contents(disk: &dyn Disk, files: &HashMap<String, u64>) -> Result<Vec<(Mcid, Entry)>, StoreError> {
    let mut found = Vec::new();
    for (name, size) in files {
        let id = name.strip_suffix(".data").and_then(|name| name.rsplit('/').next());
        let Some(content) = id.and_then(|id| id.parse::<Mcid>().ok()).filter(|content| data_name(content) == *name)
        else {
            continue;
        };
        let Digest::Blake3(root) = content.digest() else { continue };
        let geometry = Geometry::of(*size);
        let Ok(opened) = Files::open(disk, &content, geometry) else { continue };
        let (all, mut good) = (GroupSet::from(0..geometry.groups()), GroupSet::new());
        // Files that are cut say so here: then what verified before counts.
        let _ = scan(&opened, root, &all, |node, _, is_good| {
            if let (Node::Group(group), true) = (node, is_good) {
                good.insert(&GroupSet::from(group..group + 1));
            }
        });
        // Without the last group, the length says nothing of the size.
        if good.contains(geometry.last_group()) {
            let groups = (good != all).then_some(good);
            let owners = [Owner::Operator].into();
            found.push((content, Entry { size: *size, root, groups, owners, pins: BTreeSet::new(), used: 0 }));
        }
    }
    Ok(found)
}

fn stat(content: &Mcid, entry: &Entry) -> Stat {
    Stat {
        content: content.clone(),
        size: entry.size,
        groups: entry.groups.clone(),
        owners: entry.owners.clone(),
        pins: entry.pins.clone(),
        used: entry.used,
    }
}

impl State {
    /// Counts a content that is here.
    fn add(&mut self, content: &Mcid, entry: Entry) {
        self.bytes += entry.bytes();
        for owner in &entry.owners {
            *self.by_owner.entry(owner.clone()).or_default() += entry.bytes();
        }
        self.entries.insert(content.clone(), entry);
    }

    /// The reverse; its files are for the caller to remove.
    fn forget(&mut self, content: &Mcid) {
        let Some(entry) = self.entries.remove(content) else { return };
        self.bytes -= entry.bytes();
        for owner in &entry.owners {
            self.give_back(owner, entry.bytes());
        }
        if entry.is_complete() {
            self.say(StoreEvent::Gone(content.clone()));
        }
    }

    fn visible(&self, owner: &Owner, content: &Mcid) -> Option<&Entry> {
        self.entries.get(content).filter(|entry| entry.is_visible_to(owner))
    }

    fn visible_mut(&mut self, owner: &Owner, content: &Mcid) -> Result<&mut Entry, StoreError> {
        let entry = self.entries.get_mut(content).filter(|entry| entry.is_visible_to(owner));
        entry.ok_or_else(|| StoreError::NotFound(content.clone()))
    }

    /// Takes bytes from an owner's quota.
    fn pay(&mut self, config: &StoreConfig, owner: &Owner, bytes: u64) -> Result<(), StoreError> {
        let used = self.by_owner.entry(owner.clone()).or_default();
        if *owner != Owner::Operator && *used + bytes > config.plugin_bytes_max {
            return Err(StoreError::QuotaExceeded { whose: owner.to_string(), bytes_max: config.plugin_bytes_max });
        }
        *used += bytes;
        Ok(())
    }

    fn give_back(&mut self, owner: &Owner, bytes: u64) {
        if let Some(used) = self.by_owner.get_mut(owner) {
            *used = used.saturating_sub(bytes);
            if *used == 0 {
                self.by_owner.remove(owner);
            }
        }
    }

    /// What has to go so that `bytes` more fit.
    fn victims(&self, config: &StoreConfig, bytes: u64) -> Result<Vec<Mcid>, StoreError> {
        let mut over = (self.bytes + bytes).saturating_sub(config.bytes_max);
        if over == 0 {
            return Ok(Vec::new());
        }
        let may_go = |(content, entry): &(&Mcid, &Entry)| {
            entry.pins.is_empty() && !self.open.contains_key(*content) && !self.writing.contains(*content)
        };
        let mut candidates: Vec<_> = self.entries.iter().filter(may_go).collect();
        candidates.sort_by_key(|(content, entry)| (entry.used, *content));
        let mut victims = Vec::new();
        for (content, entry) in candidates {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(entry.bytes());
            victims.push(content.clone());
        }
        if over > 0 {
            return Err(StoreError::QuotaExceeded { whose: "the node".into(), bytes_max: config.bytes_max });
        }
        Ok(victims)
    }

    fn say(&mut self, event: StoreEvent) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn closed(&mut self, content: &Mcid) {
        if let Some(count) = self.open.get_mut(content) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(content);
            }
        }
    }
}
