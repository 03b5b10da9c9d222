//! Arithmetic as procedures.
//!
//! Arguments are a JSON list of numbers, or an object with two of them; the answer is a JSON number: `math.sub` of
//! `[10, 2, 3]` is `5`, and of `{"a": 10, "b": 2}` is `8`.

use macula_plugin::prelude::*;
use serde::Deserialize;

/// What is computed with.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a list of numbers is needed, such as [2, 3], or two by name: {\"a\": 2, \"b\": 3}")]
enum Arguments {
    List(Vec<f64>),
    Pair(Pair),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    a: f64,
    b: f64,
}

impl Arguments {
    fn into_numbers(self) -> Vec<f64> {
        match self {
            Self::List(numbers) => numbers,
            Self::Pair(Pair { a, b }) => vec![a, b],
        }
    }
}

#[derive(Default)]
struct Calculator;

impl CallHandler for Calculator {
    fn on_call(&mut self, request: Request) -> Result<Vec<u8>> {
        let numbers = request.json::<Arguments>()?.into_numbers();
        let Some((&first, rest)) = numbers.split_first() else {
            return Err(Failure::code("bad-arguments", "a list of at least one number is needed"));
        };
        let mut rest = rest.iter();
        let result = match request.procedure.as_str() {
            "math.add" => rest.fold(first, |sum, number| sum + number),
            "math.sub" => rest.fold(first, |left, number| left - number),
            "math.mul" => rest.fold(first, |product, number| product * number),
            "math.div" => rest.try_fold(first, |left, &number| divide(left, number))?,
            other => return Err(Failure::unknown_procedure(other)),
        };
        answer(result)
    }
}

fn divide(left: f64, right: f64) -> Result<f64> {
    if right == 0.0 {
        return Err(Failure::code("division-by-zero", format!("{left} cannot be divided by 0")));
    }
    Ok(left / right)
}

/// Whole numbers are written without a fraction; JSON has no infinity.
fn answer(result: f64) -> Result<Vec<u8>> {
    /// Up to here, a 64-bit float tells every whole number from its neighbours.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if !result.is_finite() {
        return Err(Failure::code("overflow", "the result is beyond the range of 64-bit floats"));
    }
    if result.fract() == 0.0 && result.abs() <= EXACT_MAX {
        return Ok(to_json(&(result as i64))?);
    }
    Ok(to_json(&result)?)
}

macula_plugin::export!(Calculator: call);

#[cfg(test)]
mod tests {
    use super::Calculator;
    use macula_plugin::testing::Host;

    fn call(procedure: &str, arguments: &str) -> Result<String, String> {
        let answer = Host::<Calculator>::start().call(procedure, arguments);
        answer.map(|bytes| String::from_utf8(bytes).expect("JSON is UTF-8")).map_err(|error| error.code)
    }

    #[test]
    fn the_four_operations_take_any_number_of_arguments() {
        assert_eq!(call("math.add", "[2, 3]").as_deref(), Ok("5"));
        assert_eq!(call("math.add", "[0.5, 0.25, 7]").as_deref(), Ok("7.75"));
        assert_eq!(call("math.sub", "[10, 2, 3]").as_deref(), Ok("5"));
        assert_eq!(call("math.mul", "[-4, 2.5]").as_deref(), Ok("-10"));
        assert_eq!(call("math.div", "[7, 2]").as_deref(), Ok("3.5"));
        assert_eq!(call("math.add", "[42]").as_deref(), Ok("42"));
    }

    #[test]
    fn two_numbers_may_have_names() {
        assert_eq!(call("math.sub", r#"{"a": 10, "b": 2}"#).as_deref(), Ok("8"));
        assert_eq!(call("math.div", r#"{"b": 2, "a": 7}"#).as_deref(), Ok("3.5"));
    }

    #[test]
    fn what_cannot_be_computed_is_an_error_with_a_code() {
        assert_eq!(call("math.div", "[1, 0]"), Err("division-by-zero".into()));
        assert_eq!(call("math.mul", "[1e300, 1e300]"), Err("overflow".into()));
        for malformed in ["", "{}", "[]", "[1, \"2\"]", "two", r#"{"a": 1}"#, r#"{"a": 1, "b": 2, "c": 3}"#] {
            assert_eq!(call("math.add", malformed), Err("bad-arguments".into()), "{malformed}");
        }
    }
}
