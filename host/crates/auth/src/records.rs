//! Signed records: invocations that are for everybody, last for days, and are read by whoever comes by them.
//!
//! What a slot holds and what a package's version is are such records. Nobody is their audience, and they count as often as
//! they are read; what makes a later one replace an earlier one is in their arguments.

use std::{collections::BTreeMap, sync::Arc};

use cid::Cid;
use macula_ucan::{Delegation, Ipld};
use macula_wire::{NodeId, Operation, RealmId, Topic};

use crate::{
    Authority, Moment, Ownership, claims_in,
    invocations::{InvocationRefused, invocation_among},
};

/// Longest that a record may be good for, in seconds: seven days.
pub const RECORD_LIFETIME_MAX: u64 = 7 * 24 * 3600;

/// A record whose signature and proofs hold.
#[derive(Debug, Clone, PartialEq)]
pub struct SignedRecord {
    /// Its id.
    pub id: Cid,
    /// Who signed it.
    pub signer: NodeId,
    /// What it says.
    pub arguments: BTreeMap<String, Ipld>,
    /// When it was made, in unix seconds.
    pub issued: u64,
    /// The last second in which it is taken; `None`: for good.
    pub expires: Option<u64>,
}

/// What a record has to be.
#[derive(Debug, Clone, Copy)]
pub struct ExpectedRecord<'a> {
    /// The realm whose root its proofs begin at.
    pub realm: &'a RealmId,
    /// What it has to be a statement of.
    pub operation: Operation,
    /// On which name: its argument `topic`.
    pub topic: &'a Topic,
    /// As of when it has to hold.
    pub validity: Validity,
}

/// As of when a record has to hold. What was revoked since it was made never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Now; it expires within [`RECORD_LIFETIME_MAX`] of when it was made.
    Now,
    /// When it was made: for what a record of that kind said before.
    AsMade,
    /// When it was made; it does not expire.
    Lasting,
}

impl Authority {
    /// Checks a record: its form, and that its proofs allow what it says. `tokens` are the record and, in any order, its
    /// proofs; with them may come claims to names, of which the standing ones are learned.
    ///
    /// # Errors
    /// See [`InvocationRefused`].
    pub fn check_record(
        &mut self,
        now: Moment,
        tokens: &[Vec<u8>],
        expected: ExpectedRecord<'_>,
    ) -> Result<SignedRecord, InvocationRefused> {
        let ExpectedRecord { realm, operation, topic, validity } = expected;
        let (record, proofs) = invocation_among(tokens)?;
        if record.audience().is_some() {
            return Err(InvocationRefused::Audience);
        }
        let is_about = record.arguments().get("topic") == Some(&Ipld::String(topic.to_string()));
        if record.command().as_str() != operation.command() || !is_about {
            return Err(InvocationRefused::Command);
        }
        let too_long = InvocationRefused::Lifetime(RECORD_LIFETIME_MAX);
        let issued = record.issued_at().ok_or(too_long.clone())?;
        // One made in the future could be made to last as long as one likes.
        let ends_in_time = record.expires().map_or(validity == Validity::Lasting, |expires| {
            expires <= issued.min(now.unix).saturating_add(RECORD_LIFETIME_MAX)
        });
        if !ends_in_time {
            return Err(too_long);
        }
        let at = if validity == Validity::Now { now.unix } else { issued.min(now.unix) };
        self.learn_claims(Moment { unix: at, ..now }, realm, &proofs);
        self.check_invocation(at, realm, operation, topic, &record, &proofs)?;
        Ok(SignedRecord {
            id: *record.cid(),
            signer: *record.issuer(),
            arguments: record.arguments().clone(),
            issued,
            expires: record.expires(),
        })
    }

    /// Owners of names may be unknown here: they come with what they say.
    fn learn_claims(&mut self, now: Moment, realm: &RealmId, proofs: &[&[u8]]) {
        let tokens: Vec<Arc<Delegation>> =
            proofs.iter().filter_map(|token| Delegation::decode(token).ok().map(Arc::new)).collect();
        for claim in claims_in(&tokens).into_iter().filter_map(|chain| Ownership::read(chain).ok()) {
            // One that does not stand proves nothing, and the check says what is missing.
            let _ = self.learn(now, realm, &claim);
        }
    }
}

#[cfg(test)]
mod tests {
    use macula_ucan::{InvocationFields, Revocation};

    use super::*;
    use crate::{
        AuthorityConfig,
        testing::{id, key, link, own_link, owners_link, realm_id, root_id},
    };

    const NOW: u64 = 1000;

    fn authority() -> Authority {
        let mut authority = Authority::new(AuthorityConfig::default());
        authority.add_realm(realm_id(), root_id());
        authority
    }

    fn fields(proofs: &[&Delegation]) -> InvocationFields {
        InvocationFields {
            subject: root_id(),
            audience: None,
            command: "/mesh/deploy".parse().unwrap(),
            arguments: [("topic".to_owned(), Ipld::String("io.example.app".to_owned()))].into(),
            proofs: proofs.iter().map(|proof| *proof.cid()).collect(),
            nonce: vec![7; 12],
            expires: Some(NOW + 600),
            issued_at: Some(NOW),
            cause: None,
            meta: BTreeMap::new(),
        }
    }

