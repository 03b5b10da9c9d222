//! Delegations: what decodes is the bytes that came, says what signs to a token again, and no change to a good one is taken.

#![no_main]

use std::sync::LazyLock;

use ed25519_dalek::SigningKey;
use libfuzzer_sys::fuzz_target;
use macula_ucan::{Delegation, DelegationFields, Policy, Statement, Token, cid_of};

/// A delegation in order, for the fuzzer to start from.
static SIGNED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let key = |seed: u8| SigningKey::from_bytes(&[seed; 32]);
    let like = Statement::Like(".topic".parse().unwrap(), "io.example.*".parse().unwrap());
    let fields = DelegationFields {
        audience: key(2).verifying_key().into(),
        subject: Some(key(1).verifying_key().into()),
        command: "/mesh/publish".parse().unwrap(),
        policy: Policy::new(vec![like]).unwrap(),
        expires: Some(1000),
        not_before: Some(1),
        nonce: vec![7; 12],
        meta: Default::default(),
    };
    fields.sign(&key(1)).unwrap().bytes().to_vec()
});

fuzz_target!(|data: &[u8]| {
    check(data);
    // The same bytes laid over a good one: a change anywhere must be noticed.
    let mut altered = SIGNED.clone();
    let offset = usize::from(u16::from_le_bytes([byte(data, 0), byte(data, 1)])) % altered.len();
    for (byte, change) in altered[offset..].iter_mut().zip(data.iter().skip(2)) {
        *byte ^= change;
    }
    assert_eq!(Delegation::decode(&altered).is_ok(), altered == *SIGNED);
    check(&altered);
});

fn byte(data: &[u8], at: usize) -> u8 {
    data.get(at).copied().unwrap_or_default()
}

fn check(bytes: &[u8]) {
    let Ok(read) = Delegation::decode(bytes) else {
        assert!(!matches!(Token::decode(bytes), Ok(Token::Delegation(_))), "one reading takes it, the other does not");
        return;
    };
    assert_eq!((read.bytes(), *read.cid()), (bytes, cid_of(bytes)));
    assert_eq!(Token::decode(bytes), Ok(Token::Delegation(read.clone())));
    // What it says can be said by anybody, and reads the same.
    let fields = DelegationFields {
        audience: *read.audience(),
        subject: read.subject().copied(),
        command: read.command().clone(),
        policy: read.policy().clone(),
        expires: read.expires(),
        not_before: read.not_before(),
        nonce: read.nonce().to_vec(),
        meta: read.meta().clone(),
    };
    let again = fields.sign(&SigningKey::from_bytes(&[3; 32])).unwrap();
    assert_eq!((again.command(), again.policy(), again.meta()), (read.command(), read.policy(), read.meta()));
}
