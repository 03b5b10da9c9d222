//! What a plugin may do on the mesh: the runtime's one check point.
//!
//! [`Rights`] is an immutable table of patterns; [`RightsCell`] holds the one in force and lets it be swapped while the
//! plugin runs. Where rights come from (a manifest's asks, delegations) is decided elsewhere. Nothing that begins with
//! `_` can be published, advertised or called, whatever the table says: those names are the system's.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use macula_wire::{Operation, Pattern, Topic};
use parking_lot::RwLock;

use crate::manifest::Asks;

/// What a plugin may do: patterns for each operation. The default allows nothing.
///
/// Beside these it may remember what has lapsed: that allows nothing, and yet what stands on it is kept, so that it goes on when
/// the right is renewed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    held: Asks,
    /// Mostly nothing.
    lapsed: Box<Asks>,
}

impl Rights {
    /// Everything that was asked for.
    pub fn as_asked(asks: &Asks) -> Self {
        Self { held: asks.clone(), lapsed: Box::default() }
    }

    /// These patterns for each operation that is about names.
    pub fn of(patterns: impl Fn(Operation) -> Vec<Pattern>) -> Self {
        Self { held: asks_of(patterns), lapsed: Box::default() }
    }

    /// The same, where rights to these patterns were held until they expired, and may be renewed.
    #[must_use]
    pub fn remembering(self, lapsed: impl Fn(Operation) -> Vec<Pattern>) -> Self {
        Self { lapsed: Box::new(asks_of(lapsed)), ..self }
    }

    /// The patterns as people read them, by operation; operations without any are left out.
    pub fn by_operation(&self) -> BTreeMap<String, Vec<String>> {
        self.held.by_operation()
    }

    /// The part of these rights that `asks` asks for. Where neither pattern covers the other, nothing is left: an
    /// intersection of patterns is not always a pattern, and less is safe.
    pub fn within(&self, asks: &Asks) -> Self {
        let narrower = |own: &Pattern, other: &Pattern| {
            if own.covers(other) { Some(other.clone()) } else { other.covers(own).then(|| own.clone()) }
        };
        let both = |held: &[Pattern], operation: Operation| -> Vec<Pattern> {
            let asked = asks.patterns(operation);
            held.iter().flat_map(|own| asked.iter().filter_map(move |other| narrower(own, other))).collect()
        };
        Self::of(|operation| both(self.held.patterns(operation), operation))
            .remembering(|operation| both(self.lapsed.patterns(operation), operation))
    }

    /// Whether `operation` on the one name `target` is allowed.
    pub fn allows(&self, operation: Operation, target: &Topic) -> bool {
        !(keeps_off_reserved(operation) && target.is_reserved())
            && self.held.patterns(operation).iter().any(|pattern| pattern.matches(target))
    }

    /// Whether `operation` is allowed on every name of `target`.
    pub fn allows_all(&self, operation: Operation, target: &Pattern) -> bool {
        !(keeps_off_reserved(operation) && target.is_reserved())
            && self.held.patterns(operation).iter().any(|pattern| pattern.covers(target))
    }
}

impl Rights {
    /// Whether an offer of `procedure` may stand: it is allowed, or was until the right expired.
    pub(crate) fn keeps_offer(&self, procedure: &Topic) -> bool {
        self.allows(Operation::Advertise, procedure)
            || self.lapsed.advertise.iter().any(|pattern| pattern.matches(procedure))
    }

    /// Whether a subscription to `target` may stand.
    pub(crate) fn keeps_subscription(&self, target: &Pattern) -> bool {
        self.allows_all(Operation::Subscribe, target)
            || self.lapsed.subscribe.iter().any(|pattern| pattern.covers(target))
    }
}

fn asks_of(patterns: impl Fn(Operation) -> Vec<Pattern>) -> Asks {
    Asks {
        subscribe: patterns(Operation::Subscribe),
        publish: patterns(Operation::Publish),
        advertise: patterns(Operation::Advertise),
        call: patterns(Operation::Call),
        fetch: patterns(Operation::Fetch),
    }
}

