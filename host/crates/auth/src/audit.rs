//! What is written down for those who look after a node: every denial, and every change of rights.

use std::{
    fmt,
    time::{Duration, Instant},
};

use cid::Cid;
use macula_wire::{NodeId, Operation, RealmId};

use crate::Namespace;

/// One event. Holds identities and names, never payloads or keys.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditEvent {
    /// Something was tried without the right to it.
    Denied {
        /// By whom.
        node: NodeId,
        /// Where.
        realm: RealmId,
        /// What.
        operation: Operation,
        /// On which name or pattern.
        name: String,
    },
    /// A proof did not hold.
    Refused {
        /// Whose.
        node: NodeId,
        /// Where.
        realm: RealmId,
        /// The error's name.
        error: &'static str,
    },
    /// A proof holds, and counts from now on.
    Granted {
        /// Whose.
        node: NodeId,
        /// Where.
        realm: RealmId,
        /// The delegation by which it is known.
        cid: Cid,
        /// Until when, in unix seconds.
        expires: Option<u64>,
    },
    /// Rights have ended: expired, revoked, or another owns the names.
    Lost {
        /// Whose.
        node: NodeId,
        /// Where.
        realm: RealmId,
        /// The delegations that no longer count.
        cids: Vec<Cid>,
    },
    /// Rights have expired, and drop soon unless they are renewed.
    Suspended {
        /// Whose.
        node: NodeId,
        /// Where.
        realm: RealmId,
    },
    /// A revocation was taken in.
    Revoked {
        /// Where.
        realm: RealmId,
        /// What it revokes.
        cid: Cid,
        /// Who says so.
        by: NodeId,
    },
    /// Two keys claim the same names at the same epoch.
    Forked {
        /// Where.
        realm: RealmId,
        /// The names.
        namespace: Namespace,
    },
}

impl AuditEvent {
    /// The event in one word, as in logs and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Denied { .. } => "denied",
            Self::Refused { .. } => "refused",
            Self::Granted { .. } => "granted",
            Self::Lost { .. } => "lost",
            Self::Suspended { .. } => "suspended",
            Self::Revoked { .. } => "revoked",
            Self::Forked { .. } => "forked",
        }
    }

    /// Who it is about: the node, or who revoked.
    pub fn who(&self) -> Option<&NodeId> {
        match self {
            Self::Denied { node, .. }
            | Self::Refused { node, .. }
            | Self::Granted { node, .. }
            | Self::Lost { node, .. }
            | Self::Suspended { node, .. } => Some(node),
            Self::Revoked { by, .. } => Some(by),
            Self::Forked { .. } => None,
        }
    }

    /// Where it happened.
    pub fn realm(&self) -> &RealmId {
        match self {
            Self::Denied { realm, .. }
            | Self::Refused { realm, .. }
            | Self::Granted { realm, .. }
            | Self::Lost { realm, .. }
            | Self::Suspended { realm, .. }
            | Self::Revoked { realm, .. }
            | Self::Forked { realm, .. } => realm,
        }
    }
}

/// What it was about, in words.
impl fmt::Display for AuditEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied { operation, name, .. } => write!(f, "{operation} {name}"),
            Self::Refused { error, .. } => f.write_str(error),
            Self::Granted { cid, expires: Some(expires), .. } => write!(f, "by {cid} until {expires}"),
            Self::Granted { cid, expires: None, .. } => write!(f, "by {cid}, without end"),
            Self::Lost { cids, .. } => {
                f.write_str("what rested on these has ended:")?;
                cids.iter().try_for_each(|cid| write!(f, " {cid}"))
            }
            Self::Suspended { .. } => f.write_str("expired; waiting for a renewed proof"),
            Self::Revoked { cid, .. } => write!(f, "{cid}"),
            Self::Forked { namespace, .. } => write!(f, "two keys claim {namespace} at one epoch; neither owns it"),
        }
    }
}

/// Lets so many events a second through to the log; the rest are counted. Metrics count all.
#[derive(Debug)]
pub struct AuditLimiter {
    left: u32,
    since: Instant,
    suppressed: u64,
}

/// Events a second, and as many at once.
const EVENTS_PER_SECOND: u32 = 20;

impl AuditLimiter {
    /// Lets a full second's worth through at first.
    pub fn new(now: Instant) -> Self {
        Self { left: EVENTS_PER_SECOND, since: now, suppressed: 0 }
    }

    /// Whether one more event may be written down; if so, how many were not since the last.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            (self.left, self.since) = (EVENTS_PER_SECOND, now);
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Some(std::mem::take(&mut self.suppressed))
            }
            None => {
                self.suppressed += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_written() {
        let start = Instant::now();
        let mut limiter = AuditLimiter::new(start);
        let written = (0..1000).filter(|_| limiter.admit(start).is_some()).count();
        assert_eq!(written, EVENTS_PER_SECOND as usize);
        assert_eq!(limiter.admit(start + Duration::from_secs(1)), Some(1000 - u64::from(EVENTS_PER_SECOND)));
        assert_eq!(limiter.admit(start + Duration::from_secs(1)), Some(0));
    }
}
