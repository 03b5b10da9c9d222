//! Signed records: invocations that are for everybody, last for days, and are read by whoever comes by them.
//!
//! What a slot holds and what a package's version is are such records. Nobody is their audience, and they count as often as
//! they are read; what makes a later one replace an earlier one is in their arguments.

use std::collections::BTreeMap;

use cid::Cid;
use macula_ucan::Ipld;
use macula_wire::{NodeId, Operation, RealmId, Topic};

use crate::{
    Authority,
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
    /// The last second in which it is taken.
    pub expires: u64,
}

impl Authority {
    /// Checks a record about `topic`, as of now: its form, that its proofs allow `operation` there, and that it has not
    /// expired. `tokens` are the record and, in any order, its proofs.
    ///
    /// # Errors
    /// See [`InvocationRefused`].
    pub fn check_record(
        &self,
        now: u64,
        realm: &RealmId,
        tokens: &[Vec<u8>],
        operation: Operation,
        topic: &Topic,
    ) -> Result<SignedRecord, InvocationRefused> {
        let (record, proofs) = invocation_among(tokens)?;
        if record.audience().is_some() {
            return Err(InvocationRefused::Audience);
        }
        let is_about = record.arguments().get("topic") == Some(&Ipld::String(topic.to_string()));
        if record.command().as_str() != operation.command() || !is_about {
            return Err(InvocationRefused::Command);
        }
        let too_long = InvocationRefused::Lifetime(RECORD_LIFETIME_MAX);
        let (Some(issued), Some(expires)) = (record.issued_at(), record.expires()) else { return Err(too_long) };
        // One made in the future could be made to last as long as one likes.
        if expires > issued.min(now).saturating_add(RECORD_LIFETIME_MAX) {
            return Err(too_long);
        }
        self.check_invocation(now, realm, operation, topic, &record, &proofs)?;
        Ok(SignedRecord {
            id: *record.cid(),
            signer: *record.issuer(),
            arguments: record.arguments().clone(),
            issued,
            expires,
        })
    }
}

impl Authority {
    /// Checks a record as of when it was made: for what a slot held before, which need not be taken any more. What was revoked
    /// since is refused all the same.
    ///
    /// # Errors
    /// See [`InvocationRefused`].
    pub fn check_past_record(
        &self,
        realm: &RealmId,
        tokens: &[Vec<u8>],
        operation: Operation,
        topic: &Topic,
    ) -> Result<SignedRecord, InvocationRefused> {
        let (record, _) = invocation_among(tokens)?;
        let made = record.issued_at().ok_or(InvocationRefused::Lifetime(RECORD_LIFETIME_MAX))?;
        self.check_record(made, realm, tokens, operation, topic)
    }
}

#[cfg(test)]
mod tests {
    use macula_ucan::{Delegation, InvocationFields, Revocation};

    use super::*;
    use crate::{
        AuthorityConfig,
        testing::{id, key, link, realm_id, root_id},
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

    fn check(authority: &Authority, now: u64, tokens: &[Vec<u8>]) -> Result<SignedRecord, &'static str> {
        let topic = "io.example.app".parse().unwrap();
        authority.check_record(now, &realm_id(), tokens, Operation::Deploy, &topic).map_err(|refused| refused.name())
    }

    #[test]
    fn counts_for_everybody_until_it_expires() {
        let authority = authority();
        let proof = link(200, 1, "/mesh/deploy", &["io.example.**"]);
        let with = |seed: u8, change: &dyn Fn(&mut InvocationFields)| {
            let mut fields = fields(&[&proof]);
            change(&mut fields);
            vec![proof.bytes().to_vec(), fields.sign(&key(seed)).unwrap().bytes().to_vec()]
        };
        let good = with(1, &|_| ());
        let record = check(&authority, NOW, &good).unwrap();
        assert_eq!((record.signer, record.issued, record.expires), (id(1), NOW, NOW + 600));
        assert_eq!(check(&authority, NOW, &good), Ok(record), "again");
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
            assert_eq!(check(&authority, NOW, &tokens), Err(name), "case {index}");
        }
        assert_eq!(check(&authority, NOW + 601, &good), Err("Expired"));
        let topic = "io.example.app".parse().unwrap();
        assert!(authority.check_past_record(&realm_id(), &good, Operation::Deploy, &topic).is_ok());
    }

    #[test]
    fn the_root_needs_no_proof_and_a_revoked_one_is_none() {
        let mut authority = authority();
        let by_root = fields(&[]).sign(&key(200)).unwrap().bytes().to_vec();
        assert!(check(&authority, NOW, &[by_root]).is_ok());
        let proof = link(200, 1, "/mesh/deploy", &["io.example.**"]);
        let tokens = [proof.bytes().to_vec(), fields(&[&proof]).sign(&key(1)).unwrap().bytes().to_vec()];
        assert!(check(&authority, NOW, &tokens).is_ok());
        let revocation = Revocation::sign(&key(200), proof.cid());
        authority.revoke(NOW, &realm_id(), revocation.bytes()).unwrap();
        assert_eq!(check(&authority, NOW, &tokens), Err("Revoked"));
        let narrow = link(200, 1, "/mesh/deploy", &["io.other.**"]);
        let tokens = [narrow.bytes().to_vec(), fields(&[&narrow]).sign(&key(1)).unwrap().bytes().to_vec()];
        assert!(check(&authority, NOW, &tokens).is_err(), "other names");
    }
}
