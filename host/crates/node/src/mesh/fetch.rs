//! Fetches content: asks, verifies what comes, and hands it to a [`ContentSink`].
//!
//! The decisions are [`macula_content::Fetch`]'s. Here each of its requests is a task that reads a stream and verifies it; one
//! task feeds the core and hands what is new to a thread that writes. A disk that is slow holds back the streams, and so
//! the providers.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::FutureExt;
use macula_content::{
    Answer, Ask, DecodeError, Decoder, Failure, Fetch, FetchConfig, FetchEvent, Geometry, GroupSet, Item, Parent,
    Progress, Request, RequestId, Sending, Verdict, WholeHash,
};
use macula_transport::StreamError;
use macula_wire::{Digest, Fault, Mcid};
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinHandle, JoinSet, spawn_blocking},
    time::sleep_until,
};

use super::{
    config::LinkState,
    content::{AskError, Incoming},
    handle::Mesh,
};
use crate::content_stream::HeadReadError;

/// How often providers are looked for while a fetch runs: others may have it by now.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// The same while there is none.
const LOOK_INTERVAL_DESERTED: Duration = Duration::from_secs(1);
/// How often what was written is made durable. What is lost with the process is at most that.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(500);
/// Items that are held until the size is proved: the deepest way through a tree, and its group.
const HELD_MAX: usize = 64;
/// Bytes that are verified before they are handed in.
const BATCH_BYTES: usize = 64 << 10;
/// Batches that wait to be handed in, and groups that wait to be written.
const BATCHES_WAITING: usize = 16;
const WRITES_WAITING: usize = 64;

/// Where fetched content goes. Called on a thread of its own, which may block; what is handed in is verified. A fault ends
/// the fetch.
#[expect(clippy::missing_errors_doc, reason = "each says why it could not, and that ends the fetch")]
pub trait ContentSink: Send + 'static {
    /// How large it is. Called before anything is written; again with another size when content that is named by SHA-256 has
    /// to be begun again.
    fn set_size(&mut self, size: u64) -> Result<(), Fault>;

    /// Takes a pair of the outboard.
    fn write_parent(&mut self, parent: &Parent) -> Result<(), Fault>;

    /// Takes a group.
    fn write_group(&mut self, group: u64, bytes: &[u8]) -> Result<(), Fault>;

    /// Takes bytes of content that is named by SHA-256, in order. They are verified when all are there, before
    /// [`complete`](Self::complete).
    fn write_whole(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Fault>;

    /// Makes durable what was written, and remembers it.
    fn checkpoint(&mut self) -> Result<(), Fault>;

    /// All of it is here.
    fn complete(&mut self) -> Result<(), Fault>;
}

/// How to fetch.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// The size, if it was proved before.
    pub size: Option<u64>,
    /// The groups that are here already. They count only with the size.
    pub have: GroupSet,
    /// How long nobody may have it, or send of it, before the fetch is given up.
    pub patience: Duration,
}

/// Why content could not be fetched. What was written stays, and a later fetch goes on from there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The right to fetch it is missing.
    #[error("{0}")]
    Denied(Fault),
    /// Nobody provides it.
    #[error("nobody provides {0}")]
    NotFound(Mcid),
    /// Whoever provides it sends nothing of it.
    #[error("no provider of {content} sends it: {why}")]
    Unavailable {
        /// The content.
        content: Mcid,
        /// What was last wrong with one.
        why: String,
    },
    /// It could not be written.
    #[error("{0}")]
    Sink(Fault),
    /// The handle was closed, or the fetch cancelled.
    #[error("the fetch was cancelled")]
    Cancelled,
}

impl FetchError {
    /// What whoever asked for it is told.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Denied(fault) | Self::Sink(fault) => fault.clone(),
            Self::NotFound(_) => Fault::NotFound(self.to_string()),
            Self::Unavailable { .. } => Fault::Unavailable(self.to_string()),
            Self::Cancelled => Fault::Cancelled,
        }
    }
}

