//! What an invocation says is read back, and each field that is not as it must be is refused by name. What it may do is
//! tested beside chains.

use std::mem::discriminant;

use ipld_core::ipld::IpldKind;
use proptest::prelude::*;

use super::*;
use crate::{
    cid_of,
    forged::{INVOCATION, Map, did_of, key, token, values, weak_keys},
};

fn fields() -> InvocationFields {
    InvocationFields {
        subject: key(1).verifying_key().into(),
        audience: Some(key(3).verifying_key().into()),
        command: "/mesh/call".parse().unwrap(),
        arguments: [("topic".to_owned(), Ipld::String("a.b".to_owned())), ("x".to_owned(), Ipld::Float(1.5))].into(),
        proofs: vec![cid_of(b"one"), cid_of(b"two")],
        nonce: vec![7; 12],
        expires: Some(1000),
        issued_at: Some(900),
        cause: Some(cid_of(b"cause")),
        meta: [("why".to_owned(), Ipld::Null)].into(),
    }
}

fn payload() -> Map {
    let did = |seed| principal_value(&key(seed).verifying_key().into());
    [
        ("iss", did(2)),
        ("sub", did(1)),
        ("aud", did(3)),
        ("cmd", Ipld::String("/mesh/call".to_owned())),
        ("args", Ipld::Map(fields().arguments)),
        ("prf", Ipld::List(fields().proofs.into_iter().map(Ipld::Link).collect())),
        ("nonce", Ipld::Bytes(vec![7; 12])),
        ("exp", Ipld::Integer(1000)),
        ("iat", Ipld::Integer(900)),
        ("cause", Ipld::Link(cid_of(b"cause"))),
        ("meta", Ipld::Map(fields().meta)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn decode(payload: Map) -> Result<Invocation, TokenError> {
    Invocation::decode(&token(&key(2), INVOCATION, payload))
}

fn with(field: &str, value: Ipld) -> Result<Invocation, TokenError> {
    let mut payload = payload();
    payload.insert(field.to_owned(), value);
    decode(payload)
}

fn refusal(field: &str, value: Ipld) -> &'static str {
    with(field, value).unwrap_err().name()
}

#[test]
fn what_was_signed_is_read_back() {
    let signed = fields().sign(&key(2)).unwrap();
    assert_eq!(signed.bytes(), token(&key(2), INVOCATION, payload()), "the form is the specification's");
    let read = Invocation::decode(signed.bytes()).unwrap();
    assert_eq!(read, signed);
    assert_eq!(*read.issuer(), key(2).verifying_key().into());
    assert_eq!((read.subject(), read.audience()), (&fields().subject, fields().audience.as_ref()));
    assert_eq!((read.command(), read.arguments()), (&fields().command, &fields().arguments));
    assert_eq!((read.proofs(), read.cause()), (&fields().proofs[..], fields().cause.as_ref()));
    assert_eq!((read.expires(), read.issued_at()), (Some(1000), Some(900)));
    assert_eq!((read.nonce(), read.meta()), (&[7; 12][..], &fields().meta));
    assert_eq!(Delegation::decode(signed.bytes()).unwrap_err().name(), "OtherKind");
}

#[test]
fn what_is_needed_and_what_is_not() {
    for field in ["iss", "sub", "cmd", "args", "prf", "nonce"] {
        let mut payload = payload();
        payload.remove(field);
        assert_eq!(decode(payload).unwrap_err(), TokenError::MissingField(field));
    }
    let mut endless = payload();
    endless.remove("exp");
    assert_eq!(decode(endless).unwrap_err(), TokenError::InvalidTime("exp"));
    let mut least = payload();
    least.retain(|name, _| !["aud", "iat", "cause", "meta"].contains(&name.as_str()));
    let least = decode(least).unwrap();
    assert_eq!((least.audience(), least.issued_at(), least.cause()), (None, None, None));
    for field in ["nbf", "pol", "h", ""] {
        assert_eq!(refusal(field, Ipld::Null), "UnknownField", "{field}");
    }
}

#[test]
fn every_field_has_a_type() {
    for (field, own, name) in [
        ("iss", IpldKind::String, "InvalidKey"),
        ("sub", IpldKind::String, "InvalidKey"),
        ("aud", IpldKind::String, "InvalidKey"),
        ("cmd", IpldKind::String, "InvalidCommand"),
        ("args", IpldKind::Map, ""),
        ("nonce", IpldKind::Bytes, ""),
        ("cause", IpldKind::Link, ""),
        ("meta", IpldKind::Map, ""),
    ] {
        for value in values() {
            let is_own = discriminant(&value.kind()) == discriminant(&own);
            match with(field, value.clone()) {
                Ok(_) => assert!(is_own && name.is_empty(), "{field}: {value:?}"),
                Err(error) => assert_eq!(error.name(), if is_own { name } else { "WrongType" }, "{field}: {value:?}"),
            }
        }
    }
    for value in values() {
        assert_eq!(refusal("prf", value.clone()), "WrongType", "{value:?}");
    }
    for field in ["exp", "iat"] {
        for bad in [Ipld::Float(1.0), Ipld::Integer(-1), Ipld::Integer(1 << 53), Ipld::String("1".to_owned())] {
            assert_eq!(refusal(field, bad), "InvalidTime", "{field}");
        }
    }
    assert_eq!(refusal("iat", Ipld::Null), "InvalidTime");
    assert!(with("exp", Ipld::Null).is_ok());
}

#[test]
fn weak_keys_are_nobody() {
    for weak in weak_keys() {
        for field in ["iss", "sub", "aud"] {
            assert_eq!(refusal(field, Ipld::String(did_of(&weak))), "InvalidKey", "{field}: {weak:x?}");
        }
    }
}

#[test]
fn bounds() {
    let name = |fields: InvocationFields| fields.sign(&key(2)).unwrap_err().name();
    assert_eq!(name(InvocationFields { proofs: vec![cid_of(b"x"); 9], ..fields() }), "ChainTooLong");
    assert!(InvocationFields { proofs: vec![cid_of(b"x"); 8], ..fields() }.sign(&key(2)).is_ok());
    assert_eq!(name(InvocationFields { nonce: vec![0; 65], ..fields() }), "TooLarge");
    assert_eq!(name(InvocationFields { expires: Some(u64::MAX), ..fields() }), "InvalidTime");
    assert_eq!(name(InvocationFields { issued_at: Some(u64::MAX), ..fields() }), "InvalidTime");
    let large = [("x".to_owned(), Ipld::String("x".repeat(20_000)))].into();
    assert_eq!(name(InvocationFields { arguments: large, ..fields() }), "TooLarge");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn whatever_is_signed_is_read_back(
        audience in prop::option::of(1_u8..),
        arguments in prop::collection::btree_map(".{0,8}", any::<i64>().prop_map(|n| Ipld::Integer(n.into())), 0..4),
        proofs in prop::collection::vec(any::<u8>().prop_map(|byte| cid_of(&[byte])), 0..=8),
        nonce in prop::collection::vec(any::<u8>(), 0..=64),
        expires in prop::option::of(0..1_u64 << 53),
        issued_at in prop::option::of(0..1_u64 << 53),
        cause in prop::option::of(any::<u8>().prop_map(|byte| cid_of(&[byte]))),
    ) {
        let audience = audience.map(|seed| key(seed).verifying_key().into());
        let fields = InvocationFields { audience, arguments, proofs, nonce, expires, issued_at, cause, ..fields() };
        let signed = fields.sign(&key(2)).unwrap();
        let read = Invocation::decode(signed.bytes()).unwrap();
        prop_assert_eq!(&read, &signed);
        prop_assert_eq!(read.fields, fields);
    }
}
