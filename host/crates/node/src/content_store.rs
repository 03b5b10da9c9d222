//! A node's content: its store on disk, given to the realm and filled from it.
//!
//! What becomes complete is provided, what goes is not any more. A content is fetched once at a time, whoever asks for it,
//! and a fetch that was cut short goes on at the next start when somebody asks for it again.

use std::{
    collections::HashMap,
    io,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use macula_content::{
    GroupSet, Node, Parent, Progress,
    disk::FolderDisk,
    store::{Blob, Mended, Owner, Partial, Stat, Store, StoreConfig, StoreError, StoreEvent},
};
use macula_wire::{Fault, Mcid, RealmId};
use parking_lot::Mutex;
use tokio::{sync::watch, task::spawn_blocking};

use crate::{
    NodeState,
    mesh::{ContentBytes, ContentSink, ContentSource, FetchError, FetchOptions, Mesh},
};

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
    /// Bytes of content on the disk.
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
    fetches: Mutex<HashMap<Mcid, watch::Receiver<FetchState>>>,
}

/// Ends of fetches that are remembered for those who ask.
const ENDED_MAX: usize = 1024;

impl NodeContent {
    /// Opens a node's store, and provides in the realm of `mesh` what is complete there.
    ///
    /// # Errors
    /// As the disk says.
    pub fn start(state: &NodeState, config: StoreConfig, mesh: &Mesh) -> Result<Self, StoreError> {
        let disk = FolderDisk::new(&state.path().join("content"))?;
        let (store, mended) = Store::open(Arc::new(disk), config)?;
        log(&mended);
        let content =
            Self(Arc::new(Inner { store, mesh: mesh.clone(), realm: mesh.realm_id(), fetches: Mutex::default() }));
        let list = content.0.store.list(&Owner::Operator).into_iter();
        let complete = list.filter(|stat| stat.groups.is_none() && content.0.is_shared(stat));
        mesh.provide(&complete.map(|stat| stat.content).collect::<Vec<_>>());
        mesh.set_content_source(Arc::new(Source(Arc::downgrade(&content.0))));
        Ok(content)
    }

    /// What is here.
    pub fn list(&self) -> Vec<Stat> {
        self.0.store.list(&Owner::Operator)
    }

    /// How the last fetch of a content is getting on, or has ended; none since the start, or long ago.
    pub fn fetching(&self, content: &Mcid) -> Option<FetchState> {
        self.0.fetches.lock().get(content).map(|state| state.borrow().clone())
    }

    /// How full the store is.
    pub fn usage(&self) -> ContentUsage {
        let store = &self.0.store;
        ContentUsage {
            bytes: store.usage(None),
            bytes_max: store.config().bytes_max,
            contents: store.contents() as u64,
        }
    }

    /// Begins to fetch content for an owner, or goes on; how it gets on. The fetch goes on without anybody looking.
    pub fn fetch(&self, owner: Owner, content: &Mcid, patience: Duration) -> watch::Receiver<FetchState> {
        let mut fetches = self.0.fetches.lock();
        // One whose task is gone says so by its channel.
        let is_running = |state: &&watch::Receiver<FetchState>| {
            matches!(*state.borrow(), FetchState::Running(_)) && state.has_changed().is_ok()
        };
        if let Some(running) = fetches.get(content).filter(is_running) {
            return running.clone();
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
            fetches.retain(|_, state| matches!(*state.borrow(), FetchState::Running(_)));
        }
        fetches.insert(content.clone(), watched.clone());
        drop(fetches);
        let (this, content) = (self.clone(), content.clone());
        tokio::spawn(async move {
            let outcome = this.run_fetch(owner, &content, patience, &state).await;
            this.announce();
            state.send_replace(outcome.map_or_else(FetchState::Failed, |()| FetchState::Done));
        });
        watched
    }