/// A fetch under way. Dropping it cancels the fetch.
#[derive(Debug)]
pub struct Fetching {
    progress: watch::Receiver<Progress>,
    task: JoinHandle<Result<(), FetchError>>,
}

impl Fetching {
    /// How far it is; changes several times a second at most.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Waits for its end. Dropping the future cancels the fetch.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn finish(mut self) -> Result<(), FetchError> {
        (&mut self.task).await.unwrap_or(Err(FetchError::Cancelled))
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Mesh {
    /// Fetches content from those who provide it in this realm, from several at once.
    pub fn fetch(&self, content: &Mcid, sink: Box<dyn ContentSink>, options: FetchOptions) -> Fetching {
        let fetch = Fetch::new(FetchConfig::default(), content, options.have, options.size);
        let (progress, watched) = watch::channel(fetch.progress(Instant::now()));
        let (writes, queued) = mpsc::channel(WRITES_WAITING);
        let (batches, events) = mpsc::channel(BATCHES_WAITING);
        let driver = Driver {
            mesh: self.clone(),
            content: content.clone(),
            fetch,
            requests: JoinSet::new(),
            open: HashMap::new(),
            batches,
            writes,
            progress,
            patience: options.patience,
            alive_at: Instant::now(),
            was_seen: false,
            trouble: None,
            is_deserted: true,
        };
        let task = tokio::spawn(async move {
            driver.mesh.check_fetch(&driver.content).map_err(FetchError::Denied)?;
            // The thread ends with the queue: whatever is in it is written first.
            let writing = spawn_blocking(move || write(sink, queued));
            let outcome = driver.run(events).await;
            let written = writing.await.unwrap_or(Err(FetchError::Cancelled));
            // What the disk says is why everything else has stopped.
            written.and(outcome)
        });
        Fetching { progress: watched, task }
    }
}

/// Something to write.
enum Write {
    Size(u64),
    Item(Item),
    Whole { offset: u64, bytes: Bytes },
    Complete,
}

/// What a request has brought.
struct Batch {
    request: RequestId,
    bytes: usize,
    what: What,
}

enum What {
    Answer(Answer),
    Items(Vec<Item>),
    Whole { offset: u64, bytes: Bytes },
    Done,
    Failed(Failure),
}

/// A request that has not ended.
struct OpenRequest {
    task: AbortHandle,
    /// The size that its answer claims.
    claimed: Option<u64>,
    /// What came before the size was proved: at most the way to one group.
    held: Vec<Item>,
}

struct Driver {
    mesh: Mesh,
    content: Mcid,
    fetch: Fetch,
    requests: JoinSet<()>,
    /// Requests that have not ended.
    open: HashMap<RequestId, OpenRequest>,
    batches: mpsc::Sender<Batch>,
    writes: mpsc::Sender<Write>,
    progress: watch::Sender<Progress>,
    patience: Duration,
    /// When something of the content last came.
    alive_at: Instant,
    /// Whether anybody was ever said to have it.
    was_seen: bool,
    /// What was last wrong with a provider.
    trouble: Option<String>,
    is_deserted: bool,
}

impl Driver {
    async fn run(mut self, mut events: mpsc::Receiver<Batch>) -> Result<(), FetchError> {
        let mut link = self.mesh.link();
        let mut look_at = Instant::now();
        if let Some(size) = self.fetch.size() {
            self.write(Write::Size(size)).await?;
        }
        loop {
            let is_up = match &*link.borrow_and_update() {
                LinkState::Up(_) => true,
                LinkState::Down { .. } => false,
                LinkState::Closed => return Err(FetchError::Cancelled),
            };
            if is_up && look_at <= Instant::now() {
                self.look().await?;
                look_at = Instant::now() + if self.is_deserted { LOOK_INTERVAL_DESERTED } else { LOOK_INTERVAL };
            }
            if self.drain(is_up).await? {
                return Ok(());
            }
            // Those who are known may lack what is missing.
            if self.is_deserted || self.progress.borrow().providers_sending == 0 {
                look_at = look_at.min(Instant::now() + LOOK_INTERVAL_DESERTED);
            }
            let give_up_at = self.alive_at + self.patience;
            let deadline = [self.fetch.poll_timeout(), is_up.then_some(look_at)].into_iter().flatten().min();
            let deadline = deadline.map_or(give_up_at, |deadline| deadline.min(give_up_at));
            tokio::select! {
                Some(batch) = events.recv() => {
                    self.handle(batch).await?;
                    // What else is there, without looking at everything again for each.
                    while let Some(batch) = events.recv().now_or_never().flatten() {
                        self.handle(batch).await?;
                    }
                }
                () = sleep_until(deadline.into()) => {
                    let now = Instant::now();
                    self.fetch.handle_timeout(now);
                    if now >= give_up_at {
                        return Err(self.given_up());
                    }
                }
                _ = link.changed() => look_at = Instant::now(),
                Some(_) = self.requests.join_next() => {}
            }
        }
    }

