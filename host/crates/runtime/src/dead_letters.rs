//! The dead letters of one plugin, kept on the disk: to be looked at, and to be handled after all.
//!
//! A file each, in the plugin's folder; the name counts up, so that names are in the order in which they came. Of more than
//! [`LETTERS_MAX`] or [`BYTES_MAX`] the oldest go. What cannot be kept was published all the same.

use std::{
    collections::{HashSet, VecDeque},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use macula_wire::{Message, Metadata, NodeId, PluginName, Topic, Traceparent, Tracestate};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{base64, mailbox::Delivery};

/// Files with a higher number are not ours.
const ID_MAX: u64 = u64::MAX / 2;
/// Letters kept of one plugin.
const LETTERS_MAX: usize = 1_000;
/// Bytes kept of one plugin, as files.
const BYTES_MAX: u64 = 64 << 20;

/// A message that no handler could deal with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Names it among those of its plugin; later ones have higher numbers.
    pub id: u64,
    /// When it was put aside, in milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// Why.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Which subscription it came by.
    pub subscription: u32,
    /// Where it was published.
    pub topic: Topic,
    /// What; in JSON in base64.
    #[serde(with = "base64")]
    pub payload: Vec<u8>,
    /// Media type.
    pub content_type: String,
    /// By which node.
    pub publisher: NodeId,
    /// By which of its plugins; empty for none.
    pub plugin: String,
    /// Names it in its realm, with `seq`.
    pub epoch: u64,
    /// See `epoch`.
    pub seq: u64,
    /// When it was published, by the publisher's clock.
    pub timestamp_ms: u64,
    /// What its publisher added.
    pub metadata: Vec<(String, String)>,
    /// The trace that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<Traceparent>,
    /// What was noted about that trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<Tracestate>,
}

impl DeadLetter {
    fn of(id: u64, at_ms: u64, delivery: &Delivery, reason: &str) -> Self {
        let message = &delivery.message;
        Self {
            id,
            at_ms,
            reason: reason.to_owned(),
            attempts: delivery.attempt,
            subscription: delivery.subscription,
            topic: message.topic.clone(),
            payload: message.payload.to_vec(),
            content_type: message.content_type.as_str().to_owned(),
            publisher: message.publisher,
            plugin: message.plugin.to_string(),
            epoch: message.epoch,
            seq: message.seq,
            timestamp_ms: message.timestamp_ms,
            metadata: message.metadata.as_deref().map(|metadata| metadata.pairs().to_vec()).unwrap_or_default(),
            traceparent: message.traceparent.clone(),
            tracestate: message.tracestate.clone(),
        }
    }

    /// The message as it is to be handled again: as often as a new one.
    fn delivery(&self) -> Delivery {
        let metadata = Metadata::new(self.metadata.clone()).ok().filter(|metadata| !metadata.pairs().is_empty());
        let message = Message {
            topic: self.topic.clone(),
            payload: Bytes::from(self.payload.clone()),
            content_type: self.content_type.parse().unwrap_or_default(),
            publisher: self.publisher,
            plugin: self.plugin.parse().unwrap_or(PluginName::EMPTY),
            epoch: self.epoch,
            seq: self.seq,
            timestamp_ms: self.timestamp_ms,
            retained: false,
            cause_depth: 0,
            metadata: metadata.map(Arc::new),
            traceparent: self.traceparent.clone(),
            tracestate: self.tracestate.clone(),
        };
        Delivery { message, subscription: self.subscription, attempt: 1, letter: Some(self.id) }
    }
}

/// Why a dead letter is not handled again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// There is none of this number.
    #[error("there is no dead letter {0}")]
    NotThere(u64),
    /// It waits for its handler, or is with it.
    #[error("dead letter {0} is being handled again already")]
    UnderWay(u64),
    /// The plugin has stopped, or was given up.
    #[error("the plugin does not run; the dead letter stays")]
    NotRunning,
}

/// See the module.
#[derive(Debug)]
pub struct DeadLetters {
    folder: PathBuf,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Ids and sizes, the oldest first.
    letters: VecDeque<(u64, u64)>,
    bytes: u64,
    next_id: u64,
    /// Those that are being handled again.
    replayed: HashSet<u64>,
}

