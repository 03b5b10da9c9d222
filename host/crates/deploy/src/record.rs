//! What a slot holds, as its deployer signs it.
//!
//! A deployment is a signed record whose command is `/mesh/deploy`. Its arguments:
//!
//! ```text
//! topic     the slot as a name, which the proofs must cover          "io.example.app.alerts"
//! realm     the realm's name                                         "io.example"
//! slot      the slot                                                 "io.example.app/alerts"
//! seq       1 for the first, one more each time
//! prev      the id of the record that this one replaces, when it is known
//! mcid      the component                                            "bafkr4i…"
//! manifest  what sets it up, in place of a file beside it            TOML; may be missing
//! before    {mcid, manifest} of the record that this one replaces    may be missing
//! canary    percent of the work, 1 to 50, that it gets at first; may be missing
//! drop_state  true: it begins without the state of the version that runs, which is not asked for it; may be missing
//! ```
//!
//! Anything else is refused: what a later version adds must not be overlooked.

use std::collections::BTreeMap;

use macula_auth::{
    SignedRecord, Slot,
    ucan::{Cid, Ipld},
};
use macula_wire::{Mcid, RealmName};
use serde::{Deserialize, Serialize};

/// Highest number of a record: the largest integer that all readers of tokens agree on.
pub const SEQ_MAX: u64 = (1 << 53) - 1;

/// How far a record's number may be ahead of the newest that is known. Numbers are one apart, and a host may have been away
/// for many; without a bound, one number that is far too large would be the slot's last.
pub const SEQ_AHEAD_MAX: u64 = 1_000_000;

/// Percent of the work that a canary gets at most: more would be a deployment.
pub const CANARY_PERCENT_MAX: u8 = 50;

/// Bytes of a manifest in a record; a token has at most 16 KiB.
pub const MANIFEST_BYTES_MAX: usize = 6 << 10;

/// A component and how it is set up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Held {
    /// The component.
    pub mcid: Mcid,
    /// The manifest to use in place of one beside the component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
}

/// What a slot holds, from one deployment to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// Which slot.
    pub slot: Slot,
    /// In which realm.
    pub realm: RealmName,
    /// 1 for the first, one more each time.
    pub seq: u64,
    /// The record that it replaces, when it is known.
    pub prev: Option<Cid>,
    /// What is to run.
    pub held: Held,
    /// What ran before, to go back to.
    pub before: Option<Held>,
    /// Percent of the work that it gets at first, 1 to 50; `None`: all at once.
    pub canary: Option<u8>,
    /// It begins without the state of the version that runs, which is not asked for it.
    pub drop_state: bool,
}

/// Why a record is no deployment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeploymentError {
    /// Something is missing, or not what it should be.
    #[error("the record's `{0}` is missing or malformed")]
    Field(&'static str),
    /// It says something that this version does not know.
    #[error("the record has `{0}`, which this version does not know")]
    Unknown(String),
    /// It is about another slot than where it was found.
    #[error("the record is for the slot {0}")]
    Slot(Slot),
    /// It is for another realm.
    #[error("the record is for the realm {0}")]
    Realm(RealmName),
    /// More than a record carries.
    #[error("the manifest has {0} bytes, and in a deployment it has at most {MANIFEST_BYTES_MAX}")]
    ManifestTooLarge(usize),
}

impl Deployment {
    /// The arguments of the record.
    ///
    /// # Errors
    /// [`DeploymentError::ManifestTooLarge`].
    pub fn to_arguments(&self) -> Result<BTreeMap<String, Ipld>, DeploymentError> {
        let mut arguments = BTreeMap::from([
            ("topic".to_owned(), Ipld::String(self.slot.topic().to_string())),
            ("realm".to_owned(), Ipld::String(self.realm.to_string())),
            ("slot".to_owned(), Ipld::String(self.slot.to_string())),
            ("seq".to_owned(), Ipld::Integer(self.seq.into())),
        ]);
        arguments.extend(self.prev.map(|prev| ("prev".to_owned(), Ipld::Link(prev))));
        arguments.extend(self.held.to_arguments()?);
        arguments.extend(self.canary.map(|percent| ("canary".to_owned(), Ipld::Integer(percent.into()))));
        if self.drop_state {
            arguments.insert("drop_state".to_owned(), Ipld::Bool(true));
        }
        if let Some(before) = &self.before {
            arguments.insert("before".to_owned(), Ipld::Map(before.to_arguments()?));
        }
        Ok(arguments)
    }

