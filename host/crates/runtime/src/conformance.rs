//! Whether a component is whole, and its handlers have the types of the contract: found out before anything is compiled.
//!
//! Every part of the file is validated, function bodies too: what is damaged is refused in milliseconds, and not after the seconds
//! that compiling takes. Then the types of each handler's functions are compared with those of `wit/`, field by field.
//! Imports are compared when the component is linked, and names by [`inspect`](crate::inspect).
//!
//! The contract's types stand in `conformance/contract.txt`, a line for each place in a type; a test makes them anew from
//! `wit/` and compares.

#[cfg(test)]
mod contract_component;

use std::{collections::BTreeMap, sync::LazyLock};

use wasmparser::{
    ComponentExternalKind, Payload, ValidPayload, Validator, WasmFeatures,
    component_types::{ComponentDefinedType, ComponentEntityType, ComponentFuncType, ComponentValType},
    types::Types,
};

use crate::inspect::{Ability, Refusal, damaged, interface_of};

/// The contract: `<handler>.<function> <place>: <type>` a line, in order.
const CONTRACT: &str = include_str!("conformance/contract.txt");

/// Places in the types of one function at most. The contract's largest has about eighty.
const PLACES_MAX: usize = 1024;

/// By handler and function: the places in its type, in order.
static EXPECTED: LazyLock<BTreeMap<&str, BTreeMap<&str, Vec<Place>>>> = LazyLock::new(|| {
    let mut expected: BTreeMap<&str, BTreeMap<&str, Vec<Place>>> = BTreeMap::new();
    for line in CONTRACT.lines() {
        let (function, place) = line.split_once(' ').expect("a function and a place");
        let (handler, function) = function.split_once('.').expect("a handler and a function");
        let (path, kind) = place.split_once(": ").expect("a place and its type");
        let places = expected.entry(handler).or_default().entry(function).or_default();
        places.push(Place { path: path.to_owned(), kind: kind.to_owned() });
    }
    expected
});

/// One place in a function's type: a parameter, a field, an element.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// From the function inwards: `message.metadata[]`.
    path: String,
    /// What is there, without what is within.
    kind: String,
}

/// Checks all of a component.
///
/// # Errors
/// [`Refusal::Damaged`], [`Refusal::NoInstance`] and [`Refusal::HandlerType`].
pub(crate) fn check(bytes: &[u8]) -> Result<(), Refusal> {
    // What this host's engine does not have is its own matter; here it is only about damage.
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    let mut bodies = Default::default();
    let mut exported = Vec::new();
    let (mut depth, mut types) = (0_u32, None);
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|error| damaged(&error))?;
        match &payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) if depth > 0 => depth -= 1,
            Payload::ComponentExportSection(exports) if depth == 0 => {
                for export in exports.clone() {
                    let export = export.map_err(|error| damaged(&error))?;
                    exported.push((export.name.name, export.kind, export.index));
                }
            }
            _ => {}
        }
        match validator.payload(&payload).map_err(|error| damaged(&error))? {
            ValidPayload::Func(function, body) => {
                let mut function = function.into_validator(bodies);
                function.validate(&body).map_err(|error| damaged(&error))?;
                bodies = function.into_allocations();
            }
            // The outermost ends last.
            ValidPayload::End(ended) => types = Some(ended),
            ValidPayload::Ok | ValidPayload::Parser(_) => {}
        }
    }
    let Some(types) = types else { return Ok(()) };
    for (name, kind, index) in exported {
        let Some(handler) = handler_of(name) else { continue };
        if kind != ComponentExternalKind::Instance {
            return Err(Refusal::NoInstance(name.to_owned()));
        }
        check_handler(&types, handler, index)?;
    }
    Ok(())
}

/// The handler that an export of this name is.
fn handler_of(export: &str) -> Option<&'static str> {
    let (interface, _) = interface_of(export)?;
    Ability::ALL.into_iter().map(Ability::interface).find(|handler| *handler == interface)
}