impl DeadLetters {
    /// Those in a folder, which is made with the first.
    pub(crate) fn open(folder: PathBuf) -> Self {
        let mut letters: Vec<(u64, u64)> = fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let id = entry.path().file_name()?.to_str()?.strip_suffix(".json")?.parse().ok()?;
                let metadata = entry.metadata().ok()?;
                (metadata.is_file() && id <= ID_MAX).then_some((id, metadata.len()))
            })
            .collect();
        letters.sort_unstable();
        let next_id = letters.last().map_or(1, |(id, _)| id + 1);
        let bytes = letters.iter().map(|(_, bytes)| bytes).sum();
        Self { folder, kept: Mutex::new(Kept { letters: letters.into(), bytes, next_id, replayed: HashSet::new() }) }
    }

    fn path(&self, id: u64) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    /// Keeps one. Not on a thread that must not wait.
    pub(crate) fn keep(&self, at_ms: u64, delivery: &Delivery, reason: &str) -> io::Result<()> {
        let mut kept = self.kept.lock();
        let id = kept.next_id;
        let letter = DeadLetter::of(id, at_ms, delivery, reason);
        let bytes = serde_json::to_vec(&letter).map_err(io::Error::other)?;
        create_private(&self.folder)?;
        write_private(&self.path(id), &bytes)?;
        kept.next_id += 1;
        kept.bytes += bytes.len() as u64;
        kept.letters.push_back((id, bytes.len() as u64));
        while kept.letters.len() > LETTERS_MAX || kept.bytes > BYTES_MAX {
            let Some((oldest, bytes)) = kept.letters.pop_front() else { break };
            kept.bytes -= bytes;
            let _ = fs::remove_file(self.path(oldest));
        }
        Ok(())
    }

    /// All that are kept, the oldest first. What cannot be read is left out.
    pub fn list(&self) -> Vec<DeadLetter> {
        self.after(0).collect()
    }

    /// Those with a higher number, each read from the disk when it is asked for.
    pub fn after(&self, id: u64) -> impl Iterator<Item = DeadLetter> {
        let ids: Vec<u64> =
            self.kept.lock().letters.iter().map(|(known, _)| *known).filter(|known| *known > id).collect();
        ids.into_iter().filter_map(|id| self.get(id))
    }

    /// One of them.
    pub fn get(&self, id: u64) -> Option<DeadLetter> {
        serde_json::from_slice(&macula_files::read(&self.path(id), BYTES_MAX).ok()?).ok()
    }

    /// Forgets one.
    pub(crate) fn remove(&self, id: u64) {
        let mut kept = self.kept.lock();
        kept.replayed.remove(&id);
        if let Some(index) = kept.letters.iter().position(|(known, _)| *known == id) {
            let bytes = kept.letters.remove(index).map_or(0, |(_, bytes)| bytes);
            kept.bytes -= bytes;
            let _ = fs::remove_file(self.path(id));
        }
    }

    /// The delivery to try again. The letter stays until [`DeadLetters::remove`].
    pub(crate) fn begin_replay(&self, id: u64) -> Result<Delivery, ReplayError> {
        let letter = self.get(id).ok_or(ReplayError::NotThere(id))?;
        if self.kept.lock().replayed.insert(id) { Ok(letter.delivery()) } else { Err(ReplayError::UnderWay(id)) }
    }

    /// It is not tried after all.
    pub(crate) fn cancel_replay(&self, id: u64) {
        self.kept.lock().replayed.remove(&id);
    }
}

fn create_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Payloads are nobody else's business.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    macula_files::write_private(path, bytes).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::LocalMesh;

    fn delivery(text: &str) -> Delivery {
        Delivery {
            message: LocalMesh::new().message("a.b", text.to_owned()),
            subscription: 3,
            attempt: 5,
            letter: None,
        }
    }

    #[test]
    fn letters_are_kept_over_a_restart_and_are_the_message_again() {
        let folder = tempfile::tempdir().unwrap();
        let letters = DeadLetters::open(folder.path().join("p"));
        letters.keep(7, &delivery("one"), "because").unwrap();
        letters.keep(8, &delivery("two"), "because").unwrap();
        let letters = DeadLetters::open(folder.path().join("p"));
        let listed = letters.list();
        assert_eq!(listed.iter().map(|letter| letter.id).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((listed[0].at_ms, &*listed[0].reason, listed[0].attempts), (7, "because", 5));
        let again = letters.begin_replay(1).unwrap();
        assert_eq!((again.message.payload, again.attempt, again.subscription), ("one".into(), 1, 3));
        assert_eq!(letters.begin_replay(1).unwrap_err(), ReplayError::UnderWay(1));
        assert!(letters.get(1).is_some(), "it stays until it is done");
        letters.remove(1);
        assert_eq!(letters.begin_replay(1).unwrap_err(), ReplayError::NotThere(1));
        letters.keep(9, &delivery("three"), "because").unwrap();
        assert_eq!(letters.list().iter().map(|letter| letter.id).collect::<Vec<_>>(), [2, 3]);
        assert!(letters.get(1).is_none());
    }

    #[test]
    fn of_too_many_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let letters = DeadLetters::open(folder.path().to_owned());
        letters.kept.lock().bytes = BYTES_MAX - 100;
        letters.kept.lock().letters.push_back((0, BYTES_MAX - 100));
        letters.keep(7, &delivery("one"), "because").unwrap();
        assert_eq!(letters.list().iter().map(|letter| letter.id).collect::<Vec<_>>(), [1]);
    }
}
