//! What is refused whatever the fields say: bytes, versions, headers and signatures. Each by its name, so that a check
//! that is lost does not hide behind another.

use proptest::prelude::*;

use crate::{
    Delegation, DelegationFields, Invocation, Policy, Revocation, Token,
    forged::{DELEGATION, HEADER, INVOCATION, Map, encode, envelope, key, nested, signed_part},
    limits::{NESTING_MAX, TOKEN_BYTES_MAX},
};

use super::*;

/// A delegation in order.
fn good() -> Vec<u8> {
    let fields = DelegationFields {
        audience: key(2).verifying_key().into(),
        subject: Some(key(1).verifying_key().into()),
        command: "/mesh/publish".parse().unwrap(),
        policy: Policy::any(),
        expires: Some(1000),
        not_before: Some(1),
        nonce: vec![7; 12],
        meta: Map::new(),
    };
    fields.sign(&key(1)).unwrap().bytes().to_vec()
}

/// Signature, and what it signs.
fn parts() -> (Vec<u8>, Map) {
    let Ok(Ipld::List(parts)) = serde_ipld_dagcbor::from_slice(&good()) else { panic!("a list") };
    let Ok([Ipld::Bytes(signature), Ipld::Map(signed)]) = <[Ipld; 2]>::try_from(parts) else { panic!("two parts") };
    (signature, signed)
}

fn refusal(bytes: &[u8]) -> &'static str {
    let error = Delegation::decode(bytes).unwrap_err();
    assert_eq!(Token::decode(bytes).as_ref(), Err(&error), "whichever way it is read");
    error.name()
}

fn payload() -> Ipld {
    parts().1.remove(DELEGATION).unwrap()
}

fn with_header(header: Ipld) -> &'static str {
    refusal(&envelope(&key(1), signed_part(header, DELEGATION, payload())))
}

fn with_tag(tag: &str) -> &'static str {
    refusal(&envelope(&key(1), signed_part(Ipld::Bytes(HEADER.into()), tag, payload())))
}

fn with_signature(signature: Vec<u8>) -> &'static str {
    refusal(&encode(&Ipld::List(vec![Ipld::Bytes(signature), Ipld::Map(parts().1)])))
}

#[test]
fn the_helpers_make_what_is_taken() {
    let (signature, signed) = parts();
    assert_eq!(envelope(&key(1), signed.clone()), good());
    assert_eq!(encode(&Ipld::List(vec![Ipld::Bytes(signature), Ipld::Map(signed)])), good());
    assert_eq!(good()[..3], [0x82, 0x58, 0x40]);
    assert!(good()[SIGNED_AT..].starts_with(&[0xa2, 0x61, b'h']), "what is signed begins here");
}

