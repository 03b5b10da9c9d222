//! A node's content: its store on disk, given to the realm and filled from it.
//!
//! What is complete and for everybody in the realm is provided; what goes, or turns out to be damaged, is not any more, until
//! it was fetched again. A content is fetched once at a time, whoever asks for it, and a fetch that was cut short goes on at
//! the next start when somebody asks for it again. At the start and every [`TIDY_INTERVAL`] what is above the quotas or unused
//! is given up.
//!
//! Bounds: those of the store, and [`OFFERS_MAX`] contents that are provided, those that were used last.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    io,
    sync::{Arc, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use macula_content::{
    GROUP_BYTES, Geometry, GroupSet, Node, Parent, Progress,
    disk::FolderDisk,
    store::{Blob, Opened, Owner, Partial, Stat, Store, StoreConfig, StoreError, StoreEvent},
};
use macula_wire::{Digest, Fault, Mcid, RealmId};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    task::{AbortHandle, spawn_blocking},
    time::{Instant, MissedTickBehavior, interval_at},
};

use crate::{
    NodeState,
    mesh::{ContentBytes, ContentSink, ContentSource, FetchError, FetchOptions, Mesh},
};

mod owned;
mod pins;

use pins::PinBook;

pub use owned::{ContentReader, ContentWriter, OwnedContent, OwnedFetch};
pub use pins::Pinner;

/// How a fetch is getting on.
#[derive(Debug, Clone, PartialEq)]
pub enum FetchState {
    /// It goes on.
    Running(Progress),
    /// All of it is here.
    Done,
    /// It has ended otherwise; what was fetched is kept.
    Failed(FetchError),
}

/// How full a node's store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ContentUsage {
    /// Bytes of content on the disk, in whole blocks, with outboards.
    pub bytes: u64,
    /// How many there may be.
    pub bytes_max: u64,
    /// Contents, whole or in part.
    pub contents: u64,
}

/// A node's content. Clones are the same.
#[derive(Debug, Clone)]
pub struct NodeContent(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    mesh: Mesh,
    realm: RealmId,
    fetches: Mutex<HashMap<Mcid, Fetch>>,
    /// What the realm was told that is here. Locked while it is told, so that it hears things in the order in which they were.
    offers: Mutex<BTreeSet<Mcid>>,
    pins: PinBook,
    /// The task that tidies up; it ends with this.
    tidying: AbortHandle,
}

/// The last fetch of a content.
#[derive(Debug)]
struct Fetch {
    state: watch::Receiver<FetchState>,
    task: AbortHandle,
    /// Those who want it, beside the operator.
    interested: usize,
    /// Nobody wanted it any more: it is ending, and whoever wants it now begins anew.
    is_cancelled: bool,
    /// The operator wants it: it goes on whoever looks.
    is_operators: bool,
}

/// Somebody wants a fetch to go on. With the last one gone it ends, unless the operator wants it too.
#[derive(Debug)]
struct Interest {
    content: Weak<Inner>,
    mcid: Mcid,
    /// Tells this fetch from others of the same content.
    state: watch::Receiver<FetchState>,
}

impl Drop for Interest {
    fn drop(&mut self) {
        let Some(inner) = self.content.upgrade() else { return };
        let mut fetches = inner.fetches.lock();
        let Some(fetch) = fetches.get_mut(&self.mcid).filter(|fetch| fetch.state.same_channel(&self.state)) else {
            return;
        };
        fetch.interested = fetch.interested.saturating_sub(1);
        if fetch.interested == 0 && !fetch.is_operators && fetch.is_running() {
            fetch.is_cancelled = true;
            fetch.task.abort();
        }
    }
}

/// A fetch as somebody begins it.
struct Begun {
    state: watch::Receiver<FetchState>,
    interest: Interest,
    /// It was running already, for somebody else.
    is_joined: bool,
}

impl Fetch {
    /// One whose task is gone says so by its channel.
    fn is_running(&self) -> bool {
        !self.is_cancelled && matches!(*self.state.borrow(), FetchState::Running(_)) && self.state.has_changed().is_ok()
    }
}

