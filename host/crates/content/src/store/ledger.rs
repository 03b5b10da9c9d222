//! What the store knows without looking at the disk: all records, who takes how much room, what is open, what may go.
//!
//! Pure: it is told what happened, and says what has to be given up. Records only change by [`Ledger::apply`], after
//! the index has them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use macula_wire::Digest;

use super::{
    ENTRIES_MAX, Owner, StoreConfig, StoreError, StoreEvent,
    error::Quota,
    record::{Holder, Record},
};
use crate::GroupSet;

/// Events that wait. Above that they are dropped, and [`StoreEvent::Missed`] says so.
const EVENTS_MAX: usize = 65_536;

/// Last uses that are written along with something else: enough to keep up, too few to be noticed.
const USES_WRITTEN_MAX: usize = 256;

/// What records become; without a record, the content goes.
pub(super) type Changes = BTreeMap<Digest, Option<Record>>;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) config: StoreConfig,
    contents: HashMap<Digest, Content>,
    /// By last use.
    by_use: BTreeSet<(u64, Digest)>,
    accounts: HashMap<Owner, Account>,
    total: Account,
    /// How often each is open.
    open: HashMap<Digest, usize>,
    /// What is being fetched.
    fetching: HashMap<Digest, Fetching>,
    /// Whose last use is not in the index.
    touched: BTreeSet<Digest>,
    events: VecDeque<StoreEvent>,
    drafts: u64,
    generations: u64,
}

#[derive(Debug)]
pub(super) struct Content {
    pub(super) record: Record,
    /// Another whenever the files are others: who has them open has to look again.
    pub(super) generation: u64,
    /// It is about to go.
    is_doomed: bool,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Account {
    pub(super) contents: u64,
    pub(super) bytes: u64,
    /// For what is being written.
    pub(super) reserved: u64,
}

/// Of a content that is being fetched.
#[derive(Debug, Clone, Default)]
pub(super) struct Fetching {
    /// Groups that are written and not yet listed.
    pub(super) written: GroupSet,
    /// Groups that were struck since the last checkpoint began. Should they be written again, that is not durable by
    /// it.
    pub(super) struck: GroupSet,
}

/// How much room is needed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Need {
    /// In the quota of the owner.
    pub(super) owner_bytes: u64,
    /// In the quota of the node.
    pub(super) node_bytes: u64,
    /// Contents that were not here before.
    pub(super) contents: usize,
}

impl Ledger {
    pub(super) fn new(config: StoreConfig, records: Vec<(Digest, Record)>) -> Self {
        let mut ledger = Self { config, ..Self::default() };
        for (digest, record) in records {
            ledger.apply(digest, Some(record));
        }
        ledger.events.clear();
        ledger
    }

