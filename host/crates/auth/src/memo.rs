//! Delegations that have been verified, by the id of their bytes: a signature is checked once.

use std::sync::Arc;

use cid::Cid;
use macula_ucan::{Delegation, TokenError};
use rustc_hash::FxHashMap;

/// Delegations that are remembered at least; twice as many at most.
const GENERATION_MAX: usize = 4096;

/// Two generations: what is used moves into the young one; when that is full, the old one is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    young: FxHashMap<Cid, Arc<Delegation>>,
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
            if self.young.len() >= GENERATION_MAX {
                self.old = std::mem::take(&mut self.young);
            }
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
        let delegation = Arc::new(Delegation::decode(token.bytes()).unwrap());
        for number in 0..3 * GENERATION_MAX as u32 {
            let cid = macula_ucan::cid_of(&number.to_le_bytes());
            if memo.young.len() >= GENERATION_MAX {
                memo.old = std::mem::take(&mut memo.young);
            }
            memo.young.insert(cid, Arc::clone(&delegation));
        }
        assert!(memo.young.len() + memo.old.len() <= 2 * GENERATION_MAX);
    }
}
