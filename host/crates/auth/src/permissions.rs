//! The table that decides: made once from grants, asked for each name, replaced as a whole when something changes.

use cid::Cid;
use macula_wire::{Mcid, Operation, Pattern, Topic};
use smallvec::SmallVec;

use crate::{Binding, Grant, Operations, Scope, Slot, namespace::is_canonical, slot::is_about_deployment};

/// What somebody may do: for each operation, on which names. Immutable; the default allows nothing.
///
/// The system's names, whose first segment begins with `_`, are reached by naming them, and besides:
/// whoever may publish or advertise everywhere may do so there, and `/mesh/admin` is the right to read and to call them.
/// Those by which code gets to hosts are open to whoever may fetch, and for reading and calling to whoever may deploy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Permissions {
    /// Most members hold one grant.
    entries: SmallVec<[Entry; 1]>,
    /// What has expired and was not renewed; it allows nothing.
    lapsed: Vec<Entry>,
    deadline: Option<u64>,
    cids: Vec<Cid>,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    operations: Operations,
    scope: Scope,
    /// Granted by the owner of a namespace, where names are in lower case.
    is_canonical: bool,
    binding: Binding,
}

/// One grant on its way into a table: its own names cut to what its subject may grant.
#[derive(Debug, Clone)]
pub(crate) struct Effective<'a> {
    pub(crate) grant: &'a Grant,
    pub(crate) scope: Scope,
    pub(crate) is_canonical: bool,
    pub(crate) expires: Option<u64>,
    /// Delegations of the claims by which its subject may grant.
    pub(crate) claims: Vec<Cid>,
}

impl Effective<'_> {
    fn entry(&self) -> Entry {
        let Self { grant, scope, is_canonical, .. } = self;
        let (operations, binding) = (grant.operations(), grant.binding().clone());
        Entry { operations, scope: scope.clone(), is_canonical: *is_canonical, binding }
    }
}

