//! What lets a node into a realm: the realm's root key, or delegations.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use ed25519_dalek::SigningKey;
use macula_auth::{
    Grant, Issuing, Moment, Ownership, RECORD_LIFETIME_MAX, Scope, Terms, Validity, chains_for, claims_in, issue,
    proof_of,
    ucan::{Chain, Cid, Command, Delegation, InvocationFields, Ipld, TokenError, container},
};
use macula_wire::{
    NodeId, Operation, RealmId, RealmName, Topic,
    control::{PROOF_BYTES_MAX, Proof},
};
use parking_lot::Mutex;

use crate::clock::unix_now;

/// What is issued for a node lasts so long, and is renewed when half of it has passed.
const DELEGATION_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A realm as a node takes part in it: its name, its root, and what lets the node in. Cheap to clone.
#[derive(Clone)]
pub struct RealmAccess {
    name: RealmName,
    root: NodeId,
    credentials: Credentials,
    lifetime: Duration,
    /// What was passed on lately, by what it rests on and for whom: the same again until half of its time is over.
    passed: Arc<Mutex<BTreeMap<PassedKey, Passed>>>,
}

/// All links of what it rests on, and for whom.
type PassedKey = (Vec<Cid>, NodeId);

/// A delegation that a holder has made for another node.
#[derive(Debug, Clone)]
struct Passed {
    chain: Chain,
    made_at: u64,
    renew_at: u64,
}

/// Reads the tokens at hand; asked again now and then, so that renewed ones are found.
pub type TokenSource = Arc<dyn Fn() -> Vec<Arc<Delegation>> + Send + Sync>;

#[derive(Clone)]
enum Credentials {
    /// Who holds the root key issues what it needs.
    Root(Arc<SigningKey>),
    /// Delegations from elsewhere, for the node itself or for one of `holders`, who passes them on to the node.
    Tokens { source: TokenSource, holders: Arc<[SigningKey]> },
}

/// What a node needs to prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To act in the realm.
    Member,
    /// To serve it.
    Relay,
}

impl RealmAccess {
    /// The realm `name` by its root key: the node may do everything there, and what it presents is renewed for as long as
    /// it runs.
    pub fn by_root(name: RealmName, root: SigningKey) -> Self {
        let id = root.verifying_key().into();
        Self::new(name, id, Credentials::Root(Arc::new(root)))
    }

    /// The realm `name` under `root`, by delegations. Those for one of `holders` are passed on to the node by a short
    /// delegation of the holder's.
    pub fn by_tokens(name: RealmName, root: NodeId, source: TokenSource, holders: Vec<SigningKey>) -> Self {
        Self::new(name, root, Credentials::Tokens { source, holders: holders.into() })
    }

    fn new(name: RealmName, root: NodeId, credentials: Credentials) -> Self {
        Self { name, root, credentials, lifetime: DELEGATION_LIFETIME, passed: Arc::default() }
    }

    /// The same, with delegations that last as long as given instead of 24 hours.
    #[must_use]
    pub fn lasting(self, lifetime: Duration) -> Self {
        Self { lifetime, ..self }
    }

    /// Its name.
    pub fn name(&self) -> &RealmName {
        &self.name
    }

    /// Its root key's public half.
    pub fn root(&self) -> NodeId {
        self.root
    }

    /// What relays route by.
    pub fn id(&self) -> RealmId {
        RealmId::new(&self.root, &self.name)
    }

    /// Whether there is something here that lets `node` serve the realm for others now.
    pub fn may_serve(&self, node: &NodeId) -> bool {
        self.relay_proof(node, unix_now()).is_some()
    }

    /// What shows that `node` may serve the realm: of the chains that say so, the one that lasts longest.
    pub(crate) fn relay_proof(&self, node: &NodeId, now: u64) -> Option<Proof> {
        let serves = |chain: &Chain| {
            let grant = Grant::read(chain.clone());
            grant.is_ok_and(|grant| {
                chain.audience() == node
                    && *chain.subject() == self.root
                    && grant.operations().contains(Operation::Relay)
                    && *grant.scope() == Scope::All
                    && grant.binding().is_node()
            })
        };
        let chains = self.chains(node, Purpose::Relay, now).into_iter().filter(serves);
        let proofs = chains.map(|chain| (chain.expires().unwrap_or(u64::MAX), proof_of(&chain)));
        let sendable = proofs.filter(|(_, proof)| proof.bytes() <= PROOF_BYTES_MAX);
        sendable.max_by_key(|(expires, _)| *expires).map(|(_, proof)| proof)
    }

