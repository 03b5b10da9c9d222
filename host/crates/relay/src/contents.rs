//! Who provides which content, and who is asked for it.
//!
//! Members say what they have; whoever may fetch a content is told who has it, and has its request passed on to one of
//! them. The bytes do not come through this core: it says who they are to come from ([`Relay::begin_passage`]), keeps count,
//! and says when they have to stop ([`Relay::poll_ended_passage`]). Specified in `docs/protocol/content.md`.

use std::time::{Duration, Instant};

use macula_wire::{
    Fault, Mcid, NodeId, Operation, Topic,
    control::{Done, Find, PROVIDERS_MAX, Provide, Unprovide},
};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::{Permissions, Relay, link::LinkKey};

/// A member that has content, and its number for the realm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Provider {
    link: LinkKey,
    slot: u32,
}

/// The providers of one realm, by content.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    by_id: FxHashMap<Mcid, SmallVec<[Provider; 1]>>,
}

impl Contents {
    fn insert(&mut self, content: &Mcid, provider: Provider) {
        self.by_id.entry(content.clone()).or_default().push(provider);
    }

    fn remove(&mut self, content: &Mcid, provider: Provider) {
        let Some(providers) = self.by_id.get_mut(content) else { return };
        providers.retain(|known| *known != provider);
        if providers.is_empty() {
            self.by_id.remove(content);
        }
    }

    fn of(&self, content: &Mcid) -> &[Provider] {
        self.by_id.get(content).map_or(&[], |providers| providers)
    }
}

/// A request for content that is passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Names it until it has ended.
    pub id: u64,
    /// Who asks.
    pub asker: NodeId,
    /// The link to who is asked.
    pub provider_link: LinkKey,
    /// Who that is.
    pub provider: NodeId,
    /// Its number for the realm.
    pub provider_slot: u32,
}

/// How a passage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassageEnd {
    /// It did not come about, or one of the two ended it.
    Ended,
    /// Who asked has taken all of it.
    Taken,
    /// Who asked did not take what was there for it; when that was found out. It may not ask again for a while.
    TooSlow(Instant),
}

/// Whether a passage whose asker takes nothing may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stall {
    /// For a while: what waits for it leaves room for others on the provider's link.
    Wait,
    /// It has to end.
    GiveUp,
}

/// Passages on one provider's link whose askers take nothing, at most. What is sent for each and not taken fills a stream's window,
/// which is a quarter of the link's: so half of it stays free for everything else.
const STALLED_MAX: usize = 2;

/// How long a link may not ask for content after it took too slowly what it had asked for; twice as long each time, up to the longest,
/// until it has taken something as a whole.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// When a link may ask for content again.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    until: Option<Instant>,
    last: Duration,
}

impl Pause {
    fn begin(&mut self, now: Instant) {
        self.last = (self.last * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.until = Some(now + self.last);
    }

    fn left(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }
}

/// What is kept of a passage.
#[derive(Debug)]
struct Open {
    from: LinkKey,
    slot: u32,
    to: LinkKey,
    content: Mcid,
    is_stalled: bool,
}

/// All passages of a relay.
#[derive(Debug, Default)]
pub(crate) struct Passages {
    open: FxHashMap<u64, Open>,
    next: u64,
    ended: Vec<u64>,
}

impl Relay {
    /// A peer has content. What does not fit is refused as a whole.
    pub(crate) fn provide(&mut self, key: LinkKey, request: &Provide) -> Result<(), Fault> {
        let realm = self.realm_of(key, request.slot)?;
        for content in &request.contents {
            let link = &mut self.links[key.index()];
            let named = (request.slot, content.clone());
            if link.provided.contains(&named) {
                continue;
            }
            if link.provided.len() >= self.config.contents_per_link_max {
                return Err(Fault::QuotaExceeded("contents provided on this link".into()));
            }
            if self.contents_provided >= self.config.contents_max {
                return Err(Fault::QuotaExceeded("contents provided at this relay".into()));
            }
            link.provided.insert(named);
            self.contents_provided += 1;
            self.realms[realm].contents.insert(content, Provider { link: key, slot: request.slot });
        }
        Ok(())
    }