impl Permissions {
    /// The table of these grants, as they are: whether each is in force is for the caller to know.
    pub(crate) fn compile<'a>(grants: impl IntoIterator<Item = Effective<'a>>) -> Self {
        let mut table = Self::default();
        for effective in grants {
            let entry = effective.entry();
            if !table.entries.contains(&entry) {
                table.entries.push(entry);
            }
            let Effective { grant, expires, claims, .. } = effective;
            table.deadline = earlier(table.deadline, expires);
            table.cids.extend(grant.chain().links().iter().map(|link| *link.cid()).chain(claims));
        }
        table.cids.sort_unstable();
        table.cids.dedup();
        table
    }

    /// The same table, which remembers beside what it allows that these grants have lapsed.
    #[must_use]
    pub(crate) fn remembering<'a>(mut self, lapsed: impl IntoIterator<Item = Effective<'a>>) -> Self {
        for effective in lapsed {
            let entry = effective.entry();
            if !self.lapsed.contains(&entry) {
                self.lapsed.push(entry);
            }
        }
        self
    }

    /// As this table, with what has lapsed as if it were in force: what stands is kept for as long as this allows it, so that
    /// it goes on when the right is renewed. What was revoked is in neither.
    #[must_use]
    pub fn with_lapsed(&self) -> Self {
        let entries = self.entries.iter().chain(&self.lapsed).cloned().collect();
        Self { entries, lapsed: Vec::new(), deadline: self.deadline, cids: self.cids.clone() }
    }

    /// What these grants say, whether or not it holds now: to ask what a token would allow.
    pub fn of_grants<'a>(grants: impl IntoIterator<Item = &'a Grant>) -> Self {
        Self::compile(grants.into_iter().map(|grant| Effective {
            grant,
            scope: grant.scope().clone(),
            is_canonical: false,
            expires: grant.expires(),
            claims: Vec::new(),
        }))
    }

    /// Everything on all names, for ever: for those who hold a realm's root key, and for tests.
    pub fn all() -> Self {
        Self::of(Operations::ALL, Scope::All)
    }

    /// These operations on what these patterns cover, for ever: for tests of what consults a table.
    pub fn on(operations: &[Operation], patterns: &[Pattern]) -> Self {
        Self::of(operations.iter().copied().collect(), Scope::Within(patterns.to_vec()))
    }

    fn of(operations: Operations, scope: Scope) -> Self {
        let entry = Entry { operations, scope, is_canonical: false, binding: Binding::default() };
        Self { entries: SmallVec::from_iter([entry]), ..Self::default() }
    }

    fn entries(&self, operation: Operation) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.operations.contains(operation))
    }

    /// Whether `operation` on the one name `target` is allowed.
    pub fn allows(&self, operation: Operation, target: &Topic) -> bool {
        self.holds(operation, target.is_reserved(), target, |scope| scope.contains(target))
    }

    /// Whether `operation` is allowed on every name of `target`.
    pub fn covers(&self, operation: Operation, target: &Pattern) -> bool {
        self.holds(operation, target.is_reserved(), target, |scope| scope.covers(target))
    }

    fn holds(&self, operation: Operation, is_reserved: bool, name: &str, fits: impl Fn(&Scope) -> bool) -> bool {
        let by_name =
            self.entries(operation).any(|entry| fits(&entry.scope) && (!entry.is_canonical || is_canonical(name)));
        by_name
            || is_reserved
                && match operation {
                    Operation::Publish | Operation::Advertise => {
                        self.entries(operation).any(|entry| entry.scope == Scope::All)
                    }
                    Operation::Subscribe | Operation::Call => {
                        self.entries(Operation::Admin).any(|entry| entry.scope == Scope::All || fits(&entry.scope))
                    }
                    _ => false,
                }
            || is_about_deployment(name) && self.holds_about_deployment(operation)
    }

    /// Who may fetch content takes part in what brings code to hosts, and who may deploy reads and asks there.
    fn holds_about_deployment(&self, operation: Operation) -> bool {
        let fetches = || self.entries(Operation::Fetch).next().is_some();
        match operation {
            Operation::Publish | Operation::Advertise => fetches(),
            Operation::Subscribe | Operation::Call => fetches() || self.entries(Operation::Deploy).next().is_some(),
            _ => false,
        }
    }

    /// The patterns of `operation`; `**` for all names.
    pub fn patterns(&self, operation: Operation) -> Vec<Pattern> {
        let mut patterns: Vec<Pattern> = self.entries(operation).flat_map(|entry| entry.scope.patterns()).collect();
        patterns.sort_unstable();
        patterns.dedup();
        patterns
    }

    /// What of it is the node's own, and no plugin's.
    #[must_use]
    pub fn of_node(&self) -> Self {
        self.filtered(|binding| binding.is_node())
    }

    /// What of it is for the component with this id and no other. What is bound to a slot is for none by its id alone.
    #[must_use]
    pub fn of_plugin(&self, mcid: &Mcid) -> Self {
        self.filtered(|binding| binding.plugin.as_ref() == Some(mcid) && binding.slot.is_none())
    }

    /// What of it is for what a slot holds, when that is the component with this id.
    #[must_use]
    pub fn of_slot(&self, slot: &Slot, mcid: &Mcid) -> Self {
        self.filtered(|binding| {
            binding.slot.as_ref() == Some(slot) && binding.plugin.as_ref().is_none_or(|plugin| plugin == mcid)
        })
    }

    fn filtered(&self, keeps: impl Fn(&Binding) -> bool) -> Self {
        let kept = |entry: &&Entry| keeps(&entry.binding);
        let entries = self.entries.iter().filter(kept).cloned().collect();
        let lapsed = self.lapsed.iter().filter(kept).cloned().collect();
        Self { entries, lapsed, deadline: self.deadline, cids: self.cids.clone() }
    }

    /// Whether this table allows all that `grant` does, whoever it is for.
    pub(crate) fn includes(&self, grant: &Effective<'_>) -> bool {
        self.includes_entry(grant.grant.operations(), &grant.scope, grant.grant.binding(), grant.is_canonical)
    }

    /// Whether this table allows all that `other` does.
    pub(crate) fn includes_all_of(&self, other: &Self) -> bool {
        other.entries.iter().all(|Entry { operations, scope, is_canonical, binding }| {
            self.includes_entry(*operations, scope, binding, *is_canonical)
        })
    }

    /// Names are compared once for each entry, not for each operation: there may be many of both.
    fn includes_entry(&self, operations: Operations, scope: &Scope, binding: &Binding, is_canonical: bool) -> bool {
        let mut missing = operations;
        for entry in &self.entries {
            let rest = missing.without(entry.operations);
            let fits = entry.binding == *binding && (!entry.is_canonical || is_canonical);
            if rest != missing && fits && entry.scope.uncovered(scope).is_none() {
                missing = rest;
            }
        }
        missing.is_empty()
    }

    /// Whether nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The last second in which all of it is in force, in unix seconds; `None` when nothing of it ends.
    pub fn deadline(&self) -> Option<u64> {
        self.deadline
    }

    /// The delegations that it rests on, sorted.
    pub fn cids(&self) -> &[Cid] {
        &self.cids
    }
}

