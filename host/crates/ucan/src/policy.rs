//! Policies: what must hold of an invocation's arguments (UCAN delegation 1.0.0, “Policy”).
//!
//! Owns the language: reading it, writing it and [evaluating](Policy::matches) it exactly as specified. What arguments a
//! command has, and which policies are sensible for it, is for others to know.
//!
//! What holds: a policy that exists is within the [bounds](crate::limits) on statements, depth and length of text, has
//! numbers where the language wants numbers, and is evaluated in bounded time; writing one and reading it gives the same.

mod evaluation;
mod glob;
mod selector;

use ipld_core::ipld::Ipld;

use self::evaluation::Budget;
pub use self::{glob::Glob, selector::Selector};
use crate::limits::{POLICY_DEPTH_MAX, POLICY_STATEMENTS_MAX, POLICY_TEXT_BYTES_MAX};

/// Statements that must all hold. Empty, it holds of everything.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Policy(Vec<Statement>);

/// One statement. A selector that finds nothing makes it false.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `==`: what is selected equals the value; numbers by what they are worth.
    Equal(Selector, Ipld),
    /// `!=`: what is selected equals anything else.
    NotEqual(Selector, Ipld),
    /// `<`, of numbers; anything else that is selected has no order, so that it is false.
    LessThan(Selector, Ipld),
    /// `<=`, of numbers.
    LessThanOrEqual(Selector, Ipld),
    /// `>`, of numbers.
    GreaterThan(Selector, Ipld),
    /// `>=`, of numbers.
    GreaterThanOrEqual(Selector, Ipld),
    /// `like`: what is selected is text that the glob matches.
    Like(Selector, Glob),
    /// `and`: all hold; of none, that is true.
    And(Vec<Statement>),
    /// `or`: one holds, or there is none.
    Or(Vec<Statement>),
    /// `not`: it does not hold.
    Not(Box<Statement>),
    /// `all`: holds of every item of the list or map that is selected.
    All(Selector, Box<Statement>),
    /// `any`: holds of an item of the list or map that is selected.
    Any(Selector, Box<Statement>),
}

/// Why something is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Not a list of statements, a statement of no known form, or an order with something that is no number.
    #[error("the policy has a statement of no known form")]
    Form,
    /// A selector that is none.
    #[error("{0:?} is no selector")]
    Selector(String),
    /// A selector or glob that is too long.
    #[error("a selector or pattern has more than {POLICY_TEXT_BYTES_MAX} bytes")]
    TooLong,
    /// Too many statements.
    #[error("a policy has at most {POLICY_STATEMENTS_MAX} statements")]
    TooManyStatements,
    /// Statements too deep within one another.
    #[error("the policy's statements are nested too deeply")]
    TooDeep,
}

impl PolicyError {
    /// One word for programs.
    pub fn name(&self) -> &'static str {
        "InvalidPolicy"
    }
}

impl Policy {
    /// Holds of everything.
    pub fn any() -> Self {
        Self::default()
    }

    /// Holds where all of these do.
    ///
    /// # Errors
    /// When there are too many, they are too deep within one another, or one compares with what is no number.
    pub fn new(statements: Vec<Statement>) -> Result<Self, PolicyError> {
        let mut count = 0;
        statements.iter().try_for_each(|statement| statement.check(1, &mut count))?;
        Ok(Self(statements))
    }

    /// The statements.
    pub fn statements(&self) -> &[Statement] {
        &self.0
    }

    /// Whether it holds of these arguments. Takes bounded time, whatever both are: a policy that would need more than
    /// [`POLICY_WORK_MAX`](crate::limits::POLICY_WORK_MAX) does not hold.
    pub fn matches(&self, arguments: &Ipld) -> bool {
        let mut budget = Budget::new();
        self.0.iter().all(|statement| statement.holds(arguments, &mut budget).unwrap_or(false))
    }

    /// As it stands in a token.
    pub fn to_ipld(&self) -> Ipld {
        Ipld::List(self.0.iter().map(Statement::to_ipld).collect())
    }

    /// Reads what stands in a token.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub fn from_ipld(value: &Ipld) -> Result<Self, PolicyError> {
        Ok(Self(statements(value, 1, &mut 0)?))
    }
}

fn enter(depth: usize, count: &mut usize) -> Result<(), PolicyError> {
    *count += 1;
    if *count > POLICY_STATEMENTS_MAX {
        return Err(PolicyError::TooManyStatements);
    }
    if depth > POLICY_DEPTH_MAX { Err(PolicyError::TooDeep) } else { Ok(()) }
}

