//! `content`: store and read content by its id.
//!
//! What the plugin stored or fetched is its own, and needs no right; everything else needs `/mesh/fetch` for its id, also when
//! it is on this host already: that somebody else has it is not this plugin's to know.

use std::sync::Arc;

use macula_wire::{Fault, Mcid, Operation, Topic};
use wasmtime::component::Resource;

use super::{HostError, InstanceState};
use crate::{
    bindings::{content, types},
    mesh::{Content, ContentBlob, ContentFetch, ContentWriter, FetchState},
};

/// What is read or written at once.
const PIECE_BYTES_MAX: usize = 1 << 20;
/// Content that one instance may have open for reading.
const BLOBS_MAX: u32 = 64;
/// Content that it may be writing.
const WRITERS_MAX: u32 = 16;
/// Fetches that it may have begun and that run still.
const FETCHES_MAX: usize = 64;

/// A plugin's handle of content that is open.
#[allow(unreachable_pub, reason = "the generated code names it in a public place")]
pub struct BlobHandle {
    blob: Arc<dyn ContentBlob>,
    named: Named,
}

/// A plugin's handle of content that is being written.
#[allow(unreachable_pub, reason = "the generated code names it in a public place")]
pub struct WriterHandle {
    writer: Box<dyn ContentWriter>,
    /// A piece is missing, or may be: nothing can come of it.
    is_broken: bool,
}

/// A plugin's handle of a fetch. Dropping it changes nothing.
#[allow(unreachable_pub, reason = "the generated code names it in a public place")]
pub struct FetchHandle(u32);

/// What an instance has open and under way. It ends with the instance.
#[derive(Default)]
pub(super) struct ContentState {
    blobs: u32,
    writers: u32,
    next_fetch: u32,
    /// They go on when their handles are dropped.
    fetches: Vec<BegunFetch>,
}

struct BegunFetch {
    /// What handles know it by.
    number: u32,
    named: Named,
    progress: Begun,
    /// Somebody may still ask for its end.
    has_handle: bool,
}

enum Begun {
    Running(Box<dyn ContentFetch>),
    /// It was cancelled, or has ended and made room.
    Ended(FetchState),
}

impl ContentState {
    /// Whether something is open or on its way, which would end with the instance.
    pub(super) fn is_in_use(&mut self) -> bool {
        self.blobs > 0 || self.writers > 0 || self.running() > 0
    }

    /// Lets go of what has ended; how many run.
    fn running(&mut self) -> usize {
        for fetch in &mut self.fetches {
            if let Begun::Running(running) = &fetch.progress {
                let state = running.state();
                if !matches!(state, FetchState::Running { .. }) {
                    fetch.progress = Begun::Ended(state);
                }
            }
        }
        self.fetches.retain(|fetch| fetch.has_handle || matches!(fetch.progress, Begun::Running(_)));
        self.fetches.iter().filter(|fetch| matches!(fetch.progress, Begun::Running(_))).count()
    }
}

/// An id, and the name that rights are about.
#[derive(Clone)]
struct Named {
    mcid: Mcid,
    name: Topic,
}

fn named(text: &str) -> Result<Named, types::Error> {
    let mcid: Mcid = text.parse().map_err(|error: macula_wire::McidError| types::Error::Invalid(error.to_string()))?;
    let name =
        mcid.as_str().parse().map_err(|error: macula_wire::TopicError| types::Error::Invalid(error.to_string()))?;
    Ok(Named { mcid, name })
}

/// What a writer says once a piece could not be written.
fn broken_writer() -> types::Error {
    types::Error::Unavailable("an earlier piece was not written, so nothing can come of this writer".to_owned())
}

fn check_piece(bytes: usize) -> Result<(), types::Error> {
    // The limit is a constant far below 4 GiB.
    if bytes > PIECE_BYTES_MAX { Err(types::Error::TooLarge(PIECE_BYTES_MAX as u32)) } else { Ok(()) }
}

impl InstanceState {
    fn store(&self) -> Result<Arc<dyn Content>, types::Error> {
        let content = self.plugin.mesh.content();
        content.ok_or_else(|| types::Error::Unavailable("this node keeps no content".to_owned()))
    }

