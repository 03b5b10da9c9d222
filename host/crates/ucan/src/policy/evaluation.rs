//! Evaluating a policy: whether its statements hold of an invocation's arguments (UCAN delegation, “Validation”).
//!
//! Nothing is copied. Every value that is looked at is paid for from a [`Budget`], so that a policy made to take long
//! ends, whatever it is laid out on: it then does not hold, not even under a `not`.

use std::cmp::Ordering;

use ipld_core::ipld::Ipld;

use super::{Statement, selector::Found};
use crate::limits::POLICY_WORK_MAX;

/// What may still be looked at.
#[derive(Debug)]
pub(super) struct Budget {
    values_left: usize,
}

/// The budget is used up.
#[derive(Debug)]
pub(super) struct Exhausted;

impl Budget {
    pub(super) fn new() -> Self {
        Self { values_left: POLICY_WORK_MAX }
    }

    pub(super) fn spend(&mut self, values: usize) -> Result<(), Exhausted> {
        self.values_left = self.values_left.checked_sub(values).ok_or(Exhausted)?;
        Ok(())
    }
}

impl Statement {
    /// Whether the statement holds. A selector that finds nothing makes it false: `!=` too, for which the specification
    /// says both that and that it is the opposite of `==`; of the two readings this is the one that allows less.
    pub(super) fn holds(&self, of: &Ipld, budget: &mut Budget) -> Result<bool, Exhausted> {
        budget.spend(1)?;
        match self {
            Self::And(inner) => every(inner, |own| own.holds(of, budget)),
            Self::Or(inner) if inner.is_empty() => Ok(true),
            Self::Or(inner) => some(inner, |own| own.holds(of, budget)),
            Self::Not(inner) => Ok(!inner.holds(of, budget)?),
            Self::Equal(selector, _)
            | Self::NotEqual(selector, _)
            | Self::LessThan(selector, _)
            | Self::LessThanOrEqual(selector, _)
            | Self::GreaterThan(selector, _)
            | Self::GreaterThanOrEqual(selector, _)
            | Self::Like(selector, _)
            | Self::All(selector, _)
            | Self::Any(selector, _) => match selector.select(of, budget)? {
                Some(found) => self.holds_of_selected(&found, budget),
                None => Ok(false),
            },
        }
    }

    fn holds_of_selected(&self, found: &Found<'_>, budget: &mut Budget) -> Result<bool, Exhausted> {
        let compares = |value, is: fn(Ordering) -> bool| Ok(found.compare(value).is_some_and(is));
        match self {
            Self::Equal(_, value) => found.equals(value, budget),
            Self::NotEqual(_, value) => Ok(!found.equals(value, budget)?),
            Self::LessThan(_, value) => compares(value, Ordering::is_lt),
            Self::LessThanOrEqual(_, value) => compares(value, Ordering::is_le),
            Self::GreaterThan(_, value) => compares(value, Ordering::is_gt),
            Self::GreaterThanOrEqual(_, value) => compares(value, Ordering::is_ge),
            Self::Like(_, glob) => Ok(matches!(found, Found::Value(Ipld::String(text)) if glob.matches(text))),
            Self::All(_, inner) => match found.children(budget)? {
                Some(children) => every(children, |child| inner.holds(child, budget)),
                None => Ok(false),
            },
            Self::Any(_, inner) => match found.children(budget)? {
                Some(children) => some(children, |child| inner.holds(child, budget)),
                None => Ok(false),
            },
            Self::And(_) | Self::Or(_) | Self::Not(_) => unreachable!("these select nothing"),
        }
    }
}

fn every<T>(
    items: impl IntoIterator<Item = T>,
    mut holds: impl FnMut(T) -> Result<bool, Exhausted>,
) -> Result<bool, Exhausted> {
    for item in items {
        if !holds(item)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn some<T>(
    items: impl IntoIterator<Item = T>,
    mut holds: impl FnMut(T) -> Result<bool, Exhausted>,
) -> Result<bool, Exhausted> {
    Ok(!every(items, |item| Ok(!holds(item)?))?)
}

impl<'a> Found<'a> {
    /// The values of a list or map (“Quantification”).
    fn children(&self, budget: &mut Budget) -> Result<Option<Vec<&'a Ipld>>, Exhausted> {
        let children: Vec<_> = match self {
            Self::Value(Ipld::List(items)) => items.iter().collect(),
            Self::Value(Ipld::Map(map)) => map.values().collect(),
            Self::List(items) => items.clone(),
            Self::Value(_) | Self::Bytes(_) | Self::Byte(_) => return Ok(None),
        };
        budget.spend(children.len())?;
        Ok(Some(children))
    }

    fn equals(&self, value: &Ipld, budget: &mut Budget) -> Result<bool, Exhausted> {
        match (self, value) {
            (Self::Value(found), _) => equal(found, value, budget),
            (Self::Byte(byte), _) => equal(&Ipld::Integer((*byte).into()), value, budget),
            (Self::Bytes(found), Ipld::Bytes(value)) => Ok(found == value),
            (Self::List(found), Ipld::List(value)) if found.len() == value.len() => {
                every(found.iter().zip(value), |(found, value)| equal(found, value, budget))
            }
            (Self::Bytes(_) | Self::List(_), _) => Ok(false),
        }
    }

    fn compare(&self, value: &Ipld) -> Option<Ordering> {
        match self {
            Self::Value(found) => compare(found, value),
            Self::Byte(byte) => compare(&Ipld::Integer((*byte).into()), value),
            Self::Bytes(_) | Self::List(_) => None,
        }
    }
}

/// Equality that does not tell 1 from 1.0, at any depth (“Comparisons”).
fn equal(one: &Ipld, other: &Ipld, budget: &mut Budget) -> Result<bool, Exhausted> {
    budget.spend(1)?;
    match (one, other) {
        (Ipld::List(one), Ipld::List(other)) if one.len() == other.len() => {
            every(one.iter().zip(other), |(one, other)| equal(one, other, budget))
        }
        (Ipld::Map(one), Ipld::Map(other)) if one.len() == other.len() => {
            every(one.iter().zip(other), |((key, one), (other_key, other))| {
                Ok(key == other_key && equal(one, other, budget)?)
            })
        }
        (Ipld::List(_) | Ipld::Map(_), _) => Ok(false),
        (Ipld::Integer(_) | Ipld::Float(_), Ipld::Integer(_) | Ipld::Float(_)) => {
            Ok(compare(one, other).is_some_and(Ordering::is_eq))
        }
        _ => Ok(one == other),
    }
}

/// The order of two numbers; none of anything else.
fn compare(one: &Ipld, other: &Ipld) -> Option<Ordering> {
    match (one, other) {
        (Ipld::Integer(one), Ipld::Integer(other)) => Some(one.cmp(other)),
        (Ipld::Float(one), Ipld::Float(other)) => one.partial_cmp(other),
        (Ipld::Integer(one), Ipld::Float(other)) => compare_mixed(*one, *other),
        (Ipld::Float(one), Ipld::Integer(other)) => compare_mixed(*other, *one).map(Ordering::reverse),
        _ => None,
    }
}

/// Exact, also where a float has no room for every integer: 2^53 + 1 is not 2^53.
fn compare_mixed(integer: i128, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    // The cast saturates, and the numbers of a token lie far within.
    let by_whole = integer.cmp(&(float.trunc() as i128));
    if by_whole.is_eq() { 0.0.partial_cmp(&float.fract()) } else { Some(by_whole) }
}