    /// How long until what is presented now should be renewed.
    fn renewal(&self) -> Duration {
        match self.credentials {
            Credentials::Root(_) => self.lifetime / 2,
            // Who renews them puts a new file there some time.
            Credentials::Tokens { .. } => TOKENS_READ_INTERVAL.min(self.lifetime / 2),
        }
    }

    /// When what is presented at `now` should be renewed: by the date or by the clock that runs, whichever comes first. A date that
    /// was reset does not put it off.
    pub(crate) fn renewal_after(&self, now: Moment) -> Moment {
        let lasts = self.renewal().max(Duration::from_secs(1));
        Moment { unix: now.unix.saturating_add(lasts.as_secs()), running: now.running.saturating_add(lasts) }
    }

    /// What proves that `node` may do what it is for, as of `now` in unix seconds.
    pub(crate) fn chains(&self, node: &NodeId, purpose: Purpose, now: u64) -> Vec<Chain> {
        match &self.credentials {
            Credentials::Root(root) => {
                let command = match purpose {
                    Purpose::Member => "/mesh",
                    Purpose::Relay => Operation::Relay.command(),
                };
                self.pass_on(root, None, *node, command.parse().expect("a constant"), now).into_iter().collect()
            }
            Credentials::Tokens { source, holders } => {
                let tokens = source();
                let mut chains = chains_for(&tokens, node);
                for holder in holders.iter() {
                    let id = NodeId::from(holder.verifying_key());
                    let held = if id == *node { Vec::new() } else { chains_for(&tokens, &id) };
                    let held = held.iter().filter(|proof| is_for_node(proof));
                    chains.extend(held.filter_map(|proof| self.passed_on(holder, proof, *node, now)));
                }
                chains.extend(claims_in(&tokens));
                chains.retain(|chain| chain.expires().is_none_or(|expires| expires >= now));
                chains
            }
        }
    }

    /// Signs a record about `topic` for everybody in the realm: by a key that lasts, so that the record outlives the node that
    /// asks for it. Gives it with its proofs; `None` when nobody here may do `operation` there.
    pub(crate) fn sign_record(
        &self,
        operation: Operation,
        topic: &Topic,
        mut arguments: BTreeMap<String, Ipld>,
        validity: Validity,
        now: u64,
    ) -> Option<Result<Vec<u8>, TokenError>> {
        arguments.insert("topic".to_owned(), Ipld::String(topic.to_string()));
        let command: Command = operation.command().parse().expect("a constant");
        let (signer, chain, claims) = match &self.credentials {
            Credentials::Root(root) => (&**root, None, Vec::new()),
            Credentials::Tokens { source, holders } => {
                let (tokens, asked) = (source(), Ipld::Map(arguments.clone()));
                let claims = claims_about(&tokens, topic);
                let owner = |holder: &&SigningKey| {
                    let id = NodeId::from(holder.verifying_key());
                    claims.iter().any(|claim| *claim.audience() == id)
                };
                let granted = granted(&tokens, holders, &command, &asked, now);
                let (holder, chain) = match granted {
                    Some((holder, chain)) => (holder, Some(chain)),
                    None => (holders.iter().find(owner)?, None),
                };
                (holder, chain, claims)
            }
        };
        let links = chain.as_ref().map_or(&[][..], Chain::links);
        let id = NodeId::from(signer.verifying_key());
        let lasts = now.saturating_add(RECORD_LIFETIME_MAX);
        let ends = chain.as_ref().and_then(Chain::expires).map_or(lasts, |expires| expires.min(lasts));
        let fields = InvocationFields {
            subject: chain.as_ref().map_or(id, |chain| *chain.subject()),
            audience: None,
            command,
            arguments,
            proofs: links.iter().map(|link| *link.cid()).collect(),
            nonce: nonce(),
            expires: (validity != Validity::Lasting).then_some(ends),
            issued_at: Some(now),
            cause: None,
            meta: BTreeMap::new(),
        };
        Some(fields.sign(signer).map(|record| {
            let claims = claims.iter().flat_map(Chain::links).map(|link| link.bytes());
            let tokens = links.iter().map(|link| link.bytes()).chain(claims).chain([record.bytes()]);
            container::encode(tokens, container::Encoding::Raw)
        }))
    }