#[test]
fn cut_short_at_every_byte() {
    for end in 0..good().len() {
        assert_eq!(refusal(&good()[..end]), "Truncated", "{end}");
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    for bit in 0..good().len() * 8 {
        let mut altered = good();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert!(Token::decode(&altered).is_err(), "bit {bit}");
    }
}

#[test]
fn every_other_spelling_is_refused() {
    let good = good();
    let altered = |prefix: &[u8], from: usize, suffix: &[u8]| [prefix, &good[from..], suffix].concat();
    for (what, bytes) in [
        ("something behind it", altered(&[], 0, &[0])),
        ("a second token behind it", altered(&[], 0, &good)),
        ("a list of indefinite length", altered(&[0x9f], 1, &[0xff])),
        ("a list's length in two bytes", altered(&[0x98, 0x02], 1, &[])),
        ("a signature's length in three bytes", altered(&[0x82, 0x59, 0x00, 0x40], 3, &[])),
        (
            "a signature in pieces",
            [&[0x82, 0x5f, 0x58, 0x40], &good[3..SIGNED_AT], &[0xff], &good[SIGNED_AT..]].concat(),
        ),
        ("a map of indefinite length", [&good[..SIGNED_AT], &[0xbf], &good[SIGNED_AT + 1..], &[0xff]].concat()),
    ] {
        assert_eq!(refusal(&bytes), "NotCanonical", "{what}");
    }
    // Keys in another order: the payload before the header.
    let signed = &good[SIGNED_AT..];
    let header_end = 1 + 2 + 1 + HEADER.len();
    let swapped = [&good[..SIGNED_AT], &signed[..1], &signed[header_end..], &signed[1..header_end]].concat();
    assert_eq!((swapped.len(), refusal(&swapped)), (good.len(), "NotCanonical"));
    // A number longer than needed: exp = 1000 is 0x19 0x03e8.
    let exp = good.windows(7).position(|window| window == [0x63, b'e', b'x', b'p', 0x19, 0x03, 0xe8]).unwrap();
    let long = [&good[..exp + 4], &[0x1a, 0, 0, 0x03, 0xe8], &good[exp + 7..]].concat();
    assert_eq!(refusal(&long), "NotCanonical");
    let short_float = [&good[..exp + 4], &[0xf9, 0x63, 0xd0], &good[exp + 7..]].concat();
    assert_eq!(refusal(&short_float), "NotCanonical");
    // What a scan does not see: text that is not UTF-8, values that DAG-CBOR does not have, other tags, NaN.
    for other in [&[0x61, 0xff][..], &[0xf7], &[0xe0], &[0xc1, 0x01], &[0xfb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0]] {
        let bytes = [&good[..exp + 4], other, &good[exp + 7..]].concat();
        assert_eq!(refusal(&bytes), "Malformed", "{other:x?}");
    }
}

#[test]
fn too_large_or_too_deep() {
    assert_eq!(refusal(&vec![0x80; TOKEN_BYTES_MAX + 1]), "TooLarge");
    assert_eq!(refusal(&vec![0x81; TOKEN_BYTES_MAX]), "TooDeep");
    assert_eq!(refusal(&vec![0x81; 100_000]), "TooLarge");
    // Tags within one another are no depth, and no recursion either.
    assert_eq!(refusal(&[vec![0xc1; TOKEN_BYTES_MAX - 1], vec![0x00]].concat()), "Malformed");
    let with_meta = |depth| {
        let Ipld::Map(mut payload) = payload() else { panic!("a map") };
        payload.insert("meta".to_owned(), Ipld::Map([("deep".to_owned(), nested(depth))].into()));
        envelope(&key(1), signed_part(Ipld::Bytes(HEADER.into()), DELEGATION, Ipld::Map(payload)))
    };
    // The list, what is signed, the payload and the remarks take four.
    assert!(Delegation::decode(&with_meta(NESTING_MAX - 4)).is_ok());
    assert_eq!(refusal(&with_meta(NESTING_MAX - 3)), "TooDeep");
}

#[test]
fn other_things_than_an_envelope() {
    let (signature, signed) = parts();
    let (signature, signed) = (Ipld::Bytes(signature), Ipld::Map(signed));
    for other in [
        Ipld::Null,
        Ipld::Map(Map::new()),
        Ipld::List(vec![]),
        Ipld::List(vec![signature.clone()]),
        Ipld::List(vec![signed.clone(), signature.clone()]),
        Ipld::List(vec![signature.clone(), signed.clone(), Ipld::Null]),
        Ipld::List(vec![signature.clone(), Ipld::List(vec![])]),
        Ipld::List(vec![Ipld::String("signature".to_owned()), signed]),
    ] {
        assert_eq!(refusal(&encode(&other)), "WrongType", "{other:?}");
    }
}

#[test]
fn other_versions_and_kinds() {
    for tag in
        ["ucan/dlg@1.0.0-rc.1", "ucan/dlg@1.0.1", "ucan/dlg@0.9.0", "ucan/dlg", "ucan/rcpt@1.0.0", "ucan/DLG@1.0.0"]
    {
        assert_eq!(with_tag(tag), "UnsupportedVersion", "{tag}");
    }
    assert_eq!(with_tag("dlg@1.0.0"), "UnknownField");
    assert_eq!(refusal(&envelope(&key(1), [("h".to_owned(), Ipld::Bytes(HEADER.into()))].into())), "MissingField");
    assert_eq!(refusal(&envelope(&key(1), [(DELEGATION.to_owned(), payload())].into())), "MissingField");
    let not_a_map = signed_part(Ipld::Bytes(HEADER.into()), DELEGATION, Ipld::Null);
    assert_eq!(refusal(&envelope(&key(1), not_a_map)), "WrongType");
    assert_eq!(Invocation::decode(&good()).unwrap_err().name(), "OtherKind");
    assert_eq!(Revocation::decode(&good()).unwrap_err().name(), "OtherKind");
}

/// One signature over two payloads would be good for both.
#[test]
fn more_than_one_payload() {
    for more in [INVOCATION, "ucan/dlg@2.0.0", "more"] {
        let mut signed = parts().1;
        signed.insert(more.to_owned(), payload());
        let bytes = envelope(&key(1), signed);
        let expected = if more == "ucan/dlg@2.0.0" { "UnsupportedVersion" } else { "UnknownField" };
        assert_eq!(refusal(&bytes), expected, "{more}");
        assert!(Invocation::decode(&bytes).is_err());
    }
}

#[test]
fn other_headers() {
    for index in 0..HEADER.len() {
        let mut header = HEADER;
        header[index] ^= 1;
        assert_eq!(with_header(Ipld::Bytes(header.into())), "UnsupportedAlgorithm", "byte {index}");
    }
    for header in [&HEADER[..7], &[], &[&HEADER[..], &[0]].concat()] {
        assert_eq!(with_header(Ipld::Bytes(header.into())), "UnsupportedAlgorithm");
    }
    assert_eq!(with_header(Ipld::String("none".to_owned())), "WrongType");
    assert_eq!(with_header(Ipld::Null), "WrongType");
}

#[test]
fn other_signatures() {
    let good = parts().0;
    for length in [0, 1, 23, 24, 32, 63, 65, 128, 256] {
        let mut signature = good.clone();
        signature.resize(length, 0);
        assert_eq!(with_signature(signature), "InvalidSignature", "{length} bytes");
    }
    assert_eq!(with_signature(vec![0; 64]), "InvalidSignature");
    assert_eq!(refusal(&envelope(&key(2), parts().1)), "InvalidSignature", "of another key");
}

/// S and S + L are the same number to a lenient verifier, and would give one delegation two ids (RFC 8032, 5.1.7).
#[test]
fn a_signature_has_one_spelling() {
    const L: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut signature = parts().0;
    let mut carry = 0;
    for (digit, added) in signature[32..].iter_mut().zip(L) {
        let sum = u16::from(*digit) + u16::from(added) + carry;
        *digit = sum as u8;
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    assert_eq!(with_signature(signature), "InvalidSignature");
}

#[test]
fn an_id_is_the_hash_of_the_bytes() {
    let token = Delegation::decode(&good()).unwrap();
    assert_eq!(token.cid(), &cid_of(&good()));
    assert_eq!((token.cid().codec(), token.cid().hash().code(), token.cid().hash().size()), (0x71, 0x12, 32));
    assert_eq!(token.cid().hash().digest(), &Sha256::digest(good())[..]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Token::decode(&bytes).is_err());
        prop_assert!(Revocation::decode(&bytes).is_err());
    }

    /// Changes that leave the form standing reach further in than noise does.
    #[test]
    fn no_altered_token_is_taken(at in 0..good().len(), put in prop::collection::vec(any::<u8>(), 0..12), cut in 0_usize..12) {
        let mut altered = good();
        let end = (at + cut).min(altered.len());
        altered.splice(at..end, put);
        prop_assert!(altered == good() || Token::decode(&altered).is_err());
    }
}