    pub(super) fn config(&self) -> StoreConfig {
        self.config
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<&Content> {
        self.contents.get(digest).filter(|content| !content.is_doomed)
    }

    pub(super) fn record(&self, digest: &Digest) -> Option<&Record> {
        self.get(digest).map(|content| &content.record)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Digest, &Record)> {
        self.contents
            .iter()
            .filter(|(_, content)| !content.is_doomed)
            .map(|(digest, content)| (digest, &content.record))
    }

    /// The groups that can be read: durable, or written.
    pub(super) fn groups(&self, digest: &Digest) -> GroupSet {
        let durable = self.record(digest).map(|record| record.groups.clone()).unwrap_or_default();
        self.fetching.get(digest).map_or_else(|| durable.clone(), |fetching| durable.union(&fetching.written))
    }

    /// The first of `groups` that cannot be read.
    pub(super) fn missing(&self, digest: &Digest, groups: &GroupSet) -> Option<u64> {
        let durable = self.record(digest)?;
        if durable.groups.includes(groups) { None } else { groups.difference(&self.groups(digest)).first() }
    }

    pub(super) fn total(&self) -> Account {
        self.total
    }

    pub(super) fn accounts(&self) -> impl Iterator<Item = (&Owner, &Account)> {
        self.accounts.iter()
    }

    pub(super) fn next_draft(&mut self) -> u64 {
        self.drafts += 1;
        self.drafts
    }

    /// It was used.
    pub(super) fn touch(&mut self, digest: &Digest, now: u64) {
        if let Some(content) = self.contents.get_mut(digest)
            && now > content.record.last_use
        {
            self.by_use.remove(&(content.record.last_use, *digest));
            content.record.last_use = now;
            self.by_use.insert((now, *digest));
            self.touched.insert(*digest);
        }
    }

    /// Some whose last use is to be written.
    pub(super) fn take_touched(&mut self) -> Vec<Digest> {
        (0..USES_WRITTEN_MAX).map_while(|_| self.touched.pop_first()).collect()
    }

    pub(super) fn opened(&mut self, digest: Digest) {
        *self.open.entry(digest).or_default() += 1;
    }

    pub(super) fn closed(&mut self, digest: &Digest) {
        if let Some(count) = self.open.get_mut(digest) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(digest);
            }
        }
    }

    pub(super) fn is_open(&self, digest: &Digest) -> bool {
        self.open.contains_key(digest)
    }

    /// What was written by who fetches it.
    pub(super) fn fetching(&mut self, digest: &Digest) -> Option<&mut Fetching> {
        self.fetching.get_mut(digest)
    }

    pub(super) fn is_fetched(&self, digest: &Digest) -> bool {
        self.fetching.contains_key(digest)
    }

    pub(super) fn begin_fetch(&mut self, digest: Digest) {
        self.fetching.insert(digest, Fetching::default());
    }

    pub(super) fn end_fetch(&mut self, digest: &Digest) {
        self.fetching.remove(digest);
    }

    /// The files of a content are others now; what was written to the old ones is lost.
    pub(super) fn replaced(&mut self, digest: &Digest) {
        self.generations += 1;
        if let Some(content) = self.contents.get_mut(digest) {
            content.generation = self.generations;
        }
        if let Some(fetching) = self.fetching.get_mut(digest) {
            *fetching = Fetching::default();
        }
    }

    /// Sets room aside for what is being written, if there is any without giving something up.
    pub(super) fn try_reserve(&mut self, owner: &Owner, bytes: u64) -> bool {
        let account = self.accounts.get(owner).copied().unwrap_or_default();
        let fits = self.total.taken() + bytes <= self.config.bytes_max
            && (*owner == Owner::Operator || account.taken() + bytes <= self.config.plugin_bytes_max);
        if fits {
            self.reserve(owner, bytes);
        }
        fits
    }

    pub(super) fn reserve(&mut self, owner: &Owner, bytes: u64) {
        self.accounts.entry(owner.clone()).or_default().reserved += bytes;
        self.total.reserved += bytes;
    }

    pub(super) fn release(&mut self, owner: &Owner, bytes: u64) {
        self.total.reserved -= bytes;
        if let Some(account) = self.accounts.get_mut(owner) {
            account.reserved -= bytes;
        }
        self.forget_empty(owner);
    }

    /// What has to be given up so that `need` fits; it is not to be used from now on. `keep` stays.
    ///
    /// First the owner's own quota: what it used longest ago is no longer its own. Then the node's.
    pub(super) fn make_room(&mut self, owner: &Owner, need: Need, keep: &Digest) -> Result<Changes, StoreError> {
        let mut changes = Changes::new();
        if *owner != Owner::Operator {
            let taken = self.accounts.get(owner).copied().unwrap_or_default().taken() + need.owner_bytes;
            self.disown(owner, taken.saturating_sub(self.config.plugin_bytes_max), keep, &mut changes)?;
        }
        self.evict(need, keep, &mut changes)?;
        self.doom(&changes);
        Ok(changes)
    }

    fn doom(&mut self, changes: &Changes) {
        for (digest, _) in changes.iter().filter(|(_, change)| change.is_none()) {
            if let Some(content) = self.contents.get_mut(digest) {
                content.is_doomed = true;
            }
        }
    }

    /// As [`Ledger::make_room`], for nothing new, but also parts that were not used since `unused_since`.
    pub(super) fn collect(&mut self, unused_since: u64) -> Changes {
        let mut changes = Changes::new();
        for (_, digest) in self.by_use.range(..(unused_since, Digest::Blake3([0; 32]))) {
            let record = &self.contents[digest].record;
            if !record.is_complete() && !record.is_pinned() && self.is_idle(digest) {
                changes.insert(*digest, None);
            }
        }
        let owners: Vec<_> = self.accounts.keys().filter(|owner| **owner != Owner::Operator).cloned().collect();
        let nothing = Digest::Blake3([0; 32]);
        for owner in owners {
            let excess = self.accounts[&owner].taken().saturating_sub(self.config.plugin_bytes_max);
            // As far as it goes: what is pinned or open stays.
            let _ = self.disown(&owner, excess, &nothing, &mut changes);
        }
        let _ = self.evict(Need::default(), &nothing, &mut changes);
        self.doom(&changes);
        changes
    }

    fn disown(&self, owner: &Owner, mut excess: u64, keep: &Digest, changes: &mut Changes) -> Result<(), StoreError> {
        for (_, digest) in &self.by_use {
            if excess == 0 {
                return Ok(());
            }
            // Another of its owners may have been taken away a moment ago.
            let Some(record) = changes.get(digest).map_or(Some(&self.contents[digest].record), Option::as_ref) else {
                continue;
            };
            let may_go = record.holder(owner).is_some_and(|holder| !holder.is_pinned);
            if may_go && digest != keep && self.is_idle(digest) {
                excess = excess.saturating_sub(record.charge());
                let left = without(record, owner);
                changes.insert(*digest, left);
            }
        }
        if excess == 0 { Ok(()) } else { Err(StoreError::QuotaExceeded { whose: Quota::Owner }) }
    }

    fn evict(&self, need: Need, keep: &Digest, changes: &mut Changes) -> Result<(), StoreError> {
        let gone = || changes.iter().filter(|(_, change)| change.is_none());
        let freed: u64 = gone().map(|(digest, _)| self.contents[digest].record.charge()).sum();
        let mut excess =
            (self.total.taken() + need.node_bytes).saturating_sub(self.config.bytes_max.saturating_add(freed));
        let mut above = (self.contents.len() + need.contents).saturating_sub(ENTRIES_MAX + gone().count());
        for (_, digest) in &self.by_use {
            if excess == 0 && above == 0 {
                return Ok(());
            }
            let record = &self.contents[digest].record;
            let is_going = changes.get(digest).is_some_and(Option::is_none);
            if !is_going && !record.is_pinned() && digest != keep && self.is_idle(digest) {
                excess = excess.saturating_sub(record.charge());
                above = above.saturating_sub(1);
                changes.insert(*digest, None);
            }
        }
        if excess == 0 && above == 0 { Ok(()) } else { Err(StoreError::QuotaExceeded { whose: Quota::Node }) }
    }

    fn is_idle(&self, digest: &Digest) -> bool {
        !self.open.contains_key(digest) && !self.fetching.contains_key(digest) && !self.contents[digest].is_doomed
    }

    /// It was not given up after all.
    pub(super) fn spare(&mut self, changes: &Changes) {
        for digest in changes.keys() {
            if let Some(content) = self.contents.get_mut(digest) {
                content.is_doomed = false;
            }
        }
    }

    /// What the index has by now.
    pub(super) fn apply(&mut self, digest: Digest, record: Option<Record>) {
        let before = self.contents.remove(&digest);
        let was_complete = before.as_ref().map(|content| content.record.is_complete());
        self.generations += 1;
        let (mut generation, mut last_use) = (self.generations, 0);
        if let Some(content) = before {
            (generation, last_use) = (content.generation, content.record.last_use);
            self.by_use.remove(&(last_use, digest));
            self.count(&content.record, |account, bytes| {
                account.contents -= 1;
                account.bytes -= bytes;
            });
        }
        let is_complete = record.as_ref().map(Record::is_complete);
        if let Some(mut record) = record {
            // It may have been used while this was written.
            record.last_use = record.last_use.max(last_use);
            self.by_use.insert((record.last_use, digest));
            self.count(&record, |account, bytes| {
                account.contents += 1;
                account.bytes += bytes;
            });
            self.contents.insert(digest, Content { record, generation, is_doomed: false });
        } else {
            self.touched.remove(&digest);
        }
        match (was_complete, is_complete) {
            (Some(false) | None, Some(true)) => self.say(StoreEvent::Stored(digest.into())),
            (Some(true), Some(false)) => self.say(StoreEvent::Damaged(digest.into())),
            (Some(_), None) => self.say(StoreEvent::Gone(digest.into())),
            _ => {}
        }
    }

    fn count(&mut self, record: &Record, change: impl Fn(&mut Account, u64)) {
        let bytes = record.charge();
        change(&mut self.total, bytes);
        for Holder { owner, .. } in &record.holders {
            change(self.accounts.entry(owner.clone()).or_default(), bytes);
            self.forget_empty(owner);
        }
    }

    fn forget_empty(&mut self, owner: &Owner) {
        if self.accounts.get(owner).is_some_and(|account| account.contents == 0 && account.reserved == 0) {
            self.accounts.remove(owner);
        }
    }

    fn say(&mut self, event: StoreEvent) {
        if self.events.len() >= EVENTS_MAX {
            self.events.clear();
            self.events.push_back(StoreEvent::Missed);
        }
        self.events.push_back(event);
    }

    pub(super) fn poll_event(&mut self) -> Option<StoreEvent> {
        self.events.pop_front()
    }
}

impl Account {
    fn taken(&self) -> u64 {
        self.bytes + self.reserved
    }
}

/// The record without one of its owners; `None` when it was the only one.
pub(super) fn without(record: &Record, owner: &Owner) -> Option<Record> {
    let mut record = record.clone();
    record.holders.retain(|holder| holder.owner != *owner);
    (!record.holders.is_empty()).then_some(record)
}
