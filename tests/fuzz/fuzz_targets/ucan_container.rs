//! Containers: what unpacks packs to what unpacks to the same, in every packing, and nothing unpacks to more than is allowed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use macula_ucan::{
    container::{Encoding, decode, encode},
    limits::CONTAINER_BYTES_MAX,
};

const ENCODINGS: [Encoding; 6] = [
    Encoding::Raw,
    Encoding::Base64,
    Encoding::Base64Url,
    Encoding::RawGzip,
    Encoding::Base64Gzip,
    Encoding::Base64UrlGzip,
];

fuzz_target!(|data: &[u8]| {
    if let Ok(tokens) = decode(data) {
        assert!(tokens.iter().map(Vec::len).sum::<usize>() <= CONTAINER_BYTES_MAX);
        let mut set = tokens.clone();
        set.sort_unstable();
        set.dedup();
        for encoding in ENCODINGS {
            assert_eq!(decode(&encode(&tokens, encoding)).as_ref(), Ok(&set), "{encoding:?}");
        }
    }
    // The same bytes as tokens, cut where the first says.
    let Some((first, rest)) = data.split_first() else { return };
    let tokens: Vec<&[u8]> = rest.chunks(usize::from(*first).max(1)).collect();
    let packed = encode(&tokens, ENCODINGS[usize::from(*first) % ENCODINGS.len()]);
    match decode(&packed) {
        Ok(unpacked) => {
            assert!(unpacked.is_sorted());
            assert!(tokens.iter().all(|token| unpacked.iter().any(|own| own == token)));
        }
        Err(error) => assert_eq!(error.name(), "TooLarge"),
    }
});