    /// A peer has content no longer.
    pub(crate) fn unprovide(&mut self, key: LinkKey, request: Unprovide) {
        let Some(realm) = self.links[key.index()].realms.get(&request.slot).map(|joined| joined.realm) else { return };
        let provider = Provider { link: key, slot: request.slot };
        for content in request.contents {
            let named = (request.slot, content);
            if self.links[key.index()].provided.remove(&named) {
                self.contents_provided -= 1;
                self.realms[realm].contents.remove(&named.1, provider);
            }
        }
    }

    /// Tells who has content, the least busy first.
    pub(crate) fn find(&mut self, key: LinkKey, request: &Find) -> Done {
        let realm = match self.may_fetch(key, request.slot, &request.content) {
            Ok(realm) => realm,
            Err(fault) => return Done::failed(request.id, fault),
        };
        let mut found: Vec<Provider> = self.others_with(key, realm, &request.content).collect();
        found.sort_by_key(|provider| self.links[provider.link.index()].serving);
        found.truncate(PROVIDERS_MAX);
        let providers = found.iter().map(|provider| self.links[provider.link.index()].peer.node).collect();
        Done { providers, ..Done::ok(request.id) }
    }

    fn others_with(&self, key: LinkKey, realm: usize, content: &Mcid) -> impl Iterator<Item = Provider> {
        let providers = self.realms[realm].contents.of(content).iter().copied();
        providers.filter(move |provider| provider.link != key)
    }

    fn may_fetch(&mut self, key: LinkKey, slot: u32, content: &Mcid) -> Result<usize, Fault> {
        let realm = self.realm_of(key, slot)?;
        self.check_name(key, slot, Operation::Fetch, &name_of(content))?;
        Ok(realm)
    }

    /// A peer asks for content, of a certain provider or of any: who its request is to be passed on to. To be followed by
    /// [`Relay::end_passage`], whatever becomes of it.
    ///
    /// # Errors
    /// What the peer is to be told; nothing has been counted then.
    pub fn begin_passage(
        &mut self,
        now: Instant,
        key: LinkKey,
        slot: u32,
        content: &Mcid,
        wanted: Option<NodeId>,
    ) -> Result<Passage, Fault> {
        let realm = self.may_fetch(key, slot, content)?;
        if let Some(left) = self.links[key.index()].pause.left(now) {
            let seconds = left.as_secs_f64();
            return Err(Fault::Unavailable(format!(
                "content that this link asked for was not taken; it may ask again in {seconds:.1} s"
            )));
        }
        let max = self.config.passages_per_link_max;
        if self.links[key.index()].asking >= max {
            return Err(Fault::Unavailable(format!("{max} requests for content are open on this link")));
        }
        if self.passages.open.len() >= self.config.passages_max {
            return Err(Fault::Unavailable("too many requests for content are open at this relay".into()));
        }
        let node = |provider: &Provider| self.links[provider.link.index()].peer.node;
        let suitable: Vec<Provider> = self
            .others_with(key, realm, content)
            .filter(|provider| wanted.is_none_or(|wanted| wanted == node(provider)))
            .collect();
        if suitable.is_empty() {
            return Err(Fault::NotFound(match wanted {
                Some(wanted) => format!("{} does not provide {content}", wanted.short()),
                None => format!("nobody provides {content}"),
            }));
        }
        let is_free = |provider: &&Provider| {
            let link = &self.links[provider.link.index()];
            link.serving < max && !link.is_suspended()
        };
        let least_busy =
            suitable.iter().filter(is_free).min_by_key(|provider| self.links[provider.link.index()].serving);
        let Some(provider) = least_busy.copied() else {
            return Err(Fault::Unavailable("whoever provides it has too many requests open".into()));
        };
        self.passages.next += 1;
        let id = self.passages.next;
        self.passages
            .open
            .insert(id, Open { from: key, slot, to: provider.link, content: content.clone(), is_stalled: false });
        self.links[key.index()].asking += 1;
        self.links[provider.link.index()].serving += 1;
        let provider_node = self.links[provider.link.index()].peer.node;
        Ok(Passage {
            id,
            asker: self.links[key.index()].peer.node,
            provider_link: provider.link,
            provider: provider_node,
            provider_slot: provider.slot,
        })
    }

