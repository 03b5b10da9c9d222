//! The language beside the official vectors: what a selector that finds nothing does, numbers, collections, forms that are
//! refused, bounds, and that no policy takes long.

use proptest::prelude::*;

use super::*;
use crate::limits::POLICY_WORK_MAX;

fn json(text: &str) -> Ipld {
    serde_json::from_str(text).unwrap()
}

fn policy(text: &str) -> Policy {
    Policy::from_ipld(&json(text)).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn holds(statement: &str, arguments: &str) -> bool {
    policy(&format!("[{statement}]")).matches(&json(arguments))
}

const ARGUMENTS: &str =
    r#"{"a": 1, "f": 1.5, "t": "io.example.x", "l": [1, 2, 3], "m": {"x": 1, "y": 2}, "n": null, "e": []}"#;

#[test]
fn nothing_selected_makes_false() {
    for operator in ["==", "!=", "<", "<=", ">", ">="] {
        assert!(!holds(&format!(r#"["{operator}", ".a.b", 1]"#), ARGUMENTS), "{operator}");
        assert!(!holds(&format!(r#"["{operator}", ".l[7]", 1]"#), ARGUMENTS), "{operator}");
    }
    assert!(!holds(r#"["like", ".a.b", "*"]"#, ARGUMENTS));
    assert!(!holds(r#"["all", ".a.b", ["==", ".", 1]]"#, ARGUMENTS));
    assert!(!holds(r#"["any", ".a.b", ["==", ".", 1]]"#, ARGUMENTS));
    // The statement is false, so its opposite is true.
    assert!(holds(r#"["not", ["==", ".a.b", 1]]"#, ARGUMENTS));
    // A key that is not there is null, and so is what a `?` forgives.
    assert!(holds(r#"["==", ".missing", null]"#, ARGUMENTS));
    assert!(holds(r#"["!=", ".missing", 1]"#, ARGUMENTS));
    assert!(holds(r#"["==", ".a.b?", null]"#, ARGUMENTS));
    assert!(!holds(r#"["==", ".missing", 1]"#, ARGUMENTS));
}

#[test]
fn numbers_are_what_they_are_worth() {
    assert!(holds(r#"["==", ".a", 1.0]"#, ARGUMENTS));
    assert!(holds(r#"["==", ".l", [1.0, 2, 3.0]]"#, ARGUMENTS));
    assert!(!holds(r#"["!=", ".a", 1.0]"#, ARGUMENTS));
    assert!(holds(r#"["<", ".a", 1.5]"#, ARGUMENTS) && holds(r#"["<=", ".f", 1.5]"#, ARGUMENTS));
    assert!(holds(r#"[">", ".f", 1]"#, ARGUMENTS) && !holds(r#"[">", ".f", 2]"#, ARGUMENTS));
    assert!(holds(r#"["<", ".", -1]"#, "-1.5") && holds(r#"[">", ".", -2]"#, "-1.5"));
    assert!(!holds(r#"[">=", ".a", 1.0000001]"#, ARGUMENTS) && holds(r#"[">=", ".a", 1.0]"#, ARGUMENTS));
    for text in ["t", "l", "m", "n"] {
        assert!(!holds(&format!(r#"["<", ".{text}", 5]"#), ARGUMENTS), "{text} has no order");
        assert!(!holds(&format!(r#"[">=", ".{text}", 0]"#), ARGUMENTS), "{text} has no order");
    }
    // Where floats have gaps: 2^53 + 1 becomes 2^53 as a float, and is not it.
    let large = Ipld::Integer((1 << 53) + 1);
    let float = Ipld::Float(9_007_199_254_740_992.0);
    let selector = || ".".parse::<Selector>().unwrap();
    assert!(!Policy::new(vec![Statement::Equal(selector(), float.clone())]).unwrap().matches(&large));
    assert!(Policy::new(vec![Statement::GreaterThan(selector(), float)]).unwrap().matches(&large));
    let nan = Ipld::Float(f64::NAN);
    for make in [Statement::Equal, Statement::LessThan, Statement::GreaterThanOrEqual] {
        assert!(!Policy::new(vec![make(selector(), nan.clone())]).unwrap().matches(&Ipld::Integer(0)));
    }
    assert!(Policy::new(vec![Statement::LessThan(selector(), Ipld::Float(f64::INFINITY))]).unwrap().matches(&large));
}

#[test]
fn values_of_other_types_are_not_equal() {
    for value in [r#""1""#, "true", "null", "[1]", r#"{"a": 1}"#] {
        assert!(!holds(&format!(r#"["==", ".a", {value}]"#), ARGUMENTS), "{value}");
        assert!(holds(&format!(r#"["!=", ".a", {value}]"#), ARGUMENTS), "{value}");
    }
    for value in ["[1, 2]", "[1, 2, 4]", "[3, 2, 1]", "{}"] {
        assert!(!holds(&format!(r#"["==", ".l", {value}]"#), ARGUMENTS), "{value}");
    }
    for value in [r#"{"x": 1}"#, r#"{"x": 1, "z": 2}"#, r#"{"x": 1, "y": 3}"#, "[1, 2]"] {
        assert!(!holds(&format!(r#"["==", ".m", {value}]"#), ARGUMENTS), "{value}");
    }
    assert!(holds(r#"["==", ".m", {"y": 2, "x": 1}]"#, ARGUMENTS));
    assert!(holds(r#"["==", ".l[1:]", [2, 3]]"#, ARGUMENTS) && holds(r#"["==", ".m[]", [1, 2]]"#, ARGUMENTS));
    let bytes = Ipld::Map([("b".to_owned(), Ipld::Bytes(vec![1, 2, 3]))].into());
    let equal = |selector: &str, value: Ipld| Statement::Equal(selector.parse().unwrap(), value);
    let all = vec![
        equal(".b", Ipld::Bytes(vec![1, 2, 3])),
        equal(".b[1:]", Ipld::Bytes(vec![2, 3])),
        equal(".b[-1]", Ipld::Integer(3)),
        Statement::LessThan(".b[0]".parse().unwrap(), Ipld::Integer(2)),
    ];
    assert!(Policy::new(all).unwrap().matches(&bytes));
    assert!(!Policy::new(vec![equal(".b", json("[1, 2, 3]"))]).unwrap().matches(&bytes));
}

#[test]
fn collections_and_connectives() {
    assert!(
        holds(r#"["all", ".l", [">", ".", 0]]"#, ARGUMENTS) && !holds(r#"["all", ".l", [">", ".", 1]]"#, ARGUMENTS)
    );
    assert!(
        holds(r#"["any", ".m", ["==", ".", 2]]"#, ARGUMENTS) && !holds(r#"["any", ".m", ["==", ".", 3]]"#, ARGUMENTS)
    );
    assert!(holds(r#"["all", ".e", ["==", ".", 9]]"#, ARGUMENTS), "of nothing, everything holds");
    assert!(!holds(r#"["any", ".e", ["==", ".", 9]]"#, ARGUMENTS), "and there is nothing of which anything does");
    for other in ["a", "t", "n", "missing"] {
        assert!(!holds(&format!(r#"["all", ".{other}", ["==", ".", 1]]"#), ARGUMENTS), "{other} is no collection");
        assert!(!holds(&format!(r#"["any", ".{other}", ["==", ".", 1]]"#), ARGUMENTS), "{other} is no collection");
    }
    assert!(
        holds(r#"["any", ".l[1:]", ["==", ".", 3]]"#, ARGUMENTS)
            && holds(r#"["all", ".m[]", [">", ".", 0]]"#, ARGUMENTS)
    );
    for (statement, expected) in [
        (r#"["and", []]"#, true),
        (r#"["or", []]"#, true),
        (r#"["not", ["or", []]]"#, false),
        (r#"["or", [["==", ".a", 2], ["==", ".a", 1]]]"#, true),
        (r#"["or", [["==", ".a", 2], ["==", ".a", 3]]]"#, false),
        (r#"["and", [["==", ".a", 1], ["==", ".a", 2]]]"#, false),
        (r#"["not", ["not", ["==", ".a", 1]]]"#, true),
    ] {
        assert_eq!(holds(statement, ARGUMENTS), expected, "{statement}");
    }
    assert!(Policy::any().matches(&Ipld::Null) && policy("[]") == Policy::any());
    assert!(!policy(r#"[["==", ".a", 1], ["==", ".a", 2]]"#).matches(&json(ARGUMENTS)), "all of them must hold");
}

#[test]
fn globs_are_for_text() {
    assert!(holds(r#"["like", ".t", "io.*"]"#, ARGUMENTS));
    for other in ["a", "l", "m", "n", "missing"] {
        assert!(!holds(&format!(r#"["like", ".{other}", "*"]"#), ARGUMENTS), "{other} is no text");
    }
}

#[test]
fn forms_that_are_refused() {
    for bad in [
        "null",
        "{}",
        r#""==""#,
        r#"["==", ".a", 1]"#,
        "[[]]",
        "[1]",
        r#"[["=="]]"#,
        r#"[["==", ".a"]]"#,
        r#"[["==", ".a", 1, 2]]"#,
        r#"[["==", 1, 1]]"#,
        r#"[["=", ".a", 1]]"#,
        r#"[["is", ".a", 1]]"#,
        r#"[["AND", []]]"#,
        r#"[["and"]]"#,
        r#"[["and", ["==", ".a", 1]]]"#,
        r#"[["and", [], []]]"#,
        r#"[["not", []]]"#,
        r#"[["not", [["==", ".a", 1]]]]"#,
        r#"[["all", ".a"]]"#,
        r#"[["all", ".a", [["==", ".", 1]]]]"#,
        r#"[["like", ".a", 1]]"#,
        r#"[["<", ".a", "1"]]"#,
        r#"[[">=", ".a", null]]"#,
        r#"[["<", ".a", [1]]]"#,
    ] {
        assert_eq!(Policy::from_ipld(&json(bad)), Err(PolicyError::Form), "{bad}");
    }
    for bad in ["a", "", "..", ".a[", ".a b"] {
        let found = Policy::from_ipld(&json(&format!(r#"[["==", "{bad}", 1]]"#)));
        assert_eq!(found, Err(PolicyError::Selector(bad.to_owned())));
    }
    let selector = ".a".parse::<Selector>().unwrap();
    assert_eq!(Policy::new(vec![Statement::LessThan(selector, Ipld::Null)]), Err(PolicyError::Form));
    assert_eq!(PolicyError::Form.name(), "InvalidPolicy");
}

#[test]
fn statements_are_counted_wherever_they_are() {
    let one = || Statement::Or(vec![]);
    let many = |count| std::iter::repeat_with(one).take(count).collect::<Vec<_>>();
    assert!(Policy::new(many(POLICY_STATEMENTS_MAX)).is_ok());
    for too_many in [many(POLICY_STATEMENTS_MAX + 1), vec![Statement::And(many(POLICY_STATEMENTS_MAX))]] {
        let written = Ipld::List(too_many.iter().map(Statement::to_ipld).collect());
        assert_eq!(Policy::new(too_many), Err(PolicyError::TooManyStatements));
        assert_eq!(Policy::from_ipld(&written), Err(PolicyError::TooManyStatements));
    }
    let deep = |depth| (1..depth).fold(one(), |inner, _| Statement::Not(Box::new(inner)));
    assert!(Policy::new(vec![deep(POLICY_DEPTH_MAX)]).is_ok());
    let written = Ipld::List(vec![deep(POLICY_DEPTH_MAX + 1).to_ipld()]);
    assert_eq!(Policy::new(vec![deep(POLICY_DEPTH_MAX + 1)]), Err(PolicyError::TooDeep));
    assert_eq!(Policy::from_ipld(&written), Err(PolicyError::TooDeep));
    let long = format!(r#"[["like", ".a", "{}"]]"#, "x".repeat(POLICY_TEXT_BYTES_MAX + 1));
    assert_eq!(Policy::from_ipld(&json(&long)), Err(PolicyError::TooLong));
}

/// What would be looked at too often does not hold, and neither does its opposite.
#[test]
fn the_work_is_bounded() {
    let wide = Ipld::List(vec![Ipld::Integer(1); POLICY_WORK_MAX]);
    for statement in [
        r#"["all", ".", ["==", ".", 1]]"#,
        r#"["not", ["all", ".", ["==", ".", 1]]]"#,
        r#"["not", ["not", ["any", ".", ["==", ".", 2]]]]"#,
    ] {
        assert!(!policy(&format!("[{statement}]")).matches(&wide), "{statement}");
    }
    let equal = |value| Policy::new(vec![Statement::Equal(".".parse().unwrap(), value)]).unwrap();
    assert!(!equal(wide.clone()).matches(&wide));

    // As much as fits into a token, under selectors that go over it again and again.
    let wide = Ipld::List(vec![Ipld::Map([("a".to_owned(), Ipld::Null)].into()); 4000]);
    let statements = [
        format!(r#"["any", ".{}", ["==", ".", 2]]"#, "[0:]".repeat(200)),
        format!(r#"["any", ".", ["==", "{}", 2]]"#, ".a?".repeat(200)),
        format!(r#"["any", ".", ["any", ".{}", ["==", ".", 2]]]"#, "[]".repeat(200)),
    ];
    for statement in statements {
        // Within an `or`, all are tried; three statements each, with itself, are within the bound.
        let many = vec![statement.as_str(); 20].join(", ");
        let hostile = policy(&format!(r#"[["or", [{many}]]]"#));
        let mut budget = Budget::new();
        assert!(hostile.0[0].holds(&wide, &mut budget).is_err(), "used up: {}", &statement[..30]);
        assert!(!hostile.matches(&wide));
    }
    // An honest policy over as many values as a token holds is far from it.
    let plain = policy(r#"[["all", ".", ["and", [["==", ".a", null], ["!=", ".a", 1]]]]]"#);
    assert!(plain.matches(&wide));
}

fn arbitrary_statement() -> impl Strategy<Value = Statement> {
    let selector = || prop::sample::select(vec![".", ".a", ".a[0]", ".b.c?", ".[\"x y\"][-1]", ".l[1:]", ".m[]"]);
    let selector = move || selector().prop_map(|text| text.parse::<Selector>().unwrap());
    let number = || prop_oneof![any::<i32>().prop_map(|n| Ipld::Integer(n.into())), (-9.0..9.0).prop_map(Ipld::Float)];
    let value = prop_oneof![number(), Just(Ipld::Null), "[ab]{0,3}".prop_map(Ipld::String)];
    let leaf = prop_oneof![
        (selector(), value.clone()).prop_map(|(s, v)| Statement::Equal(s, v)),
        (selector(), value).prop_map(|(s, v)| Statement::NotEqual(s, v)),
        (selector(), number()).prop_map(|(s, v)| Statement::LessThan(s, v)),
        (selector(), number()).prop_map(|(s, v)| Statement::LessThanOrEqual(s, v)),
        (selector(), number()).prop_map(|(s, v)| Statement::GreaterThan(s, v)),
        (selector(), number()).prop_map(|(s, v)| Statement::GreaterThanOrEqual(s, v)),
        (selector(), "[ab*\\\\.]{0,6}").prop_map(|(s, g)| Statement::Like(s, g.parse().unwrap())),
    ];
    leaf.prop_recursive(4, 16, 3, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Statement::And),
            prop::collection::vec(inner.clone(), 0..3).prop_map(Statement::Or),
            inner.clone().prop_map(|inner| Statement::Not(Box::new(inner))),
            (selector(), inner.clone()).prop_map(|(s, inner)| Statement::All(s, Box::new(inner))),
            (selector(), inner).prop_map(|(s, inner)| Statement::Any(s, Box::new(inner))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(statements in prop::collection::vec(arbitrary_statement(), 0..4)) {
        if let Ok(policy) = Policy::new(statements) {
            prop_assert_eq!(Policy::from_ipld(&policy.to_ipld()), Ok(policy));
        }
    }

    #[test]
    fn connectives_are_those_of_logic(one in arbitrary_statement(), other in arbitrary_statement()) {
        let arguments = json(ARGUMENTS);
        let holds = |statement: Statement| Policy(vec![statement]).matches(&arguments);
        let (a, b) = (holds(one.clone()), holds(other.clone()));
        prop_assert_eq!(holds(Statement::And(vec![one.clone(), other.clone()])), a && b);
        prop_assert_eq!(holds(Statement::Or(vec![one.clone(), other])), a || b);
        prop_assert_eq!(holds(Statement::Not(Box::new(one))), !a);
    }
}
