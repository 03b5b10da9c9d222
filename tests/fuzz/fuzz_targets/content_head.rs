//! Heads of requests and answers: decoding never panics, and what was decoded encodes to what decodes to the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use macula_content::{Answer, Ask, PAIRS_MAX};

fuzz_target!(|data: &[u8]| {
    if let Ok(Some((ask, used))) = Ask::decode(data) {
        assert!(used <= data.len() && ask.groups.pairs().len() <= 2 * PAIRS_MAX);
        let mut encoded = Vec::new();
        ask.encode(&mut encoded).expect("no longer than it was");
        assert_eq!(Ask::decode(&encoded), Ok(Some((ask, encoded.len()))));
    }
    if let Ok(Some((answer, used))) = Answer::decode(data) {
        assert!(used <= data.len());
        let mut encoded = Vec::new();
        answer.encode(&mut encoded).expect("no longer than it was");
        assert_eq!(Answer::decode(&encoded), Ok(Some((answer, encoded.len()))));
    }
});
