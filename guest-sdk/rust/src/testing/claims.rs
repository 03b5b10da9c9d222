//! What an instance has asked for: the next instance takes over what it asks for again, the rest ends.

use super::fake::State;

/// The subscriptions and offers of an instance, without the manifest's.
pub(super) struct Claims {
    subscriptions: Vec<u32>,
    offers: Vec<String>,
}

impl State {
    /// From now on, the next instance has to ask again for what this one asked for. Gives what was claimed.
    pub(super) fn release_claims(&mut self) -> Claims {
        let subscriptions = self.subscriptions.iter_mut().filter(|subscribed| subscribed.id != 0);
        let subscriptions = subscriptions.map(|subscribed| {
            subscribed.claimed = false;
            subscribed.id
        });
        let offers = self.offers.iter_mut().filter(|offer| !offer.from_manifest);
        let offers = offers.map(|offer| {
            offer.claimed = false;
            offer.procedure.clone()
        });
        Claims { subscriptions: subscriptions.collect(), offers: offers.collect() }
    }

    /// The old instance works on with what it had.
    pub(super) fn restore_claims(&mut self, claims: &Claims) {
        for subscribed in &mut self.subscriptions {
            subscribed.claimed = subscribed.id == 0 || claims.subscriptions.contains(&subscribed.id);
        }
        for offer in &mut self.offers {
            offer.claimed = offer.from_manifest || claims.offers.contains(&offer.procedure);
        }
        self.end_unclaimed();
    }

    pub(super) fn end_unclaimed(&mut self) {
        self.subscriptions.retain(|subscribed| subscribed.claimed);
        self.offers.retain(|offer| offer.claimed);
    }

    pub(super) fn end_disallowed(&mut self) {
        let rights = &self.rights;
        self.subscriptions.retain(|subscribed| rights.allow("/mesh/subscribe", &subscribed.pattern));
        self.offers.retain(|offer| rights.allow("/mesh/advertise", &offer.procedure));
    }
}
