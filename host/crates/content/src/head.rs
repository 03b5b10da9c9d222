//! What stands before the bytes: who wants what of which content, and what comes.
//!
//! Both are DAG-CBOR with keys of one letter, behind their length; unknown keys are ignored. Specified in
//! `docs/protocol/content.md`, “A request”.

use macula_wire::{Fault, Mcid, NodeId, binary_mcid};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use crate::groups::{GroupSet, PAIRS_MAX};

/// The first byte of a stream on which content is asked for.
pub const STREAM_CONTENT: u8 = 1;
/// Of a head, without its length. Two sets of 256 ranges of 64 TiB fit.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;

/// What of which content is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The content.
    #[serde(rename = "c", with = "binary_mcid")]
    pub content: Mcid,
    /// The realm, by the receiver's number for it.
    #[serde(rename = "s")]
    pub slot: u32,
    /// Who is to answer; without it, the relay chooses.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<NodeId>,
    /// Groups that are wanted; none asks only who has what.
    #[serde(rename = "r", default)]
    pub groups: GroupSet,
    /// Whether the last group is wanted too, wherever it is: it proves the size.
    #[serde(rename = "l", default, skip_serializing_if = "is_false")]
    pub last: bool,
    /// Who asks, as a relay says.
    #[serde(rename = "q", default, skip_serializing_if = "Option::is_none")]
    pub asker: Option<NodeId>,
}

/// What comes, or why nothing does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Who answers, as a relay says.
    pub provider: Option<NodeId>,
    /// What the provider says.
    pub outcome: Result<Sending, Fault>,
}

/// What follows an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// Size of the content in bytes, as the provider says. Believed when the last group is verified.
    pub size: u64,
    /// The groups that follow: what was wanted, as far as it is there.
    pub groups: GroupSet,
    /// The groups that are there; `None` when all are.
    pub has: Option<GroupSet>,
}

/// Why bytes are no head, or a head cannot be sent. The stream is given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// The stream is for something else.
    #[error("a stream of kind {0}, not {STREAM_CONTENT}")]
    Kind(u8),
    /// More than [`HEAD_BYTES_MAX`].
    #[error("a head of {0} bytes, at most {HEAD_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// More than [`PAIRS_MAX`] ranges of groups.
    #[error("{0} ranges of groups, at most {PAIRS_MAX} are allowed")]
    TooManyRanges(usize),
    /// The body is no head.
    #[error("malformed head: {0}")]
    Malformed(String),
}

impl Ask {
    /// Appends the request: its kind, its length, itself.
    ///
    /// # Errors
    /// [`HeadError::TooManyRanges`], [`HeadError::TooLong`]; nothing was appended.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), HeadError> {
        check_ranges(&self.groups)?;
        let body = encode_body(self)?;
        out.push(STREAM_CONTENT);
        append(&body, out);
        Ok(())
    }

    /// Reads a request from its first byte on: it and how many bytes it took; `None` when it is incomplete.
    ///
    /// # Errors
    /// See [`HeadError`].
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, HeadError> {
        match bytes.split_first() {
            None => Ok(None),
            Some((&STREAM_CONTENT, head)) => Ok(decode_body(head)?.map(|(ask, used)| (ask, used + 1))),
            Some((kind, _)) => Err(HeadError::Kind(*kind)),
        }
    }
}

impl Answer {
    /// Nothing comes.
    pub fn refused(fault: Fault) -> Self {
        Self { provider: None, outcome: Err(fault) }
    }

    /// Appends the answer: its length and itself.
    ///
    /// # Errors
    /// [`HeadError::TooManyRanges`], [`HeadError::TooLong`]; nothing was appended.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), HeadError> {
        if let Ok(sending) = &self.outcome {
            check_ranges(&sending.groups)?;
            sending.has.as_ref().map_or(Ok(()), check_ranges)?;
        }
        append(&encode_body(self)?, out);
        Ok(())
    }

    /// Reads an answer: it and how many bytes it took; `None` when it is incomplete.
    ///
    /// # Errors
    /// See [`HeadError`].
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, HeadError> {
        decode_body(bytes)
    }
}

impl From<Sending> for Answer {
    fn from(sending: Sending) -> Self {
        Self { provider: None, outcome: Ok(sending) }
    }
}

fn check_ranges(groups: &GroupSet) -> Result<(), HeadError> {
    let ranges = groups.pairs().len() / 2;
    if ranges > PAIRS_MAX { Err(HeadError::TooManyRanges(ranges)) } else { Ok(()) }
}

fn encode_body(head: &impl Serialize) -> Result<Vec<u8>, HeadError> {
    let body = serde_ipld_dagcbor::to_vec(head).expect("a head always encodes");
    if body.len() > HEAD_BYTES_MAX { Err(HeadError::TooLong(body.len())) } else { Ok(body) }
}

fn append(body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(body);
}

