//! Content in memory.

use crate::Error;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

#[derive(Debug, Default)]
pub(super) struct ContentStore {
    items: BTreeMap<String, Rc<[u8]>>,
    pinned: BTreeSet<String>,
    /// What the plugin stored or fetched itself: it needs no right for it any more.
    own: BTreeSet<String>,
}

impl ContentStore {
    pub(super) fn put(&mut self, data: &[u8]) -> String {
        let mcid = stand_in_mcid(data);
        self.items.insert(mcid.clone(), data.into());
        mcid
    }

    /// The plugin has it from now on.
    pub(super) fn own(&mut self, mcid: &str) {
        self.own.insert(mcid.to_owned());
    }

    pub(super) fn is_own(&self, mcid: &str) -> bool {
        self.own.contains(mcid)
    }

    pub(super) fn get(&self, mcid: &str) -> Result<Option<Rc<[u8]>>, Error> {
        check_mcid(mcid)?;
        Ok(self.items.get(mcid).cloned())
    }

    pub(super) fn pin(&mut self, mcid: &str) -> Result<(), Error> {
        if self.get(mcid)?.is_none() {
            return Err(Error::NotFound(mcid.to_owned()));
        }
        self.pinned.insert(mcid.to_owned());
        Ok(())
    }

    pub(super) fn unpin(&mut self, mcid: &str) -> Result<(), Error> {
        check_mcid(mcid)?;
        self.pinned.remove(mcid);
        Ok(())
    }

    pub(super) fn is_pinned(&self, mcid: &str) -> bool {
        self.pinned.contains(mcid)
    }
}

/// A CIDv1 in base32 has this many characters: 36 bytes, and the `b` in front.
const MCID_CHARACTERS: usize = 59;

fn check_mcid(mcid: &str) -> Result<(), Error> {
    let known_hash = mcid.starts_with("bafkr4i") || mcid.starts_with("bafkrei");
    let is_base32 = |byte: u8| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte);
    if known_hash && mcid.len() == MCID_CHARACTERS && mcid.bytes().all(is_base32) {
        return Ok(());
    }
    Err(Error::Invalid(format!("{mcid:?} is not a content id")))
}

/// An id of the right form that differs for different bytes. It is not their BLAKE3: this crate has no need of it
/// otherwise.
fn stand_in_mcid(data: &[u8]) -> String {
    /// FNV-1a, with a basis a word.
    fn hash(basis: u64, data: &[u8]) -> u64 {
        data.iter().fold(basis, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
    }
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let words = [1, 2, 3, 4].map(|word: u64| hash(0xcbf2_9ce4_8422_2325 ^ word, data));
    let characters = (0..MCID_CHARACTERS - 7).map(|at| {
        let word = words[at % 4] >> (5 * (at / 4) % 60);
        char::from(ALPHABET[(word & 31) as usize])
    });
    "bafkr4i".chars().chain(characters).collect()
}
