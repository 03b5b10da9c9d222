//! The world of a component, as WIT.

use wit_component::{DecodedWasm, WitPrinter};

/// The world that a component speaks, as text.
///
/// # Errors
/// When the bytes are no component; the text says why.
pub fn world_of(component: &[u8]) -> Result<String, String> {
    let decoded = wit_component::decode(component).map_err(|error| format!("{error:#}"))?;
    let DecodedWasm::Component(resolve, world) = &decoded else { return Err("this is WIT, not a component".into()) };
    let package = resolve.worlds[*world].package.ok_or("its world belongs to no package")?;
    let mut printer = WitPrinter::default();
    printer.print(resolve, package, &[]).map_err(|error| format!("{error:#}"))?;
    Ok(printer.output.to_string())
}