/// Whether names of the system are out of reach for an operation.
fn keeps_off_reserved(operation: Operation) -> bool {
    operation != Operation::Subscribe
}

/// The rights in force, and a number that changes with them so that decisions can be kept.
#[derive(Debug)]
pub(crate) struct RightsCell {
    current: RwLock<Arc<Rights>>,
    generation: AtomicU64,
}

impl RightsCell {
    pub(crate) fn new(rights: Rights) -> Self {
        Self { current: RwLock::new(Arc::new(rights)), generation: AtomicU64::new(0) }
    }

    pub(crate) fn current(&self) -> Arc<Rights> {
        Arc::clone(&self.current.read())
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Puts new rights in force. A decision made under an older generation must not be used afterwards.
    pub(crate) fn replace(&self, rights: Rights) {
        *self.current.write() = Arc::new(rights);
        self.generation.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(publish: &[&str], call: &[&str]) -> Rights {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Rights::as_asked(&Asks { publish: parse(publish), call: parse(call), ..Asks::default() })
    }

    #[test]
    fn patterns_must_be_covered() {
        let rights = rights(&["alerts.**"], &[]);
        let covers = |text: &str| rights.allows_all(Operation::Publish, &text.parse().unwrap());
        assert!(covers("alerts.*.temperature"));
        assert!(covers("alerts.kitchen"));
        assert!(!covers("**"));
        assert!(!covers("alerts"));
        assert!(!rights.allows(Operation::Call, &"alerts.kitchen".parse().unwrap()));
    }

    #[test]
    fn names_of_the_system_are_never_written() {
        let rights = rights(&["_mesh.**", "**"], &["_mesh.admin.stop"]);
        assert!(!rights.allows(Operation::Publish, &"_mesh.deadletters.x".parse().unwrap()));
        assert!(!rights.allows(Operation::Call, &"_mesh.admin.stop".parse().unwrap()));
        assert!(rights.allows(Operation::Publish, &"anything".parse().unwrap()));
    }

    #[test]
    fn only_what_is_both_held_and_asked_for_is_left() {
        let held = rights(&["alerts.**", "a.*.c", "only.held"], &[]);
        let asks = Asks {
            publish: ["alerts.kitchen", "a.b.*", "only.asked"].map(|text| text.parse().unwrap()).into(),
            ..Asks::default()
        };
        let both = held.within(&asks);
        let allows = |text: &str| both.allows(Operation::Publish, &text.parse().unwrap());
        assert!(allows("alerts.kitchen"));
        for name in ["alerts.hall", "only.held", "only.asked", "a.b.c"] {
            assert!(!allows(name), "{name}");
        }
    }

    /// Goal: what has lapsed keeps what stands on it, as far as it was asked for, and allows nothing.
    #[test]
    fn what_has_lapsed_keeps_what_stands() {
        let lapsed = |operation| match operation {
            Operation::Subscribe => vec!["in.**".parse().unwrap()],
            Operation::Advertise => vec!["math.add".parse().unwrap()],
            _ => Vec::new(),
        };
        let asks = Asks {
            subscribe: vec!["in.kitchen.*".parse().unwrap()],
            advertise: vec!["math.**".parse().unwrap()],
            ..Asks::default()
        };
        let rights = Rights::default().remembering(lapsed).within(&asks);
        let (kitchen, hall): (Pattern, Pattern) = ("in.kitchen.a".parse().unwrap(), "in.hall.a".parse().unwrap());
        assert!(rights.keeps_subscription(&kitchen) && !rights.keeps_subscription(&hall));
        assert!(!rights.allows_all(Operation::Subscribe, &kitchen));
        let add: Topic = "math.add".parse().unwrap();
        assert!(rights.keeps_offer(&add) && !rights.allows(Operation::Advertise, &add));
        assert_ne!(rights, Rights::default(), "and is another state");
    }

    #[test]
    fn a_swap_changes_the_generation() {
        let cell = RightsCell::new(Rights::default());
        let before = cell.generation();
        cell.replace(rights(&["a"], &[]));
        assert_ne!(cell.generation(), before);
        assert!(cell.current().allows(Operation::Publish, &"a".parse().unwrap()));
    }
}
