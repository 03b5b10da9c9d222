//! Signed invocations: for what has to be provable on its own, beside the link that it comes by.
//!
//! Administration comes as an invocation with its proofs. It names the node that it is for, is good for minutes, and counts
//! once. What is for everybody and lasts is a [record](crate::SignedRecord).

use std::{collections::BTreeMap, sync::Arc};

use cid::Cid;
use macula_ucan::{Chain, ChainError, Delegation, Invocation, Ipld, TokenError};
use macula_wire::{NodeId, Operation, RealmId, Topic};

use crate::{Authority, GrantError, Scope, authority::ProofError, namespace::is_canonical};

/// Longest that an invocation may be good for, in seconds.
pub const INVOCATION_LIFETIME_MAX: u64 = 300;

/// Invocations that are remembered until they expire; when there are more, further ones are refused until some have.
const REMEMBERED_MAX: usize = 65_536;

/// Delegations beside an invocation: two chains' worth.
const PROOFS_MAX: usize = 16;

/// Why an invocation is refused. It did nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvocationRefused {
    /// It is none, or a token beside it.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Not one invocation and up to 16 delegations.
    #[error("expected one invocation and at most {PROOFS_MAX} proofs")]
    Tokens,
    /// Its proofs do not hold.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// It names no node, or another.
    #[error("the invocation is not for this node")]
    Audience,
    /// It was signed by another key than the one that sends it.
    #[error("the invocation was signed by {0}, and sent by another")]
    Sender(NodeId),
    /// It asks for another thing than this procedure does.
    #[error("the invocation asks for another command")]
    Command,
    /// Its proofs are for other names.
    #[error("the proofs are for other names")]
    Scope,
    /// Its proofs are for a plugin on the node, and not for the node that signed it.
    #[error("the proofs are for a plugin, and it was signed by its node")]
    Bound,
    /// It does not expire, or later than this many seconds from when it was made.
    #[error("it must expire within {0} s")]
    Lifetime(u64),
    /// It was here before.
    #[error("the invocation has been used")]
    Replayed,
    /// Too many are remembered.
    #[error("too many invocations; try again later")]
    Full,
}

impl InvocationRefused {
    /// One word for programs: the specification's where it has one.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Token(error) => error.name(),
            Self::Tokens => "Malformed",
            Self::Proof(error) => error.name(),
            Self::Audience => "InvalidAudience",
            Self::Sender(_) => "InvalidSender",
            Self::Command => "InvalidCommand",
            Self::Scope | Self::Bound => "MatchError",
            Self::Lifetime(_) => "InvalidTime",
            Self::Replayed => "Replayed",
            Self::Full => "QuotaExceeded",
        }
    }
}

impl From<ChainError> for InvocationRefused {
    fn from(error: ChainError) -> Self {
        Self::Proof(error.into())
    }
}

/// What an invocation has to be.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The realm whose root its proofs begin at.
    pub realm: &'a RealmId,
    /// The node that it has to be for.
    pub node: &'a NodeId,
    /// Who sends it, as the link has proved.
    pub sender: &'a NodeId,
    /// What it has to ask for.
    pub operation: Operation,
    /// On which name: its argument `topic`, so that it is good for nothing else.
    pub topic: &'a Topic,
}

/// The set of invocations that were used: each counts once.
#[derive(Debug, Default)]
pub struct Invocations {
    /// By when they expire, so that the oldest are at hand.
    used: BTreeMap<(u64, Cid), ()>,
}

impl Invocations {
    /// Checks an invocation, and notes that it was used. `tokens` are the invocation and, in any order, its proofs.
    /// Gives its arguments.
    ///
    /// # Errors
    /// See [`InvocationRefused`]; a refused one is not noted.
    pub fn accept(
        &mut self,
        now: u64,
        authority: &Authority,
        tokens: &[Vec<u8>],
        expected: Expected<'_>,
    ) -> Result<BTreeMap<String, Ipld>, InvocationRefused> {
        let (invocation, rest) = invocation_among(tokens)?;
        self.check_form(&invocation, now, &expected)?;
        // What it rests on is verified only when it is worth it.
        authority.check_invocation(now, expected.realm, expected.operation, expected.topic, &invocation, &rest)?;
        self.note(now, &invocation)?;
        Ok(invocation.arguments().clone())
    }