fn check_handler(types: &Types, handler: &'static str, instance: u32) -> Result<(), Refusal> {
    let wrong = |function: &str, why: String| Refusal::HandlerType { handler, function: function.to_owned(), why };
    let exports = &types[types.as_ref().component_instance_at(instance)].exports;
    for (function, expected) in &EXPECTED[handler] {
        let found = exports.get(*function).map(|item| item.ty);
        let Some(ComponentEntityType::Func(id)) = found else {
            return Err(wrong(function, "the component does not export this function".into()));
        };
        let Some(places) = places_of(types, &types[id]) else {
            return Err(wrong(function, format!("its type has more than {PLACES_MAX} places")));
        };
        if let Some(why) = difference(&places, expected) {
            return Err(wrong(function, why));
        }
    }
    Ok(())
}

/// The first place at which two types differ, in words.
fn difference(found: &[Place], expected: &[Place]) -> Option<String> {
    let at = (0..found.len().max(expected.len())).find(|at| found.get(*at) != expected.get(*at))?;
    let is_in = |places: &[Place], path: &str| places.iter().any(|place| place.path == path);
    Some(match (found.get(at), expected.get(at)) {
        (Some(found), Some(expected)) if found.path == expected.path => {
            format!("{} is {}, and in the contract it is {}", expected.path, found.kind, expected.kind)
        }
        (_, Some(expected)) if !is_in(found, &expected.path) => {
            format!("{} ({} in the contract) is missing", expected.path, expected.kind)
        }
        (Some(found), _) if !is_in(expected, &found.path) => {
            format!("{} ({}) is not in the contract", found.path, found.kind)
        }
        (found, expected) => {
            let path = found.or(expected).map_or("", |place| &place.path);
            format!("{path} stands at another place than in the contract")
        }
    })
}

/// All places in a function's type; `None` when there are too many.
fn places_of(types: &Types, function: &ComponentFuncType) -> Option<Vec<Place>> {
    let mut walk = Walk { types, places: Vec::new() };
    if function.async_ {
        walk.add("function", "async")?;
    }
    for (name, ty) in &function.params {
        walk.value(name.as_str(), *ty)?;
    }
    if let Some(ty) = function.result {
        walk.value("result", ty)?;
    }
    Some(walk.places)
}

/// Goes through a type from the outside in. The depth is bounded by the validator.
struct Walk<'a> {
    types: &'a Types,
    places: Vec<Place>,
}

impl Walk<'_> {
    fn add(&mut self, path: &str, kind: &str) -> Option<()> {
        if self.places.len() == PLACES_MAX {
            return None;
        }
        self.places.push(Place { path: path.to_owned(), kind: kind.to_owned() });
        Some(())
    }

    fn value(&mut self, path: &str, ty: ComponentValType) -> Option<()> {
        let id = match ty {
            ComponentValType::Primitive(primitive) => return self.add(path, &primitive.to_string()),
            ComponentValType::Type(id) => id,
        };
        let types = self.types;
        match &types[id] {
            ComponentDefinedType::Primitive(primitive) => self.add(path, &primitive.to_string()),
            ComponentDefinedType::Record(record) => {
                self.add(path, "a record")?;
                record.fields.iter().try_for_each(|(name, ty)| self.value(&format!("{path}.{name}"), *ty))
            }
            ComponentDefinedType::Variant(variant) => {
                self.add(path, "a variant")?;
                variant.cases.iter().try_for_each(|(name, case)| match case.ty {
                    Some(ty) => self.value(&format!("{path}.{name}"), ty),
                    None => self.add(&format!("{path}.{name}"), "a case"),
                })
            }
            ComponentDefinedType::Tuple(tuple) => {
                self.add(path, "a tuple")?;
                tuple.types.iter().enumerate().try_for_each(|(at, ty)| self.value(&format!("{path}.{at}"), *ty))
            }
            ComponentDefinedType::Flags(names) => self.add(path, &format!("flags {}", joined(names))),
            ComponentDefinedType::Enum(names) => self.add(path, &format!("an enum of {}", joined(names))),
            ComponentDefinedType::List { element, .. } => {
                self.add(path, "a list")?;
                self.value(&format!("{path}[]"), *element)
            }
            ComponentDefinedType::Option { ty, .. } => {
                self.add(path, "an option")?;
                self.value(&format!("{path}?"), *ty)
            }
            ComponentDefinedType::Result { ok, err, .. } => {
                self.add(path, "a result")?;
                ok.map_or(Some(()), |ty| self.value(&format!("{path}.ok"), ty))?;
                err.map_or(Some(()), |ty| self.value(&format!("{path}.err"), ty))
            }
            ComponentDefinedType::Own(_) => self.add(path, "a handle"),
            ComponentDefinedType::Borrow(_) => self.add(path, "a borrowed handle"),
            // The contract has none of these.
            _ => self.add(path, "something else"),
        }
    }
}