    /// What proves what [`RealmAccess::chains`] says, as sent.
    pub(crate) fn proofs(&self, node: &NodeId, purpose: Purpose, now: u64) -> Vec<Proof> {
        self.chains(node, purpose, now).iter().map(proof_of).collect()
    }

    /// As [`RealmAccess::pass_on`], but the same again while more than half of its time is left: each is a grant more for
    /// whoever keeps count.
    fn passed_on(&self, holder: &SigningKey, proof: &Chain, node: NodeId, now: u64) -> Option<Chain> {
        let mut passed = self.passed.lock();
        // One that was made later than now is of a clock that was wrong.
        passed.retain(|_, passed| (passed.made_at..passed.renew_at).contains(&now));
        let key = (proof.links().iter().map(|link| *link.cid()).collect(), node);
        if let Some(passed) = passed.get(&key) {
            return Some(passed.chain.clone());
        }
        let chain = self.pass_on(holder, Some(proof), node, proof.command().clone(), now)?;
        let left = chain.expires().map_or(self.lifetime.as_secs(), |expires| expires.saturating_sub(now));
        passed.insert(
            key,
            Passed { chain: chain.clone(), made_at: now, renew_at: now.saturating_add((left / 2).max(1)) },
        );
        Some(chain)
    }

    fn pass_on(
        &self,
        issuer: &SigningKey,
        proof: Option<&Chain>,
        audience: NodeId,
        command: Command,
        now: u64,
    ) -> Option<Chain> {
        let expires = Some(now.saturating_add(self.lifetime.as_secs()));
        let issuing =
            Issuing { audience, command, terms: Terms::all(), expires, nonce: nonce(), meta: BTreeMap::new() };
        // A proof that has expired meanwhile grants nothing any more.
        issue(issuer, proof, issuing, now).ok()
    }
}

/// Of what was granted to one of these keys, the chain that covers this and lasts longest.
fn granted<'a>(
    tokens: &[Arc<Delegation>],
    holders: &'a [SigningKey],
    command: &Command,
    asked: &Ipld,
    now: u64,
) -> Option<(&'a SigningKey, Chain)> {
    let chains = holders.iter().flat_map(|holder| {
        let held = chains_for(tokens, &NodeId::from(holder.verifying_key()));
        held.into_iter().map(move |chain| (holder, chain))
    });
    let allows = |chain: &Chain| {
        is_for_node(chain)
            && chain.command().covers(command)
            && chain.expires().is_none_or(|expires| expires > now)
            && chain.links().iter().all(|link| link.policy().matches(asked))
    };
    chains.filter(|(_, chain)| allows(chain)).max_by_key(|(_, chain)| chain.expires().unwrap_or(u64::MAX))
}

/// Claims to names of which this is one: they go with what rests on them.
fn claims_about(tokens: &[Arc<Delegation>], topic: &Topic) -> Vec<Chain> {
    let is_about = |chain: &Chain| {
        let claim = Ownership::read(chain.clone());
        claim.is_ok_and(|claim| claim.namespace().patterns().iter().any(|pattern| pattern.matches(topic)))
    };
    claims_in(tokens).into_iter().filter(is_about).collect()
}

/// Whether a chain is for a node itself. What is for a plugin is for that one, on the node with that very key: other nodes of
/// the same home, and the commands of its user, have nothing of it.
fn is_for_node(chain: &Chain) -> bool {
    Grant::read(chain.clone()).is_ok_and(|grant| grant.binding().is_node())
}

/// A nonce for a token, of the length that the specification recommends.
pub fn nonce() -> Vec<u8> {
    let mut nonce = vec![0; 12];
    getrandom::fill(&mut nonce).expect("the operating system has randomness");
    nonce
}

