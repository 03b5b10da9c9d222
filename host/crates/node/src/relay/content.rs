//! Passes requests for content on to who has it, and what comes back to who asked.
//!
//! Each request is a stream from the asker and one to the provider. The core says to whom it goes; here only the two heads
//! are read, and the bytes between are handed on as they come, a piece at a time. What waits for somebody who takes nothing
//! fills the provider's link, on which others wait as well: after [`STALL_AFTER`] only a few of a provider's passages may go on
//! waiting, for [`TAKE_TIMEOUT`], and who was given up has to wait before it asks again.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use macula_content::{Answer, Ask};
use macula_relay::{LinkKey, Passage, PassageEnd, Stall};
use macula_transport::{StreamError, StreamReader, StreamWriter};
use macula_wire::Fault;
use tokio::{sync::Notify, task::JoinSet, time::timeout};

use super::{driver::Shared, link_tasks::LinkContext};
use crate::content_stream::{HEAD_TIMEOUT, HeadReadError, read_head, write_last_head};

/// How long who asked may take nothing of what is there before its passage counts as stalled.
const STALL_AFTER: Duration = Duration::from_secs(1);
/// How long it may do that then, as one of the few that may.
const TAKE_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a provider may send nothing. Who asked gives it up after 10 s; that is seen here only when there is something to
/// hand on.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(12);
/// Bytes that are read at a time.
const PIECE_BYTES: usize = 64 << 10;
/// Bytes of which one waits whether they are taken: who takes that much in [`STALL_AFTER`] is slow, and takes something.
const SLICE_BYTES: usize = 16 << 10;

/// Why a request comes to nothing; its streams are reset.
#[derive(Debug, thiserror::Error)]
enum PassError {
    #[error(transparent)]
    Head(#[from] HeadReadError),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("the provider's link has ended")]
    NoLink,
    #[error("who asked takes nothing")]
    Slow,
    #[error("the provider sends nothing")]
    Silent,
    #[error("who asked may not have it any more")]
    Ended,
}

/// Takes the streams that a peer opens, until its link ends.
pub(super) async fn accept_streams(context: Rc<LinkContext>) -> String {
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            stream = context.link.accept_stream() => match stream {
                Ok((writer, reader)) => drop(requests.spawn_local(serve(Rc::clone(&context), writer, reader))),
                Err(error) => return error.to_string(),
            },
            Some(_) = requests.join_next() => {}
        }
    }
}

async fn serve(context: Rc<LinkContext>, writer: StreamWriter, reader: StreamReader) {
    if let Err(error) = answer(&context, writer, reader).await {
        tracing::debug!(link = %context.link.peer().node.short(), %error, "a request for content has come to nothing");
    }
}

