//! Topics and patterns, as the mesh reads them.

/// Whether this can be a topic: 1 to 16 segments of `[A-Za-z0-9_-]{1,63}`.
pub(super) fn is_topic(topic: &str) -> bool {
    topic.split('.').count() <= 16 && topic.split('.').all(is_literal)
}

/// Whether this can be a pattern: a topic in which `*` stands for one segment and a final `**` for one or more.
pub(super) fn is_pattern(pattern: &str) -> bool {
    let segments: Vec<&str> = pattern.split('.').collect();
    let before = segments.strip_suffix(&["**"]).unwrap_or(&segments);
    segments.len() <= 16 && before.iter().all(|segment| *segment == "*" || is_literal(segment))
}

/// Whether every topic of `asked` (a topic or a pattern) is one of `pattern`.
///
/// Names that begin with `_` are the system's: no wildcard in front covers them.
pub(super) fn covers(pattern: &str, asked: &str) -> bool {
    if asked.starts_with('_') && pattern.starts_with('*') {
        return false;
    }
    let (mut patterns, mut segments) = (pattern.split('.'), asked.split('.'));
    loop {
        match (patterns.next(), segments.next()) {
            (Some("**"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(segment)) if segment != "**" => {}
            (Some(literal), Some(segment)) if literal == segment => {}
            _ => return false,
        }
    }
}

fn is_literal(segment: &str) -> bool {
    (1..=63).contains(&segment.len())
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_its_topics_and_narrower_patterns() {
        for (pattern, asked) in [
            ("a.b", "a.b"),
            ("a.*", "a.b"),
            ("a.*", "a.*"),
            ("a.**", "a.b.c"),
            ("a.**", "a.*.c"),
            ("a.**", "a.**"),
            ("**", "a"),
            ("sensors.**", "sensors.*.temperature"),
        ] {
            assert!(covers(pattern, asked), "{pattern} covers {asked}");
        }
        for (pattern, asked) in
            [("a.b", "a.*"), ("a.*", "a.**"), ("a.**", "a"), ("a.*", "a.b.c"), ("**", "_mesh.admin"), ("*", "_x")]
        {
            assert!(!covers(pattern, asked), "{pattern} does not cover {asked}");
        }
    }

    #[test]
    fn malformed_names_are_told_apart() {
        assert!(is_topic("a.b-c.D_9"));
        for malformed in ["", ".", "a..b", "a b", "a.*", "ä", &"x".repeat(64), &["a"; 17].join(".")] {
            assert!(!is_topic(malformed), "{malformed}");
        }
        assert!(is_pattern("a.*.b") && is_pattern("**") && is_pattern("a.**"));
        assert!(!is_pattern("a.**.b") && !is_pattern("a.b*"));
    }
}