    fn check_form(&self, invocation: &Invocation, now: u64, expected: &Expected<'_>) -> Result<(), InvocationRefused> {
        if invocation.issuer() != expected.sender {
            return Err(InvocationRefused::Sender(*invocation.issuer()));
        }
        if invocation.audience() != Some(expected.node) {
            return Err(InvocationRefused::Audience);
        }
        if invocation.command().as_str() != expected.operation.command() {
            return Err(InvocationRefused::Command);
        }
        if invocation.arguments().get("topic") != Some(&Ipld::String(expected.topic.to_string())) {
            return Err(InvocationRefused::Command);
        }
        let too_long = InvocationRefused::Lifetime(INVOCATION_LIFETIME_MAX);
        let expires = invocation.expires().ok_or(too_long.clone())?;
        if expires > now.saturating_add(INVOCATION_LIFETIME_MAX) {
            return Err(too_long);
        }
        if self.used.contains_key(&(expires, *invocation.cid())) {
            return Err(InvocationRefused::Replayed);
        }
        Ok(())
    }

    fn note(&mut self, now: u64, invocation: &Invocation) -> Result<(), InvocationRefused> {
        while let Some(((expires, _), ())) = self.used.first_key_value()
            && *expires < now
        {
            self.used.pop_first();
        }
        if self.used.len() >= REMEMBERED_MAX {
            return Err(InvocationRefused::Full);
        }
        let expires = invocation.expires().ok_or(InvocationRefused::Lifetime(INVOCATION_LIFETIME_MAX))?;
        self.used.insert((expires, *invocation.cid()), ());
        Ok(())
    }
}

/// The invocation among the tokens, and the others as they are: their signatures are looked at later, if at all.
pub(crate) fn invocation_among(tokens: &[Vec<u8>]) -> Result<(Invocation, Vec<&[u8]>), InvocationRefused> {
    if tokens.len() > PROOFS_MAX + 1 {
        return Err(InvocationRefused::Tokens);
    }
    let (mut invocation, mut rest) = (None, Vec::new());
    for token in tokens {
        match Invocation::decode(token) {
            Ok(_) if invocation.is_some() => return Err(InvocationRefused::Tokens),
            Ok(found) => invocation = Some(found),
            // Told apart before any signature.
            Err(TokenError::OtherKind(_)) => rest.push(&token[..]),
            Err(error) => return Err(error.into()),
        }
    }
    Ok((invocation.ok_or(InvocationRefused::Tokens)?, rest))
}

impl Authority {
    fn is_revoked(&self, realm: &RealmId, cid: &Cid, by: &NodeId) -> bool {
        self.revocations(realm).is_some_and(|revocations| revocations.is_revoked(cid, by))
    }

    /// Whether what an invocation rests on allows `operation` on `topic` now. `proofs` are the delegations beside it.
    pub(crate) fn check_invocation(
        &self,
        now: u64,
        realm: &RealmId,
        operation: Operation,
        topic: &Topic,
        invocation: &Invocation,
        proofs: &[&[u8]],
    ) -> Result<(), InvocationRefused> {
        let clock = self.clock(now);
        let proofs = proofs
            .iter()
            .map(|token| Delegation::decode(token).map(Arc::new))
            .collect::<Result<Vec<_>, TokenError>>()?;
        let find = |cid: &Cid| proofs.iter().find(|proof| proof.cid() == cid).cloned();
        match invocation.verify(find, &clock, |cid, by| self.is_revoked(realm, cid, by))? {
            Some(chain) => self.check_claim(now, realm, operation, topic, invocation.issuer(), chain),
            None if self.root(realm) == Some(invocation.issuer()) => Ok(()),
            None if self.owns(now, realm, invocation.issuer(), topic) => Ok(()),
            None => Err(ProofError::from(GrantError::Subject(*invocation.subject())).into()),
        }
    }

