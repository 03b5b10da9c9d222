//! A node's content as one owner has it.

use std::{sync::Arc, time::Duration};

use macula_content::store::{Blob, Owner, StoreError, Writer};
use macula_wire::{Fault, Mcid};
use parking_lot::Mutex;
use tokio::{sync::watch, task::spawn_blocking};

use super::{Begun, FetchState, Interest, NodeContent, now_ms};

/// How long somebody is looked for who has what is wanted: less than a handler of a plugin has by default, so that it learns
/// that nobody has it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Content of one owner: it sees what it stored or fetched, and that counts against its quota. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OwnedContent {
    content: NodeContent,
    owner: Owner,
}

/// Content that is being written; dropping it forgets what was written.
#[derive(Debug)]
pub struct ContentWriter {
    of: OwnedContent,
    writer: Arc<Mutex<Option<Writer>>>,
}

/// Content that is open for reading: it is not evicted while open. What is not here yet is being fetched.
#[derive(Debug)]
pub struct ContentReader {
    of: OwnedContent,
    blob: Arc<Blob>,
    fetch: Mutex<Option<OwnedFetch>>,
}

/// Fetches that one read begins, before it says what is wrong.
const FETCHES_PER_READ_MAX: u32 = 2;

/// A fetch for one owner. Dropping it ends it, unless somebody else wants the same content.
#[derive(Debug)]
pub struct OwnedFetch {
    of: OwnedContent,
    mcid: Mcid,
    state: watch::Receiver<FetchState>,
    _interest: Interest,
    /// Somebody else began it, and their quota is not this owner's.
    is_joined: bool,
}

impl NodeContent {
    /// The content of one owner.
    pub fn of(&self, owner: Owner) -> OwnedContent {
        OwnedContent { content: self.clone(), owner }
    }
}

impl OwnedContent {
    /// Whether all of it is here, and this owner's.
    pub fn holds(&self, mcid: &Mcid) -> bool {
        self.content.0.store.has(&self.owner, mcid)
    }

    /// Whether all of it is here, whoever's it is.
    pub fn is_here(&self, mcid: &Mcid) -> bool {
        self.content.0.store.has(&Owner::Operator, mcid)
    }

    /// Stores bytes.
    ///
    /// # Errors
    /// See [`macula_content::store::Store::put`].
    pub async fn put(&self, bytes: Vec<u8>) -> Result<Mcid, Fault> {
        let owner = self.owner.clone();
        let stored = self.content.on_disk(move |store| store.put(&owner, &bytes, now_ms())).await;
        stored.inspect(|mcid| self.content.0.review(mcid)).map_err(|error| error.fault())
    }

    /// Begins content that is written in pieces.
    ///
    /// # Errors
    /// See [`macula_content::store::Store::writer`].
    pub async fn create(&self) -> Result<ContentWriter, Fault> {
        let owner = self.owner.clone();
        let writer = self.content.on_disk(move |store| store.writer(&owner)).await.map_err(|error| error.fault())?;
        Ok(ContentWriter { of: self.clone(), writer: Arc::new(Mutex::new(Some(writer))) })
    }

    /// Keeps content that is here from being evicted, or lets it go. What is another's is this owner's from then on.
    ///
    /// # Errors
    /// `not-found` when not all of it is here; `quota-exceeded`.
    pub async fn set_pinned(&self, mcid: &Mcid, is_pinned: bool) -> Result<(), Fault> {
        let (owner, id) = (self.owner.clone(), mcid.clone());
        let pinned = self.content.on_disk(move |store| {
            if !is_pinned {
                return store.unpin(&owner, &id);
            }
            if !store.has(&owner, &id) {
                if !store.has(&Owner::Operator, &id) {
                    return Err(StoreError::NotFound);
                }
                store.adopt(&owner, &id, now_ms())?;
            }
            store.pin(&owner, &id)
        });
        match pinned.await {
            Err(StoreError::NotFound | StoreError::Incomplete) => {
                Err(Fault::NotFound(format!("{mcid} is not complete on this host")))
            }
            pinned => pinned.map_err(|error| error.fault()),
        }
    }

    /// Begins to fetch content, or joins a fetch that runs.
    pub fn fetch(&self, mcid: &Mcid) -> OwnedFetch {
        let Begun { state, interest, is_joined } = self.content.begin_fetch(self.owner.clone(), mcid, PATIENCE, false);
        OwnedFetch { of: self.clone(), mcid: mcid.clone(), state, _interest: interest, is_joined }
    }

    /// Opens content, once its size is known. What is not here is fetched, beginning now.
    ///
    /// # Errors
    /// As the fetch ends before there is anything to read; `quota-exceeded`.
    pub async fn open(&self, mcid: &Mcid) -> Result<ContentReader, Fault> {
        if self.holds(mcid)
            && let Some(blob) = self.open_blob(mcid).await?
        {
            return Ok(ContentReader { of: self.clone(), blob: Arc::new(blob), fetch: Mutex::default() });
        }
        let mut fetch = self.fetch(mcid);
        loop {
            let has_ended = fetch.has_ended();
            // It may run for another owner: what comes is this one's as well.
            self.adopt(mcid).await?;
            if let Some(blob) = self.open_blob(mcid).await? {
                return Ok(ContentReader { of: self.clone(), blob: Arc::new(blob), fetch: Mutex::new(Some(fetch)) });
            }
            match fetch.state() {
                FetchState::Failed(error) if !fetch.begin_again() => return Err(error.fault()),
                FetchState::Failed(_) => {}
                FetchState::Done if has_ended => {
                    return Err(Fault::NotFound(format!("{mcid} was removed as soon as it was here")));
                }
                FetchState::Running(_) | FetchState::Done => fetch.changed().await,
            }
        }
    }

