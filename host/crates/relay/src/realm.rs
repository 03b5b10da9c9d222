//! What a relay knows of one realm. Realms share nothing but the relay's totals.

use std::sync::Arc;

use macula_wire::{RealmId, Topic};
use rustc_hash::FxHashMap;

use crate::{
    contents::Contents, interest::Interest, procedures::Procedures, recent::Recent, retained::Retained,
    subscription::SubKey,
};

/// The subscriptions that a topic reaches, shared by all inlets of the same route, so that runs can be told apart by
/// address.
pub(crate) type Route = Arc<[SubKey]>;

/// Different routes that are remembered, so that publishers of ever new topics cannot make the table grow.
const ROUTES_MAX: usize = 4096;

#[derive(Debug)]
pub(crate) struct Realm {
    pub(crate) id: RealmId,
    /// Links that have joined.
    pub(crate) members: usize,
    pub(crate) interest: Interest<SubKey>,
    pub(crate) procedures: Procedures,
    pub(crate) contents: Contents,
    pub(crate) offers: usize,
    /// Calls that wait for an answer.
    pub(crate) calls: usize,
    pub(crate) retained: Retained,
    pub(crate) recent: Recent,
    pub(crate) queued_bytes: usize,
    /// When the last member left, in the order of such events.
    pub(crate) deserted: u64,
    /// Equal routes are one; valid for `routes_version` of the interest.
    routes: FxHashMap<Box<[SubKey]>, Route>,
    routes_version: u64,
}

impl Realm {
    pub(crate) fn new(id: RealmId) -> Self {
        Self {
            id,
            members: 0,
            interest: Interest::default(),
            procedures: Procedures::default(),
            contents: Contents::default(),
            offers: 0,
            calls: 0,
            retained: Retained::default(),
            recent: Recent::default(),
            queued_bytes: 0,
            deserted: 0,
            routes: FxHashMap::default(),
            routes_version: 0,
        }
    }

    /// Whether nothing would be lost by forgetting the realm.
    pub(crate) fn is_unused(&self) -> bool {
        self.members == 0 && self.retained.is_empty() && self.recent.is_empty()
    }

    /// The route of a topic, as interest is now.
    pub(crate) fn route(&mut self, topic: &Topic) -> Route {
        if self.routes_version != self.interest.version() {
            self.routes.clear();
            self.routes_version = self.interest.version();
        }
        let mut found = Vec::new();
        self.interest.collect(topic, &mut found);
        if let Some(route) = self.routes.get(&found[..]) {
            return Arc::clone(route);
        }
        if self.routes.len() >= ROUTES_MAX {
            // Those in use stay valid; they are only not found again.
            self.routes.clear();
        }
        let route: Route = found.as_slice().into();
        self.routes.insert(found.into(), Arc::clone(&route));
        route
    }
}
