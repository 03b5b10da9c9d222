//! Containers: tokens in one piece, for files and for calls (UCAN container 0.1.0).
//!
//! Owns the packing only. Tokens are bytes here, and prove nothing until they have been decoded and put in a chain.
//!
//! One byte says how the rest is packed; within is the DAG-CBOR map `{"ctn-v1": [token, …]}`, of at most
//! [`CONTAINER_BYTES_MAX`]. Unpacking stops there, however far the compressed data would go on.

use std::io::{Read, Write};

use data_encoding::{BASE64, BASE64URL_NOPAD, Encoding as Base};
use flate2::{Compression, bufread::GzDecoder, write::GzEncoder};
use ipld_core::ipld::Ipld;

use crate::{TokenError, limits::CONTAINER_BYTES_MAX, scan};

const KEY: &str = "ctn-v1";

/// How a container is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Bytes as they are: `@`.
    Raw,
    /// Base64 with padding: `B`.
    Base64,
    /// Base64 for URLs: `C`.
    Base64Url,
    /// Compressed: `M`.
    RawGzip,
    /// Compressed, base64 with padding: `O`.
    Base64Gzip,
    /// Compressed, base64 for URLs: `P`.
    Base64UrlGzip,
}

/// Why bytes are no container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContainerError {
    /// Nothing, or a first byte that says no known packing.
    #[error("it is not a container of tokens: {}", begins(*.0))]
    Header(Option<char>),
    /// Not the base64 that the first byte announces.
    #[error("the container's base64 is malformed")]
    Base64,
    /// Not the gzip that the first byte announces.
    #[error("the container's compressed data is malformed")]
    Gzip,
    /// More than [`CONTAINER_BYTES_MAX`], packed or unpacked.
    #[error("a container has at most {CONTAINER_BYTES_MAX} bytes")]
    TooLarge,
    /// Not a map with one list of byte strings.
    #[error("the container holds something else than tokens")]
    Content,
    /// Its CBOR is not in order.
    #[error("the container is not in order: {0}")]
    Form(TokenError),
}

fn begins(with: Option<char>) -> String {
    match with {
        Some(first) => format!("it begins with {first:?}, and one begins with @, B, C, M, O or P"),
        None => "it is empty".to_owned(),
    }
}

impl ContainerError {
    /// One word for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooLarge => "TooLarge",
            Self::Form(error) => error.name(),
            _ => "Malformed",
        }
    }
}

impl Encoding {
    const ALL: [Self; 6] =
        [Self::Raw, Self::Base64, Self::Base64Url, Self::RawGzip, Self::Base64Gzip, Self::Base64UrlGzip];

    fn header(self) -> u8 {
        match self {
            Self::Raw => b'@',
            Self::Base64 => b'B',
            Self::Base64Url => b'C',
            Self::RawGzip => b'M',
            Self::Base64Gzip => b'O',
            Self::Base64UrlGzip => b'P',
        }
    }

    fn base(self) -> Option<Base> {
        match self {
            Self::Raw | Self::RawGzip => None,
            Self::Base64 | Self::Base64Gzip => Some(BASE64),
            Self::Base64Url | Self::Base64UrlGzip => Some(BASE64URL_NOPAD),
        }
    }

    fn is_compressed(self) -> bool {
        matches!(self, Self::RawGzip | Self::Base64Gzip | Self::Base64UrlGzip)
    }
}

/// Packs tokens; they come out sorted, each once, so that the same set gives the same bytes. A set of more than
/// [`CONTAINER_BYTES_MAX`] is packed too, and nobody here reads it.
pub fn encode(tokens: impl IntoIterator<Item = impl AsRef<[u8]>>, encoding: Encoding) -> Vec<u8> {
    let mut tokens: Vec<Vec<u8>> = tokens.into_iter().map(|token| token.as_ref().to_vec()).collect();
    tokens.sort_unstable();
    tokens.dedup();
    let list = Ipld::List(tokens.into_iter().map(Ipld::Bytes).collect());
    let map = Ipld::Map([(KEY.to_owned(), list)].into());
    let mut packed = serde_ipld_dagcbor::to_vec(&map).expect("a map of byte strings always encodes");
    if encoding.is_compressed() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        packed = gzip.write_all(&packed).and_then(|()| gzip.finish()).expect("memory takes what is written");
    }
    if let Some(base) = encoding.base() {
        packed = base.encode(&packed).into_bytes();
    }
    packed.insert(0, encoding.header());
    packed
}

