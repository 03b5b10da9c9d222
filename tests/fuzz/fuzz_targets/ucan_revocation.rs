//! Revocations: what decodes is the one revocation that its issuer can make, and no change to a good one is taken.

#![no_main]

use std::sync::LazyLock;

use ed25519_dalek::SigningKey;
use libfuzzer_sys::fuzz_target;
use macula_ucan::{Invocation, Revocation, cid_of};

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_bytes(&[1; 32]));
/// A revocation in order, for the fuzzer to start from.
static SIGNED: LazyLock<Vec<u8>> = LazyLock::new(|| Revocation::sign(&KEY, &cid_of(b"a delegation")).bytes().to_vec());

fuzz_target!(|data: &[u8]| {
    check(data);
    // The same bytes laid over a good one: a change anywhere must be noticed.
    let mut altered = SIGNED.clone();
    let offset = usize::from(u16::from_le_bytes([byte(data, 0), byte(data, 1)])) % altered.len();
    for (byte, change) in altered[offset..].iter_mut().zip(data.iter().skip(2)) {
        *byte ^= change;
    }
    assert_eq!(Revocation::decode(&altered).is_ok(), altered == *SIGNED);
    check(&altered);
});

fn byte(data: &[u8], at: usize) -> u8 {
    data.get(at).copied().unwrap_or_default()
}

fn check(bytes: &[u8]) {
    let Ok(read) = Revocation::decode(bytes) else { return };
    assert_eq!((read.bytes(), *read.cid()), (bytes, cid_of(bytes)));
    let invocation = Invocation::decode(bytes).expect("a revocation is one");
    assert_eq!((invocation.issuer(), invocation.subject()), (read.issuer(), read.issuer()));
    if *read.issuer() == KEY.verifying_key().into() {
        assert_eq!(Revocation::sign(&KEY, read.revoked()).bytes(), bytes);
    }
}