/// How long a fetch waits for one of the same content to close its files, and how often it looks.
const BUSY_MAX: Duration = Duration::from_secs(5);
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// Ends of fetches that are remembered for those who ask.
const ENDED_MAX: usize = 1024;
/// Contents that are provided at a time: as many as a relay takes of one link. Of more, those that were used last are.
const OFFERS_MAX: usize = 65_536;
/// How often the store is tidied up. Parts that are not used stay for a week, so it need not be often.
const TIDY_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Bytes that are read of a content at a time.
const READ_BYTES: usize = 4 << 20;

impl NodeContent {
    /// Opens a node's store, tidies it up, and provides in the realm of `mesh` what is complete there. In a tokio runtime:
    /// there it is tidied up again now and then, until the last clone is dropped.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another process has the store; as the disk says.
    pub fn start(state: &NodeState, config: StoreConfig, mesh: &Mesh) -> Result<Self, StoreError> {
        let disk = FolderDisk::new(state.path().join("content"))?;
        let (store, opened) = Store::open(disk, config)?;
        log(&opened);
        let pins = PinBook::open(state.pins_file(), &store);
        let content = Self(Arc::new_cyclic(|content| Inner {
            pins,
            store,
            mesh: mesh.clone(),
            realm: mesh.realm_id(),
            fetches: Mutex::default(),
            offers: Mutex::default(),
            tidying: tokio::spawn(keep_tidy(content.clone())).abort_handle(),
        }));
        content.0.tidy();
        mesh.set_content_source(Arc::new(Source(Arc::downgrade(&content.0))));
        Ok(content)
    }

    /// What is here, by id.
    pub fn list(&self) -> Vec<Stat> {
        let mut list = self.0.store.list(None);
        list.sort_unstable_by(|one, other| one.mcid.cmp(&other.mcid));
        list
    }

    /// How the last fetch of a content is getting on, or has ended; none since the start, or long ago.
    pub fn fetching(&self, content: &Mcid) -> Option<FetchState> {
        self.0.fetches.lock().get(content).map(|fetch| fetch.state.borrow().clone())
    }

    /// How full the store is.
    pub fn usage(&self) -> ContentUsage {
        let (usage, config) = (self.0.store.usage(), self.0.store.config());
        ContentUsage { bytes: usage.bytes, bytes_max: config.bytes_max, contents: usage.contents }
    }

    /// Begins to fetch content for an owner, or goes on; how it gets on. The fetch goes on without anybody looking.
    pub fn fetch(&self, owner: Owner, content: &Mcid, patience: Duration) -> watch::Receiver<FetchState> {
        self.begin_fetch(owner, content, patience, true).state
    }

    fn begin_fetch(&self, owner: Owner, content: &Mcid, patience: Duration, is_operators: bool) -> Begun {
        let mut fetches = self.0.fetches.lock();
        let interest = |state: &watch::Receiver<FetchState>| Interest {
            content: Arc::downgrade(&self.0),
            mcid: content.clone(),
            state: state.clone(),
        };
        if let Some(running) = fetches.get_mut(content).filter(|fetch| fetch.is_running()) {
            running.interested += 1;
            running.is_operators |= is_operators;
            return Begun { state: running.state.clone(), interest: interest(&running.state), is_joined: true };
        }
        let beginning = Progress {
            bytes_done: 0,
            bytes_total: None,
            providers_sending: 0,
            bytes_per_second: 0.0,
            bytes_duplicate: 0,
        };
        let (state, watched) = watch::channel(FetchState::Running(beginning));
        if fetches.len() >= ENDED_MAX {
            fetches.retain(|_, fetch| fetch.is_running());
        }
        let (this, id) = (self.clone(), content.clone());
        let task = tokio::spawn(async move {
            let outcome = this.run_fetch(owner, &id, patience, &state).await;
            this.0.announce();
            // Who has it may be another now, and so who else may have it.
            this.0.review(&id);
            state.send_replace(outcome.map_or_else(FetchState::Failed, |()| FetchState::Done));
        });
        let state = watched.clone();
        let fetch = Fetch { state, task: task.abort_handle(), interested: 1, is_cancelled: false, is_operators };
        fetches.insert(content.clone(), fetch);
        let interest = interest(&watched);
        Begun { state: watched, interest, is_joined: false }
    }

