//! The mesh's profile of UCAN policies: the few forms that say which names, and for which plugin.
//!
//! A policy is a list of statements that must all hold. Of UCAN's language these are understood, and nothing else:
//!
//! ```text
//! ["==",   ".topic", "io.example.door"]         one name
//! ["like", ".topic", "io.example.sensors.*"]    everything below one: the pattern io.example.sensors.**
//! ["or", [ … one or more of the above … ]]
//! ["==",   ".plugin", "bafkr4i…"]               for the component with this content id
//! ["==",   ".slot", "io.example.app/alerts"]    for what that slot holds
//! ```
//!
//! No statement about `.topic` is the pattern `**`. A policy with anything else stays valid UCAN and is refused here.
//! Specified in `docs/protocol/ucan.md`, “Policies”.

use macula_ucan::{Ipld, Policy, PolicyError, Selector, Statement};
use macula_wire::{Mcid, Pattern};

use crate::{Scope, Slot};

const TOPIC: &str = ".topic";
const PLUGIN: &str = ".plugin";
const SLOT: &str = ".slot";

/// What a policy says, as the mesh understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Which names.
    pub scope: Scope,
    /// For whom on the node that holds the right.
    pub binding: Binding,
}

/// For which plugin a right is. The default is the node itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Binding {
    /// The component with this content id.
    pub plugin: Option<Mcid>,
    /// What this deployment slot holds.
    pub slot: Option<Slot>,
}

/// Why a policy is not of the mesh's profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// A statement of another form, or about something else.
    #[error("the policy has a statement that the mesh does not know: {0}")]
    Statement(String),
    /// A `like` whose pattern is not a name and `.*`, or a name that is none.
    #[error("the policy's {0:?} is neither a name nor everything below one")]
    Pattern(String),
    /// A component or slot that is none.
    #[error("the policy is for {0:?}, which is neither a content id nor a slot")]
    Binding(String),
    /// It is for two components, or two slots: for none.
    #[error("the policy is for {one} and for {other}: nothing is both")]
    Contradiction {
        /// First said.
        one: String,
        /// Also said.
        other: String,
    },
}

impl ProfileError {
    /// One word for programs.
    pub fn name(&self) -> &'static str {
        "UnsupportedPolicy"
    }
}

impl Binding {
    /// For the component with this id.
    pub fn plugin(mcid: Mcid) -> Self {
        Self { plugin: Some(mcid), slot: None }
    }

    /// Whether it is for the node itself.
    pub fn is_node(&self) -> bool {
        self.plugin.is_none() && self.slot.is_none()
    }

    /// What is both for `self` and for `other`.
    ///
    /// # Errors
    /// [`ProfileError::Contradiction`] when nothing is.
    pub(crate) fn and(&self, other: &Self) -> Result<Self, ProfileError> {
        Ok(Self { plugin: agree(&self.plugin, &other.plugin)?, slot: agree(&self.slot, &other.slot)? })
    }
}

fn agree<T: Clone + Eq + ToString>(one: &Option<T>, other: &Option<T>) -> Result<Option<T>, ProfileError> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => {
            Err(ProfileError::Contradiction { one: one.to_string(), other: other.to_string() })
        }
        (one, other) => Ok(one.clone().or_else(|| other.clone())),
    }
}

impl Terms {
    /// All names, for the node itself.
    pub fn all() -> Self {
        Self { scope: Scope::All, binding: Binding::default() }
    }

    /// The policy that says this.
    ///
    /// # Errors
    /// When there are more patterns than a policy holds statements; an empty scope is refused likewise, since an empty
    /// `or` is true in UCAN.
    pub fn to_policy(&self) -> Result<Policy, PolicyError> {
        let mut statements = Vec::new();
        if let Scope::Within(patterns) = &self.scope {
            let mut names: Vec<Statement> = patterns.iter().map(statement).collect();
            statements.push(if names.len() == 1 { names.remove(0) } else { Statement::Or(names) });
        }
        let bound = [
            (PLUGIN, self.binding.plugin.as_ref().map(ToString::to_string)),
            (SLOT, self.binding.slot.as_ref().map(ToString::to_string)),
        ];
        for (selector, value) in bound {
            statements.extend(value.map(|value| equal(selector, value)));
        }
        Policy::new(statements)
    }

    /// Reads a policy.
    ///
    /// # Errors
    /// See [`ProfileError`].
    pub fn read(policy: &Policy) -> Result<Self, ProfileError> {
        let mut terms = Self::all();
        for statement in policy.statements() {
            match statement {
                Statement::Equal(selector, Ipld::String(value)) if selector.as_str() == PLUGIN => {
                    let mcid = value.parse().map_err(|_| ProfileError::Binding(cut(value)))?;
                    terms.binding = terms.binding.and(&Binding::plugin(mcid))?;
                }
                Statement::Equal(selector, Ipld::String(value)) if selector.as_str() == SLOT => {
                    let slot = value.parse().map_err(|_| ProfileError::Binding(cut(value)))?;
                    terms.binding = terms.binding.and(&Binding { plugin: None, slot: Some(slot) })?;
                }
                // An empty `or` is true in UCAN; here it would be an unlimited right that looks like none.
                Statement::Or(names) if !names.is_empty() => {
                    let patterns = names.iter().map(pattern).collect::<Result<_, _>>()?;
                    terms.scope = terms.scope.intersection(&Scope::Within(patterns));
                }
                name => terms.scope = terms.scope.intersection(&Scope::Within(vec![pattern(name)?])),
            }
        }
        Ok(terms)
    }
}

