//! Who wants which content kept. The store knows whether it is; here is why, so that one who lets it go does not take it
//! from another.
//!
//! The book is written before a pin is taken out of the store and after it was put in: what a crash leaves in between is
//! pinned without a reason, and [`NodeContent::settle_pins`] takes it out.

use std::collections::{BTreeMap, BTreeSet};

use macula_content::store::{Owner, Pinned, Store, StoreError};
use macula_wire::Mcid;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::NodeContent;
use crate::home::StateFile;

/// Who wants content kept on this node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pinner {
    /// Whoever runs the node.
    Operator,
    /// A slot that it follows.
    Slot(String),
    /// A version of a package, which was handed in here.
    Package(String),
}

/// Pinners by content.
type Reasons = BTreeMap<Mcid, BTreeSet<Pinner>>;

#[derive(Debug)]
pub(super) struct PinBook {
    file: StateFile,
    reasons: Mutex<Reasons>,
}

impl PinBook {
    /// Reads the book. Without one, and when it is damaged, everything that is pinned is the operator's: better too much is
    /// kept than too little.
    pub(super) fn open(file: StateFile, store: &Store) -> Self {
        let written = file.read().ok().flatten();
        let read =
            written.as_deref().and_then(|bytes| serde_json::from_slice::<Vec<(Mcid, BTreeSet<Pinner>)>>(bytes).ok());
        if read.is_none() && written.is_some() {
            tracing::warn!(file = %file.path().display(), "damaged; all pinned content is the operator's from now on");
        }
        let reasons = match read {
            Some(reasons) => reasons.into_iter().collect(),
            None => pinned(store).into_iter().map(|mcid| (mcid, BTreeSet::from([Pinner::Operator]))).collect(),
        };
        Self { file, reasons: Mutex::new(reasons) }
    }

    fn write(&self, reasons: &Reasons) -> Result<(), StoreError> {
        let entries: Vec<_> = reasons.iter().collect();
        let bytes = serde_json::to_vec_pretty(&entries).expect("plain data");
        self.file.write(&bytes).map_err(|error| StoreError::Io(std::io::Error::other(error)))
    }

    fn pin(&self, store: &Store, pinner: Pinner, mcid: &Mcid) -> Result<(), StoreError> {
        let mut reasons = self.reasons.lock();
        store.pin(&Owner::Operator, mcid)?;
        if reasons.entry(mcid.clone()).or_default().insert(pinner) {
            self.write(&reasons)?;
        }
        Ok(())
    }

    fn unpin(&self, store: &Store, pinner: &Pinner, mcid: &Mcid) -> Result<(), StoreError> {
        let mut reasons = self.reasons.lock();
        let Some(pinners) = reasons.get_mut(mcid) else { return store.unpin(&Owner::Operator, mcid) };
        let was_there = pinners.remove(pinner);
        let is_last = pinners.is_empty();
        if is_last {
            reasons.remove(mcid);
        }
        if was_there {
            self.write(&reasons)?;
        }
        if is_last { store.unpin(&Owner::Operator, mcid) } else { Ok(()) }
    }

    fn settle(&self, store: &Store, is_wanted: impl Fn(&Pinner, &Mcid) -> bool) -> Result<(), StoreError> {
        let mut reasons = self.reasons.lock();
        for (mcid, pinners) in reasons.iter_mut() {
            pinners.retain(|pinner| is_wanted(pinner, mcid));
        }
        reasons.retain(|_, pinners| !pinners.is_empty());
        self.write(&reasons)?;
        for mcid in pinned(store).into_iter().filter(|mcid| !reasons.contains_key(mcid)) {
            store.unpin(&Owner::Operator, &mcid)?;
        }
        Ok(())
    }
}

/// What is pinned on the node's own behalf.
fn pinned(store: &Store) -> Vec<Mcid> {
    let is_pinned = |(owner, pinned): &(Owner, Pinned)| *owner == Owner::Operator && *pinned == Pinned::Yes;
    store.list(None).into_iter().filter(|stat| stat.owners.iter().any(is_pinned)).map(|stat| stat.mcid).collect()
}

