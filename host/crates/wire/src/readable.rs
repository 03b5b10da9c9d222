//! Text of others, as people may be shown it.

use std::borrow::Cow;

/// The text with everything spelled out that would do more than show: control characters, which end lines and move
/// cursors, and those that turn the direction of writing.
pub fn readable(text: &str) -> Cow<'_, str> {
    readable_with(text, |_| false)
}

/// The same, but for characters that are welcome.
pub fn readable_with(text: &str, is_welcome: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_unwanted = |c: char| moves(c) && !is_welcome(c);
    if !text.contains(is_unwanted) {
        return text.into();
    }
    let spell = |c: char| if is_unwanted(c) { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(spell).collect()
}

/// Whether a character moves what is shown.
fn moves(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_is_spelled_out() {
        assert!(matches!(readable("grün, 日本"), Cow::Borrowed("grün, 日本")));
        assert_eq!(readable("a\x1b[2Jb\r\nc"), "a\\u{1b}[2Jb\\r\\nc");
        assert_eq!(readable("abc\u{202e}def"), "abc\\u{202e}def");
        assert_eq!(readable_with("a\n\tb\x07", |c| c == '\n'), "a\n\\tb\\u{7}");
    }
}