    fn may_fetch(&self, named: &Named) -> bool {
        self.plugin.rights.current().allows(Operation::Fetch, &named.name)
    }

    /// Whether the plugin may have it: its own, or by right.
    fn check_access(&self, content: &dyn Content, named: &Named) -> Result<(), types::Error> {
        if content.holds(&named.mcid) || self.may_fetch(named) {
            return Ok(());
        }
        Err(self.denied(Operation::Fetch, &named.name))
    }

    /// Rights have changed: fetches that are not allowed any more end.
    pub(crate) fn end_denied_fetches(&mut self) {
        let rights = self.plugin.rights.current();
        for fetch in &mut self.content.fetches {
            if matches!(fetch.progress, Begun::Running(_)) && !rights.allows(Operation::Fetch, &fetch.named.name) {
                let denied = Fault::Denied(format!("{} {}", Operation::Fetch, fetch.named.name));
                fetch.progress = Begun::Ended(FetchState::Failed(denied));
            }
        }
    }

    async fn wait_for_content<T>(&mut self, pending: impl Future<Output = Result<T, Fault>>) -> Result<T, HostError> {
        let patience = self.patience();
        Ok(self.wait(patience, pending).await.ok_or(types::Error::Timeout)??)
    }
}

impl content::Host for InstanceState {
    async fn put(&mut self, data: Vec<u8>) -> Result<String, HostError> {
        check_piece(data.len())?;
        let putting = self.store()?.put(data);
        Ok(self.wait_for_content(putting).await?.to_string())
    }

    async fn create(&mut self) -> Result<Resource<WriterHandle>, HostError> {
        if self.content.writers >= WRITERS_MAX {
            return Err(
                types::Error::QuotaExceeded(format!("writers: {WRITERS_MAX} are open; finish or drop some")).into()
            );
        }
        let creating = self.store()?.create();
        let writer = self.wait_for_content(creating).await?;
        self.take_handle()?;
        self.content.writers += 1;
        Ok(self.table.push(WriterHandle { writer, is_broken: false })?)
    }

    async fn open(&mut self, mcid: String) -> Result<Resource<BlobHandle>, HostError> {
        let named = named(&mcid)?;
        let content = self.store()?;
        self.check_access(&*content, &named)?;
        if self.content.blobs >= BLOBS_MAX {
            return Err(types::Error::QuotaExceeded(format!("content: {BLOBS_MAX} are open; drop some")).into());
        }
        let opening = content.open(&named.mcid);
        let blob = self.wait_for_content(opening).await?;
        self.take_handle()?;
        self.content.blobs += 1;
        Ok(self.table.push(BlobHandle { blob, named })?)
    }

    async fn fetch_all(&mut self, mcid: String) -> Result<Resource<FetchHandle>, HostError> {
        let named = named(&mcid)?;
        let content = self.store()?;
        self.check_access(&*content, &named)?;
        if self.content.running() >= FETCHES_MAX {
            return Err(types::Error::QuotaExceeded(format!("fetches: {FETCHES_MAX} are running")).into());
        }
        self.take_handle()?;
        let number = self.content.next_fetch;
        self.content.next_fetch = number.wrapping_add(1);
        let progress = Begun::Running(content.fetch(&named.mcid));
        self.content.fetches.push(BegunFetch { number, named, progress, has_handle: true });
        Ok(self.table.push(FetchHandle(number))?)
    }

    async fn has(&mut self, mcid: String) -> Result<bool, HostError> {
        let named = named(&mcid)?;
        let content = self.store()?;
        Ok(content.holds(&named.mcid) || self.may_fetch(&named) && content.is_here(&named.mcid))
    }

    async fn pin(&mut self, mcid: String) -> Result<(), HostError> {
        let named = named(&mcid)?;
        let content = self.store()?;
        if !content.holds(&named.mcid) && !self.may_fetch(&named) {
            return Err(types::Error::NotFound(format!("{mcid} is not complete on this host")).into());
        }
        let pinning = content.set_pinned(&named.mcid, true);
        self.wait_for_content(pinning).await
    }