    /// Reads what a record says about `slot` in `realm`. That it was signed by somebody who may is checked before.
    ///
    /// # Errors
    /// See [`DeploymentError`].
    pub fn read(record: &SignedRecord, slot: &Slot, realm: &RealmName) -> Result<Self, DeploymentError> {
        let mut fields = record.arguments.clone();
        fields.remove("topic");
        let deployment = Self {
            realm: parsed(&mut fields, "realm")?,
            slot: parsed(&mut fields, "slot")?,
            seq: match fields.remove("seq") {
                Some(Ipld::Integer(seq)) => u64::try_from(seq).ok().filter(|seq| (1..=SEQ_MAX).contains(seq)),
                _ => None,
            }
            .ok_or(DeploymentError::Field("seq"))?,
            prev: match fields.remove("prev") {
                None => None,
                Some(Ipld::Link(prev)) => Some(prev),
                Some(_) => return Err(DeploymentError::Field("prev")),
            },
            before: match fields.remove("before") {
                None => None,
                Some(Ipld::Map(mut before)) => {
                    let held = Held::read(&mut before)?;
                    end(&before)?;
                    Some(held)
                }
                Some(_) => return Err(DeploymentError::Field("before")),
            },
            canary: match fields.remove("canary") {
                None => None,
                Some(Ipld::Integer(percent)) => {
                    let percent =
                        u8::try_from(percent).ok().filter(|percent| (1..=CANARY_PERCENT_MAX).contains(percent));
                    Some(percent.ok_or(DeploymentError::Field("canary"))?)
                }
                Some(_) => return Err(DeploymentError::Field("canary")),
            },
            drop_state: match fields.remove("drop_state") {
                None => false,
                // There is one way to say each thing.
                Some(Ipld::Bool(true)) => true,
                Some(_) => return Err(DeploymentError::Field("drop_state")),
            },
            held: Held::read(&mut fields)?,
        };
        end(&fields)?;
        if deployment.slot != *slot {
            return Err(DeploymentError::Slot(deployment.slot));
        }
        if deployment.realm != *realm {
            return Err(DeploymentError::Realm(deployment.realm));
        }
        if deployment.seq == 1 && deployment.prev.is_some() {
            return Err(DeploymentError::Field("prev"));
        }
        Ok(deployment)
    }
}

impl Held {
    fn to_arguments(&self) -> Result<BTreeMap<String, Ipld>, DeploymentError> {
        if let Some(manifest) = self.manifest.as_ref().filter(|manifest| manifest.len() > MANIFEST_BYTES_MAX) {
            return Err(DeploymentError::ManifestTooLarge(manifest.len()));
        }
        let manifest = self.manifest.clone().map(|manifest| ("manifest".to_owned(), Ipld::String(manifest)));
        Ok([("mcid".to_owned(), Ipld::String(self.mcid.to_string()))].into_iter().chain(manifest).collect())
    }

    fn read(fields: &mut BTreeMap<String, Ipld>) -> Result<Self, DeploymentError> {
        let mcid = parsed(fields, "mcid")?;
        let manifest = match fields.remove("manifest") {
            None => None,
            Some(Ipld::String(text)) if text.len() <= MANIFEST_BYTES_MAX => Some(text),
            Some(Ipld::String(text)) => return Err(DeploymentError::ManifestTooLarge(text.len())),
            Some(_) => return Err(DeploymentError::Field("manifest")),
        };
        Ok(Self { mcid, manifest })
    }
}

fn parsed<T: std::str::FromStr>(fields: &mut BTreeMap<String, Ipld>, name: &'static str) -> Result<T, DeploymentError> {
    match fields.remove(name) {
        Some(Ipld::String(text)) => text.parse().map_err(|_| DeploymentError::Field(name)),
        _ => Err(DeploymentError::Field(name)),
    }
}

