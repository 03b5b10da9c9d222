//! Who offers which procedure in a realm, and who gets the next call.

use std::time::Duration;

use macula_wire::{Metadata, Topic};
use rustc_hash::FxHashMap;
use slab::Slab;
use smallvec::SmallVec;

use crate::link::LinkKey;

/// Names an offer within the relay.
pub(crate) type OfferKey = usize;

/// How much a new measurement moves the latency estimate: 1/8, as in TCP's smoothed round trip time (RFC 6298).
const LATENCY_WEIGHT: u64 = 8;

/// How many times the usual a call must have waited for its end to speak against the provider.
const PATIENCE: u32 = 4;
/// The least that it must have waited, for providers that usually answer within moments, or never have.
const PATIENCE_MIN: Duration = Duration::from_millis(10);

/// One provider's offer of one procedure.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) link: LinkKey,
    pub(crate) realm: usize,
    /// The provider's number for the realm.
    pub(crate) slot: u32,
    pub(crate) procedure: Topic,
    pub(crate) in_flight: u32,
    pub(crate) in_flight_max: u32,
    /// Smoothed time from sending a call to its answer; 0 before the first.
    pub(crate) latency_us: u64,
    /// The relay's number of the last call that was given up unanswered, if that was after its last answer.
    pub(crate) unanswered: Option<u64>,
    #[expect(dead_code, reason = "answered to those who look for providers once discovery spans relays")]
    pub(crate) metadata: Metadata,
}

impl Offer {
    /// It has answered a call after this time.
    pub(crate) fn answered(&mut self, latency: Duration) {
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency_us = if self.latency_us == 0 {
            latency_us.max(1)
        } else {
            (self.latency_us.saturating_mul(LATENCY_WEIGHT - 1).saturating_add(latency_us)) / LATENCY_WEIGHT
        };
    }

    /// Whether a call that was given up after it had waited so long shows that no answer comes. Who gives up early shows
    /// nothing; who has waited for longer than answers usually take does.
    pub(crate) fn is_silent_after(&self, waited: Duration) -> bool {
        let usual = Duration::from_micros(self.latency_us);
        waited >= usual.saturating_mul(PATIENCE).max(PATIENCE_MIN)
    }
}

/// The offers of one realm, by procedure.
#[derive(Debug, Default)]
pub(crate) struct Procedures {
    by_name: FxHashMap<Topic, SmallVec<[OfferKey; 2]>>,
}

/// Why nobody gets a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoProvider {
    /// Nobody offers the procedure.
    Unknown,
    /// All who do have as many calls as they take.
    Busy,
}

impl Procedures {
    pub(crate) fn insert(&mut self, procedure: &Topic, offer: OfferKey) {
        self.by_name.entry(procedure.clone()).or_default().push(offer);
    }

    pub(crate) fn remove(&mut self, procedure: &Topic, offer: OfferKey) {
        if let Some(offers) = self.by_name.get_mut(procedure) {
            offers.retain(|other| *other != offer);
            if offers.is_empty() {
                self.by_name.remove(procedure);
            }
        }
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The offer with the fewest calls in flight, among equals the fastest, among those that `usable` admits. One that has
    /// left a call unanswered comes after all others, until it has answered again: what it does not answer is given up, and
    /// would make it the one with the fewest calls in flight.
    pub(crate) fn choose(
        &self,
        procedure: &Topic,
        offers: &Slab<Offer>,
        usable: impl Fn(&Offer) -> bool,
    ) -> Result<OfferKey, NoProvider> {
        let known = self.by_name.get(procedure).ok_or(NoProvider::Unknown)?;
        known
            .iter()
            .copied()
            .filter(|key| offers[*key].in_flight < offers[*key].in_flight_max && usable(&offers[*key]))
            .min_by_key(|key| {
                let offer = &offers[*key];
                (offer.unanswered.is_some(), offer.in_flight, offer.latency_us)
            })
            .ok_or(NoProvider::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_in_flight_then_fastest() {
        let procedure: Topic = "math.add".parse().unwrap();
        let (mut offers, mut procedures) = (Slab::new(), Procedures::default());
        assert_eq!(procedures.choose(&procedure, &offers, |_| true), Err(NoProvider::Unknown));
        for (in_flight, latency_us) in [(2, 1), (1, 50), (1, 20), (0, 1)] {
            let offer = Offer {
                link: LinkKey(0),
                realm: 0,
                slot: 0,
                procedure: procedure.clone(),
                in_flight,
                in_flight_max: 2,
                latency_us,
                unanswered: None,
                metadata: Metadata::default(),
            };
            procedures.insert(&procedure, offers.insert(offer));
        }
        assert_eq!(procedures.choose(&procedure, &offers, |_| true), Ok(3));
        assert_eq!(procedures.choose(&procedure, &offers, |offer| offer.in_flight > 0), Ok(2));
        for key in 1..4 {
            offers[key].in_flight = 2;
        }
        assert_eq!(procedures.choose(&procedure, &offers, |_| true), Err(NoProvider::Busy));
        for key in 0..4 {
            procedures.remove(&procedure, key);
        }
        assert!(procedures.is_empty());
    }

    #[test]
    fn latency_is_smoothed() {
        let mut offer = Offer {
            link: LinkKey(0),
            realm: 0,
            slot: 0,
            procedure: "a".parse().unwrap(),
            in_flight: 0,
            in_flight_max: 1,
            latency_us: 0,
            unanswered: None,
            metadata: Metadata::default(),
        };
        offer.answered(Duration::from_micros(800));
        assert_eq!(offer.latency_us, 800);
        offer.answered(Duration::from_micros(1600));
        assert_eq!(offer.latency_us, 900);
    }
}
