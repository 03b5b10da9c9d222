//! Channel declarations, extras and errors: decoding never panics, and what was decoded encodes to the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use macula_wire::{
    Channel,
    frame::{Extras, Outcome},
};

fuzz_target!(|data: &[u8]| {
    if let Ok(channel) = Channel::from_bytes(data) {
        assert_eq!(Channel::from_bytes(&channel.to_bytes()).unwrap(), channel);
    }
    if let Ok(extras) = Extras::from_bytes(data) {
        let bytes = extras.to_bytes();
        assert!(bytes.len() <= usize::from(u16::MAX), "the length field holds it");
        assert_eq!(Extras::from_bytes(&bytes).unwrap(), extras);
    }
    let _ = Outcome::decode_error(data);
});