    fn check(authority: &mut Authority, now: u64, tokens: &[Vec<u8>]) -> Result<SignedRecord, &'static str> {
        check_as(authority, now, tokens, Validity::Now)
    }

    fn check_as(
        authority: &mut Authority,
        now: u64,
        tokens: &[Vec<u8>],
        validity: Validity,
    ) -> Result<SignedRecord, &'static str> {
        let (topic, realm) = ("io.example.app".parse().unwrap(), realm_id());
        let expected = ExpectedRecord { realm: &realm, operation: Operation::Deploy, topic: &topic, validity };
        authority.check_record(Moment::at(now), tokens, expected).map_err(|refused| refused.name())
    }

    #[test]
    fn counts_for_everybody_until_it_expires() {
        let mut authority = authority();
        let proof = link(200, 1, "/mesh/deploy", &["io.example.**"]);
        let with = |seed: u8, change: &dyn Fn(&mut InvocationFields)| {
            let mut fields = fields(&[&proof]);
            change(&mut fields);
            vec![proof.bytes().to_vec(), fields.sign(&key(seed)).unwrap().bytes().to_vec()]
        };
        let good = with(1, &|_| ());
        let record = check(&mut authority, NOW, &good).unwrap();
        assert_eq!((record.signer, record.issued, record.expires), (id(1), NOW, Some(NOW + 600)));
        assert_eq!(check(&mut authority, NOW, &good), Ok(record), "again");
        let other = |fields: &mut InvocationFields| {
            fields.arguments.insert("topic".into(), Ipld::String("io.example.other".into()));
        };
        let cases = [
            (with(1, &|fields| fields.audience = Some(id(50))), "InvalidAudience"),
            (with(1, &|fields| fields.command = "/mesh/admin".parse().unwrap()), "InvalidCommand"),
            (with(1, &other), "InvalidCommand"),
            (with(1, &|fields| fields.expires = None), "InvalidTime"),
            (with(1, &|fields| fields.issued_at = None), "InvalidTime"),
            (with(1, &|fields| fields.expires = Some(NOW + RECORD_LIFETIME_MAX + 1)), "InvalidTime"),
            (
                with(1, &|fields| {
                    fields.issued_at = Some(NOW + 1000);
                    fields.expires = Some(NOW + 1000 + RECORD_LIFETIME_MAX);
                }),
                "InvalidTime",
            ),
            (with(1, &|fields| fields.expires = Some(NOW - 1)), "Expired"),
            (with(2, &|_| ()), "InvalidAudience"),
            (with(1, &|fields| fields.proofs.clear()), "InvalidClaim"),
            (vec![good[1].clone()], "UnavailableProof"),
        ];
        for (index, (tokens, name)) in cases.into_iter().enumerate() {
            assert_eq!(check(&mut authority, NOW, &tokens), Err(name), "case {index}");
        }
        assert_eq!(check(&mut authority, NOW + 601, &good), Err("Expired"));
        assert!(check_as(&mut authority, NOW + 601, &good, Validity::AsMade).is_ok());
        let lasting = with(1, &|fields| fields.expires = None);
        assert!(check_as(&mut authority, NOW + 100_000_000, &lasting, Validity::Lasting).is_ok());
        assert_eq!(check_as(&mut authority, NOW, &lasting, Validity::AsMade), Err("InvalidTime"));
        let early = with(1, &|fields| {
            fields.issued_at = Some(NOW + 5000);
            fields.expires = None;
        });
        assert!(check_as(&mut authority, NOW, &early, Validity::Lasting).is_ok(), "held against the proofs as of now");
        assert_eq!(check_as(&mut authority, NOW + 5000, &early, Validity::Lasting), Err("Expired"));
    }

    #[test]
    fn the_root_needs_no_proof_and_a_revoked_one_is_none() {
        let mut authority = authority();
        let by_root = fields(&[]).sign(&key(200)).unwrap().bytes().to_vec();
        assert!(check(&mut authority, NOW, &[by_root]).is_ok());
        let proof = link(200, 1, "/mesh/deploy", &["io.example.**"]);
        let tokens = [proof.bytes().to_vec(), fields(&[&proof]).sign(&key(1)).unwrap().bytes().to_vec()];
        assert!(check(&mut authority, NOW, &tokens).is_ok());
        let revocation = Revocation::sign(&key(200), proof.cid());
        authority.revoke(Moment::at(NOW), &realm_id(), revocation.bytes()).unwrap();
        assert_eq!(check(&mut authority, NOW, &tokens), Err("Revoked"));
        let narrow = link(200, 1, "/mesh/deploy", &["io.other.**"]);
        let tokens = [narrow.bytes().to_vec(), fields(&[&narrow]).sign(&key(1)).unwrap().bytes().to_vec()];
        assert!(check(&mut authority, NOW, &tokens).is_err(), "other names");
    }

    /// Goal: who owns names, and whom an owner lets, says what is there; hosts that never heard of the owner learn it from what
    /// comes with the record.
    #[test]
    fn owners_and_whom_they_let() {
        let claim = own_link(200, 2, "io.example", None);
        let by_owner = InvocationFields { subject: id(2), ..fields(&[]) }.sign(&key(2)).unwrap();
        let granted = owners_link(2, 3, "/mesh/deploy", &["io.example.**"]);
        let by_other = InvocationFields { subject: id(2), ..fields(&[&granted]) }.sign(&key(3)).unwrap();
        let bytes = |tokens: &[&[u8]]| tokens.iter().map(|token| token.to_vec()).collect::<Vec<_>>();
        let owners = bytes(&[by_owner.bytes(), claim.bytes()]);
        let others = bytes(&[by_other.bytes(), granted.bytes(), claim.bytes()]);
        for tokens in [&owners, &others] {
            assert!(
                check(&mut authority(), NOW, &tokens[..tokens.len() - 1]).is_err(),
                "nobody owns it as far as is known"
            );
            assert!(check(&mut authority(), NOW, tokens).is_ok());
        }
        let elsewhere = own_link(200, 2, "io.other", None);
        assert!(check(&mut authority(), NOW, &bytes(&[by_owner.bytes(), elsewhere.bytes()])).is_err());
    }
}