    /// Fetches content of at most `bytes_max` bytes for an owner, and waits until it is here. Dropping the future ends the
    /// fetch, unless somebody else wants it.
    ///
    /// # Errors
    /// See [`FetchError`]; what was fetched is kept. What turns out to be larger is refused as soon as its size is proved.
    pub async fn obtain(
        &self,
        owner: Owner,
        content: &Mcid,
        patience: Duration,
        bytes_max: u64,
    ) -> Result<(), FetchError> {
        let Begun { mut state, interest: _interest, .. } = self.begin_fetch(owner, content, patience, false);
        let is_too_large = |state: &FetchState| matches!(state, FetchState::Running(progress) if progress.bytes_total.is_some_and(|total| total > bytes_max));
        let ended = state.wait_for(|state| is_too_large(state) || !matches!(state, FetchState::Running(_))).await;
        match ended.as_deref() {
            Ok(FetchState::Running(_)) => {
                let text = format!("{content} is larger than {bytes_max} bytes, the most that is taken here");
                Err(FetchError::Sink(Fault::QuotaExceeded(text)))
            }
            Ok(FetchState::Failed(error)) => Err(error.clone()),
            Ok(FetchState::Done) => Ok(()),
            // Its task is gone.
            Err(_) => Err(FetchError::Cancelled),
        }
    }

    async fn run_fetch(
        &self,
        owner: Owner,
        content: &Mcid,
        patience: Duration,
        state: &watch::Sender<FetchState>,
    ) -> Result<(), FetchError> {
        let sink = |error: StoreError| FetchError::Sink(error.fault());
        let (store, id) = (self.0.store.clone(), content.clone());
        let begin = move || {
            if store.has(&Owner::Operator, &id) {
                match store.adopt(&owner, &id, now_ms()) {
                    // It went in between.
                    Err(StoreError::NotFound) => {}
                    adopted => return adopted.map(|()| None),
                }
            }
            store.partial(&owner, &id, now_ms()).map(Some)
        };
        let give_up = Instant::now() + BUSY_MAX;
        let begun = loop {
            let begin = begin.clone();
            match spawn_blocking(begin).await.map_err(|_| FetchError::Cancelled)? {
                // One that was cancelled is still closing its files.
                Err(StoreError::Busy) if Instant::now() < give_up => tokio::time::sleep(BUSY_PAUSE).await,
                begun => break begun.map_err(sink)?,
            }
        };
        let Some(partial) = begun else { return Ok(()) };
        let options = FetchOptions { size: partial.size(), have: partial.groups(), patience };
        let fetching = self.0.mesh.fetch(content, Box::new(StoreSink(Some(partial))), options);
        let mut progress = fetching.progress();
        let finish = fetching.finish();
        tokio::pin!(finish);
        loop {
            tokio::select! {
                outcome = &mut finish => return outcome,
                Ok(()) = progress.changed() => {
                    state.send_replace(FetchState::Running(*progress.borrow_and_update()));
                }
            }
        }
    }

    /// Removes content for all.
    ///
    /// # Errors
    /// See [`Store::remove`].
    pub async fn remove(&self, content: &Mcid) -> Result<(), StoreError> {
        let id = content.clone();
        self.on_disk(move |store| store.remove(&Owner::Operator, &id)).await
    }

