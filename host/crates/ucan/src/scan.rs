//! A first look at bytes that claim to be DAG-CBOR: whole, not too deep, and the only spelling of what they say.
//!
//! It walks over the heads without recursion and without allocating for what they announce, so nothing that comes after it
//! has to fear the bytes. What it checks: definite lengths, shortest heads, text keys in order without duplicates, one item
//! and nothing behind it (DAG-CBOR specification, “Strictness”).

use crate::{TokenError, limits::NESTING_MAX};

/// A list or map that is being walked through.
struct Open<'a> {
    is_map: bool,
    /// Items left; in a map, keys and values.
    left: u64,
    last_key: Option<&'a [u8]>,
}

/// Checks the bytes.
pub(crate) fn check(bytes: &[u8]) -> Result<(), TokenError> {
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut at = 0;
    loop {
        let start = at;
        let (major, value) = head(bytes, &mut at)?;
        let is_key = open.last().is_some_and(|open| open.is_map && open.left % 2 == 0);
        if is_key && major != TEXT {
            return Err(TokenError::NotCanonical("a map key that is no text"));
        }
        match major {
            BYTES | TEXT => {
                let length = usize::try_from(value).map_err(|_| TokenError::Truncated)?;
                at = at.checked_add(length).filter(|end| *end <= bytes.len()).ok_or(TokenError::Truncated)?;
            }
            // A tag belongs to the item behind it.
            TAG => continue,
            LIST | MAP => {
                if open.len() >= NESTING_MAX {
                    return Err(TokenError::TooDeep);
                }
                let left = if major == MAP { value.saturating_mul(2) } else { value };
                open.push(Open { is_map: major == MAP, left: left.saturating_add(1), last_key: None });
            }
            _ => {}
        }
        if is_key && let Some(map) = open.last_mut() {
            let key = &bytes[start..at];
            // Encoded keys compare as the rule wants: shorter ones first, then byte by byte.
            if map.last_key.is_some_and(|last| last >= key) {
                return Err(TokenError::NotCanonical("map keys that are not in order"));
            }
            map.last_key = Some(key);
        }
        while let Some(last) = open.last_mut() {
            last.left -= 1;
            if last.left > 0 {
                break;
            }
            open.pop();
        }
        if open.is_empty() {
            return if at == bytes.len() { Ok(()) } else { Err(TokenError::NotCanonical("bytes behind the end")) };
        }
    }
}

const BYTES: u8 = 2;
const TEXT: u8 = 3;
const LIST: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;

/// Reads one head: its major type and value.
fn head(bytes: &[u8], at: &mut usize) -> Result<(u8, u64), TokenError> {
    let first = *bytes.get(*at).ok_or(TokenError::Truncated)?;
    let (major, short) = (first >> 5, first & 31);
    *at += 1;
    let size = match short {
        0..24 => return Ok((major, short.into())),
        24..28 => 1 << (short - 24),
        _ => return Err(TokenError::NotCanonical("an indefinite or reserved length")),
    };
    let digits = bytes.get(*at..*at + size).ok_or(TokenError::Truncated)?;
    *at += size;
    let value = digits.iter().fold(0_u64, |value, digit| value << 8 | u64::from(*digit));
    // Of the simple values only floats are this long, and those have one length: 64 bits.
    if major == SIMPLE {
        return if size == 8 { Ok((major, value)) } else { Err(TokenError::NotCanonical("a short float")) };
    }
    let smallest = match size {
        1 => 24,
        2 => 1 << 8,
        4 => 1 << 16,
        _ => 1 << 32,
    };
    if value < smallest {
        Err(TokenError::NotCanonical("a number that is longer than needed"))
    } else {
        Ok((major, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_spelling_passes() {
        for good in
            [&[0x80][..], &[0xa1, 0x61, b'a', 0x01], &[0x82, 0x41, 0xff, 0xf6], &[0xd8, 0x2a, 0x41, 0], &[0x18, 24]]
        {
            assert_eq!(check(good), Ok(()), "{good:x?}");
        }
        for (bad, name) in [
            (&[][..], "Truncated"),
            (&[0x82, 0x01], "Truncated"),
            (&[0x42, 0x01], "Truncated"),
            (&[0x1b, 0, 0], "Truncated"),
            (&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "Truncated"),
            (&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "Truncated"),
            (&[0x18, 23], "NotCanonical"),
            (&[0x19, 0, 255], "NotCanonical"),
            (&[0x9f, 0xff], "NotCanonical"),
            (&[0x5f, 0xff], "NotCanonical"),
            (&[0x01, 0x01], "NotCanonical"),
            (&[0xf9, 0x3c, 0x00], "NotCanonical"),
            (&[0xa1, 0x01, 0x01], "NotCanonical"),
            (&[0xa2, 0x61, b'b', 1, 0x61, b'a', 1], "NotCanonical"),
            (&[0xa2, 0x61, b'a', 1, 0x61, b'a', 1], "NotCanonical"),
            (&[0xa2, 0x62, b'a', b'a', 1, 0x61, b'b', 1], "NotCanonical"),
        ] {
            assert_eq!(check(bad).unwrap_err().name(), name, "{bad:x?}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| [vec![0x81; depth], vec![0x01]].concat();
        assert_eq!(check(&nested(NESTING_MAX)), Ok(()));
        assert_eq!(check(&nested(NESTING_MAX + 1)), Err(TokenError::TooDeep));
        assert_eq!(check(&nested(1_000_000)), Err(TokenError::TooDeep));
    }
}