/// How often token files are read again.
const TOKENS_READ_INTERVAL: Duration = Duration::from_secs(30);

impl fmt::Debug for RealmAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.credentials {
            Credentials::Root(_) => "its root key",
            Credentials::Tokens { .. } => "tokens",
        };
        write!(f, "RealmAccess({} under {} by {by})", self.name, self.root.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn id(seed: u8) -> NodeId {
        key(seed).verifying_key().into()
    }

    fn by_tokens(chains: &[Chain], holders: Vec<SigningKey>) -> RealmAccess {
        let tokens: Vec<Arc<Delegation>> = chains.iter().flat_map(|chain| chain.links().to_vec()).collect();
        let source: TokenSource = Arc::new(move || tokens.clone());
        RealmAccess::by_tokens("io.example".parse().unwrap(), id(1), source, holders)
    }

    fn granted(to: u8, command: &str, patterns: &[&str], expires: u64) -> Chain {
        let scope = match patterns {
            [] => Scope::All,
            some => Scope::new(some.iter().map(|pattern| pattern.parse().unwrap())).unwrap(),
        };
        let issuing = Issuing {
            audience: id(to),
            command: command.parse().unwrap(),
            terms: Terms { scope, ..Terms::all() },
            expires: Some(expires),
            nonce: vec![to; 12],
            meta: BTreeMap::new(),
        };
        issue(&key(1), None, issuing, NOW).unwrap()
    }

    /// Goal: looking for tokens again and again makes no new ones while those at hand last.
    #[test]
    fn what_is_passed_on_is_the_same_until_half_over() {
        let access = by_tokens(&[granted(2, "/mesh", &[], NOW + 1000)], vec![key(2)]);
        let at = |now| access.proofs(&id(9), Purpose::Member, now);
        let first = at(NOW);
        assert_eq!((first.len(), first[0].0.len()), (1, 2));
        assert_eq!(at(NOW + 499), first);
        assert_ne!(at(NOW + 501), first);
        assert_eq!(at(NOW + 1001).len(), 0, "nothing outlasts what it rests on");
    }

    /// Goal: what is granted to a plugin on one node is neither another node's nor a command's.
    #[test]
    fn what_is_a_plugins_is_not_passed_on() {
        let binding = macula_auth::Binding::plugin(macula_wire::Mcid::of(b"component"));
        let issuing = Issuing {
            audience: id(2),
            command: "/mesh".parse().unwrap(),
            terms: Terms { binding, ..Terms::all() },
            expires: Some(NOW + 1000),
            nonce: vec![2; 12],
            meta: BTreeMap::new(),
        };
        let bound = issue(&key(1), None, issuing, NOW).unwrap();
        let access = by_tokens(&[bound], vec![key(2)]);
        assert_eq!(access.proofs(&id(2), Purpose::Member, NOW).len(), 1, "its own node's");
        assert_eq!(access.proofs(&id(9), Purpose::Member, NOW), []);
    }

    /// Goal: a relay shows what hosts will take, and never a longer-lived right to something else.
    #[test]
    fn a_relay_shows_a_right_to_the_whole_realm() {
        let some_names = granted(9, "/mesh", &["a.**"], NOW + 9000);
        let other_right = granted(9, "/mesh/publish", &[], NOW + 9000);
        let (short, long) = (granted(9, "/mesh/relay", &[], NOW + 10), granted(9, "/mesh", &[], NOW + 20));
        let shown = |chains: &[&Chain]| {
            let chains: Vec<Chain> = chains.iter().map(|chain| (*chain).clone()).collect();
            by_tokens(&chains, Vec::new()).relay_proof(&id(9), NOW)
        };
        assert_eq!(shown(&[&some_names, &other_right]), None);
        assert_eq!(shown(&[&some_names, &short, &other_right]), Some(proof_of(&short)));
        assert_eq!(shown(&[&short, &long]), Some(proof_of(&long)));
        assert!(by_tokens(&[short], Vec::new()).relay_proof(&id(8), NOW).is_none(), "another relay's");
        let by_root = RealmAccess::by_root("io.example".parse().unwrap(), key(1));
        assert!(by_root.relay_proof(&id(9), NOW).is_some());
    }
}
