//! Control messages: what the two ends of a link agree on, beside the data.
//!
//! They flow on the first bidirectional stream, after the Hello. Each is a frame:
//! `length (u32, little endian, of what follows) | kind | 0 0 0 | body as DAG-CBOR`. Requests carry an `id` that their
//! [`Control::Done`] names; a request of unknown kind is answered with `unavailable`, anything else unknown is ignored.
//! Unknown keys in bodies are ignored. Specified in `docs/protocol/links.md`, “Control messages”.

mod content;
mod rights;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use self::{
    content::{CONTENTS_PER_MESSAGE_MAX, Find, PROVIDERS_MAX, Provide, Unprovide},
    rights::{
        Ended, EndedWhat, Join, NamedOperation, PROOF_BYTES_MAX, Present, Proof, Refused, Revoke, Revoked, Show,
        portions,
    },
};
use crate::{Fault, Metadata, NodeId, Pattern, Topic, WhenFull, limits::CONTROL_BYTES_MAX};

/// Asks for messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe {
    /// Names the request.
    pub id: u64,
    /// The realm.
    pub slot: u32,
    /// The subscriber's number for the subscription; comes with every batch.
    pub subscription: u32,
    /// Which topics.
    pub pattern: Pattern,
    /// What to do when `queue_messages` wait.
    #[serde(default)]
    pub when_full: WhenFull,
    /// Messages that may wait at the relay, 1 to 65,536.
    pub queue_messages: u32,
    /// Messages that may be on their way before the first credit.
    pub credit: u64,
    /// Begin with the stored last value of each matching topic.
    #[serde(default)]
    pub retained: bool,
    /// It was in force on an earlier link: a relay that has just started gives it what it has missed since.
    #[serde(default)]
    pub resumed: bool,
}

/// Ends a subscription; what still waits for it is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsubscribe {
    /// Names the request.
    pub id: u64,
    /// The subscriber's number.
    pub subscription: u32,
}

/// Offers a procedure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advertise {
    /// Names the request.
    pub id: u64,
    /// The realm.
    pub slot: u32,
    /// The provider's number for the offer.
    pub offer: u32,
    /// The procedure.
    pub procedure: Topic,
    /// Calls that may be in flight to this offer; further ones go elsewhere.
    pub in_flight_max: u32,
    /// Shown to those who look for providers.
    #[serde(default)]
    pub metadata: Metadata,
}

/// Takes an offer back; calls already sent are still answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdraw {
    /// Names the request.
    pub id: u64,
    /// The provider's number.
    pub offer: u32,
}

/// Asks for the stored last value of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retained {
    /// Names the request.
    pub id: u64,
    /// The realm.
    pub slot: u32,
    /// The topic.
    pub topic: Topic,
}

/// A stored last value, complete in itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredValue {
    /// What the frame's channel number stands for.
    #[serde(with = "serde_bytes")]
    pub channel: Vec<u8>,
    /// The message frame.
    #[serde(with = "serde_bytes")]
    pub frame: Vec<u8>,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Of the request.
    pub id: u64,
    /// Nothing when it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// The answer to [`Retained`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<StoredValue>,
    /// The answer to [`Show`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// The answer to [`Find`]; at most [`PROVIDERS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<NodeId>,
}

/// Messages that a subscription did not get because its queue was full, counted since it began on this link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// The subscriber's number.
    pub subscription: u32,
    /// In all.
    pub total: u64,
}

/// Messages of this publisher that some subscriber did not get because its queue was full, since the link began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undelivered {
    /// In all, counted once per subscriber.
    pub total: u64,
}

/// A sign of life, or its echo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Comes back.
    pub token: u64,
}

/// The sender is going away; the receiver should finish, close and reconnect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// For people.
    pub reason: String,
}

