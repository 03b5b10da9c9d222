//! Content over a link: what this node provides, and what it asks of others.
//!
//! Specified in `docs/protocol/content.md`.

use std::{fmt, io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use macula_content::{Answer, Ask, Encoder, Geometry, GroupSet, Node, Sending, WalkError};
use macula_transport::{Link, StreamError, StreamReader, StreamWriter};
use macula_wire::{Digest, Fault, Mcid, Operation, Pattern};
use tokio::{
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
    time::timeout,
};

use super::{
    handle::{Mesh, Shared},
    outbox::REALM_SLOT,
};
use crate::content_stream::{HeadReadError, read_head, write_last_head};

/// How long nobody may take what is made.
const TAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of an encoding that are made at a time, and pieces of it that wait for the link.
const PIECE_BYTES: usize = 128 << 10;
const PIECES_WAITING: usize = 4;

/// Where a node has the content that it provides. Called on threads that may block.
pub trait ContentSource: Send + Sync + 'static {
    /// Opens content, if it is here, at least in part, and may be given to members of the realm.
    fn open(&self, content: &Mcid) -> Option<Box<dyn ContentBytes>>;
}

/// Content that is here, open to be read. What is read is verified before it is sent.
pub trait ContentBytes: Send {
    /// In bytes.
    fn size(&self) -> u64;

    /// The groups that are here; `None` when all are.
    fn groups(&self) -> Option<GroupSet>;

    /// Reads the pair at `index` of the outboard.
    ///
    /// # Errors
    /// As the disk says.
    fn parent(&mut self, index: u64) -> io::Result<[u8; 64]>;

    /// Appends a group.
    ///
    /// # Errors
    /// As the disk says; what was appended is forgotten.
    fn group(&mut self, group: u64, into: &mut Vec<u8>) -> io::Result<()>;

    /// What was read does not belong to the content: it is not here any more.
    fn damaged(&mut self, node: Node);
}

/// Where a handle's content comes from. There is none until it is set.
#[derive(Default)]
pub(super) struct Source(parking_lot::RwLock<Option<Arc<dyn ContentSource>>>);

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

/// What comes for a request: its head has been read, and [`read`](Self::read) gives the bytes behind it.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) answer: Answer,
    rest: Option<Bytes>,
    reader: StreamReader,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("there is no link to a relay")]
    NoLink,
    #[error(transparent)]
    Head(#[from] HeadReadError),
    #[error(transparent)]
    Stream(#[from] StreamError),
}

impl Incoming {
    /// The next bytes; `None` at the end. Dropping the future loses nothing.
    pub(crate) async fn read(&mut self, bytes_max: usize) -> Result<Option<Bytes>, StreamError> {
        match self.rest.take().filter(|rest| !rest.is_empty()) {
            Some(rest) => Ok(Some(rest)),
            None => self.reader.read(bytes_max).await,
        }
    }
}

impl Mesh {
    /// Gives members of the realm what `source` has of the contents that are announced with [`Mesh::provide`].
    pub fn set_content_source(&self, source: Arc<dyn ContentSource>) {
        *self.shared().source.0.write() = Some(source);
    }

    /// Says that this node has contents; again on each new link, until [`Mesh::unprovide`].
    pub fn provide(&self, contents: &[Mcid]) {
        self.shared().registry.provide(contents);
    }

    /// Says that this node has contents no longer.
    pub fn unprovide(&self, contents: &[Mcid]) {
        self.shared().registry.unprovide(contents);
    }

    /// Who provides content, the least busy first: at most 32 nodes, without this one.
    ///
    /// # Errors
    /// `denied` without the right to fetch it; `unavailable` without a link; `timeout`.
    pub async fn providers(&self, content: &Mcid) -> Result<Vec<macula_wire::NodeId>, Fault> {
        self.check_fetch(content)?;
        let waiting = self.shared().registry.find(content.clone())?;
        let lost = || Fault::Unavailable("the link was lost".into());
        timeout(self.shared().timeout, waiting).await.map_err(|_| Fault::Timeout)?.map_err(|_| lost())?
    }

    pub(crate) fn check_fetch(&self, content: &Mcid) -> Result<(), Fault> {
        let name: Pattern = content.as_str().parse().expect("an MCID is one segment of a name");
        self.shared().check(Operation::Fetch, &name)
    }

    /// Asks for content on the link that is up, and reads the head of the answer.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Incoming, AskError> {
        let link = self.shared().current_link().ok_or(AskError::NoLink)?;
        let mut head = Vec::new();
        Ask { slot: REALM_SLOT, ..ask }.encode(&mut head).map_err(HeadReadError::from)?;
        let (mut writer, mut reader) = link.open_stream().await.map_err(|_| AskError::NoLink)?;
        writer.write(head.into()).await?;
        writer.finish();
        let (answer, rest) = read_head(&mut reader, Answer::decode).await?;
        Ok(Incoming { answer, rest: Some(rest), reader })
    }
}