impl NodeContent {
    /// Keeps content from being evicted, for `pinner`. Twice is once.
    ///
    /// # Errors
    /// See [`Store::pin`].
    pub async fn pin(&self, pinner: Pinner, content: &Mcid) -> Result<(), StoreError> {
        let (inner, mcid) = (std::sync::Arc::clone(&self.0), content.clone());
        self.on_disk(move |store| inner.pins.pin(store, pinner, &mcid)).await
    }

    /// Lets it go, as far as `pinner` is concerned: what another wants kept is kept.
    ///
    /// # Errors
    /// See [`Store::unpin`].
    pub async fn unpin(&self, pinner: Pinner, content: &Mcid) -> Result<(), StoreError> {
        let (inner, mcid) = (std::sync::Arc::clone(&self.0), content.clone());
        self.on_disk(move |store| inner.pins.unpin(store, &pinner, &mcid)).await
    }

    /// Takes out pins that nobody wants any more: of slots that are followed no longer, and those a crash has left.
    ///
    /// # Errors
    /// See [`Store::unpin`].
    pub async fn settle_pins(
        &self,
        is_wanted: impl Fn(&Pinner, &Mcid) -> bool + Send + 'static,
    ) -> Result<(), StoreError> {
        let inner = std::sync::Arc::clone(&self.0);
        self.on_disk(move |store| inner.pins.settle(store, is_wanted)).await
    }
}

#[cfg(test)]
mod tests {
    use macula_content::{disk::MemoryDisk, store::StoreConfig};

    use super::*;
    use crate::Home;

    #[test]
    fn what_one_lets_go_another_keeps() {
        let directory = tempfile::tempdir().unwrap();
        let file = || Home::open(directory.path()).unwrap().node("host").unwrap().pins_file();
        let (store, _) = Store::open(MemoryDisk::default(), StoreConfig::default()).unwrap();
        let mcid = store.put(&Owner::Operator, b"component", 1).unwrap();
        let (slot, package) = (Pinner::Slot("a/b".into()), Pinner::Package("a@1.0.0".into()));
        let book = PinBook::open(file(), &store);
        book.pin(&store, slot.clone(), &mcid).unwrap();
        book.pin(&store, package.clone(), &mcid).unwrap();
        book.unpin(&store, &package, &mcid).unwrap();
        assert_eq!(pinned(&store), std::slice::from_ref(&mcid));
        // Over a restart too.
        let book = PinBook::open(file(), &store);
        book.unpin(&store, &package, &mcid).unwrap();
        assert_eq!(pinned(&store), std::slice::from_ref(&mcid));
        book.unpin(&store, &slot, &mcid).unwrap();
        assert_eq!(pinned(&store), []);
        // A crash has left one, and the other's slot is not followed any more.
        let other = store.put(&Owner::Operator, b"another", 1).unwrap();
        store.pin(&Owner::Operator, &mcid).unwrap();
        book.pin(&store, slot, &other).unwrap();
        book.settle(&store, |pinner, _| *pinner == Pinner::Operator).unwrap();
        assert_eq!(pinned(&store), []);
    }

    #[test]
    fn without_a_book_everything_is_the_operators() {
        let directory = tempfile::tempdir().unwrap();
        let file = Home::open(directory.path()).unwrap().node("host").unwrap().pins_file();
        let (store, _) = Store::open(MemoryDisk::default(), StoreConfig::default()).unwrap();
        let mcid = store.put(&Owner::Operator, b"component", 1).unwrap();
        store.pin(&Owner::Operator, &mcid).unwrap();
        std::fs::write(file.path(), "nonsense").unwrap();
        let book = PinBook::open(file, &store);
        book.settle(&store, |pinner, _| *pinner == Pinner::Operator).unwrap();
        assert_eq!(pinned(&store), [mcid]);
    }
}