    /// Fetches content for an owner, and waits until it is here.
    ///
    /// # Errors
    /// See [`FetchError`]; what was fetched is kept.
    pub async fn obtain(&self, owner: Owner, content: &Mcid, patience: Duration) -> Result<(), FetchError> {
        let mut state = self.fetch(owner, content, patience);
        let ended = state.wait_for(|state| !matches!(state, FetchState::Running(_))).await;
        match ended.as_deref() {
            Ok(FetchState::Failed(error)) => Err(error.clone()),
            Ok(_) => Ok(()),
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
        let begun = spawn_blocking(move || {
            if store.has(&Owner::Operator, &id) {
                store.adopt(&owner, &id, now_ms())?;
                return Ok(None);
            }
            store.partial(owner, &id).map(Some)
        });
        let Some(partial) = begun.await.map_err(|_| FetchError::Cancelled)?.map_err(sink)? else { return Ok(()) };
        let options = FetchOptions { size: partial.size(), have: partial.groups().clone(), patience };
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

    /// Keeps content from being evicted, or lets it go.
    ///
    /// # Errors
    /// See [`Store::pin`].
    pub async fn set_pinned(&self, content: &Mcid, is_pinned: bool) -> Result<(), StoreError> {
        let id = content.clone();
        self.on_disk(
            move |store| {
                if is_pinned { store.pin(&Owner::Operator, &id) } else { store.unpin(&Owner::Operator, &id) }
            },
        )
        .await
    }

    /// Removes content for all.
    ///
    /// # Errors
    /// See [`Store::remove`].
    pub async fn remove(&self, content: &Mcid) -> Result<(), StoreError> {
        let id = content.clone();
        self.on_disk(move |store| store.remove(&Owner::Operator, &id)).await
    }

    /// Reads all of a content and checks it. What is damaged is not here any more, and can be fetched again.
    ///
    /// # Errors
    /// See [`Store::verify`].
    pub async fn verify(&self, content: &Mcid) -> Result<(), StoreError> {
        let id = content.clone();
        self.on_disk(move |store| store.verify(&id, now_ms(), |_| {})).await
    }

    /// All bytes of content that is here, verified.
    ///
    /// # Errors
    /// As [`Store::blob`] and [`Blob::read`]; [`StoreError::TooLarge`] above `bytes_max`.
    pub async fn read(&self, content: &Mcid, bytes_max: u64) -> Result<Vec<u8>, StoreError> {
        let id = content.clone();
        self.on_disk(move |store| {
            let blob = store.blob(&Owner::Operator, &id, now_ms())?;
            if blob.size() > bytes_max {
                return Err(StoreError::TooLarge(bytes_max));
            }
            blob.read(0, blob.size() as usize)
        })
        .await
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.0.store.clone();
        let done = spawn_blocking(move || work(&store)).await;
        self.announce();
        done.unwrap_or_else(|error| Err(StoreError::Io(io::Error::other(error.to_string()))))
    }

    fn announce(&self) {
        self.0.announce();
    }
}

impl Inner {
    /// Whether content is for everybody in the realm: the operator's, and what a plugin has there.
    fn is_shared(&self, stat: &Stat) -> bool {
        stat.owners.iter().any(|owner| match owner {
            Owner::Operator => true,
            Owner::Plugin(realm, _) => *realm == self.realm,
        })
    }

    /// Tells the realm what has come and what has gone.
    fn announce(&self) {
        while let Some(event) = self.store.poll_event() {
            match event {
                StoreEvent::Complete(content) => {
                    let stat = self.store.stat(&Owner::Operator, &content);
                    if stat.is_some_and(|stat| self.is_shared(&stat)) {
                        self.mesh.provide(&[content]);
                    }
                }
                StoreEvent::Gone(content) => self.mesh.unprovide(&[content]),
            }
        }
    }
}

fn log(mended: &Mended) {
    if mended.index_was_damaged {
        tracing::warn!("the index of the content store was damaged; it was made anew from what verifies");
    }
    for content in &mended.lost {
        tracing::warn!(%content, "content is gone from the disk");
    }
    if mended.files_removed > 0 {
        tracing::info!(files = mended.files_removed, "left-over files of the content store were removed");
    }
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Gives out what is here for everybody in the realm. Holds the store only weakly: it ends with the node.
struct Source(std::sync::Weak<Inner>);

impl ContentSource for Source {
    fn open(&self, content: &Mcid) -> Option<Box<dyn ContentBytes>> {
        let inner = self.0.upgrade()?;
        let stat = inner.store.stat(&Owner::Operator, content)?;
        if !inner.is_shared(&stat) {
            return None;
        }
        let blob = inner.store.blob(&Owner::Operator, content, now_ms()).ok()?;
        Some(Box::new(Opened { blob, is_complete: stat.groups.is_none(), inner }))
    }
}

struct Opened {
    blob: Blob,
    is_complete: bool,
    inner: Arc<Inner>,
}

impl ContentBytes for Opened {
    fn size(&self) -> u64 {
        self.blob.size()
    }

    fn groups(&self) -> Option<GroupSet> {
        (!self.is_complete).then(|| self.blob.groups().clone())
    }

    fn parent(&mut self, index: u64) -> io::Result<[u8; 64]> {
        let pair = self.blob.node(Node::Parent(index)).map_err(io::Error::other)?;
        pair.try_into().map_err(|_| io::ErrorKind::UnexpectedEof.into())
    }

    fn group(&mut self, group: u64, into: &mut Vec<u8>) -> io::Result<()> {
        into.extend(self.blob.node(Node::Group(group)).map_err(io::Error::other)?);
        Ok(())
    }

    fn damaged(&mut self, node: Node) {
        if let Err(error) = self.blob.strike(node) {
            tracing::warn!(%error, "damaged content could not be struck from the index");
        }
        self.inner.announce();
    }
}

/// Takes a fetch into the store.
struct StoreSink(Option<Partial>);

impl StoreSink {
    fn with(&mut self, work: impl FnOnce(&mut Partial) -> Result<(), StoreError>) -> Result<(), Fault> {
        let Some(partial) = &mut self.0 else { return Ok(()) };
        work(partial).map_err(|error| error.fault())
    }
}

impl ContentSink for StoreSink {
    fn set_size(&mut self, size: u64) -> Result<(), Fault> {
        self.with(|partial| partial.set_size(size))
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