/// One control message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant holds one documented body of the same name")]
pub enum Control {
    Join(Join),
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    Advertise(Advertise),
    Withdraw(Withdraw),
    Retained(Retained),
    Done(Done),
    Dropped(Dropped),
    Undelivered(Undelivered),
    Ping(Beat),
    Pong(Beat),
    Goodbye(Goodbye),
    Show(Show),
    Present(Present),
    Revoke(Revoke),
    Revoked(Revoked),
    Ended(Ended),
    Refused(Refused),
    Provide(Provide),
    Unprovide(Unprovide),
    Find(Find),
    /// Of a later version. The id is there when the body has one, and wants a `Done`.
    Unknown {
        kind: u8,
        id: Option<u64>,
    },
}

/// Why bytes are no control message; the link is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// More than [`CONTROL_BYTES_MAX`].
    #[error("a control message of {0} bytes, at most {CONTROL_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// The body is not what the kind wants.
    #[error("malformed control message of kind {kind}: {error}")]
    Malformed {
        /// Its kind.
        kind: u8,
        /// What was wrong.
        error: String,
    },
}

const KIND_JOIN: u8 = 1;
const KIND_SUBSCRIBE: u8 = 2;
const KIND_UNSUBSCRIBE: u8 = 3;
const KIND_ADVERTISE: u8 = 4;
const KIND_WITHDRAW: u8 = 5;
const KIND_RETAINED: u8 = 6;
const KIND_DONE: u8 = 7;
const KIND_DROPPED: u8 = 8;
const KIND_UNDELIVERED: u8 = 9;
const KIND_PING: u8 = 10;
const KIND_PONG: u8 = 11;
const KIND_GOODBYE: u8 = 12;
const KIND_SHOW: u8 = 13;
const KIND_PRESENT: u8 = 14;
const KIND_REVOKE: u8 = 15;
const KIND_REVOKED: u8 = 16;
const KIND_ENDED: u8 = 17;
const KIND_REFUSED: u8 = 18;
const KIND_PROVIDE: u8 = 19;
const KIND_UNPROVIDE: u8 = 20;
const KIND_FIND: u8 = 21;

/// Only what [`Control::Unknown`] wants to know of a body.
#[derive(Deserialize)]
struct AnyBody {
    #[serde(default)]
    id: Option<u64>,
}

impl Control {
    /// Bytes of tokens and values in it, which are what makes one large.
    pub fn bytes_carried(&self) -> usize {
        let sum = |tokens: &[serde_bytes::ByteBuf]| tokens.iter().map(|token| token.len()).sum();
        match self {
            Self::Join(join) => join.proofs.iter().map(Proof::bytes).sum(),
            Self::Present(present) => present.proofs.iter().map(Proof::bytes).sum(),
            Self::Revoke(revoke) => sum(&revoke.revocations),
            Self::Revoked(revoked) => sum(&revoked.revocations),
            Self::Done(done) => {
                let value = done.value.as_ref().map_or(0, |value| value.channel.len() + value.frame.len());
                value + done.proof.as_ref().map_or(0, Proof::bytes)
            }
            _ => 0,
        }
    }