    fn given_up(&self) -> FetchError {
        let content = self.content.clone();
        if !self.was_seen {
            return FetchError::NotFound(content);
        }
        let why = self.trouble.clone().unwrap_or_else(|| "no answer".into());
        FetchError::Unavailable { content, why }
    }

    /// Asks the relay who has it.
    async fn look(&mut self) -> Result<(), FetchError> {
        match self.mesh.providers(&self.content).await {
            Ok(providers) => {
                self.was_seen |= !providers.is_empty();
                self.is_deserted &= providers.is_empty();
                self.fetch.handle_providers(Instant::now(), &providers);
                Ok(())
            }
            Err(fault @ Fault::Denied(_)) => Err(FetchError::Denied(fault)),
            Err(fault) => {
                self.trouble = Some(fault.to_string());
                Ok(())
            }
        }
    }

    /// Does what the core says; whether all is here.
    async fn drain(&mut self, is_up: bool) -> Result<bool, FetchError> {
        let now = Instant::now();
        while is_up && let Some(request) = self.fetch.poll_request(now) {
            self.send(request);
        }
        while let Some(id) = self.fetch.poll_cancel() {
            self.end(id);
        }
        while let Some(event) = self.fetch.poll_event() {
            match event {
                FetchEvent::ProviderBanned { provider, why } => {
                    let (provider, content) = (provider.short(), self.content.short());
                    tracing::warn!(%provider, %content, %why, "a provider is not asked any more for this content");
                    self.trouble = Some(why.to_string());
                }
                FetchEvent::NoProvider => self.is_deserted = true,
                FetchEvent::Done => {
                    self.progress.send_replace(self.fetch.progress(now));
                    self.write(Write::Complete).await?;
                    return Ok(true);
                }
                // What was held is written with the group that proved it.
                _ => {}
            }
        }
        self.progress.send_replace(self.fetch.progress(now));
        Ok(false)
    }

    fn send(&mut self, request: Request) {
        let (id, mesh, content, batches) = (request.id, self.mesh.clone(), self.content.clone(), self.batches.clone());
        let task = self.requests.spawn(async move {
            let outcome = receive(&mesh, &content, &request, &batches).await;
            let what = outcome.map_or_else(What::Failed, |()| What::Done);
            // Fails when the fetch has ended.
            let _ = batches.send(Batch { request: request.id, bytes: 0, what }).await;
        });
        self.open.insert(id, OpenRequest { task, claimed: None, held: Vec::new() });
    }

    fn end(&mut self, id: RequestId) {
        if let Some(request) = self.open.remove(&id) {
            request.task.abort();
        }
    }