    /// Who asked has taken nothing of a passage for a while, though something is there for it.
    pub fn stall_passage(&mut self, id: u64) -> Stall {
        let Some(open) = self.passages.open.get_mut(&id) else { return Stall::GiveUp };
        if open.is_stalled {
            return Stall::Wait;
        }
        let Some(provider) = self.links.get_mut(open.to.index()).filter(|link| link.stalled < STALLED_MAX) else {
            return Stall::GiveUp;
        };
        (open.is_stalled, provider.stalled) = (true, provider.stalled + 1);
        Stall::Wait
    }

    /// It has taken something again.
    pub fn resume_passage(&mut self, id: u64) {
        let Some(open) = self.passages.open.get_mut(&id).filter(|open| open.is_stalled) else { return };
        open.is_stalled = false;
        if let Some(link) = self.links.get_mut(open.to.index()) {
            link.stalled -= 1;
        }
    }

    /// A passage is over, or did not come about. Twice is once.
    pub fn end_passage(&mut self, id: u64, how: PassageEnd) {
        self.resume_passage(id);
        let Some(open) = self.passages.open.remove(&id) else { return };
        if let Some(link) = self.links.get_mut(open.from.index()) {
            link.asking -= 1;
            match how {
                PassageEnd::Ended => {}
                PassageEnd::Taken => link.pause = Pause::default(),
                PassageEnd::TooSlow(now) => link.pause.begin(now),
            }
        }
        if let Some(link) = self.links.get_mut(open.to.index()) {
            link.serving -= 1;
        }
    }

    /// The next passage that has to stop: its asker may not fetch the content any more.
    pub fn poll_ended_passage(&mut self) -> Option<u64> {
        self.passages.ended.pop()
    }

    /// Passages of a link that its new table does not allow come to an end.
    pub(crate) fn end_passages(&mut self, key: LinkKey, slot: u32, permissions: &Permissions) {
        let is_lost = |open: &Open| {
            open.from == key && open.slot == slot && !permissions.allows(Operation::Fetch, &name_of(&open.content))
        };
        let lost: Vec<u64> = self.passages.open.iter().filter(|(_, open)| is_lost(open)).map(|(id, _)| *id).collect();
        for id in lost {
            self.end_passage(id, PassageEnd::Ended);
            self.passages.ended.push(id);
        }
    }

    /// A link is gone: so is what it provided, and what passed over it. Its streams end by themselves.
    pub(crate) fn end_contents_of(&mut self, key: LinkKey) {
        for (slot, content) in std::mem::take(&mut self.links[key.index()].provided) {
            self.contents_provided -= 1;
            if let Some(joined) = self.links[key.index()].realms.get(&slot) {
                self.realms[joined.realm].contents.remove(&content, Provider { link: key, slot });
            }
        }
        let of_link = |open: &Open| open.from == key || open.to == key;
        let gone: Vec<u64> = self.passages.open.iter().filter(|(_, open)| of_link(open)).map(|(id, _)| *id).collect();
        for id in gone {
            self.end_passage(id, PassageEnd::Ended);
        }
    }
}

/// A content id as the name that a right is to.
fn name_of(content: &Mcid) -> Topic {
    content.as_str().parse().expect("an MCID in lower-case base32 is one segment of a name")
}

#[cfg(test)]
impl Relay {
    /// Checks the books on contents against each other.
    pub(crate) fn assert_contents_consistent(&self) {
        let provided: usize = self.links.iter().map(|(_, link)| link.provided.len()).sum();
        assert_eq!(self.contents_provided, provided);
        let known: usize = self
            .realms
            .iter()
            .flat_map(|(_, realm)| realm.contents.by_id.values())
            .map(|providers| providers.len())
            .sum();
        assert_eq!(known, provided);
        for (key, link) in &self.links {
            let count = |side: fn(&Open) -> LinkKey| {
                self.passages.open.values().filter(|open| side(open).index() == key).count()
            };
            assert_eq!((link.asking, link.serving), (count(|open| open.from), count(|open| open.to)));
            let stalled = |open: &&Open| open.to.index() == key && open.is_stalled;
            assert_eq!(link.stalled, self.passages.open.values().filter(stalled).count());
        }
    }
}
