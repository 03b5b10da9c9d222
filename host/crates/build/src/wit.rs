//! The world of a component, as WIT.

use std::panic::{self, AssertUnwindSafe};

use wit_component::{DecodedWasm, WitPrinter};

/// The world that a component speaks, as text.
///
/// While it is made, panics of this process print nothing: the library that decodes components may panic over odd ones, and
/// that is one more reason to be told in a sentence.
///
/// # Errors
/// When the bytes are no component, or one that cannot be shown as WIT; the text says why, in one line.
pub fn world_of(component: &[u8]) -> Result<String, String> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let world = panic::catch_unwind(AssertUnwindSafe(|| decoded(component)));
    panic::set_hook(hook);
    world.unwrap_or_else(|_| Err("the types of this component cannot be shown as WIT".into()))
}

fn decoded(component: &[u8]) -> Result<String, String> {
    let one_line = |error: &dyn std::fmt::Display| error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    let decoded = wit_component::decode(component).map_err(|error| one_line(&format_args!("{error:#}")))?;
    let DecodedWasm::Component(resolve, world) = &decoded else { return Err("this is WIT, not a component".into()) };
    let package = resolve.worlds[*world].package.ok_or("its world belongs to no package")?;
    let mut printer = WitPrinter::default();
    printer.print(resolve, package, &[]).map_err(|error| one_line(&format_args!("{error:#}")))?;
    Ok(printer.output.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a function under the name of an interface, over which the decoder panics, is one sentence.
    #[test]
    fn what_the_decoder_panics_over_is_a_sentence() {
        for body in [
            r#"(import "macula:plugin/log@0.1.0" (func))"#,
            r#"(core module $m (func (export "f"))) (core instance $i (instantiate $m)) (func $f (canon lift (core func $i "f")))
            (export "a:b/c" (func $f))"#,
        ] {
            let component = wat::parse_str(format!("(component {body})")).unwrap();
            assert_eq!(world_of(&component), Err("the types of this component cannot be shown as WIT".into()));
        }
        let text = world_of(b"no component\n").unwrap_err();
        assert!(!text.contains('\n'), "{text}");
    }
}