    /// Whether a key owns a name, by claims that are known and stand.
    fn owns(&self, now: u64, realm: &RealmId, key: &NodeId, topic: &Topic) -> bool {
        let clock = self.clock(now);
        let holds = |chain: &Chain| {
            chain.check_time(&clock)?;
            chain.check_revoked(|cid, by| self.is_revoked(realm, cid, by))
        };
        let wanted = Scope::Within(vec![topic.clone().into()]);
        let owned = self.owners(realm).and_then(|owners| owners.scope_of(key, &wanted, holds));
        is_canonical(topic) && owned.is_some_and(|(scope, ..)| scope.contains(topic))
    }

    fn check_claim(
        &self,
        now: u64,
        realm: &RealmId,
        operation: Operation,
        topic: &Topic,
        issuer: &NodeId,
        chain: Chain,
    ) -> Result<(), InvocationRefused> {
        let checked = self.check_chain(now, realm, issuer, chain)?;
        if !checked.grant.operations().contains(operation) {
            return Err(InvocationRefused::Command);
        }
        // A node signs invocations, and what is a plugin's is none of the node's own.
        if !checked.grant.binding().is_node() {
            return Err(InvocationRefused::Bound);
        }
        if checked.reaches(topic) { Ok(()) } else { Err(InvocationRefused::Scope) }
    }
}

#[cfg(test)]
mod tests {
    use macula_ucan::InvocationFields;

    use super::*;
    use crate::{
        AuthorityConfig,
        testing::{id, key, link, realm_id, root_id},
    };

    const NOW: u64 = 1000;

    struct Desk {
        authority: Authority,
        invocations: Invocations,
        topic: Topic,
    }

    fn desk() -> Desk {
        let mut authority = Authority::new(AuthorityConfig::default());
        authority.add_realm(realm_id(), root_id());
        let topic = "_mesh.admin.z6MkNode.status".parse().unwrap();
        Desk { authority, invocations: Invocations::default(), topic }
    }

    impl Desk {
        fn accept(&mut self, tokens: &[Vec<u8>]) -> Result<(), &'static str> {
            let expected = Expected {
                realm: &realm_id(),
                node: &id(50),
                sender: &id(1),
                operation: Operation::Admin,
                topic: &self.topic,
            };
            let accepted = self.invocations.accept(NOW, &self.authority, tokens, expected);
            accepted.map(|_| ()).map_err(|refused| refused.name())
        }