fn equal(selector: &str, value: String) -> Statement {
    Statement::Equal(constant(selector), Ipld::String(value))
}

fn constant(selector: &str) -> Selector {
    selector.parse().expect("a constant selector")
}

fn statement(pattern: &Pattern) -> Statement {
    match pattern.as_str().strip_suffix(".**") {
        // Segments hold neither `*` nor `\`, so nothing has to be escaped.
        Some(prefix) => Statement::Like(constant(TOPIC), format!("{prefix}.*").parse().expect("a name is a glob")),
        None => equal(TOPIC, pattern.to_string()),
    }
}

fn pattern(statement: &Statement) -> Result<Pattern, ProfileError> {
    match statement {
        Statement::Equal(selector, Ipld::String(name)) if selector.as_str() == TOPIC => {
            name.parse().ok().filter(Pattern::is_literal).ok_or_else(|| ProfileError::Pattern(cut(name)))
        }
        Statement::Like(selector, glob) if selector.as_str() == TOPIC => {
            let refused = || ProfileError::Pattern(cut(glob.as_str()));
            let prefix = glob.as_str().strip_suffix(".*").ok_or_else(refused)?;
            let prefix: Pattern = prefix.parse().ok().filter(Pattern::is_literal).ok_or_else(refused)?;
            format!("{prefix}.**").parse().map_err(|_| refused())
        }
        other => Err(ProfileError::Statement(cut(&format!("{other:?}")))),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn glob(selector: &str, glob: &str) -> Statement {
        Statement::Like(constant(selector), glob.parse().unwrap())
    }

    fn read(statements: Vec<Statement>) -> Result<Terms, ProfileError> {
        Terms::read(&Policy::new(statements).unwrap())
    }

    #[test]
    fn only_whole_segments_have_a_meaning() {
        for bad in ["io.example.user*", "io.*.temperature", "*", "*.door", "io.example.**", "io..*", ".*", "io.ex%61.*"]
        {
            let refused = read(vec![glob(".topic", bad)]);
            assert!(matches!(refused, Err(ProfileError::Pattern(_))), "{bad}: {refused:?}");
        }
        for bad in ["io.*", "io.example.", "Ünicode", ""] {
            assert!(matches!(read(vec![equal(".topic", bad.into())]), Err(ProfileError::Pattern(_))), "{bad}");
        }
        let below = read(vec![glob(".topic", "io.example.user.*")]).unwrap();
        assert_eq!(below.scope, Scope::new(["io.example.user.**".parse().unwrap()]).unwrap());
        assert_eq!(read(Vec::new()), Ok(Terms::all()));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let topic = |name: &str| equal(".topic", name.into());
        for statements in [
            vec![Statement::Or(Vec::new())],
            vec![Statement::Not(Box::new(topic("a")))],
            vec![Statement::And(vec![topic("a")])],
            vec![Statement::Or(vec![Statement::Or(vec![topic("a")])])],
            vec![Statement::Or(vec![topic("a"), equal(".plugin", "b".into())])],
            vec![equal(".realm", "io.example".into())],
            vec![Statement::Equal(constant(".topic"), Ipld::Integer(1))],
            vec![glob(".plugin", "bafk.*")],
        ] {
            let refused = read(statements.clone());
            assert!(matches!(refused, Err(ProfileError::Statement(_))), "{statements:?}: {refused:?}");
        }
        assert!(matches!(read(vec![equal(".plugin", "bafk".into())]), Err(ProfileError::Binding(_))));
        let both = vec![equal(".plugin", Mcid::of(b"a").to_string()), equal(".plugin", Mcid::of(b"b").to_string())];
        assert!(matches!(read(both), Err(ProfileError::Contradiction { .. })));
    }

    #[test]
    fn statements_narrow_one_another() {
        let terms = read(vec![glob(".topic", "a.*"), equal(".topic", "a.b".into()), equal(".slot", "io.app/x".into())])
            .unwrap();
        assert_eq!(terms.scope, Scope::new(["a.b".parse().unwrap()]).unwrap());
        assert!(!terms.binding.is_node());
        let apart = read(vec![equal(".topic", "a".into()), equal(".topic", "b".into())]).unwrap();
        assert!(apart.scope.is_empty());
    }

    proptest! {
        #[test]
        fn written_and_read_back(patterns in prop::collection::vec("[a-z_]{1,3}(\\.[a-zA-Z0-9-]{1,3}){0,2}(\\.\\*\\*)?", 1..8), bound: bool) {
            let scope = Scope::new(patterns.iter().map(|pattern| pattern.parse().unwrap())).unwrap();
            let binding = if bound { Binding::plugin(Mcid::of(b"x")) } else { Binding::default() };
            let terms = Terms { scope, binding };
            prop_assert_eq!(Terms::read(&terms.to_policy().unwrap()), Ok(terms));
        }
    }
}