    /// Appends the message with its length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        fn body(value: &impl Serialize) -> Vec<u8> {
            serde_ipld_dagcbor::to_vec(value).expect("a control message always encodes")
        }
        let (kind, body) = match self {
            Self::Join(join) => (KIND_JOIN, body(join)),
            Self::Subscribe(subscribe) => (KIND_SUBSCRIBE, body(subscribe)),
            Self::Unsubscribe(unsubscribe) => (KIND_UNSUBSCRIBE, body(unsubscribe)),
            Self::Advertise(advertise) => (KIND_ADVERTISE, body(advertise)),
            Self::Withdraw(withdraw) => (KIND_WITHDRAW, body(withdraw)),
            Self::Retained(retained) => (KIND_RETAINED, body(retained)),
            Self::Done(done) => (KIND_DONE, body(done)),
            Self::Dropped(dropped) => (KIND_DROPPED, body(dropped)),
            Self::Undelivered(undelivered) => (KIND_UNDELIVERED, body(undelivered)),
            Self::Ping(beat) => (KIND_PING, body(beat)),
            Self::Pong(beat) => (KIND_PONG, body(beat)),
            Self::Goodbye(goodbye) => (KIND_GOODBYE, body(goodbye)),
            Self::Show(show) => (KIND_SHOW, body(show)),
            Self::Present(present) => (KIND_PRESENT, body(present)),
            Self::Revoke(revoke) => (KIND_REVOKE, body(revoke)),
            Self::Revoked(revoked) => (KIND_REVOKED, body(revoked)),
            Self::Ended(ended) => (KIND_ENDED, body(ended)),
            Self::Refused(refused) => (KIND_REFUSED, body(refused)),
            Self::Provide(provide) => (KIND_PROVIDE, body(provide)),
            Self::Unprovide(unprovide) => (KIND_UNPROVIDE, body(unprovide)),
            Self::Find(find) => (KIND_FIND, body(find)),
            Self::Unknown { kind, .. } => (*kind, body(&std::collections::BTreeMap::<String, u8>::new())),
        };
        out.extend_from_slice(&(4 + body.len() as u32).to_le_bytes());
        out.extend_from_slice(&[kind, 0, 0, 0]);
        out.extend_from_slice(&body);
    }

    /// Reads the first message of `bytes`: it and how many bytes it took; `None` when it is incomplete.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, ControlError> {
        let Some(len) = bytes.first_chunk::<4>().map(|len| u32::from_le_bytes(*len) as usize) else { return Ok(None) };
        if len > CONTROL_BYTES_MAX {
            return Err(ControlError::TooLong(len));
        }
        if len < 4 {
            return Err(ControlError::Malformed { kind: 0, error: "too short".into() });
        }
        let Some(message) = bytes.get(4..4 + len) else { return Ok(None) };
        let (kind, body) = (message[0], &message[4..]);
        Ok(Some((Self::decode_body(kind, body)?, 4 + len)))
    }

    fn decode_body(kind: u8, body: &[u8]) -> Result<Self, ControlError> {
        fn read<T: DeserializeOwned>(kind: u8, body: &[u8]) -> Result<T, ControlError> {
            serde_ipld_dagcbor::from_slice(body)
                .map_err(|error| ControlError::Malformed { kind, error: error.to_string() })
        }
        Ok(match kind {
            KIND_JOIN => Self::Join(read(kind, body)?),
            KIND_SUBSCRIBE => Self::Subscribe(read(kind, body)?),
            KIND_UNSUBSCRIBE => Self::Unsubscribe(read(kind, body)?),
            KIND_ADVERTISE => Self::Advertise(read(kind, body)?),
            KIND_WITHDRAW => Self::Withdraw(read(kind, body)?),
            KIND_RETAINED => Self::Retained(read(kind, body)?),
            KIND_DONE => Self::Done(read(kind, body)?),
            KIND_DROPPED => Self::Dropped(read(kind, body)?),
            KIND_UNDELIVERED => Self::Undelivered(read(kind, body)?),
            KIND_PING => Self::Ping(read(kind, body)?),
            KIND_PONG => Self::Pong(read(kind, body)?),
            KIND_GOODBYE => Self::Goodbye(read(kind, body)?),
            KIND_SHOW => Self::Show(read(kind, body)?),
            KIND_PRESENT => Self::Present(read(kind, body)?),
            KIND_REVOKE => Self::Revoke(read(kind, body)?),
            KIND_REVOKED => Self::Revoked(read(kind, body)?),
            KIND_ENDED => Self::Ended(read(kind, body)?),
            KIND_REFUSED => Self::Refused(read(kind, body)?),
            KIND_PROVIDE => Self::Provide(read(kind, body)?),
            KIND_UNPROVIDE => Self::Unprovide(read(kind, body)?),
            KIND_FIND => Self::Find(read(kind, body)?),
            kind => Self::Unknown { kind, id: read::<AnyBody>(kind, body)?.id },
        })
    }
}