/// Serves requests for content that come over a link, until it ends.
pub(super) async fn serve(shared: Arc<Shared>, link: Link) -> String {
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            stream = link.accept_stream() => match stream {
                Ok((writer, reader)) => {
                    let shared = Arc::clone(&shared);
                    requests.spawn(async move {
                        if let Err(error) = answer(&shared, writer, reader).await {
                            tracing::debug!(%error, "a request for content has come to nothing");
                        }
                    });
                }
                Err(error) => return error.to_string(),
            },
            Some(_) = requests.join_next() => {}
        }
    }
}

/// Why an answer is cut short: its stream is reset, so that nobody takes it for whole.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    Head(#[from] HeadReadError),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("what is on the disk does not belong to the content: {0}")]
    Damaged(WalkError),
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("nobody takes it")]
    Slow,
    #[error("a task failed")]
    Task,
}

async fn answer(shared: &Shared, mut writer: StreamWriter, mut reader: StreamReader) -> Result<(), ServeError> {
    let (ask, _) = read_head(&mut reader, Ask::decode).await?;
    let (source, content) = (shared.source.0.read().clone(), ask.content.clone());
    let opened = spawn_blocking(move || source?.open(&content)).await.map_err(|_| ServeError::Task)?;
    let Some(bytes) = opened else {
        let answer = Answer::refused(Fault::NotFound(format!("{} is not here", ask.content)));
        return Ok(write_last_head(writer, |head| answer.encode(head)).await?);
    };
    let sending = sending(&ask, &*bytes);
    let mut head = Vec::new();
    Answer::from(sending.clone()).encode(&mut head).map_err(HeadReadError::from)?;
    writer.write(head.into()).await?;
    let (pieces, mut made) = mpsc::channel(PIECES_WAITING);
    let digest = ask.content.digest();
    let making = spawn_blocking(move || match digest {
        Digest::Blake3(root) => encode(root, &sending, bytes, &pieces),
        Digest::Sha256(_) => read_whole(&sending, bytes, &pieces),
    });
    while let Some(piece) = made.recv().await {
        // A relay gives up who does not read, and so makes room; one that does not is given up itself.
        timeout(TAKE_TIMEOUT, writer.write(piece)).await.map_err(|_| ServeError::Slow)??;
    }
    making.await.map_err(|_| ServeError::Task)??;
    writer.finish();
    Ok(())
}

/// What is sent for a request: what it wants, as far as it is here.
fn sending(ask: &Ask, bytes: &dyn ContentBytes) -> Sending {
    let size = bytes.size();
    let has = bytes.groups();
    if matches!(ask.content.digest(), Digest::Sha256(_)) {
        return Sending { size, groups: ask.groups.clone(), has };
    }
    let geometry = Geometry::of(size);
    let mut wanted = ask.groups.clone();
    if ask.last {
        wanted.insert(&GroupSet::from(geometry.last_group()..geometry.last_group() + 1));
    }
    let all = GroupSet::from(0..geometry.groups());
    let groups = wanted.intersection(has.as_ref().unwrap_or(&all));
    let first = |set: &GroupSet| set.first_ranges(macula_content::PAIRS_MAX);
    Sending { size, groups: first(&groups), has: has.as_ref().map(first) }
}

/// Makes the encoding, piece by piece, as fast as it is taken.
fn encode(
    root: [u8; 32],
    sending: &Sending,
    mut bytes: Box<dyn ContentBytes>,
    pieces: &mpsc::Sender<Bytes>,
) -> Result<(), ServeError> {
    let mut encoder = Encoder::new(root, Geometry::of(sending.size), sending.groups.clone());
    let mut out = BytesMut::with_capacity(PIECE_BYTES + (32 << 10));
    let mut group_bytes = Vec::new();
    while let Some(node) = encoder.node() {
        let supplied = match node {
            Node::Parent(index) => encoder.supply(&bytes.parent(index)?, &mut out),
            Node::Group(group) => {
                group_bytes.clear();
                bytes.group(group, &mut group_bytes)?;
                encoder.supply(&group_bytes, &mut out)
            }
        };
        if let Err(error) = supplied {
            bytes.damaged(node);
            return Err(ServeError::Damaged(error));
        }
        // Who asked may have gone.
        if out.len() >= PIECE_BYTES && pieces.blocking_send(out.split().freeze()).is_err() {
            return Ok(());
        }
    }
    if !out.is_empty() {
        let _ = pieces.blocking_send(out.freeze());
    }
    Ok(())
}

/// The same for content that is verified as a whole, by who gets it.
fn read_whole(
    sending: &Sending,
    mut bytes: Box<dyn ContentBytes>,
    pieces: &mpsc::Sender<Bytes>,
) -> Result<(), ServeError> {
    for group in 0..Geometry::of(sending.size).groups() {
        let mut piece = Vec::new();
        bytes.group(group, &mut piece)?;
        if pieces.blocking_send(piece.into()).is_err() {
            break;
        }
    }
    Ok(())
}