    async fn handle(&mut self, batch: Batch) -> Result<(), FetchError> {
        let (now, Batch { request, bytes, what }) = (Instant::now(), batch);
        if bytes > 0 {
            self.alive_at = now;
            self.fetch.handle_bytes(now, request, bytes);
        }
        match what {
            What::Answer(answer) => {
                self.fetch.handle_answer(now, request, &answer);
                match (&answer.outcome, self.open.get_mut(&request)) {
                    (Err(fault), _) => self.trouble = Some(fault.to_string()),
                    (Ok(_), None) => {}
                    (Ok(Sending { size, .. }), Some(open)) => {
                        open.claimed = Some(*size);
                        if let Digest::Sha256(_) = self.content.digest() {
                            self.write(Write::Size(*size)).await?;
                        }
                    }
                }
            }
            What::Items(items) => {
                for item in items {
                    self.handle_item(now, request, item).await?;
                }
            }
            // Of an attempt that was given up, nothing may come between those of the next.
            What::Whole { .. } if !self.open.contains_key(&request) => {}
            What::Whole { offset, bytes } => self.write(Write::Whole { offset, bytes }).await?,
            What::Done => {
                self.fetch.handle_done(now, request);
                self.end(request);
            }
            What::Failed(failure) => {
                self.trouble = Some(failure.to_string());
                self.fetch.handle_failed(now, request, failure);
                self.end(request);
            }
        }
        Ok(())
    }

    async fn handle_item(&mut self, now: Instant, request: RequestId, item: Item) -> Result<(), FetchError> {
        // What was verified under another size is true, but of another place.
        let Some(open) = self.open.get_mut(&request) else { return Ok(()) };
        let was_proved = self.fetch.size();
        if was_proved.is_some() && open.claimed != was_proved {
            return Ok(());
        }
        let is_new = match &item {
            Item::Group { group, .. } => self.fetch.handle_group(now, request, *group) == Verdict::Write,
            Item::Parent(_) => true,
        };
        match (was_proved, self.fetch.size()) {
            (None, None) => {
                if open.held.len() < HELD_MAX {
                    open.held.push(item);
                }
                return Ok(());
            }
            (None, Some(size)) => {
                let held = std::mem::take(&mut open.held);
                self.write(Write::Size(size)).await?;
                for held in held {
                    self.write(Write::Item(held)).await?;
                }
            }
            (Some(_), _) => {}
        }
        if is_new { self.write(Write::Item(item)).await } else { Ok(()) }
    }

    /// Queues something to be written; waits while much is.
    async fn write(&self, write: Write) -> Result<(), FetchError> {
        // The thread says why it has ended.
        self.writes.send(write).await.map_err(|_| FetchError::Cancelled)
    }
}

/// Writes what is queued, and makes it durable now and then.
fn write(mut sink: Box<dyn ContentSink>, mut queued: mpsc::Receiver<Write>) -> Result<(), FetchError> {
    let mut checkpoint_at = Instant::now() + CHECKPOINT_INTERVAL;
    let mut is_dirty = false;
    let outcome = loop {
        let Some(write) = queued.blocking_recv() else { break Ok(()) };
        let written = match &write {
            Write::Size(size) => sink.set_size(*size),
            Write::Item(Item::Parent(parent)) => sink.write_parent(parent),
            Write::Item(Item::Group { group, bytes }) => sink.write_group(*group, bytes),
            Write::Whole { offset, bytes } => sink.write_whole(*offset, bytes),
            Write::Complete => return sink.complete().map_err(FetchError::Sink),
        };
        if let Err(fault) = written {
            break Err(fault);
        }
        is_dirty = true;
        if Instant::now() >= checkpoint_at {
            if let Err(fault) = sink.checkpoint() {
                break Err(fault);
            }
            is_dirty = false;
            checkpoint_at = Instant::now() + CHECKPOINT_INTERVAL;
        }
    };
    // Given up: what is there is there for the next time.
    let kept = if is_dirty { sink.checkpoint() } else { Ok(()) };
    outcome.and(kept).map_err(FetchError::Sink)
}

/// Reads and verifies the answer to one request.
async fn receive(mesh: &Mesh, content: &Mcid, request: &Request, batches: &mpsc::Sender<Batch>) -> Result<(), Failure> {
    let ask = Ask {
        content: content.clone(),
        slot: 0,
        provider: Some(request.provider),
        groups: request.groups.clone(),
        last: request.prove_size,
        asker: None,
    };
    let mut incoming = mesh.ask(ask).await.map_err(|error| match error {
        AskError::Head(HeadReadError::Slow) => Failure::Stalled,
        AskError::Head(HeadReadError::Head(_)) => Failure::Corrupt,
        _ => Failure::Lost,
    })?;
    let received = Received { request: request.id, batches };
    let answer = incoming.answer.clone();
    received.hand_in(0, What::Answer(answer.clone())).await?;
    let Ok(sending) = answer.outcome else {
        // The core has ended the request, and has this task aborted.
        return std::future::pending().await;
    };
    match content.digest() {
        Digest::Blake3(root) => receive_groups(&mut incoming, root, &sending, received).await,
        Digest::Sha256(digest) => receive_whole(&mut incoming, &digest, &sending, received).await,
    }
}

/// Where the results of a request go.
struct Received<'a> {
    request: RequestId,
    batches: &'a mpsc::Sender<Batch>,
}