fn end(fields: &BTreeMap<String, Ipld>) -> Result<(), DeploymentError> {
    match fields.keys().next() {
        None => Ok(()),
        Some(name) => Err(DeploymentError::Unknown(name.chars().take(40).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn deployment(seq: u64) -> Deployment {
        let held = |text: &str| Held { mcid: Mcid::of(text.as_bytes()), manifest: None };
        Deployment {
            slot: "io.example/app".parse().unwrap(),
            realm: "io.example".parse().unwrap(),
            seq,
            prev: (seq > 1).then(Cid::default),
            held: Held { manifest: Some("[config]".into()), ..held("new") },
            before: (seq > 1).then(|| held("old")),
            canary: (seq > 1).then_some(10),
            drop_state: false,
        }
    }

    fn record(arguments: BTreeMap<String, Ipld>) -> SignedRecord {
        let signer = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK".parse().unwrap();
        SignedRecord { id: Cid::default(), signer, arguments, issued: 1, expires: Some(2) }
    }

    fn read(arguments: BTreeMap<String, Ipld>) -> Result<Deployment, DeploymentError> {
        Deployment::read(&record(arguments), &"io.example/app".parse().unwrap(), &"io.example".parse().unwrap())
    }

    #[test]
    fn what_is_written_is_read() {
        for seq in [1, 2, SEQ_MAX] {
            let deployment = deployment(seq);
            assert_eq!(read(deployment.to_arguments().unwrap()), Ok(deployment));
        }
    }

    #[test]
    fn a_state_is_kept_unless_that_is_said() {
        let arguments = deployment(2).to_arguments().unwrap();
        assert!(!arguments.contains_key("drop_state"), "older hosts take it");
        let dropping = Deployment { drop_state: true, ..deployment(2) };
        assert_eq!(read(dropping.to_arguments().unwrap()), Ok(dropping));
    }

    #[test]
    fn everything_else_is_refused() {
        use DeploymentError::{Field, ManifestTooLarge, Realm, Slot, Unknown};
        let text = |text: &str| Some(Ipld::String(text.to_owned()));
        type Check = fn(&DeploymentError) -> bool;
        let cases: [(&str, Option<Ipld>, Check); 17] = [
            ("seq", None, |e| *e == Field("seq")),
            ("seq", Some(Ipld::Integer(0)), |e| *e == Field("seq")),
            ("seq", Some(Ipld::Integer(1 << 53)), |e| *e == Field("seq")),
            ("seq", Some(Ipld::Integer(-1)), |e| *e == Field("seq")),
            ("seq", Some(Ipld::Integer(1)), |e| *e == Field("prev")),
            ("mcid", text("bafkr4i"), |e| *e == Field("mcid")),
            ("mcid", None, |e| *e == Field("mcid")),
            ("slot", text("io.example/other"), |e| matches!(e, Slot(_))),
            ("slot", text("../etc"), |e| *e == Field("slot")),
            ("realm", text("io.other"), |e| matches!(e, Realm(_))),
            ("manifest", text(&"x".repeat(MANIFEST_BYTES_MAX + 1)), |e| matches!(e, ManifestTooLarge(_))),
            ("before", Some(Ipld::Map(BTreeMap::new())), |e| *e == Field("mcid")),
            ("canary", Some(Ipld::Integer(51)), |e| *e == Field("canary")),
            ("canary", Some(Ipld::Integer(0)), |e| *e == Field("canary")),
            ("drop_state", Some(Ipld::Bool(false)), |e| *e == Field("drop_state")),
            ("drop_state", text("yes"), |e| *e == Field("drop_state")),
            ("share", Some(Ipld::Integer(10)), |e| matches!(e, Unknown(name) if name == "share")),
        ];
        for (name, value, is_right) in cases {
            let mut arguments = deployment(2).to_arguments().unwrap();
            match value.clone() {
                Some(value) => arguments.insert(name.to_owned(), value),
                None => arguments.remove(name),
            };
            let error = read(arguments).unwrap_err();
            assert!(is_right(&error), "{name} {value:?}: {error}");
        }
    }
}
