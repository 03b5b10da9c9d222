//! What a delegation says is read back, and each field that is not as it must be is refused by name. Tokens that a test
//! makes wrong in one place are signed as they are, so that only that can be the reason. What is refused whatever the fields
//! say is tested beside the envelope.

use ed25519_dalek::Signer;
use proptest::prelude::*;

use super::*;
use crate::{
    Invocation, Revocation, Statement, Token,
    forged::{DELEGATION, INVOCATION, Map, did_of, encode, envelope, key, nested, token, values, weak_keys},
    limits::TOKEN_BYTES_MAX,
};

fn id(seed: u8) -> NodeId {
    key(seed).verifying_key().into()
}

fn text(text: impl Into<String>) -> Ipld {
    Ipld::String(text.into())
}

fn map<const N: usize>(entries: [(&str, Ipld); N]) -> Map {
    entries.map(|(name, value)| (name.to_owned(), value)).into()
}

/// What [`good`] says.
fn payload() -> Map {
    map([
        ("iss", text(id(1).to_string())),
        ("aud", text(id(2).to_string())),
        ("sub", text(id(1).to_string())),
        ("cmd", text("/mesh/publish")),
        ("pol", Ipld::List(vec![Ipld::List(vec![text("like"), text(".topic"), text("io.example.*")])])),
        ("nonce", Ipld::Bytes(vec![7; 12])),
        ("exp", Ipld::Integer(1000)),
        ("nbf", Ipld::Integer(500)),
        ("meta", Ipld::Map(map([("note", text("a test"))]))),
    ])
}

fn fields() -> DelegationFields {
    DelegationFields {
        audience: id(2),
        subject: Some(id(1)),
        command: "/mesh/publish".parse().unwrap(),
        policy: Policy::new(vec![Statement::Like(".topic".parse().unwrap(), "io.example.*".parse().unwrap())]).unwrap(),
        expires: Some(1000),
        not_before: Some(500),
        nonce: vec![7; 12],
        meta: map([("note", text("a test"))]),
    }
}

fn good() -> Vec<u8> {
    fields().sign(&key(1)).unwrap().bytes().to_vec()
}

fn refusal(bytes: &[u8]) -> &'static str {
    Delegation::decode(bytes).expect_err("it was taken").name()
}

/// Signs the payload with one field replaced.
fn with(field: &str, value: Ipld) -> Vec<u8> {
    let mut payload = payload();
    payload.insert(field.to_owned(), value);
    token(&key(1), DELEGATION, payload)
}

fn without(field: &str) -> Vec<u8> {
    let mut payload = payload();
    payload.remove(field);
    token(&key(1), DELEGATION, payload)
}

/// A list's head, a signature's head, and a signature.
const SIGNED_AT: usize = 1 + 2 + 64;

fn sign_bytes(signed: &[u8]) -> Vec<u8> {
    [&[0x82, 0x58, 64][..], &key(1).sign(signed).to_bytes(), signed].concat()
}

/// Signs the good token's content with some of its bytes replaced.
fn respelled(from: &[u8], to: &[u8]) -> Vec<u8> {
    let signed = good()[SIGNED_AT..].to_vec();
    let at = signed.windows(from.len()).position(|window| window == from).expect("these bytes are in it");
    sign_bytes(&[&signed[..at], to, &signed[at + from.len()..]].concat())
}

#[test]
fn what_is_signed_is_read() {
    let delegation = fields().sign(&key(1)).unwrap();
    assert_eq!(delegation.bytes(), token(&key(1), DELEGATION, payload()), "as the specification draws it");
    let read = Delegation::decode(delegation.bytes()).unwrap();
    assert_eq!((&read, read.cid()), (&delegation, &crate::cid_of(delegation.bytes())));
    assert_eq!((read.issuer(), read.audience(), read.subject()), (&id(1), &id(2), Some(&id(1))));
    assert_eq!((read.command().as_str(), read.policy()), ("/mesh/publish", &fields().policy));
    assert_eq!((read.expires(), read.not_before()), (Some(1000), Some(500)));
    assert_eq!((read.nonce(), read.meta()), (&[7; 12][..], &fields().meta));
    // What may be left out, and what may be null.
    let mut least = payload();
    least.retain(|name, _| !["nbf", "meta"].contains(&name.as_str()));
    least.extend(map([
        ("sub", Ipld::Null),
        ("exp", Ipld::Null),
        ("pol", Ipld::List(vec![])),
        ("nonce", Ipld::Bytes(vec![])),
    ]));
    let read = Delegation::decode(&token(&key(1), DELEGATION, least)).unwrap();
    assert_eq!((read.subject(), read.expires(), read.not_before()), (None, None, None));
}

