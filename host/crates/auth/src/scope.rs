//! Which names a grant is about, in the forms that mean the same to the mesh and to UCAN.

use macula_wire::{Pattern, Topic};

/// A set of names: all of a realm, or single names and whole subtrees.
///
/// Patterns are literals and `p.**` with a literal `p`, no others: UCAN's `like` lets `*` cross dots, so no other form
/// means the same there. Such sets are closed under intersection: of two subtrees, one holds the other or they are apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every name. Of the system's, those that somebody names when passing the right on: by itself it reaches none.
    All,
    /// What one of these covers; nothing when there is none.
    Within(Vec<Pattern>),
}

/// A pattern that cannot be granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pattern} cannot be granted: rights are to a name or to everything below one; {covering} would cover it")]
pub struct NotGrantable {
    /// What was asked for.
    pub pattern: Pattern,
    /// The smallest that can be granted and covers it.
    pub covering: Pattern,
}

impl Scope {
    /// The scope of these patterns; `**` among them makes it all names.
    ///
    /// # Errors
    /// [`NotGrantable`] for the first pattern of another form.
    pub fn new(patterns: impl IntoIterator<Item = Pattern>) -> Result<Self, NotGrantable> {
        let mut within = Vec::new();
        let mut all = false;
        for pattern in patterns {
            if pattern.as_str() == "**" {
                all = true;
            } else if is_grantable(&pattern) {
                within.push(pattern);
            } else {
                return Err(NotGrantable { covering: covering(&pattern), pattern });
            }
        }
        Ok(if all { Self::All } else { Self::Within(within) })
    }

    /// The smallest pattern that can be granted and covers this one.
    pub fn grantable(pattern: Pattern) -> Pattern {
        if is_grantable(&pattern) { pattern } else { covering(&pattern) }
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::All, other) | (other, Self::All) => other.clone(),
            (Self::Within(ours), Self::Within(theirs)) => {
                let mut both = Vec::new();
                for (one, other) in ours.iter().flat_map(|one| theirs.iter().map(move |other| (one, other))) {
                    let narrower = if one.covers(other) { Some(other) } else { other.covers(one).then_some(one) };
                    both.extend(narrower.filter(|pattern| !both.contains(*pattern)).cloned());
                }
                Self::Within(both)
            }
        }
    }

    /// The first pattern of `other` that this cannot pass on; `None` when it can pass on all.
    pub(crate) fn uncovered(&self, other: &Self) -> Option<Pattern> {
        match (self, other) {
            (Self::All, _) => None,
            (Self::Within(_), Self::All) => Some("**".parse().expect("a constant pattern")),
            (Self::Within(_), Self::Within(patterns)) => patterns.iter().find(|pattern| !self.covers(pattern)).cloned(),
        }
    }

    /// How many patterns it takes to say.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::All => 1,
            Self::Within(patterns) => patterns.len(),
        }
    }

    /// Whether the name is in it.
    pub fn contains(&self, topic: &Topic) -> bool {
        match self {
            Self::All => !topic.is_reserved(),
            Self::Within(patterns) => patterns.iter().any(|own| holds(own, topic)),
        }
    }

    /// Whether every name of the pattern is in it.
    pub fn covers(&self, pattern: &Pattern) -> bool {
        match self {
            Self::All => !pattern.is_reserved(),
            Self::Within(patterns) => patterns.iter().any(|own| own.covers(pattern)),
        }
    }

    /// Its patterns; `**` for all names.
    pub fn patterns(&self) -> Vec<Pattern> {
        match self {
            Self::All => vec!["**".parse().expect("a constant pattern")],
            Self::Within(patterns) => patterns.clone(),
        }
    }

    /// Whether no name is in it.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Within(patterns) if patterns.is_empty())
    }
}

/// As [`Pattern::matches`], for the two forms that there are here: no segment has to be looked at by itself.
fn holds(pattern: &Pattern, name: &str) -> bool {
    match pattern.as_str().strip_suffix("**") {
        Some(prefix) => name.len() > prefix.len() && name.starts_with(prefix),
        None => pattern.as_str() == name,
    }
}

fn is_grantable(pattern: &Pattern) -> bool {
    let prefix = pattern.as_str().strip_suffix(".**").unwrap_or(pattern);
    !prefix.contains('*')
}

/// Everything below the literal segments that a pattern begins with.
fn covering(pattern: &Pattern) -> Pattern {
    let literal: Vec<&str> = pattern.split('.').take_while(|segment| !segment.contains('*')).collect();
    let text = if literal.is_empty() { "**".to_owned() } else { format!("{}.**", literal.join(".")) };
    text.parse().expect("made of segments of a pattern")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope(patterns: &[&str]) -> Scope {
        Scope::new(patterns.iter().map(|pattern| pattern.parse().unwrap())).unwrap()
    }

    #[test]
    fn other_patterns_are_refused_with_the_one_that_would_do() {
        for (pattern, better) in
            [("sensors.*.temperature", "sensors.**"), ("*", "**"), ("a.b.*", "a.b.**"), ("*.**", "**")]
        {
            let refused = Scope::new([pattern.parse().unwrap()]).unwrap_err();
            assert_eq!(refused.covering.as_str(), better, "{pattern}");
            assert!(refused.covering.covers(&refused.pattern));
        }
        assert_eq!(scope(&["a", "**"]), Scope::All);
    }

    #[test]
    fn prefixes_are_of_whole_segments() {
        let user = scope(&["io.example.user.**"]);
        assert!(user.contains(&"io.example.user.door".parse().unwrap()));
        assert!(!user.contains(&"io.example.userevil.door".parse().unwrap()));
        assert!(!user.contains(&"io.example.user".parse().unwrap()));
        assert!(user.covers(&"io.example.user.*.temperature".parse().unwrap()));
        assert!(!user.covers(&"io.example.**".parse().unwrap()));
        assert!(!Scope::All.contains(&"_mesh.admin".parse().unwrap()));
    }

    fn pattern() -> impl Strategy<Value = Pattern> {
        "_?[ab](\\.[ab]){0,2}(\\.\\*\\*)?|\\*\\*".prop_map(|text| text.parse().unwrap())
    }

    proptest! {
        /// Against the definition: a name is in the intersection exactly when it is in both.
        #[test]
        fn intersections(ours in prop::collection::vec(pattern(), 0..4), theirs in prop::collection::vec(pattern(), 0..4),
                         topic in "_?[ab](\\.[ab]){0,3}") {
            let (ours, theirs) = (Scope::new(ours).unwrap(), Scope::new(theirs).unwrap());
            let topic: Topic = topic.parse().unwrap();
            if let Scope::Within(patterns) = &ours {
                prop_assert!(patterns.iter().all(|own| holds(own, &topic) == own.matches(&topic)));
            }
            let both = ours.intersection(&theirs);
            let passes_on = |scope: &Scope| *scope == Scope::All || scope.contains(&topic);
            if both != Scope::All {
                prop_assert_eq!(both.contains(&topic), passes_on(&ours) && passes_on(&theirs));
            }
            if ours != Scope::All && ours.uncovered(&theirs).is_none() && theirs.contains(&topic) { prop_assert!(ours.contains(&topic)); }
        }
    }
}