/// The earlier of two ends, where `None` is never.
pub(crate) fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{chain, link, link_for};

    fn table(grants: &[Grant]) -> Permissions {
        Permissions::of_grants(grants)
    }

    fn grant(command: &str, patterns: &[&str]) -> Grant {
        Grant::read(chain(vec![link(200, 1, command, patterns)]).unwrap()).unwrap()
    }

    fn topic(text: &str) -> Topic {
        text.parse().unwrap()
    }

    #[test]
    fn operations_and_names_are_both_looked_at() {
        let table =
            table(&[grant("/mesh/publish", &["io.example.user.**", "a.b"]), grant("/mesh/call", &["math.add"])]);
        assert!(table.allows(Operation::Publish, &topic("io.example.user.door")));
        assert!(table.allows(Operation::Publish, &topic("a.b")));
        assert!(table.allows(Operation::Call, &topic("math.add")));
        for name in ["io.example.user", "io.example.userevil.door", "a.c", "math.add"] {
            assert!(!table.allows(Operation::Publish, &topic(name)), "{name}");
        }
        assert!(!table.allows(Operation::Subscribe, &topic("a.b")));
        assert!(table.covers(Operation::Publish, &"io.example.user.*.x".parse().unwrap()));
        assert!(!table.covers(Operation::Publish, &"io.example.**".parse().unwrap()));
        assert!(!Permissions::default().allows(Operation::Publish, &topic("a")));
    }

    #[test]
    fn the_systems_names_need_more_than_everything() {
        let (dead, status) = (topic("_mesh.deadletters.x"), topic("_mesh.admin.z6Mk.status"));
        let user = table(&[grant("/mesh/publish", &["a.**"]), grant("/mesh/subscribe", &[]), grant("/mesh/call", &[])]);
        assert!(!user.allows(Operation::Publish, &dead) && !user.allows(Operation::Subscribe, &dead));
        assert!(!user.allows(Operation::Call, &status));
        let admin = table(&[grant("/mesh/admin", &[]), grant("/mesh/publish", &[])]);
        assert!(admin.allows(Operation::Publish, &dead) && admin.allows(Operation::Subscribe, &dead));
        assert!(admin.allows(Operation::Call, &status) && !admin.allows(Operation::Advertise, &status));
        assert!(table(&[grant("/mesh", &[])]).allows(Operation::Advertise, &status));
        assert!(!admin.allows(Operation::Subscribe, &topic("a")));
        let named = table(&[grant("/mesh/subscribe", &["_mesh.deadletters.**"])]);
        assert!(named.allows(Operation::Subscribe, &dead) && !named.allows(Operation::Call, &status));
    }

    #[test]
    fn what_brings_code_to_hosts_is_open_to_who_may_fetch() {
        let (record, rollout) = (topic("_mesh.slots.io.example.app"), topic("_mesh.rollouts.z6Mk.io.example.app"));
        let (host, deployer) =
            (table(&[grant("/mesh/fetch", &[])]), table(&[grant("/mesh/deploy", &["io.example.**"])]));
        let other = table(&[grant("/mesh/publish", &["a.**"]), grant("/mesh/subscribe", &[])]);
        for name in [&record, &rollout, &topic("_mesh.packages.io.example.app"), &topic("_mesh.deploy")] {
            for operation in [Operation::Publish, Operation::Advertise, Operation::Subscribe, Operation::Call] {
                let reads = matches!(operation, Operation::Subscribe | Operation::Call);
                assert!(host.allows(operation, name), "{operation} {name}");
                assert_eq!(deployer.allows(operation, name), reads, "{operation} {name}");
                assert!(!other.allows(operation, name), "{operation} {name}");
            }
        }
        assert!(host.covers(Operation::Subscribe, &"_mesh.rollouts.*.io.example.app".parse().unwrap()));
        assert!(!host.allows(Operation::Subscribe, &topic("_mesh.deadletters.x")));
    }

    #[test]
    fn what_is_a_slots_is_for_what_it_holds() {
        let (slot, one, other): (Slot, _, _) = ("io.example/a".parse().unwrap(), Mcid::of(b"one"), Mcid::of(b"other"));
        let bound = |plugin: Option<&Mcid>, pattern: &str| {
            let binding = Binding { plugin: plugin.cloned(), slot: Some(slot.clone()) };
            Grant::read(chain(vec![link_for(200, 1, "/mesh/publish", &[pattern], binding)]).unwrap()).unwrap()
        };
        let table = table(&[bound(None, "any"), bound(Some(&one), "only.one")]);
        let may = |mcid: &Mcid, name: &str| table.of_slot(&slot, mcid).allows(Operation::Publish, &topic(name));
        assert!(may(&one, "any") && may(&other, "any") && may(&one, "only.one") && !may(&other, "only.one"));
        assert!(table.of_slot(&"io.example/b".parse().unwrap(), &one).is_empty());
        assert!(table.of_plugin(&one).is_empty());
    }

    #[test]
    fn what_is_a_plugins_is_nobody_elses() {
        let (one, other) = (Mcid::of(b"one"), Mcid::of(b"other"));
        let bound = chain(vec![link_for(200, 1, "/mesh/publish", &["a.**"], Binding::plugin(one.clone()))]).unwrap();
        let table = table(&[Grant::read(bound).unwrap(), grant("/mesh/publish", &["b"])]);
        let may = |table: &Permissions, name: &str| table.allows(Operation::Publish, &topic(name));
        assert!(may(&table, "a.x") && may(&table, "b"));
        assert!(may(&table.of_plugin(&one), "a.x") && !may(&table.of_plugin(&one), "b"));
        assert!(table.of_plugin(&other).is_empty());
        assert!(may(&table.of_node(), "b") && !may(&table.of_node(), "a.x"));
    }
}
