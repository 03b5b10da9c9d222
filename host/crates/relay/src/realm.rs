//! What a relay knows of one realm. Realms share nothing but the relay's totals.

use std::sync::Arc;

use macula_wire::{RealmId, Topic};
use rustc_hash::FxHashMap;

use crate::{interest::Interest, procedures::Procedures, retained::Retained, subscription::SubKey};

/// The subscriptions that a topic reaches, shared by all inlets of the same route, so that runs can be told apart by
/// address.
pub(crate) type Route = Arc<[SubKey]>;

#[derive(Debug)]
pub(crate) struct Realm {
    pub(crate) id: RealmId,
    /// Links that have joined.
    pub(crate) members: usize,
    pub(crate) interest: Interest<SubKey>,
    pub(crate) procedures: Procedures,
    pub(crate) offers: usize,
    pub(crate) retained: Retained,
    pub(crate) queued_bytes: usize,
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
            offers: 0,
            retained: Retained::default(),
            queued_bytes: 0,
            routes: FxHashMap::default(),
            routes_version: 0,
        }
    }

    /// Whether nothing would be lost by forgetting the realm.
    pub(crate) fn is_unused(&self) -> bool {
        self.members == 0 && self.retained.is_empty()
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
        let route: Route = found.as_slice().into();
        self.routes.insert(found.into(), Arc::clone(&route));
        route
    }
}