#[test]
fn bounds() {
    let of_size = |filling: usize| with("meta", Ipld::Map(map([("x", Ipld::Bytes(vec![0; filling]))])));
    let filling = TOKEN_BYTES_MAX - of_size(1000).len() + 1000;
    assert_eq!(of_size(filling).len(), TOKEN_BYTES_MAX);
    assert!(Delegation::decode(&of_size(filling)).is_ok());
    assert_eq!(refusal(&of_size(filling + 1)), "TooLarge");
    assert_eq!(refusal(&with("pol", nested(100))), "TooDeep");
    assert!(Delegation::decode(&with("nonce", Ipld::Bytes(vec![1; NONCE_BYTES_MAX]))).is_ok());
    let long = vec![1; NONCE_BYTES_MAX + 1];
    assert_eq!(refusal(&with("nonce", Ipld::Bytes(long.clone()))), "TooLarge");
    // What nobody would take is not made.
    let name = |fields: DelegationFields| fields.sign(&key(1)).unwrap_err().name();
    assert_eq!(name(DelegationFields { nonce: long, ..fields() }), "TooLarge");
    assert_eq!(
        name(DelegationFields { meta: map([("x", Ipld::Bytes(vec![0; filling + 1]))]), ..fields() }),
        "TooLarge"
    );
    assert_eq!(name(DelegationFields { meta: map([("x", nested(100))]), ..fields() }), "TooDeep");
    assert_eq!(name(DelegationFields { expires: Some(1 << 53), ..fields() }), "InvalidTime");
    assert_eq!(name(DelegationFields { not_before: Some(u64::MAX), ..fields() }), "InvalidTime");
}

/// A signature over another spelling does not make it this one.
#[test]
fn another_spelling_that_was_signed() {
    let exp = b"\x63exp\x19\x03\xe8";
    assert_eq!(respelled(exp, exp), good());
    for (what, other) in [
        ("a longer number", &b"\x63exp\x1a\0\0\x03\xe8"[..]),
        ("a half float", b"\x63exp\xf9\x63\xd0"),
        ("a longer key", b"\x78\x03exp\x19\x03\xe8"),
        ("a key of bytes", b"\x43exp\x19\x03\xe8"),
        ("a key out of order", b"\x63zzz\x19\x03\xe8"),
    ] {
        assert_eq!(refusal(&respelled(exp, other)), "NotCanonical", "{what}");
    }
    for other in [&b"\x63exp\xf7"[..], b"\x63exp\xe0", b"\x63exp\xc1\x19\x03\xe8", b"\x63exp\xd8\x2a\x19\x03\xe8"] {
        assert_eq!(refusal(&respelled(exp, other)), "Malformed", "{other:x?}");
    }
    assert_eq!(refusal(&respelled(b"\xa2\x61h", b"\xbf\x61h")), "NotCanonical", "an indefinite map");
    // Header behind payload, and header twice.
    let signed = &good()[SIGNED_AT..];
    let (header, payload) = (&signed[1..12], &signed[12..]);
    assert_eq!(sign_bytes(&[&[0xa2], header, payload].concat()), good());
    assert_eq!(refusal(&sign_bytes(&[&[0xa2], payload, header].concat())), "NotCanonical");
    assert_eq!(refusal(&sign_bytes(&[&[0xa3], header, header, payload].concat())), "NotCanonical");
}

#[test]
fn signatures_of_others_and_of_something_else() {
    assert_eq!(refusal(&with("iss", text(id(2).to_string()))), "InvalidSignature");
    let other = DelegationFields { nonce: vec![8; 12], ..fields() }.sign(&key(1)).unwrap();
    assert_eq!(refusal(&[&other.bytes()[..SIGNED_AT], &good()[SIGNED_AT..]].concat()), "InvalidSignature");
}

#[test]
fn missing() {
    for field in ["iss", "aud", "sub", "cmd", "pol", "nonce"] {
        assert_eq!(refusal(&without(field)), "MissingField", "{field}");
    }
    assert_eq!(refusal(&without("exp")), "InvalidTime", "an end that is not said is not no end");
    for field in ["nbf", "meta"] {
        assert!(Delegation::decode(&without(field)).is_ok(), "{field}");
    }
}