fn decode_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<Option<(T, usize)>, HeadError> {
    let Some(len) = bytes.first_chunk::<4>().map(|len| u32::from_le_bytes(*len) as usize) else { return Ok(None) };
    if len > HEAD_BYTES_MAX {
        return Err(HeadError::TooLong(len));
    }
    let Some(body) = bytes.get(4..4 + len) else { return Ok(None) };
    match serde_ipld_dagcbor::from_slice(body) {
        Ok(head) => Ok(Some((head, 4 + len))),
        Err(error) => Err(HeadError::Malformed(error.to_string())),
    }
}

/// An answer as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(rename = "z", default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    groups: Option<GroupSet>,
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    has: Option<GroupSet>,
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    provider: Option<NodeId>,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    fault: Option<Fault>,
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (sending, fault) = match &self.outcome {
            Ok(sending) => (Some(sending.clone()), None),
            Err(fault) => (None, Some(fault.clone())),
        };
        let (size, groups) = (sending.as_ref().map(|it| it.size), sending.as_ref().map(|it| it.groups.clone()));
        Written { size, groups, has: sending.and_then(|it| it.has), provider: self.provider, fault }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Written { size, groups, has, provider, fault } = Written::deserialize(deserializer)?;
        let outcome = match (fault, size) {
            (Some(fault), _) => Err(fault),
            (None, Some(size)) => Ok(Sending { size, groups: groups.unwrap_or_default(), has }),
            (None, None) => return Err(serde::de::Error::custom("neither a size nor a fault")),
        };
        Ok(Self { provider, outcome })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn id(seed: u8) -> NodeId {
        ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).verifying_key().into()
    }

    fn ask() -> Ask {
        Ask { content: Mcid::of(b"a"), slot: 3, provider: None, groups: (2..9).into(), last: false, asker: None }
    }

    #[test]
    fn round_trip_and_truncation() {
        let asks = [
            ask(),
            Ask { provider: Some(id(1)), asker: Some(id(2)), last: true, ..ask() },
            Ask { groups: (0..u64::MAX).into(), ..ask() },
        ];
        for ask in asks {
            let mut bytes = Vec::new();
            ask.encode(&mut bytes).unwrap();
            for cut in 0..bytes.len() {
                assert_eq!(Ask::decode(&bytes[..cut]), Ok(None), "incomplete, not malformed");
            }
            let len = bytes.len();
            bytes.push(7);
            assert_eq!(Ask::decode(&bytes), Ok(Some((ask, len))));
        }
        let sending = Sending { size: 70_000, groups: (1..3).into(), has: Some((0..3).into()) };
        let answers = [
            Answer::from(sending.clone()),
            Answer { provider: Some(id(1)), outcome: Ok(Sending { has: None, groups: GroupSet::new(), ..sending }) },
            Answer::refused(Fault::Unavailable("32 requests are open".into())),
        ];
        for answer in answers {
            let mut bytes = Vec::new();
            answer.encode(&mut bytes).unwrap();
            for cut in 0..bytes.len() {
                assert_eq!(Answer::decode(&bytes[..cut]), Ok(None), "incomplete, not malformed");
            }
            assert_eq!(Answer::decode(&bytes), Ok(Some((answer, bytes.len()))));
        }
    }

    #[test]
    fn bounds() {
        let many: GroupSet = (0..300_u64).map(|index| 2 * index..2 * index + 1).collect();
        let mut bytes = Vec::new();
        assert_eq!(Ask { groups: many.clone(), ..ask() }.encode(&mut bytes), Err(HeadError::TooManyRanges(300)));
        let fits = Sending { size: 1, groups: many.first_ranges(PAIRS_MAX), has: Some(many.first_ranges(PAIRS_MAX)) };
        assert_eq!(Answer::from(fits).encode(&mut Vec::new()), Ok(()));
        let long = Answer::refused(Fault::Other("a".repeat(HEAD_BYTES_MAX)));
        assert!(matches!(long.encode(&mut bytes), Err(HeadError::TooLong(_))));
        assert!(bytes.is_empty());
        assert_eq!(Ask::decode(&[2]), Err(HeadError::Kind(2)));
        assert!(matches!(Answer::decode(&[1, 32, 0, 0]), Err(HeadError::TooLong(8193))));
        assert!(matches!(Answer::decode(&[1, 0, 0, 0, 0xa0]), Err(HeadError::Malformed(_))), "an empty map");
    }

    #[test]
    fn keys_of_later_versions_are_ignored() {
        let later = BTreeMap::from([("z", 5_u8), ("x", 1), ("y", 2)]);
        let mut bytes = Vec::new();
        append(&serde_ipld_dagcbor::to_vec(&later).unwrap(), &mut bytes);
        let expected = Answer::from(Sending { size: 5, groups: GroupSet::new(), has: None });
        assert_eq!(Answer::decode(&bytes), Ok(Some((expected, bytes.len()))));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Ask::decode(&bytes), Answer::decode(&bytes));
            let _ = decode_body::<Ask>(&[&(bytes.len() as u32).to_le_bytes(), &bytes[..]].concat());
        }
    }
}
