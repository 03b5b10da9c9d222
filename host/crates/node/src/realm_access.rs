//! What lets a node into a realm: the realm's root key, or delegations.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use ed25519_dalek::SigningKey;
use macula_auth::{
    Issuing, Terms, chains_for, claims_in, issue, proof_of,
    ucan::{Chain, Command, Delegation},
};
use macula_wire::{NodeId, Operation, RealmId, RealmName, control::Proof};

/// What is issued for a node lasts so long, and is renewed when half of it has passed.
const DELEGATION_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A realm as a node takes part in it: its name, its root, and what lets the node in. Cheap to clone.
#[derive(Clone)]
pub struct RealmAccess {
    name: RealmName,
    root: NodeId,
    credentials: Credentials,
    lifetime: Duration,
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
        Self { name, root: id, credentials: Credentials::Root(Arc::new(root)), lifetime: DELEGATION_LIFETIME }
    }

    /// The realm `name` under `root`, by delegations. Those for one of `holders` are passed on to the node by a short
    /// delegation of the holder's.
    pub fn by_tokens(name: RealmName, root: NodeId, source: TokenSource, holders: Vec<SigningKey>) -> Self {
        let credentials = Credentials::Tokens { source, holders: holders.into() };
        Self { name, root, credentials, lifetime: DELEGATION_LIFETIME }
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
        let command = Operation::Relay.command().parse().expect("a constant");
        let chains = self.chains(node, Purpose::Relay, crate::clock::unix_now());
        chains.iter().any(|chain| chain.audience() == node && chain.command().covers(&command))
    }

    /// How long until what is presented now should be renewed.
    pub(crate) fn renewal(&self) -> Duration {
        match self.credentials {
            Credentials::Root(_) => self.lifetime / 2,
            // Who renews them puts a new file there some time.
            Credentials::Tokens { .. } => TOKENS_READ_INTERVAL.min(self.lifetime / 2),
        }
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
                    let passed = held
                        .iter()
                        .filter_map(|proof| self.pass_on(holder, Some(proof), *node, proof.command().clone(), now));
                    chains.extend(passed);
                }
                chains.extend(claims_in(&tokens));
                chains.retain(|chain| chain.expires().is_none_or(|expires| expires >= now));
                chains
            }
        }
    }

    /// The same, as sent.
    pub(crate) fn proofs(&self, node: &NodeId, purpose: Purpose, now: u64) -> Vec<Proof> {
        self.chains(node, purpose, now).iter().map(proof_of).collect()
    }

    fn pass_on(
        &self,
        issuer: &SigningKey,
        proof: Option<&Chain>,
        audience: NodeId,
        command: Command,
        now: u64,
    ) -> Option<Chain> {
        let mut nonce = vec![0; 12];
        getrandom::fill(&mut nonce).expect("the operating system has randomness");
        let expires = Some(now.saturating_add(self.lifetime.as_secs()));
        let issuing = Issuing { audience, command, terms: Terms::all(), expires, nonce, meta: BTreeMap::new() };
        // A proof that has expired meanwhile grants nothing any more.
        issue(issuer, proof, issuing, now).ok()
    }
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