fn statements(value: &Ipld, depth: usize, count: &mut usize) -> Result<Vec<Statement>, PolicyError> {
    let Ipld::List(list) = value else { return Err(PolicyError::Form) };
    list.iter().map(|item| Statement::from_ipld(item, depth, count)).collect()
}

fn text(value: &Ipld) -> Result<&str, PolicyError> {
    match value {
        Ipld::String(text) if text.len() <= POLICY_TEXT_BYTES_MAX => Ok(text),
        Ipld::String(_) => Err(PolicyError::TooLong),
        _ => Err(PolicyError::Form),
    }
}

impl Statement {
    fn check(&self, depth: usize, count: &mut usize) -> Result<(), PolicyError> {
        enter(depth, count)?;
        match self {
            Self::And(inner) | Self::Or(inner) => inner.iter().try_for_each(|own| own.check(depth + 1, count)),
            Self::Not(inner) | Self::All(_, inner) | Self::Any(_, inner) => inner.check(depth + 1, count),
            Self::LessThan(_, value)
            | Self::LessThanOrEqual(_, value)
            | Self::GreaterThan(_, value)
            | Self::GreaterThanOrEqual(_, value) => match value {
                Ipld::Integer(_) | Ipld::Float(_) => Ok(()),
                _ => Err(PolicyError::Form),
            },
            Self::Equal(..) | Self::NotEqual(..) | Self::Like(..) => Ok(()),
        }
    }

    fn from_ipld(value: &Ipld, depth: usize, count: &mut usize) -> Result<Self, PolicyError> {
        enter(depth, count)?;
        let Ipld::List(parts) = value else { return Err(PolicyError::Form) };
        let one = |value: &Ipld, count: &mut usize| Self::from_ipld(value, depth + 1, count).map(Box::new);
        let name = text(parts.first().ok_or(PolicyError::Form)?)?;
        match (name, &parts[1..]) {
            ("and", [inner]) => Ok(Self::And(statements(inner, depth + 1, count)?)),
            ("or", [inner]) => Ok(Self::Or(statements(inner, depth + 1, count)?)),
            ("not", [inner]) => Ok(Self::Not(one(inner, count)?)),
            ("all", [selector, inner]) => Ok(Self::All(text(selector)?.parse()?, one(inner, count)?)),
            ("any", [selector, inner]) => Ok(Self::Any(text(selector)?.parse()?, one(inner, count)?)),
            ("like", [selector, glob]) => Ok(Self::Like(text(selector)?.parse()?, text(glob)?.parse()?)),
            (name, [selector, value]) => {
                let is_number = matches!(value, Ipld::Integer(_) | Ipld::Float(_));
                let make = match name {
                    "==" => Self::Equal,
                    "!=" => Self::NotEqual,
                    "<" if is_number => Self::LessThan,
                    "<=" if is_number => Self::LessThanOrEqual,
                    ">" if is_number => Self::GreaterThan,
                    ">=" if is_number => Self::GreaterThanOrEqual,
                    _ => return Err(PolicyError::Form),
                };
                Ok(make(text(selector)?.parse()?, value.clone()))
            }
            _ => Err(PolicyError::Form),
        }
    }

    fn to_ipld(&self) -> Ipld {
        let list = |name: &str, parts: Vec<Ipld>| {
            Ipld::List([Ipld::String(name.to_owned())].into_iter().chain(parts).collect())
        };
        let selected = |name: &str, selector: &Selector, value: Ipld| {
            list(name, vec![Ipld::String(selector.as_str().to_owned()), value])
        };
        let all = |inner: &[Self]| Ipld::List(inner.iter().map(Self::to_ipld).collect());
        match self {
            Self::Equal(selector, value) => selected("==", selector, value.clone()),
            Self::NotEqual(selector, value) => selected("!=", selector, value.clone()),
            Self::LessThan(selector, value) => selected("<", selector, value.clone()),
            Self::LessThanOrEqual(selector, value) => selected("<=", selector, value.clone()),
            Self::GreaterThan(selector, value) => selected(">", selector, value.clone()),
            Self::GreaterThanOrEqual(selector, value) => selected(">=", selector, value.clone()),
            Self::Like(selector, glob) => selected("like", selector, Ipld::String(glob.as_str().to_owned())),
            Self::And(inner) => list("and", vec![all(inner)]),
            Self::Or(inner) => list("or", vec![all(inner)]),
            Self::Not(inner) => list("not", vec![inner.to_ipld()]),
            Self::All(selector, inner) => selected("all", selector, inner.to_ipld()),
            Self::Any(selector, inner) => selected("any", selector, inner.to_ipld()),
        }
    }
}

#[cfg(test)]
mod tests;