impl Done {
    /// The request succeeded.
    pub fn ok(id: u64) -> Self {
        Self { id, fault: None, value: None, proof: None, providers: Vec::new() }
    }

    /// It did not.
    pub fn failed(id: u64, fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::ok(id) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples() -> Vec<Control> {
        let root: crate::NodeId = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key().into();
        let name: crate::RealmName = "local.dev".parse().unwrap();
        let proof = Proof(vec![serde_bytes::ByteBuf::from(vec![1; 64]), serde_bytes::ByteBuf::from(vec![2])]);
        vec![
            Control::Join(Join {
                id: 1,
                slot: 0,
                name: name.clone(),
                root,
                proofs: vec![proof.clone(), Proof::default()],
            }),
            Control::Show(Show { id: 7, realm: crate::RealmId::new(&root, &name) }),
            Control::Provide(Provide { id: 4, slot: 0, contents: vec![crate::Mcid::of(b"a"), crate::Mcid::of(b"b")] }),
            Control::Unprovide(Unprovide { slot: 0, contents: vec![crate::Mcid::of(b"a")] }),
            Control::Find(Find { id: 5, slot: 0, content: crate::Mcid::of(b"a") }),
            Control::Done(Done { providers: vec![root], ..Done::ok(5) }),
            Control::Present(Present { id: 8, slot: 0, proofs: vec![proof.clone()] }),
            Control::Done(Done { proof: Some(proof), ..Done::ok(7) }),
            Control::Revoke(Revoke { id: 9, slot: 0, revocations: vec![serde_bytes::ByteBuf::from(vec![3; 9])] }),
            Control::Revoked(Revoked { slot: 1, revocations: Vec::new() }),
            Control::Ended(Ended { what: EndedWhat::Offer(4), fault: Fault::Denied("/mesh/advertise a".into()) }),
            Control::Refused(Refused {
                slot: 0,
                operation: NamedOperation(crate::Operation::Publish),
                name: "a.b".parse().unwrap(),
            }),
            Control::Subscribe(Subscribe {
                id: 2,
                slot: 0,
                subscription: 9,
                pattern: "a.**".parse().unwrap(),
                when_full: WhenFull::Block,
                queue_messages: 100,
                credit: 100,
                retained: true,
                resumed: false,
            }),
            Control::Done(Done::failed(2, Fault::Denied("/mesh/subscribe a.**".into()))),
            Control::Ping(Beat { token: 3 }),
            Control::Goodbye(Goodbye { reason: "restarting".into() }),
        ]
    }

    #[test]
    fn round_trip_and_truncation() {
        for message in samples() {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            assert_eq!(Control::decode(&bytes), Ok(Some((message, bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(Control::decode(&bytes[..cut]), Ok(None), "incomplete, not malformed");
            }
        }
    }

    #[test]
    fn later_versions_are_told_apart_from_garbage() {
        let mut bytes = Vec::new();
        Control::Ping(Beat { token: 3 }).encode(&mut bytes);
        bytes[4] = 99;
        assert_eq!(Control::decode(&bytes), Ok(Some((Control::Unknown { kind: 99, id: None }, bytes.len()))));
        assert!(matches!(Control::decode(&[255; 8]), Err(ControlError::TooLong(_))));
        assert!(matches!(
            Control::decode(&[6, 0, 0, 0, 2, 0, 0, 0, 0xff, 0xff]),
            Err(ControlError::Malformed { kind: 2, .. })
        ));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind: u8) {
            let _ = Control::decode(&bytes);
            let _ = Control::decode_body(kind, &bytes);
            let _ = crate::hello::Hello::open(&bytes, crate::hello::Side::Dialler, &[0; 32], &crate::hello::Expect {
                own: ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key().into(), peer: None });
        }
    }
}
