//! Control messages about content: who has what. The content itself flows on streams of its own.
//! Specified in `docs/protocol/content.md`, “Who has it”.

use serde::{Deserialize, Serialize};

use crate::{Mcid, binary_mcid};

/// Contents that one message names at most.
pub const CONTENTS_PER_MESSAGE_MAX: usize = 512;
/// Providers that one answer names at most.
pub const PROVIDERS_MAX: usize = 32;

/// Says that the sender has content, whole or in part, and gives it to members of the realm. Twice is once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provide {
    /// Names the request.
    pub id: u64,
    /// The realm.
    pub slot: u32,
    /// What it has; at most [`CONTENTS_PER_MESSAGE_MAX`].
    #[serde(with = "binary_mcids")]
    pub contents: Vec<Mcid>,
}

/// Says that the sender has content no longer. What it did not provide is ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unprovide {
    /// The realm.
    pub slot: u32,
    /// What it has not; at most [`CONTENTS_PER_MESSAGE_MAX`].
    #[serde(with = "binary_mcids")]
    pub contents: Vec<Mcid>,
}

/// Asks who has content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Find {
    /// Names the request; its answer has the providers.
    pub id: u64,
    /// The realm.
    pub slot: u32,
    /// Which content.
    #[serde(with = "binary_mcid")]
    pub content: Mcid,
}

/// Several MCIDs in their binary form.
mod binary_mcids {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use serde_bytes::ByteBuf;

    use super::CONTENTS_PER_MESSAGE_MAX;
    use crate::Mcid;

    pub(super) fn serialize<S: Serializer>(mcids: &[Mcid], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(mcids.iter().map(|mcid| ByteBuf::from(mcid.to_bytes())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Mcid>, D::Error> {
        let all = Vec::<ByteBuf>::deserialize(deserializer)?;
        if all.len() > CONTENTS_PER_MESSAGE_MAX {
            return Err(D::Error::custom(format_args!("{} contents in one message", all.len())));
        }
        all.iter().map(|bytes| Mcid::from_bytes(bytes).map_err(D::Error::custom)).collect()
    }
}