#[test]
fn of_another_type() {
    for (field, name, allowed) in [
        ("iss", "WrongType", &["string"][..]),
        ("aud", "WrongType", &["string"]),
        ("sub", "WrongType", &["string", "null"]),
        ("cmd", "WrongType", &["string"]),
        ("pol", "InvalidPolicy", &[]),
        ("nonce", "WrongType", &["bytes"]),
        ("exp", "InvalidTime", &["integer", "null"]),
        ("nbf", "InvalidTime", &["integer"]),
        ("meta", "WrongType", &["map"]),
    ] {
        for value in values() {
            let kind = match value {
                Ipld::Null => "null",
                Ipld::Integer(0..) => "integer",
                Ipld::String(_) => "string",
                Ipld::Bytes(_) => "bytes",
                Ipld::Map(_) => "map",
                _ => "other",
            };
            if !allowed.contains(&kind) {
                assert_eq!(refusal(&with(field, value.clone())), name, "{field}: {value:?}");
            }
        }
    }
}

#[test]
fn unknown() {
    for field in ["prf", "args", "iat", "fct", "exp ", "", &"x".repeat(10_000)] {
        assert_eq!(refusal(&with(field, Ipld::Null)), "UnknownField", "{field:.9}");
    }
    let error = Delegation::decode(&with(&"x".repeat(10_000), Ipld::Null)).unwrap_err();
    assert!(error.to_string().len() < 200, "what a stranger wrote is cut");
}

#[test]
fn principals() {
    let own = id(1);
    assert_eq!(did_of(own.as_bytes()), own.to_string());
    let mut bad: Vec<String> = vec![
        String::new(),
        "did:key:".into(),
        "did:key:z".into(),
        "did:key:z6Mk".into(),
        "did:key:zzzzzzzzzzz".into(),
        "did:web:example.com".into(),
        "did:macula:io.example".into(),
        own.segment(),
        format!("{own}#{}", own.segment()),
        format!("{own} "),
        format!(" {own}"),
        own.to_string().to_uppercase(),
        own.to_string().replacen('z', "z1", 1),
        own.to_string().replacen("did:key:z", "did:key:m", 1),
        own.to_string().replacen("did:key:", "did:key:did:key:", 1),
        format!("did:key:z{}", "6".repeat(10_000)),
        // Of an X25519 key, and of a key one byte longer.
        "did:key:z6LSbysY2xFMRpGMhb7tFTLMpeuPRaqaWM1yECx2AtzE3KCc".into(),
        format!("{own}1"),
    ];
    bad.extend(weak_keys().iter().map(did_of));
    // Of small order in a second spelling (p and p + 1), and no point at all.
    let last = |first: u8, last: u8| [&[first][..], &[0xff; 30], &[last]].concat().try_into().unwrap();
    let no_point = std::array::from_fn(|index| if index == 0 { 2 } else { 0 });
    bad.extend([last(0xed, 0x7f), last(0xee, 0x7f), last(0xee, 0xff), no_point].iter().map(did_of));
    for field in ["iss", "aud", "sub"] {
        for principal in &bad {
            assert_eq!(refusal(&with(field, text(principal))), "InvalidKey", "{field}: {principal:.80}");
        }
    }
}

#[test]
fn commands_and_policies() {
    for command in ["", "mesh", "/mesh/", "//", "/Mesh", &format!("/{}", "x".repeat(1000))] {
        assert_eq!(refusal(&with("cmd", text(command))), "InvalidCommand", "{command:.9}");
    }
    let statement = Ipld::List(vec![text("~="), text(".x"), text("y")]);
    assert_eq!(refusal(&with("pol", Ipld::List(vec![statement]))), "InvalidPolicy");
}

#[test]
fn times() {
    let last = (1 << 53) - 1;
    for field in ["exp", "nbf"] {
        for good in [0, 1, last] {
            // Without the other end, which it could contradict.
            let mut fields = payload();
            fields.remove("nbf");
            fields.extend(map([("exp", Ipld::Null), (field, Ipld::Integer(good))]));
            assert!(Delegation::decode(&token(&key(1), DELEGATION, fields)).is_ok(), "{field}: {good}");
        }
        for bad in [-1, last + 1, i128::from(u64::MAX), -1 - i128::from(u64::MAX)] {
            assert_eq!(refusal(&with(field, Ipld::Integer(bad))), "InvalidTime", "{field}: {bad}");
        }
        assert_eq!(refusal(&with(field, Ipld::Float(1000.0))), "InvalidTime", "{field}");
    }
}

