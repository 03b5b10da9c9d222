//! Which handlers a plugin has: the keys of its `export default`.

use std::path::Path;

use anyhow::{Result, bail};
use oxc_allocator::Allocator;
use oxc_ast::ast::{
    BindingPattern, ExportDefaultDeclarationKind, Expression, ObjectExpression, ObjectPropertyKind, Program, Statement,
};
use oxc_span::SourceType;

use crate::{disk::Disk, source};

/// What a plugin may have, and the interfaces that the component exports for it.
const KEYS: [(&str, &[&str]); 15] = [
    ("subscriptions", &["lifecycle", "message-handler"]),
    ("onMessage", &["message-handler"]),
    ("procedures", &["lifecycle", "call-handler"]),
    ("onCall", &["call-handler"]),
    ("timers", &["lifecycle", "timer-handler"]),
    ("onTimer", &["timer-handler"]),
    ("onStart", &["lifecycle"]),
    ("onHealth", &["lifecycle"]),
    ("onStop", &["lifecycle"]),
    ("onConfigChange", &["config-handler"]),
    ("onRightsChange", &["config-handler"]),
    ("snapshot", &["state-handler"]),
    ("restore", &["state-handler"]),
    ("name", &[]),
    ("version", &[]),
];

/// The handlers of one plugin.
pub struct Handlers(Vec<String>);

impl Handlers {
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|found| found == key)
    }

    /// The interfaces that the component exports, in the contract's order.
    pub fn interfaces(&self) -> Vec<&'static str> {
        const ORDER: [&str; 6] =
            ["lifecycle", "message-handler", "call-handler", "timer-handler", "config-handler", "state-handler"];
        let wanted: Vec<&str> =
            KEYS.iter().filter(|(key, _)| self.has(key)).flat_map(|(_, of)| of.iter().copied()).collect();
        ORDER.into_iter().filter(|interface| wanted.contains(interface)).collect()
    }
}

/// Reads the keys of the module's default export.
pub fn of(disk: &Disk, entry: &Path) -> Result<Handlers> {
    let text = disk.text(entry)?;
    let allocator = Allocator::default();
    let kind = if source::Kind::of(entry) == source::Kind::TypeScript { SourceType::ts() } else { SourceType::mjs() };
    let parsed = source::parse(&allocator, entry, &text, kind)?;
    let at = |problem: &str| format!("{}: {problem}", entry.display());
    let Some(plugin) = default_export(&parsed.program) else {
        bail!(at("a plugin is an object: export default { onMessage(message) { … } }"));
    };
    let mut keys = Vec::new();
    for property in &plugin.properties {
        let ObjectPropertyKind::ObjectProperty(property) = property else {
            bail!(at("the plugin's handlers must be written out: `...` in export default hides which there are"));
        };
        let Some(key) = property.key.static_name() else {
            bail!(at(
                "the plugin's handlers must be written out: a computed name in export default hides which there are"
            ));
        };
        if !KEYS.iter().any(|(known, _)| *known == key) {
            let known: Vec<&str> = KEYS.iter().map(|(key, _)| *key).collect();
            bail!(at(&format!("a plugin has no `{key}`; it may have {}", known.join(", "))));
        }
        keys.push(key.into_owned());
    }
    let handlers = Handlers(keys);
    if handlers.interfaces().is_empty() {
        bail!(at(
            "this plugin handles nothing: give it onMessage, onCall, onTimer, subscriptions, procedures or timers"
        ));
    }
    Ok(handlers)
}

fn default_export<'a, 'b>(program: &'b Program<'a>) -> Option<&'b ObjectExpression<'a>> {
    program.body.iter().find_map(|statement| {
        let Statement::ExportDefaultDeclaration(export) = statement else { return None };
        match &export.declaration {
            ExportDefaultDeclarationKind::Identifier(name) => constant(program, &name.name),
            declaration => object(declaration.as_expression()?),
        }
    })
}

/// The object that a name of the module stands for.
fn constant<'a, 'b>(program: &'b Program<'a>, name: &str) -> Option<&'b ObjectExpression<'a>> {
    program.body.iter().find_map(|statement| {
        let Statement::VariableDeclaration(declaration) = statement else { return None };
        declaration.declarations.iter().find_map(|declared| match &declared.id {
            BindingPattern::BindingIdentifier(id) if id.name == name => object(declared.init.as_ref()?),
            _ => None,
        })
    })
}

/// An object, whatever types TypeScript puts around it.
fn object<'a, 'b>(expression: &'b Expression<'a>) -> Option<&'b ObjectExpression<'a>> {
    match expression {
        Expression::ObjectExpression(object) => Some(object),
        Expression::TSSatisfiesExpression(typed) => object(&typed.expression),
        Expression::TSAsExpression(typed) => object(&typed.expression),
        Expression::ParenthesizedExpression(inner) => object(&inner.expression),
        // definePlugin({ … })
        Expression::CallExpression(call) if call.arguments.len() == 1 => object(call.arguments[0].as_expression()?),
        _ => None,
    }
}
