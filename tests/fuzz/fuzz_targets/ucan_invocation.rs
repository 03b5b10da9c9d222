//! Invocations: what decodes is the bytes that came, no change to a good one is taken, and none is allowed that shows nothing.

#![no_main]

use std::sync::LazyLock;

use ed25519_dalek::SigningKey;
use libfuzzer_sys::fuzz_target;
use macula_ucan::{Clock, Invocation, InvocationFields, Ipld, Token, cid_of};

/// An invocation in order, for the fuzzer to start from.
static SIGNED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let key = |seed: u8| SigningKey::from_bytes(&[seed; 32]);
    let fields = InvocationFields {
        subject: key(1).verifying_key().into(),
        audience: Some(key(3).verifying_key().into()),
        command: "/mesh/call".parse().unwrap(),
        arguments: [("topic".to_owned(), Ipld::String("io.example.lamp".to_owned()))].into(),
        proofs: vec![cid_of(b"one"), cid_of(b"two")],
        nonce: vec![7; 12],
        expires: Some(1000),
        issued_at: Some(900),
        cause: Some(cid_of(b"cause")),
        meta: Default::default(),
    };
    fields.sign(&key(2)).unwrap().bytes().to_vec()
});

fuzz_target!(|data: &[u8]| {
    check(data);
    // The same bytes laid over a good one: a change anywhere must be noticed.
    let mut altered = SIGNED.clone();
    let offset = usize::from(u16::from_le_bytes([byte(data, 0), byte(data, 1)])) % altered.len();
    for (byte, change) in altered[offset..].iter_mut().zip(data.iter().skip(2)) {
        *byte ^= change;
    }
    assert_eq!(Invocation::decode(&altered).is_ok(), altered == *SIGNED);
    check(&altered);
});

fn byte(data: &[u8], at: usize) -> u8 {
    data.get(at).copied().unwrap_or_default()
}

fn check(bytes: &[u8]) {
    let Ok(read) = Invocation::decode(bytes) else {
        assert!(!matches!(Token::decode(bytes), Ok(Token::Invocation(_))), "one reading takes it, the other does not");
        return;
    };
    assert_eq!((read.bytes(), *read.cid()), (bytes, cid_of(bytes)));
    assert_eq!(Token::decode(bytes), Ok(Token::Invocation(read.clone())));
    // Nobody has the proofs: only the subject itself may be allowed.
    let verified = read.verify(|_| None, &Clock { now: 0, skew: 0 }, |_, _| false);
    assert_eq!(verified.is_ok(), read.proofs().is_empty() && read.issuer() == read.subject());
}