/// Goal: what ends before it begins is refused, made or read, so that no allowance for clocks that differ puts it in force.
#[test]
fn what_is_never_in_force_is_refused() {
    assert!(Delegation::decode(&with("nbf", Ipld::Integer(1000))).is_ok(), "one second");
    assert_eq!(refusal(&with("nbf", Ipld::Integer(1001))), "InvalidTime");
    let never = DelegationFields { not_before: Some(1001), expires: Some(1000), ..fields() };
    assert_eq!(never.sign(&key(1)).unwrap_err(), TokenError::NeverInForce { not_before: 1001, expires: 1000 });
}

/// Any data that a token may hold.
fn data() -> impl Strategy<Value = Ipld> {
    let leaf = prop_oneof![
        Just(Ipld::Null),
        any::<bool>().prop_map(Ipld::Bool),
        any::<i64>().prop_map(|number| Ipld::Integer(number.into())),
        any::<f64>().prop_filter("what DAG-CBOR has", |float| float.is_finite()).prop_map(Ipld::Float),
        "[a-zA-Z0-9:. ä]{0,12}".prop_map(Ipld::String),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(Ipld::Bytes),
        any::<[u8; 8]>().prop_map(|bytes| Ipld::Link(crate::cid_of(&bytes))),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Ipld::List),
            prop::collection::btree_map("[a-z\"ä]{0,6}", inner, 0..5).prop_map(Ipld::Map),
        ]
    })
}

fn data_map() -> impl Strategy<Value = Map> {
    prop::collection::btree_map("[a-z]{0,6}", data(), 0..4)
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![Just("/".to_owned()), "(/[a-z0-9é]{1,5}){1,4}"].prop_map(|text| text.parse().unwrap())
}

/// A time that a token can say, the edges often.
fn time() -> impl Strategy<Value = Option<u64>> {
    prop::option::of(prop_oneof![Just(0), Just((1 << 53) - 1), 0_u64..1 << 53])
}

/// `None`, or the id of a key.
fn maybe_id() -> impl Strategy<Value = Option<NodeId>> {
    prop::option::of((1_u8..200).prop_map(id))
}

/// Decodes bytes as everything that there is; what is taken must be those bytes again.
fn decode_all(bytes: &[u8]) {
    if let Ok(delegation) = Delegation::decode(bytes) {
        assert_eq!(delegation.bytes(), bytes);
    }
    if let Ok(invocation) = Invocation::decode(bytes) {
        assert_eq!(invocation.bytes(), bytes);
    }
    let _ = (Token::decode(bytes), Revocation::decode(bytes));
}

proptest! {
    #[test]
    fn what_is_signed_decodes_to_the_same(
        audience in 1_u8..200,
        subject in maybe_id(),
        command in command(),
        value in data(),
        expires in time(),
        not_before in time(),
        nonce in prop::collection::vec(any::<u8>(), 0..=NONCE_BYTES_MAX),
        meta in data_map(),
    ) {
        let policy = Policy::new(vec![Statement::Equal(".x".parse().unwrap(), value)]).unwrap();
        let audience = id(audience);
        let (not_before, expires) = match (not_before, expires) {
            (Some(one), Some(other)) => (Some(one.min(other)), Some(one.max(other))),
            other => other,
        };
        let fields = DelegationFields { audience, subject, command, policy, expires, not_before, nonce, meta };
        let signed = fields.sign(&key(1)).unwrap();
        let read = Delegation::decode(signed.bytes()).unwrap();
        prop_assert_eq!(&read, &signed);
        prop_assert_eq!(&read.fields, &fields);
        prop_assert_eq!(read.fields.sign(&key(1)), Ok(signed.clone()));
        prop_assert!(Delegation::decode(&signed.bytes()[..signed.bytes().len() - 1]).is_err());
    }

    #[test]
    fn arbitrary_data_never_panics(value in data(), map in data_map(), is_delegation: bool) {
        decode_all(&encode(&value));
        decode_all(&envelope(&key(1), map.clone()));
        let tag = if is_delegation { DELEGATION } else { INVOCATION };
        decode_all(&token(&key(1), tag, map));
        let _ = Policy::from_ipld(&value);
    }

    #[test]
    fn an_arbitrary_field_never_panics(field in prop::sample::select(payload().into_keys().collect::<Vec<_>>()), value in data()) {
        decode_all(&with(&field, value));
    }
}
