//! A request of a fetch: what is asked, what is expected of it, and why it may end early.

use std::time::Instant;

use macula_wire::{Fault, NodeId};

use super::assign::Work;
use crate::{groups::GroupSet, tree::GROUP_BYTES, whole::WHOLE_BYTES_MAX};

/// Names a request within a fetch; later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(super) u64);

/// Something to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// By which its answer is handed in.
    pub id: RequestId,
    /// Whom.
    pub provider: NodeId,
    /// For which groups; for content named by SHA-256, all there can be.
    pub groups: GroupSet,
    /// Whether the last group is asked for too, to prove the size.
    pub prove_size: bool,
}

/// Why a request ended early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// What came does not verify. The provider is banned.
    #[error("what it sent does not belong to the content")]
    Corrupt,
    /// The answer ended before all that it promised. The provider is banned.
    #[error("it stopped short")]
    Short,
    /// It claims another size than was proved. The provider is banned.
    #[error("it says {claimed} bytes, the content has {proved}")]
    OtherSize {
        /// What it said.
        claimed: u64,
        /// What is proved.
        proved: u64,
    },
    /// It sends what was not asked for. The provider is banned.
    #[error("it sends what was not asked for")]
    Unasked,
    /// The content is larger than its name allows. The provider is banned.
    #[error("it says {0} bytes, at most {WHOLE_BYTES_MAX} are allowed")]
    TooLarge(u64),
    /// It answered with a fault. Asked again after `unavailable`, `timeout` and `cancelled`; after `not-found` too, and banned
    /// the fifth time in a row; banned at once for any other.
    #[error("it answered: {0}")]
    Refused(Fault),
    /// No byte came for [`FetchConfig::stall_after`](super::FetchConfig::stall_after). Asked again, banned the fifth time in a row.
    #[error("it stalled")]
    Stalled,
    /// The stream or the link broke. Asked again, banned the fifth time in a row.
    #[error("it was lost")]
    Lost,
}

/// A request without its end.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) id: RequestId,
    pub(super) provider: NodeId,
    pub(super) work: Work,
    /// Groups that it was asked for, some of which may have been stolen since; for [`Work::Piece`].
    pub(super) asked: GroupSet,
    /// Groups that are expected of it.
    pub(super) left: GroupSet,
    /// Groups that are still to come in its encoding, be they expected or not.
    pub(super) to_come: u64,
    /// Size that its answer claims.
    pub(super) claimed: Option<u64>,
    pub(super) since: Instant,
    /// Whether a byte of it has come.
    pub(super) has_begun: bool,
    pub(super) bytes: u64,
}

impl Open {
    pub(super) fn left_bytes(&self) -> u64 {
        self.left.count() * GROUP_BYTES
    }
}