    /// Makes this owner one of the content's, if anything of it is here.
    async fn adopt(&self, mcid: &Mcid) -> Result<(), Fault> {
        let (owner, id) = (self.owner.clone(), mcid.clone());
        match self.content.on_disk(move |store| store.adopt(&owner, &id, now_ms())).await {
            Ok(()) | Err(StoreError::NotFound) => Ok(()),
            Err(error) => Err(error.fault()),
        }
    }

    /// Opens what is here; `None` when that is nothing yet.
    async fn open_blob(&self, mcid: &Mcid) -> Result<Option<Blob>, Fault> {
        let (owner, id) = (self.owner.clone(), mcid.clone());
        match self.content.on_disk(move |store| store.open_blob(&owner, &id, now_ms())).await {
            Ok(blob) => Ok(Some(blob)),
            Err(StoreError::NotFound | StoreError::Incomplete) => Ok(None),
            Err(error) => Err(error.fault()),
        }
    }
}

impl ContentWriter {
    /// Adds a piece.
    ///
    /// # Errors
    /// See [`Writer::write`]; what was written before stays.
    pub async fn write(&self, piece: Vec<u8>) -> Result<(), Fault> {
        let writer = Arc::clone(&self.writer);
        let written = spawn_blocking(move || match &mut *writer.lock() {
            Some(writer) => writer.write(&piece).map_err(|error| error.fault()),
            None => Err(Fault::Cancelled),
        });
        written.await.unwrap_or(Err(Fault::Cancelled))
    }

    /// Stores what was written, and gives its id. The writer is used up.
    ///
    /// # Errors
    /// See [`Writer::finish`].
    pub async fn finish(&self) -> Result<Mcid, Fault> {
        let Some(writer) = self.writer.lock().take() else { return Err(Fault::Cancelled) };
        let finished = self.of.content.on_disk(move |_| writer.finish(now_ms())).await;
        finished.inspect(|mcid| self.of.content.0.review(mcid)).map_err(|error| error.fault())
    }
}

impl ContentReader {
    /// In bytes.
    pub fn size(&self) -> u64 {
        self.blob.size()
    }

    /// Reads `len` bytes from `offset`; fewer only at the end. Waits for what is being fetched; what is missing or was spoiled
    /// by the disk is fetched.
    ///
    /// # Errors
    /// As the fetch ends before they are here; see [`Blob::read`].
    pub async fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Fault> {
        let mut begun = 0;
        loop {
            // Before it is looked: what ends in between is seen.
            let mut state = self.fetch.lock().as_ref().map(|fetch| fetch.state.clone());
            let is_running =
                state.as_mut().is_some_and(|state| matches!(*state.borrow_and_update(), FetchState::Running(_)));
            let blob = Arc::clone(&self.blob);
            let missing = match spawn_blocking(move || blob.read(offset, len)).await {
                Ok(Ok(bytes)) => return Ok(bytes),
                Ok(Err(error @ (StoreError::Missing { .. } | StoreError::Corrupt { .. }))) => error,
                Ok(Err(error)) => return Err(error.fault()),
                Err(_) => return Err(Fault::Cancelled),
            };
            match state {
                Some(mut state) if is_running => {
                    if state.changed().await.is_err() {
                        *self.fetch.lock() = None;
                    }
                }
                _ if begun < FETCHES_PER_READ_MAX => {
                    begun += 1;
                    let fetch = self.of.fetch(&self.blob.mcid());
                    *self.fetch.lock() = Some(fetch);
                }
                Some(state) => match &*state.borrow() {
                    FetchState::Failed(error) => return Err(error.fault()),
                    _ => return Err(missing.fault()),
                },
                None => return Err(missing.fault()),
            }
        }
    }
}

impl OwnedFetch {
    /// How it is getting on.
    pub fn state(&self) -> FetchState {
        let state = self.state.borrow().clone();
        match state {
            FetchState::Running(_) if self.state.has_changed().is_err() => {
                FetchState::Failed(crate::mesh::FetchError::Cancelled)
            }
            state => state,
        }
    }

    /// How it is getting on, for somebody who looks later.
    pub fn watch(&self) -> watch::Receiver<FetchState> {
        self.state.clone()
    }

    fn has_ended(&self) -> bool {
        !matches!(self.state(), FetchState::Running(_))
    }

    /// Whether it failed for somebody else, and was begun again for this owner.
    fn begin_again(&mut self) -> bool {
        let was_joined = self.is_joined;
        if was_joined {
            *self = self.of.fetch(&self.mcid);
        }
        was_joined
    }

    /// Waits until there is news.
    async fn changed(&mut self) {
        // Gone is news as well.
        let _ = self.state.changed().await;
    }

    /// Waits until it has ended, and makes what came this owner's.
    ///
    /// # Errors
    /// As the fetch ends; `quota-exceeded`.
    pub async fn finish(&mut self) -> Result<(), Fault> {
        loop {
            match self.state() {
                FetchState::Running(_) => self.changed().await,
                FetchState::Failed(error) if !self.begin_again() => return Err(error.fault()),
                FetchState::Failed(_) => {}
                FetchState::Done => return self.of.adopt(&self.mcid).await,
            }
        }
    }
}