    /// Reads all of a content and checks it. What is damaged is not here any more, and can be fetched again; an outboard that
    /// is damaged while the content is not is made anew.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for the first group that is damaged; see [`Store::verify`].
    pub async fn verify(&self, content: &Mcid) -> Result<(), StoreError> {
        let id = content.clone();
        self.on_disk(move |store| {
            let verified = store.verify(&id, now_ms(), |_, _| {})?;
            if verified.is_tree_repaired {
                tracing::warn!(content = %id, "the outboard of content was damaged; it was made anew");
            }
            verified.struck.first().map_or(Ok(()), |group| Err(StoreError::Corrupt { group }))
        })
        .await
    }

    /// All bytes of content that is here, verified.
    ///
    /// # Errors
    /// As [`Store::open_blob`] and [`Blob::read`]; [`StoreError::TooLarge`] above `bytes_max`.
    pub async fn read(&self, content: &Mcid, bytes_max: u64) -> Result<Vec<u8>, StoreError> {
        let id = content.clone();
        self.on_disk(move |store| {
            let blob = store.open_blob(&Owner::Operator, &id, now_ms())?;
            let size = blob.size();
            if size > bytes_max {
                return Err(StoreError::TooLarge { bytes: size, bytes_max });
            }
            let mut bytes = Vec::with_capacity(size as usize);
            while (bytes.len() as u64) < size {
                bytes.extend(blob.read(bytes.len() as u64, READ_BYTES)?);
            }
            Ok(bytes)
        })
        .await
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.0.store.clone();
        let done = spawn_blocking(move || work(&store)).await;
        self.0.announce();
        done.unwrap_or_else(|error| Err(StoreError::Io(io::Error::other(error.to_string()))))
    }
}

impl Inner {
    /// Whether content is complete, and for everybody in the realm: the operator's, and what a plugin has there.
    fn is_offered(&self, stat: &Stat) -> bool {
        stat.is_complete && self.is_shared(stat)
    }

    fn is_shared(&self, stat: &Stat) -> bool {
        stat.owners.iter().any(|(owner, _)| match owner {
            Owner::Operator => true,
            Owner::Plugin(realm, _) => *realm == self.realm,
        })
    }

    /// Tells the realm what has come and what has gone.
    fn announce(&self) {
        while let Some(event) = self.store.poll_event() {
            match event {
                StoreEvent::Stored(content) | StoreEvent::Gone(content) => self.review(&content),
                StoreEvent::Damaged(content) => {
                    tracing::warn!(%content, "content is damaged on the disk; what was hit has to be fetched again");
                    self.review(&content);
                }
                // `Missed`, and what a later store may have to say.
                _ => self.review_all(),
            }
        }
    }

    /// Tells the realm of a content what is the case by now, if it was told something else.
    fn review(&self, content: &Mcid) {
        let mut offers = self.offers.lock();
        let is_offered = self.store.stat(content).is_some_and(|stat| self.is_offered(&stat));
        if !is_offered {
            if offers.remove(content) {
                self.mesh.unprovide(std::slice::from_ref(content));
            }
        } else if offers.len() < OFFERS_MAX && offers.insert(content.clone()) {
            self.mesh.provide(std::slice::from_ref(content));
        }
    }

    /// The same of everything.
    fn review_all(&self) {
        let mut offers = self.offers.lock();
        let mut here = self.store.list(None);
        here.retain(|stat| self.is_offered(stat));
        here.sort_unstable_by_key(|stat| Reverse(stat.last_use));
        let wanted: BTreeSet<Mcid> = here.into_iter().take(OFFERS_MAX).map(|stat| stat.mcid).collect();
        let gone: Vec<Mcid> = offers.difference(&wanted).cloned().collect();
        let new: Vec<Mcid> = wanted.difference(&offers).cloned().collect();
        self.mesh.unprovide(&gone);
        self.mesh.provide(&new);
        *offers = wanted;
    }

