//! Hellos: opening never panics, and none verifies, for nobody here signed one.

#![no_main]

use std::sync::LazyLock;

use ed25519_dalek::SigningKey;
use libfuzzer_sys::fuzz_target;
use macula_wire::{
    NodeId,
    hello::{Expect, Hello, Role, Side, VERSION},
};

static OWN: LazyLock<NodeId> = LazyLock::new(|| SigningKey::from_bytes(&[1; 32]).verifying_key().into());
/// A Hello in order, for the fuzzer to start from.
static SEALED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let key = SigningKey::from_bytes(&[2; 32]);
    let node = key.verifying_key().into();
    let hello = Hello { node, versions: vec![VERSION], role: Role::Host, epoch: 1, features: Vec::new() };
    hello.seal(&key, Side::Dialler, &[0; 32])
});

fuzz_target!(|data: &[u8]| {
    let expect = Expect { own: *OWN, peer: None };
    assert!(Hello::open(data, Side::Dialler, &[0; 32], &expect).is_err() || data == &SEALED[..]);
    // The same bytes laid over a good one: a change anywhere must be noticed.
    let mut altered = SEALED.clone();
    let offset = data.first().map_or(0, |byte| usize::from(*byte)) % altered.len();
    for (byte, change) in altered[offset..].iter_mut().zip(data.iter().skip(1)) {
        *byte ^= change;
    }
    assert!(Hello::open(&altered, Side::Dialler, &[0; 32], &expect).is_err() || altered == *SEALED);
});
