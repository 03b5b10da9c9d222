//! Writes down what the rights' keepers report: to the log, within bounds, and into counters.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use macula_auth::{AuditEvent, AuditLimiter};
use macula_wire::{RealmId, RealmName};
use parking_lot::Mutex;

use crate::RealmAccess;

/// Kinds of events, as in logs and metrics.
const KINDS: [&str; 7] = ["denied", "refused", "granted", "lost", "suspended", "revoked", "forked"];

/// Counts all events, and logs as many as a person can read: target `macula_audit`, with the fields `event`, `who`,
/// `realm`, `what` and `at`.
#[derive(Debug)]
pub struct Audit {
    at: &'static str,
    /// What people call the realms.
    realms: BTreeMap<RealmId, RealmName>,
    counts: [AtomicU64; KINDS.len()],
    limiter: Mutex<AuditLimiter>,
}

impl Audit {
    /// For the part of a node that `at` names: `relay` or `host`.
    pub(crate) fn new<'a>(at: &'static str, realms: impl IntoIterator<Item = &'a RealmAccess>) -> Self {
        let realms = realms.into_iter().map(|access| (access.id(), access.name().clone())).collect();
        Self { at, realms, counts: Default::default(), limiter: Mutex::new(AuditLimiter::new(Instant::now())) }
    }

    /// Which part of a node reports here.
    pub fn at(&self) -> &'static str {
        self.at
    }

    /// How many events of each kind there have been.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        KINDS.iter().zip(&self.counts).map(|(kind, count)| (*kind, count.load(Ordering::Relaxed)))
    }

    pub(crate) fn record(&self, event: &AuditEvent) {
        if let Some(index) = KINDS.iter().position(|kind| *kind == event.kind()) {
            self.counts[index].fetch_add(1, Ordering::Relaxed);
        }
        let Some(suppressed) = self.limiter.lock().admit(Instant::now()) else { return };
        let (kind, at) = (event.kind(), self.at);
        // Somebody may ask for a realm that is not served here.
        let realm =
            self.realms.get(event.realm()).map_or_else(|| event.realm().short().to_string(), ToString::to_string);
        let who = event.who().map(ToString::to_string).unwrap_or_default();
        match event {
            AuditEvent::Granted { .. } => {
                tracing::debug!(target: "macula_audit", event = kind, at, who, realm, what = %event, suppressed);
            }
            AuditEvent::Lost { .. } | AuditEvent::Suspended { .. } | AuditEvent::Revoked { .. } => {
                tracing::info!(target: "macula_audit", event = kind, at, who, realm, what = %event, suppressed);
            }
            _ => tracing::warn!(target: "macula_audit", event = kind, at, who, realm, what = %event, suppressed),
        }
    }
}
