//! Control messages about rights: what a relay shows, what a node presents, what is revoked, and what ends.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{Fault, NodeId, Operation, RealmId, RealmName, Topic};

/// Bytes of proofs that one message carries at most: what fits into a control message with everything else in it.
pub const PROOF_BYTES_MAX: usize = 60 << 10;

/// One chain of delegations as sent: tokens as they are, the realm root's first, the one for the presenting node last.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Proof(pub Vec<ByteBuf>);

impl Proof {
    /// Bytes of its tokens.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|token| token.len()).sum()
    }
}

/// Asks a relay to show that it may serve a realm. Sent before anything of the realm is: the id tells nothing to a relay
/// that does not know the realm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Show {
    /// Names the request.
    pub id: u64,
    /// Which realm.
    pub realm: RealmId,
}

/// Joins a realm on this link, under a number that later requests and channels use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Names the request.
    pub id: u64,
    /// The joining side's number for the realm.
    pub slot: u32,
    /// The realm's name.
    pub name: RealmName,
    /// The realm's root key.
    pub root: NodeId,
    /// What the joining node may do there; at least one must hold.
    pub proofs: Vec<Proof>,
}

/// More proofs for a realm that was joined: further rights, or those at hand renewed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// Names the request.
    pub id: u64,
    /// The realm.
    pub slot: u32,
    /// What the node may do there, in addition.
    pub proofs: Vec<Proof>,
}

/// Says that delegations are revoked; the relay remembers it and tells all who have joined the realm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoke {
    /// Names the request.
    pub id: u64,
    /// The realm.
    pub slot: u32,
    /// Signed revocations.
    pub revocations: Vec<ByteBuf>,
}

/// Revocations that the relay knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// The realm, by the number of the one who is told.
    pub slot: u32,
    /// Signed revocations.
    pub revocations: Vec<ByteBuf>,
}

/// A subscription or an offer has ended at the relay, because the right to it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// What has ended.
    pub what: EndedWhat,
    /// Why.
    pub fault: Fault,
}

/// What the relay has ended, by the number of the one who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndedWhat {
    /// A subscription.
    Subscription(u32),
    /// An offer.
    Offer(u32),
}

/// Messages to a topic were not forwarded, because the right to send them is missing. Said once for each declaration of the
/// channel; calls are answered one by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The realm, by the number of the one who is told.
    pub slot: u32,
    /// What would have needed the right.
    pub operation: NamedOperation,
    /// The name.
    pub name: Topic,
}

/// An operation by its command, as in delegations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamedOperation(pub Operation);

impl TryFrom<String> for NamedOperation {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Operation::from_command(&text).map(Self).ok_or_else(|| format!("{text:?} is no operation"))
    }
}

impl From<NamedOperation> for String {
    fn from(operation: NamedOperation) -> Self {
        operation.0.command().to_owned()
    }
}

/// What encoding adds to a proof or a revocation in a message, at most.
const OVERHEAD_BYTES: usize = 64;

/// Parts of proofs or revocations that each fit into one control message, in order. What alone is above
/// [`PROOF_BYTES_MAX`] is left out: nobody could send it.
pub fn portions<T>(all: impl IntoIterator<Item = T>, bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let (mut portions, mut filled) = (Vec::<Vec<T>>::new(), PROOF_BYTES_MAX);
    for one in all.into_iter().filter(|one| bytes(one) <= PROOF_BYTES_MAX) {
        let size = bytes(&one) + OVERHEAD_BYTES;
        if filled + size > PROOF_BYTES_MAX {
            portions.push(Vec::new());
            filled = 0;
        }
        filled += size;
        if let Some(portion) = portions.last_mut() {
            portion.push(one);
        }
    }
    portions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_hold_what_fits() {
        let sizes = [PROOF_BYTES_MAX + 1, 40_000, 20_000, 30_000, PROOF_BYTES_MAX, 1];
        let portions = portions(sizes, |size| *size);
        assert_eq!(portions, [vec![40_000, 20_000], vec![30_000], vec![PROOF_BYTES_MAX], vec![1]]);
    }
}