        fn fields(&self, proof: &Delegation) -> InvocationFields {
            InvocationFields {
                subject: root_id(),
                audience: Some(id(50)),
                command: "/mesh/admin".parse().unwrap(),
                arguments: [("topic".to_owned(), Ipld::String(self.topic.to_string()))].into(),
                proofs: vec![*proof.cid()],
                nonce: vec![7; 12],
                expires: Some(NOW + 60),
                issued_at: None,
                cause: None,
                meta: BTreeMap::new(),
            }
        }
    }

    #[test]
    fn counts_once_and_for_one_node_and_one_thing() {
        let mut desk = desk();
        let proof = link(200, 1, "/mesh/admin", &[]);
        let with = |seed: u8, change: &dyn Fn(&mut InvocationFields)| {
            let mut fields = desk.fields(&proof);
            change(&mut fields);
            vec![proof.bytes().to_vec(), fields.sign(&key(seed)).unwrap().bytes().to_vec()]
        };
        let good = with(1, &|_| ());
        let cases = [
            (with(1, &|fields| fields.audience = Some(id(51))), "InvalidAudience"),
            (with(1, &|fields| fields.audience = None), "InvalidAudience"),
            (with(2, &|_| ()), "InvalidSender"),
            (with(1, &|fields| fields.command = "/mesh/deploy".parse().unwrap()), "InvalidCommand"),
            (with(1, &|fields| fields.arguments.clear()), "InvalidCommand"),
            (with(1, &|fields| fields.expires = None), "InvalidTime"),
            (with(1, &|fields| fields.expires = Some(NOW + INVOCATION_LIFETIME_MAX + 1)), "InvalidTime"),
            (with(1, &|fields| fields.expires = Some(NOW - 1)), "Expired"),
            (with(1, &|fields| fields.proofs.clear()), "InvalidClaim"),
            (vec![good[1].clone()], "UnavailableProof"),
            (vec![good[0].clone()], "Malformed"),
            (vec![good[1].clone(), good[1].clone()], "Malformed"),
            (vec![vec![0; 10]; 18], "Malformed"),
        ];
        for (tokens, name) in cases {
            assert_eq!(desk.accept(&tokens), Err(name));
        }
        assert_eq!(desk.accept(&good), Ok(()));
        assert_eq!(desk.accept(&good), Err("Replayed"));
    }

    /// Goal: a right that is for a plugin on a node is not the node's: what the node signs itself rests on none such.
    #[test]
    fn what_is_a_plugins_is_nothing_to_its_node() {
        let mut desk = desk();
        let component = macula_wire::Mcid::of(b"component");
        let slot = "io.example.app/alerts".parse().unwrap();
        let bindings =
            [crate::Binding::plugin(component), crate::Binding { slot: Some(slot), ..crate::Binding::default() }];
        for binding in bindings {
            let bound = crate::testing::link_for(200, 1, "/mesh/admin", &[], binding);
            let signed = desk.fields(&bound).sign(&key(1)).unwrap();
            let tokens = [bound.bytes().to_vec(), signed.bytes().to_vec()];
            assert_eq!(desk.accept(&tokens), Err("MatchError"));
        }
    }

    /// Goal: what a link takes an invocation takes, and the other way round: a clock that is a little behind the one that
    /// made a right.
    #[test]
    fn one_allowance_for_clocks_that_differ() {
        let mut desk = desk();
        let from = |not_before| {
            let mut fields = crate::testing::owners_fields(200, 1, "/mesh/admin");
            fields.not_before = Some(not_before);
            fields.sign(&key(200)).unwrap()
        };
        let skew = AuthorityConfig::default().skew;
        for (not_before, invoked) in [(NOW + skew, Ok(())), (NOW + skew + 1, Err("TooEarly"))] {
            let proof = from(not_before);
            let tokens = vec![proof.bytes().to_vec(), desk.fields(&proof).sign(&key(1)).unwrap().bytes().to_vec()];
            assert_eq!(desk.accept(&tokens), invoked);
            let shown = crate::testing::proof(&[&proof]);
            let checked = desk.authority.check(NOW, &realm_id(), &id(1), &shown);
            assert_eq!(checked.map(|_| ()).map_err(|refused| refused.name()), invoked);
        }
    }

    #[test]
    fn rests_on_the_right_and_on_nothing_revoked() {
        let mut desk = desk();
        let other = link(200, 1, "/mesh/call", &[]);
        let tokens = |proof: &Delegation, desk: &Desk| {
            vec![proof.bytes().to_vec(), desk.fields(proof).sign(&key(1)).unwrap().bytes().to_vec()]
        };
        assert!(desk.accept(&tokens(&other, &desk)).is_err());
        let proof = link(200, 1, "/mesh/admin", &[]);
        let revocation = macula_ucan::Revocation::sign(&key(200), proof.cid());
        desk.authority.revoke(crate::Moment::at(NOW), &realm_id(), revocation.bytes()).unwrap();
        assert_eq!(desk.accept(&tokens(&proof, &desk)), Err("Revoked"));
    }
}