    async fn unpin(&mut self, mcid: String) -> Result<(), HostError> {
        let named = named(&mcid)?;
        let unpinning = self.store()?.set_pinned(&named.mcid, false);
        self.wait_for_content(unpinning).await
    }
}

impl content::HostBlob for InstanceState {
    fn size(&mut self, blob: Resource<BlobHandle>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&blob)?.blob.size())
    }

    async fn read(&mut self, blob: Resource<BlobHandle>, offset: u64, len: u32) -> Result<Vec<u8>, HostError> {
        let BlobHandle { blob, named } = self.table.get(&blob)?;
        let (blob, named) = (Arc::clone(blob), named.clone());
        check_piece(len as usize)?;
        // What is still to be fetched needs the right as long as it is.
        self.check_access(&*self.store()?, &named)?;
        self.wait_for_content(blob.read(offset, len as usize)).await
    }

    fn drop(&mut self, blob: Resource<BlobHandle>) -> wasmtime::Result<()> {
        self.table.delete(blob)?;
        self.content.blobs -= 1;
        self.handles -= 1;
        Ok(())
    }
}

impl content::HostWriter for InstanceState {
    async fn write(&mut self, writer: Resource<WriterHandle>, piece: Vec<u8>) -> Result<(), HostError> {
        check_piece(piece.len())?;
        let handle = self.table.get(&writer)?;
        if handle.is_broken {
            return Err(broken_writer().into());
        }
        let writing = handle.writer.write(piece);
        let written = self.wait_for_content(writing).await;
        if written.is_err() {
            self.table.get_mut(&writer)?.is_broken = true;
        }
        written
    }

    async fn finish(&mut self, writer: Resource<WriterHandle>) -> Result<String, HostError> {
        // Used up, also on an error.
        let WriterHandle { writer, is_broken } = self.table.delete(writer)?;
        self.content.writers -= 1;
        self.handles -= 1;
        if is_broken {
            return Err(broken_writer().into());
        }
        Ok(self.wait_for_content(writer.finish()).await?.to_string())
    }

    fn drop(&mut self, writer: Resource<WriterHandle>) -> wasmtime::Result<()> {
        self.table.delete(writer)?;
        self.content.writers -= 1;
        self.handles -= 1;
        Ok(())
    }
}

impl content::HostFetch for InstanceState {
    fn state(&mut self, fetch: Resource<FetchHandle>) -> wasmtime::Result<content::FetchState> {
        let number = self.table.get(&fetch)?.0;
        let found = self.content.fetches.iter().find(|fetch| fetch.number == number);
        let state = match found.map(|fetch| &fetch.progress) {
            Some(Begun::Running(fetch)) => fetch.state(),
            Some(Begun::Ended(state)) => state.clone(),
            None => FetchState::Failed(Fault::Cancelled),
        };
        Ok(match state {
            FetchState::Running { bytes, bytes_total, providers } => content::FetchState::Running(content::Progress {
                stored_bytes: bytes,
                total_bytes: bytes_total,
                providers,
            }),
            FetchState::Done => content::FetchState::Done,
            FetchState::Failed(fault) => content::FetchState::Failed(fault.into()),
        })
    }

    fn cancel(&mut self, fetch: Resource<FetchHandle>) -> wasmtime::Result<()> {
        let number = self.table.get(&fetch)?.0;
        if let Some(fetch) = self.content.fetches.iter_mut().find(|fetch| fetch.number == number)
            && let Begun::Running(running) = &fetch.progress
        {
            let ended = match running.state() {
                FetchState::Running { .. } => FetchState::Failed(Fault::Cancelled),
                state => state,
            };
            fetch.progress = Begun::Ended(ended);
        }
        Ok(())
    }

    fn drop(&mut self, fetch: Resource<FetchHandle>) -> wasmtime::Result<()> {
        let FetchHandle(number) = self.table.delete(fetch)?;
        self.handles -= 1;
        // What runs goes on; what has ended is of no use to anybody.
        if let Some(fetch) = self.content.fetches.iter_mut().find(|fetch| fetch.number == number) {
            fetch.has_handle = false;
        }
        self.content.running();
        Ok(())
    }
}