fn joined<'a>(names: impl IntoIterator<Item = &'a wasmparser::names::KebabString>) -> String {
    names.into_iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::{contract_component::contract_component, *};

    fn component(changes: &[(&str, &str)]) -> Vec<u8> {
        contract_component("plugin", "", changes)
    }

    /// The lines of `contract.txt` for a component.
    fn lines(bytes: &[u8]) -> String {
        let types = Validator::new_with_features(WasmFeatures::all()).validate_all(bytes).unwrap();
        let mut lines = Vec::new();
        for payload in wasmparser::Parser::new(0).parse_all(bytes) {
            let Payload::ComponentExportSection(exports) = payload.unwrap() else { continue };
            for export in exports {
                let export = export.unwrap();
                let Some(handler) = handler_of(export.name.name) else { continue };
                for (function, item) in &types[types.as_ref().component_instance_at(export.index)].exports {
                    let ComponentEntityType::Func(id) = item.ty else { continue };
                    let mut text = String::new();
                    for place in places_of(&types, &types[id]).unwrap() {
                        writeln!(text, "{handler}.{function} {}: {}", place.path, place.kind).unwrap();
                    }
                    lines.push(((handler, function.clone()), text));
                }
            }
        }
        lines.sort();
        lines.into_iter().map(|(_, text)| text).collect()
    }

    /// Goal: the types that components are held against are those of `wit/`. `MACULA_BLESS=1` writes them.
    #[test]
    fn the_contract_is_that_of_wit() {
        let made = lines(&component(&[]));
        if std::env::var_os("MACULA_BLESS").is_some() {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/conformance/contract.txt"), &made).unwrap();
        }
        assert_eq!(made, CONTRACT, "run this test with MACULA_BLESS=1 when wit/ was changed on purpose");
        check(&component(&[])).unwrap();
    }

    #[test]
    fn what_differs_is_named() {
        for (change, expected) in [
            (
                ("        attempt: u32,\n", ""),
                "message-handler's on-message: message.attempt (u32 in the contract) is missing",
            ),
            (
                ("        attempt: u32,\n", "        attempt: u64,\n"),
                "message.attempt is u64, and in the contract it is u32",
            ),
            (
                ("        attempt: u32,\n", "        attempt: u32,\n        more: bool,\n"),
                "message.more (bool) is not in the contract",
            ),
        ] {
            let text = check(&component(&[change])).unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn a_handler_that_is_no_instance_or_lacks_a_function_is_refused() {
        let parse = |body: &str| wat::parse_str(format!("(component {body})")).unwrap();
        let empty = parse(
            r#"(component $c) (instance $i (instantiate $c)) (export "macula:plugin/message-handler@0.1.0" (instance $i))"#,
        );
        assert!(matches!(check(&empty), Err(Refusal::HandlerType { handler: "message-handler", .. })));
        let function = parse(
            r#"(core module $m (func (export "f"))) (core instance $i (instantiate $m)) (func $f (canon lift (core func $i "f")))
            (export "macula:plugin/message-handler@0.1.0" (func $f))"#,
        );
        assert!(matches!(check(&function), Err(Refusal::NoInstance(_))));
    }

    #[test]
    fn damage_in_a_function_is_found() {
        let mut bytes = component(&[]);
        // An instruction of a body that no version of WebAssembly has.
        let unreachable_end = [0x00, 0x0b];
        let at = bytes.windows(3).rposition(|body| body[0] == 0 && body[1..] == unreachable_end).unwrap();
        bytes[at + 1] = 0xff;
        assert!(matches!(check(&bytes), Err(Refusal::Damaged(_))), "{:?}", check(&bytes));
    }
}
