//! For tests: tokens that this crate itself would not make, signed all the same, so that what is refused is what was
//! changed and not the signature.

use std::collections::BTreeMap;

use ed25519_dalek::{Signer, SigningKey};
use ipld_core::ipld::Ipld;

pub(crate) const DELEGATION: &str = "ucan/dlg@1.0.0";
pub(crate) const INVOCATION: &str = "ucan/inv@1.0.0";
pub(crate) const HEADER: [u8; 8] = [0x34, 0x01, 0xed, 0x01, 0xed, 0x01, 0x13, 0x71];

pub(crate) type Map = BTreeMap<String, Ipld>;

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn encode(value: &Ipld) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(value).unwrap()
}

/// The part that is signed.
pub(crate) fn signed_part(header: Ipld, tag: &str, payload: Ipld) -> Map {
    [("h".to_owned(), header), (tag.to_owned(), payload)].into()
}

/// A token around whatever is signed.
pub(crate) fn envelope(signer: &SigningKey, signed: Map) -> Vec<u8> {
    let signed = Ipld::Map(signed);
    let signature = signer.sign(&encode(&signed)).to_bytes().to_vec();
    encode(&Ipld::List(vec![Ipld::Bytes(signature), signed]))
}

/// A token that is in order but for its payload.
pub(crate) fn token(signer: &SigningKey, tag: &str, payload: Map) -> Vec<u8> {
    envelope(signer, signed_part(Ipld::Bytes(HEADER.into()), tag, Ipld::Map(payload)))
}

/// The `did:key` of any 32 bytes, also of those that are no key.
pub(crate) fn did_of(key: &[u8; 32]) -> String {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut digits = Vec::<u8>::new();
    for byte in [&[0xed, 0x01], &key[..]].concat() {
        let mut carry = u32::from(byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = (carry % 58) as u8;
            carry /= 58;
        }
        while carry > 0 {
            digits.push((carry % 58) as u8);
            carry /= 58;
        }
    }
    let text = digits.iter().rev().map(|digit| char::from(ALPHABET[usize::from(*digit)])).collect::<String>();
    format!("did:key:z{text}")
}

/// Public keys of small order: with these, one signature is good for nearly everything.
pub(crate) fn weak_keys() -> Vec<[u8; 32]> {
    let order_8 = [
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
            0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
            0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ],
    ];
    let (mut one, mut minus_one) = ([0; 32], [0xff; 32]);
    one[0] = 1;
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    let mut all = vec![[0; 32], one, minus_one, order_8[0], order_8[1]];
    for negative in all.clone() {
        let mut negative = negative;
        negative[31] |= 0x80;
        all.push(negative);
    }
    all
}

/// One value of every type.
pub(crate) fn values() -> Vec<Ipld> {
    vec![
        Ipld::Null,
        Ipld::Bool(true),
        Ipld::Integer(1),
        Ipld::Integer(-1),
        Ipld::Float(1.5),
        Ipld::String("x".to_owned()),
        Ipld::Bytes(vec![1]),
        Ipld::List(vec![Ipld::Integer(1)]),
        Ipld::Map([("x".to_owned(), Ipld::Null)].into()),
        Ipld::Link(crate::cid_of(b"x")),
    ]
}

/// Lists within one another.
pub(crate) fn nested(depth: usize) -> Ipld {
    (0..depth).fold(Ipld::Null, |inner, _| Ipld::List(vec![inner]))
}
