//! Control messages: decoding never panics, and what was decoded encodes to what decodes to the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use macula_wire::control::Control;

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Ok(Some((message, used))) = Control::decode(rest) {
        rest = &rest[used..];
        if matches!(message, Control::Unknown { .. }) {
            continue;
        }
        let mut encoded = Vec::new();
        message.encode(&mut encoded);
        assert_eq!(Control::decode(&encoded), Ok(Some((message, encoded.len()))));
    }
});