async fn answer(context: &LinkContext, mut writer: StreamWriter, mut reader: StreamReader) -> Result<(), PassError> {
    let (ask, _) = read_head(&mut reader, Ask::decode).await?;
    context.heard(Instant::now());
    let begun = context.shared.relay.borrow_mut().begin_passage(
        Instant::now(),
        context.key,
        ask.slot,
        &ask.content,
        ask.provider,
    );
    // A denial is written down.
    context.shared.settle_rights();
    let passage = match begun {
        Ok(passage) => OpenPassage::new(&context.shared, passage),
        Err(fault) => return refuse(writer, fault).await,
    };
    let Some(provider) = context.shared.link(passage.passage.provider_link) else {
        return refuse(writer, Fault::NotFound("the provider has left".into())).await;
    };
    let asked = async {
        let (mut to_provider, mut from_provider) = provider.open_stream().await.map_err(|_| PassError::NoLink)?;
        let mut head = Vec::new();
        let asker = Some(passage.passage.asker);
        Ask { slot: passage.passage.provider_slot, provider: None, asker, ..ask }
            .encode(&mut head)
            .map_err(HeadReadError::from)?;
        to_provider.write(head.into()).await?;
        to_provider.finish();
        let (answer, rest) = read_head(&mut from_provider, Answer::decode).await?;
        Ok::<_, PassError>((answer, rest, from_provider))
    };
    let asked = tokio::select! {
        asked = timeout(HEAD_TIMEOUT, asked) => asked.unwrap_or(Err(PassError::Head(HeadReadError::Slow))),
        () = writer.given_up() => return Ok(()),
        () = passage.ended.notified() => return Err(PassError::Ended),
    };
    let (answer, rest, mut from_provider) = match asked {
        Ok(answered) => answered,
        Err(error) => {
            tracing::debug!(provider = %passage.passage.provider.short(), %error, "a provider does not answer");
            return refuse(writer, Fault::Unavailable("the provider does not answer".into())).await;
        }
    };
    let mut head = Vec::new();
    Answer { provider: Some(passage.passage.provider), ..answer }.encode(&mut head).map_err(HeadReadError::from)?;
    let pass = async {
        passage.hand_on(&mut writer, head.into()).await?;
        passage.hand_on(&mut writer, rest).await?;
        loop {
            let read = timeout(SILENCE_TIMEOUT, from_provider.read(PIECE_BYTES)).await;
            let Some(piece) = read.map_err(|_| PassError::Silent)?? else { return Ok::<_, PassError>(()) };
            passage.hand_on(&mut writer, piece).await?;
        }
    };
    let passed = tokio::select! {
        passed = pass => passed,
        () = passage.ended.notified() => Err(PassError::Ended),
    };
    match &passed {
        Ok(()) => passage.end(PassageEnd::Taken),
        Err(PassError::Slow) => passage.end(PassageEnd::TooSlow(Instant::now())),
        Err(_) => {}
    }
    passed?;
    writer.finish();
    Ok(())
}

async fn refuse(writer: StreamWriter, fault: Fault) -> Result<(), PassError> {
    let answer = Answer::refused(fault);
    Ok(write_last_head(writer, |head| answer.encode(head)).await?)
}

/// Ends the passage with its task, whatever the reason.
struct OpenPassage {
    shared: Rc<Shared>,
    passage: Passage,
    ended: Rc<Notify>,
}

impl OpenPassage {
    fn new(shared: &Rc<Shared>, passage: Passage) -> Self {
        let ended = Rc::new(Notify::new());
        shared.passages.borrow_mut().insert(passage.id, Rc::clone(&ended));
        Self { shared: Rc::clone(shared), passage, ended }
    }

    /// Hands on a piece. Few passages of a provider may wait long for whoever asked.
    async fn hand_on(&self, writer: &mut StreamWriter, piece: Bytes) -> Result<(), PassError> {
        let mut rest = piece;
        while !rest.is_empty() {
            let slice = rest.split_to(rest.len().min(SLICE_BYTES));
            let mut taking = std::pin::pin!(writer.write(slice));
            if let Ok(taken) = timeout(STALL_AFTER, &mut taking).await {
                taken?;
                continue;
            }
            if self.shared.relay.borrow_mut().stall_passage(self.passage.id) == Stall::GiveUp {
                return Err(PassError::Slow);
            }
            timeout(TAKE_TIMEOUT, taking).await.map_err(|_| PassError::Slow)??;
            self.shared.relay.borrow_mut().resume_passage(self.passage.id);
        }
        Ok(())
    }

    fn end(&self, how: PassageEnd) {
        self.shared.relay.borrow_mut().end_passage(self.passage.id, how);
    }
}

impl Drop for OpenPassage {
    fn drop(&mut self) {
        self.shared.passages.borrow_mut().remove(&self.passage.id);
        self.end(PassageEnd::Ended);
    }
}

impl Shared {
    /// The link under a key, if it is there.
    fn link(&self, key: LinkKey) -> Option<macula_transport::Link> {
        Some(self.wakers.borrow().get(key.index())?.as_ref()?.link.clone())
    }

    /// Stops the passages whose askers have lost the right.
    pub(super) fn end_passages(&self) {
        while let Some(id) = self.relay.borrow_mut().poll_ended_passage() {
            if let Some(ended) = self.passages.borrow().get(&id) {
                ended.notify_one();
            }
        }
    }
}