    /// Gives up what is above the quotas or unused, and offers what is left. Blocks.
    fn tidy(&self) {
        match self.store.gc(now_ms()) {
            Ok(collected) if collected.contents > 0 => {
                tracing::info!(contents = collected.contents, bytes = collected.bytes, "content was given up");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the content store could not be tidied up"),
        }
        self.announce();
        self.review_all();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tidying.abort();
    }
}

async fn keep_tidy(content: Weak<Inner>) {
    let mut ticks = interval_at(Instant::now() + TIDY_INTERVAL, TIDY_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(content) = content.upgrade() else { return };
        // Ends otherwise only when the runtime does.
        let _ = spawn_blocking(move || content.tidy()).await;
    }
}

fn log(opened: &Opened) {
    if let Some(name) = &opened.set_aside {
        tracing::warn!(kept_as = %name, "the index of the content store was damaged; it was made anew from what verifies");
    }
    for content in &opened.damaged {
        tracing::warn!(%content, "files of content are gone from the disk, or not what they were");
    }
    if opened.drafts_removed + opened.strays_removed > 0 {
        let (drafts, strays) = (opened.drafts_removed, opened.strays_removed);
        tracing::info!(drafts, strays, "left-over files of the content store were removed");
    }
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Gives out what is here for everybody in the realm. Holds the store only weakly: it ends with the node.
struct Source(Weak<Inner>);

impl ContentSource for Source {
    fn open(&self, content: &Mcid) -> Option<Box<dyn ContentBytes>> {
        let inner = self.0.upgrade()?;
        let stat = inner.store.stat(content)?;
        if !inner.is_shared(&stat) {
            return None;
        }
        let blob = inner.store.open_blob(&Owner::Operator, content, now_ms()).ok()?;
        Some(Box::new(Served { blob, inner }))
    }
}

struct Served {
    blob: Blob,
    inner: Arc<Inner>,
}

impl ContentBytes for Served {
    fn size(&self) -> u64 {
        self.blob.size()
    }

    fn groups(&self) -> Option<GroupSet> {
        let (groups, all) = (self.blob.groups(), Geometry::of(self.blob.size()).groups());
        (groups.count() < all).then_some(groups)
    }

    fn parent(&mut self, index: u64) -> io::Result<[u8; 64]> {
        self.blob.parent_raw(index).map_err(io::Error::other)
    }

    fn group(&mut self, group: u64, into: &mut Vec<u8>) -> io::Result<()> {
        let read = match self.blob.mcid().digest() {
            // Verified by who encodes it.
            Digest::Blake3(_) => self.blob.read_raw(group),
            // There, only who gets it would find out, when all of it has gone over the wire.
            Digest::Sha256(_) => self.blob.read(group * GROUP_BYTES, GROUP_BYTES as usize),
        };
        if matches!(read, Err(StoreError::Corrupt { .. })) {
            self.inner.announce();
        }
        into.extend(read.map_err(io::Error::other)?);
        Ok(())
    }

    fn damaged(&mut self, node: Node) {
        self.blob.strike(node);
        self.inner.announce();
    }
}

/// Takes a fetch into the store.
struct StoreSink(Option<Partial>);

impl StoreSink {
    fn with(&self, work: impl FnOnce(&Partial) -> Result<(), StoreError>) -> Result<(), Fault> {
        let Some(partial) = &self.0 else { return Ok(()) };
        work(partial).map_err(|error| error.fault())
    }
}

impl ContentSink for StoreSink {
    fn set_size(&mut self, size: u64) -> Result<(), Fault> {
        self.with(|partial| partial.set_size(size, now_ms()))
    }

    fn write_parent(&mut self, parent: &Parent) -> Result<(), Fault> {
        self.with(|partial| partial.write_parent(parent))
    }

    fn write_group(&mut self, group: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.with(|partial| partial.write_group(group, bytes))
    }

    fn write_whole(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.with(|partial| partial.write_whole(offset, bytes))
    }

    fn checkpoint(&mut self) -> Result<(), Fault> {
        self.with(|partial| partial.checkpoint(now_ms()))
    }

    fn complete(&mut self) -> Result<(), Fault> {
        let Some(partial) = self.0.take() else { return Ok(()) };
        partial.complete(now_ms()).map_err(|error| error.fault())
    }
}