/// Unpacks tokens, whatever the packing; white space around base64 is left out. What they say is not looked at.
///
/// # Errors
/// See [`ContainerError`]; what is compressed is never unpacked further than [`CONTAINER_BYTES_MAX`].
pub fn decode(bytes: &[u8]) -> Result<Vec<Vec<u8>>, ContainerError> {
    // Base64 makes a third more of it.
    if bytes.len() > 2 * CONTAINER_BYTES_MAX {
        return Err(ContainerError::TooLarge);
    }
    let first = bytes.first().copied();
    let encoding = Encoding::ALL.into_iter().find(|encoding| Some(encoding.header()) == first);
    let encoding = encoding.ok_or(ContainerError::Header(first.map(char::from)))?;
    let mut packed = bytes[1..].to_vec();
    if let Some(base) = encoding.base() {
        packed = base.decode(packed.trim_ascii()).map_err(|_| ContainerError::Base64)?;
    }
    if encoding.is_compressed() {
        packed = inflate(&packed)?;
    }
    if packed.len() > CONTAINER_BYTES_MAX {
        return Err(ContainerError::TooLarge);
    }
    scan::check(&packed).map_err(ContainerError::Form)?;
    let content = serde_ipld_dagcbor::from_slice(&packed).map_err(|_| ContainerError::Content)?;
    let Ipld::Map(map) = content else { return Err(ContainerError::Content) };
    let mut entries = map.into_iter();
    let (Some((key, Ipld::List(list))), None) = (entries.next(), entries.next()) else {
        return Err(ContainerError::Content);
    };
    if key != KEY {
        return Err(ContainerError::Content);
    }
    let token = |item| if let Ipld::Bytes(token) = item { Ok(token) } else { Err(ContainerError::Content) };
    list.into_iter().map(token).collect()
}

/// Unpacks one gzip member with nothing behind it, up to one byte more than is allowed.
fn inflate(packed: &[u8]) -> Result<Vec<u8>, ContainerError> {
    let mut gzip = GzDecoder::new(packed).take(CONTAINER_BYTES_MAX as u64 + 1);
    let mut unpacked = Vec::new();
    gzip.read_to_end(&mut unpacked).map_err(|_| ContainerError::Gzip)?;
    let is_whole = unpacked.len() > CONTAINER_BYTES_MAX || gzip.into_inner().into_inner().is_empty();
    if is_whole { Ok(unpacked) } else { Err(ContainerError::Gzip) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_packing_is_read_back() {
        for encoding in Encoding::ALL {
            let packed = encode([b"two".to_vec(), b"one".to_vec(), b"two".to_vec()], encoding);
            assert_eq!(packed[0], encoding.header());
            assert_eq!(decode(&packed).unwrap(), [b"one".to_vec(), b"two".to_vec()]);
            if encoding.base().is_some() {
                let line = [&packed[..], b"\n"].concat();
                assert_eq!(decode(&line).unwrap().len(), 2, "as a line of a file");
            }
        }
    }

    #[test]
    fn what_unpacks_to_more_is_not_unpacked() {
        let mut gzip = GzEncoder::new(vec![b'M'], Compression::best());
        for _ in 0..1000 {
            gzip.write_all(&[0; 100_000]).unwrap();
        }
        let bomb = gzip.finish().unwrap();
        assert!(bomb.len() < CONTAINER_BYTES_MAX);
        assert_eq!(decode(&bomb), Err(ContainerError::TooLarge));
        assert_eq!(decode(&vec![b'@'; 3 * CONTAINER_BYTES_MAX]), Err(ContainerError::TooLarge));
    }

    #[test]
    fn anything_else_is_none() {
        assert_eq!(decode(b""), Err(ContainerError::Header(None)));
        assert_eq!(decode(b"eyJ0eXAi"), Err(ContainerError::Header(Some('e'))));
        assert_eq!(decode(b"B$$$"), Err(ContainerError::Base64));
        assert_eq!(decode(b"Mxyz"), Err(ContainerError::Gzip));
        let packed = encode([b"token"], Encoding::RawGzip);
        assert_eq!(decode(&packed[..packed.len() - 1]), Err(ContainerError::Gzip), "cut short");
        assert_eq!(decode(&[&packed[..], b"x"].concat()), Err(ContainerError::Gzip), "something behind it");
        assert_eq!(decode(&[&packed[..], &packed[1..]].concat()), Err(ContainerError::Gzip), "another one behind it");
        let raw = |value: &Ipld| decode(&[b"@".to_vec(), serde_ipld_dagcbor::to_vec(value).unwrap()].concat());
        let list = |items: Vec<Ipld>| Ipld::Map([(KEY.to_owned(), Ipld::List(items))].into());
        assert_eq!(raw(&list(vec![Ipld::Bytes(vec![1])])), Ok(vec![vec![1]]));
        let two = Ipld::Map([(KEY.to_owned(), Ipld::List(vec![])), ("more".to_owned(), Ipld::Null)].into());
        for other in
            [list(vec![Ipld::Null]), Ipld::Null, two, Ipld::Map([("ctn-v2".to_owned(), Ipld::List(vec![]))].into())]
        {
            assert_eq!(raw(&other), Err(ContainerError::Content), "{other:?}");
        }
        assert_eq!(decode(&[b'@', 0xa1]).unwrap_err().name(), "Truncated");
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(
            tokens in prop::collection::btree_set(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            encoding in prop::sample::select(Encoding::ALL.to_vec()),
        ) {
            prop_assert_eq!(decode(&encode(&tokens, encoding)).unwrap(), tokens.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), header in 0_usize..6) {
            let _ = decode(&bytes);
            let _ = decode(&[vec![Encoding::ALL[header].header()], bytes].concat());
        }
    }
}