impl Received<'_> {
    async fn hand_in(&self, bytes: usize, what: What) -> Result<(), Failure> {
        let batch = Batch { request: self.request, bytes, what };
        // Fails when the fetch has ended.
        self.batches.send(batch).await.map_err(|_| Failure::Lost)
    }
}

async fn receive_groups(
    incoming: &mut Incoming,
    root: [u8; 32],
    sending: &Sending,
    received: Received<'_>,
) -> Result<(), Failure> {
    let mut decoder = Decoder::new(root, Geometry::of(sending.size), sending.groups.clone());
    let (mut bytes, mut items) = (0, Vec::new());
    loop {
        // What is at hand makes one batch; who waits hands in what there is.
        let read = match incoming.read(BATCH_BYTES).now_or_never() {
            Some(read) => read,
            None => {
                if bytes > 0 {
                    received.hand_in(std::mem::take(&mut bytes), What::Items(std::mem::take(&mut items))).await?;
                }
                incoming.read(BATCH_BYTES).await
            }
        };
        let piece = read.map_err(lost)?;
        let is_end = piece.is_none();
        if let Some(piece) = piece {
            bytes += piece.len();
            decoder.push(piece);
        }
        loop {
            match decoder.poll_item() {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(error) => {
                    // What came before it is good.
                    received.hand_in(bytes, What::Items(items)).await?;
                    return Err(failure(&error));
                }
            }
        }
        if is_end {
            received.hand_in(bytes, What::Items(items)).await?;
            return decoder.finish().map_err(|error| failure(&error));
        }
        if bytes >= BATCH_BYTES {
            received.hand_in(std::mem::take(&mut bytes), What::Items(std::mem::take(&mut items))).await?;
        }
    }
}

async fn receive_whole(
    incoming: &mut Incoming,
    digest: &[u8; 32],
    sending: &Sending,
    received: Received<'_>,
) -> Result<(), Failure> {
    let mut hash = WholeHash::new();
    let mut offset = 0;
    while let Some(bytes) = incoming.read(BATCH_BYTES).await.map_err(lost)? {
        hash.push(&bytes).map_err(|_| Failure::TooLarge(sending.size))?;
        if hash.size() > sending.size {
            return Err(Failure::Corrupt);
        }
        let len = bytes.len();
        received.hand_in(len, What::Whole { offset, bytes }).await?;
        offset += len as u64;
    }
    if hash.size() < sending.size {
        return Err(Failure::Short);
    }
    hash.verify(digest).map_err(|_| Failure::Corrupt)
}

/// A stream was reset or its link has ended: of the content that says nothing.
fn lost(_: StreamError) -> Failure {
    Failure::Lost
}

fn failure(error: &DecodeError) -> Failure {
    match error {
        DecodeError::Short(_) => Failure::Short,
        _ => Failure::Corrupt,
    }
}
