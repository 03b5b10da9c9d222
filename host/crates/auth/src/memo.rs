//! Delegations that have been verified, by the id of their bytes: a signature is checked once.

use std::sync::Arc;

use cid::Cid;
use macula_ucan::{Delegation, TokenError};
use rustc_hash::FxHashMap;

/// Bytes of the delegations that are remembered at least; twice as many at most. A usual one has 400, the largest 16 KiB.
const GENERATION_BYTES_MAX: usize = 4 << 20;

/// Two generations: what is used moves into the young one; when that is full, the old one is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    young: FxHashMap<Cid, Arc<Delegation>>,
    young_bytes: usize,
    old: FxHashMap<Cid, Arc<Delegation>>,
}

impl Memo {
    /// The delegation of these bytes; `pay` is asked before a signature has to be checked. It is remembered only when
    /// [`remember`](Self::remember) is told so: what leads nowhere is not to push out what counts, nor to take memory.
    pub(crate) fn delegation<E: From<TokenError>>(
        &self,
        bytes: &[u8],
        pay: impl FnOnce() -> Result<(), E>,
    ) -> Result<Arc<Delegation>, E> {
        let cid = macula_ucan::cid_of(bytes);
        if let Some(known) = self.young.get(&cid).or_else(|| self.old.get(&cid)) {
            return Ok(Arc::clone(known));
        }
        pay()?;
        Ok(Arc::new(Delegation::decode(bytes)?))
    }

    /// A chain of these links was accepted.
    pub(crate) fn remember(&mut self, links: &[Arc<Delegation>]) {
        for link in links {
            if self.young.contains_key(link.cid()) {
                continue;
            }
            self.old.remove(link.cid());
            if self.young_bytes + link.bytes().len() > GENERATION_BYTES_MAX {
                self.old = std::mem::take(&mut self.young);
                self.young_bytes = 0;
            }
            self.young_bytes += link.bytes().len();
            self.young.insert(*link.cid(), Arc::clone(link));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::link;

    #[test]
    fn a_signature_is_checked_once_and_the_table_stays_small() {
        let mut memo = Memo::default();
        let token = link(200, 1, "/mesh", &[]);
        let mut checks = 0;
        for _ in 0..3 {
            let known = memo
                .delegation::<TokenError>(token.bytes(), || {
                    checks += 1;
                    Ok(())
                })
                .unwrap();
            assert_eq!(known.cid(), token.cid());
            memo.remember(&[known]);
        }
        assert_eq!(checks, 1);
        let mut flipped = token.bytes().to_vec();
        *flipped.last_mut().unwrap() ^= 1;
        assert!(memo.delegation::<TokenError>(&flipped, || Ok(())).is_err());
    }

    #[test]
    fn it_holds_so_many_bytes_and_forgets_what_was_not_used() {
        let mut memo = Memo::default();
        let links: Vec<_> = (0..4).map(|to| Arc::new(link(200, to, "/mesh", &[]))).collect();
        // As full as a generation can be with one of these still fitting in.
        memo.remember(&links[..1]);
        memo.young_bytes = GENERATION_BYTES_MAX - links[1].bytes().len();
        memo.remember(&links[1..2]);
        assert_eq!((memo.young.len(), memo.old.len()), (2, 0));
        memo.remember(&links[2..3]);
        assert_eq!((memo.young.len(), memo.old.len()), (1, 2), "a new generation");
        memo.remember(&links[..1]);
        assert_eq!((memo.young.len(), memo.old.len()), (2, 1), "what is used stays");
        memo.young_bytes = GENERATION_BYTES_MAX;
        memo.remember(&links[3..]);
        let pay = || Err(TokenError::Truncated);
        assert!(memo.delegation(links[0].bytes(), pay).is_ok());
        assert!(memo.delegation(links[1].bytes(), pay).is_err(), "forgotten");
    }
}
