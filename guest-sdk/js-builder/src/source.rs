//! One module's text: JavaScript as it is, TypeScript without its types, JSON as the value that it is; and what it asks other
//! modules for.

use std::path::Path;

use anyhow::{Context, Result, bail};
use oxc_allocator::Allocator;
use oxc_ast::{
    AstKind,
    ast::{Program, Statement},
};
use oxc_codegen::Codegen;
use oxc_parser::{Parser, ParserReturn};
use oxc_semantic::SemanticBuilder;
use oxc_span::SourceType;
use oxc_syntax::module_record::{ExportImportName, ImportImportName};
use oxc_transformer::{TransformOptions, Transformer};

use crate::disk::Disk;

/// A module's text and what it asks for.
pub struct Source {
    pub text: String,
    pub requests: Vec<Request>,
}

/// A module that is asked for.
pub struct Request {
    pub specifier: String,
    /// Where the specifier stands in the text, with its quotes.
    pub places: Vec<std::ops::Range<usize>>,
    /// Where what is said of the module's kind stands: `with { type: 'json' }`.
    pub attributes: Vec<std::ops::Range<usize>>,
    /// Names that are asked for; `None` when it may be all of them.
    pub names: Option<Vec<String>>,
}

/// What a file holds, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    JavaScript,
    TypeScript,
    Json,
    /// JavaScript or TypeScript with elements of a page in it.
    Jsx,
}

impl Kind {
    pub fn of(path: &Path) -> Self {
        match path.extension().and_then(|end| end.to_str()) {
            Some("ts" | "mts") => Self::TypeScript,
            Some("json") => Self::Json,
            Some("jsx" | "tsx") => Self::Jsx,
            _ => Self::JavaScript,
        }
    }
}

/// Reads a module.
pub fn read(disk: &Disk, path: &Path) -> Result<Source> {
    let text = disk.text(path)?;
    let text = match Kind::of(path) {
        Kind::JavaScript => text,
        Kind::TypeScript => without_types(path, text)?,
        Kind::Json => return json(path, &text),
        Kind::Jsx => bail!("{}: JSX is not available in plugins: they have no page to show", path.display()),
    };
    let allocator = Allocator::default();
    let parsed = parse(&allocator, path, &text, SourceType::mjs())?;
    if !parsed.module_record.has_module_syntax && is_commonjs(&text) {
        bail!(
            "{}: this is CommonJS (require, module.exports), and plugins are made of ES modules (import, export); many \
             packages have a version with those",
            path.display()
        );
    }
    let requests = requests(&parsed, path)?;
    Ok(Source { text, requests })
}

/// A module whose default export is the value.
fn json(path: &Path, text: &str) -> Result<Source> {
    let value: serde_json::Value = serde_json::from_str(text).with_context(|| path.display().to_string())?;
    // As text: an object's `__proto__` would be more than a key.
    let quoted = serde_json::to_string(&value.to_string())?;
    Ok(Source { text: format!("export default JSON.parse({quoted});\n"), requests: Vec::new() })
}

/// Only asked of what is no ES module: these words may stand in any text.
fn is_commonjs(text: &str) -> bool {
    ["module.exports", "exports.", "require("].iter().any(|word| text.contains(word))
}

/// Parses, or shows what is wrong and where.
pub fn parse<'a>(
    allocator: &'a Allocator,
    path: &Path,
    text: &'a str,
    source_type: SourceType,
) -> Result<ParserReturn<'a>> {
    let parsed = Parser::new(allocator, text, source_type).parse();
    fail_on(parsed.diagnostics.into_iter(), path, text)?;
    Ok(Parser::new(allocator, text, source_type).parse())
}

fn fail_on(diagnostics: impl Iterator<Item = oxc_diagnostics::OxcDiagnostic>, path: &Path, text: &str) -> Result<()> {
    let shown: Vec<String> = diagnostics
        .map(|diagnostic| {
            let source = oxc_diagnostics::NamedSource::new(path.display().to_string(), text.to_owned());
            diagnostic.render_with_source_code(source)
        })
        .collect();
    if shown.is_empty() { Ok(()) } else { bail!("{}", shown.join("\n")) }
}

fn without_types(path: &Path, text: String) -> Result<String> {
    let allocator = Allocator::default();
    let mut program: Program<'_> = parse(&allocator, path, &text, SourceType::ts())?.program;
    let semantic = SemanticBuilder::new().with_enum_eval(true).with_build_nodes(true).build(&program);
    fail_on(semantic.diagnostics.into_iter(), path, &text)?;
    // No engine knows them yet, and what tsc makes of them needs a library of its own.
    let decorators = semantic.semantic.nodes().iter().filter_map(|node| match node.kind() {
        AstKind::Decorator(decorator) => Some(
            oxc_diagnostics::OxcDiagnostic::error("decorators are not available in plugins").with_label(decorator.span),
        ),
        _ => None,
    });
    fail_on(decorators, path, &text)?;
    let scoping = semantic.semantic.into_scoping();
    let options = TransformOptions::default();
    let transformed = Transformer::new(&allocator, path, &options).build_with_scoping(scoping, &mut program);
    fail_on(transformed.diagnostics.into_iter(), path, &text)?;
    Ok(Codegen::new().build(&program).code)
}

fn requests(parsed: &ParserReturn<'_>, path: &Path) -> Result<Vec<Request>> {
    let record = &parsed.module_record;
    if !record.dynamic_imports.is_empty() {
        bail!(
            "{}: import() is not available in plugins: what a plugin is made of is known when it is built",
            path.display()
        );
    }
    let attributes = |specifier: &str| {
        let imports = parsed.program.body.iter().filter_map(|statement| match statement {
            Statement::ImportDeclaration(import) if import.source.value == specifier => Some(import),
            _ => None,
        });
        let place = |source: u32, clause: u32| source as usize..clause as usize;
        imports
            .filter_map(|import| Some(place(import.source.span.end, import.with_clause.as_ref()?.span.end)))
            .collect()
    };
    let mut requests = Vec::new();
    for (specifier, places) in &record.requested_modules {
        let mut names = Some(Vec::new());
        for entry in &record.import_entries {
            if entry.module_request.name == *specifier {
                match &entry.import_name {
                    ImportImportName::Name(name) => {
                        names.iter_mut().for_each(|names| names.push(name.name.to_string()))
                    }
                    ImportImportName::NamespaceObject => names = None,
                    ImportImportName::Default(_) => {
                        names.iter_mut().for_each(|names| names.push("default".to_owned()));
                    }
                }
            }
        }
        for entry in record.indirect_export_entries.iter().chain(&record.star_export_entries) {
            if entry.module_request.as_ref().is_some_and(|request| request.name == *specifier) {
                match &entry.import_name {
                    ExportImportName::Name(name) => {
                        names.iter_mut().for_each(|names| names.push(name.name.to_string()))
                    }
                    _ => names = None,
                }
            }
        }
        let places = places.iter().map(|place| place.span.start as usize..place.span.end as usize).collect();
        requests.push(Request { specifier: specifier.to_string(), places, attributes: attributes(specifier), names });
    }
    requests.sort_by(|a, b| a.specifier.cmp(&b.specifier));
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a file of this name and text, from a folder of its own.
    fn read_as(name: &str, text: &str) -> std::result::Result<String, String> {
        let folder = std::env::temp_dir().join(format!("macula-source-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join(name);
        std::fs::write(&file, text).unwrap();
        let read = read(&Disk::default(), &file).map(|source| source.text).map_err(|error| format!("{error:#}"));
        std::fs::remove_dir_all(&folder).unwrap();
        read
    }

    #[test]
    fn types_are_taken_out_and_what_they_make_stays() {
        let text =
            read_as("a.ts", "import type { I } from './i'; enum E { A = 1, B = A << 2 } export const e: I = E.B;")
                .unwrap();
        assert!(!text.contains("import") && !text.contains(": I"), "{text}");
        assert!(text.contains("E"), "{text}");
    }

    #[test]
    fn json_is_its_value() {
        let text = read_as("a.json", "{\"__proto__\": [1, \"\u{2028}\"]}").unwrap();
        assert_eq!(text, "export default JSON.parse(\"{\\\"__proto__\\\":[1,\\\"\u{2028}\\\"]}\");\n");
        assert_eq!(read_as("c.json", "\u{feff}[1]").unwrap(), "export default JSON.parse(\"[1]\");\n");
        assert!(read_as("b.json", "{\n\"a\": }").unwrap_err().contains("line 2 column 6"));
    }

    #[test]
    fn what_a_plugin_cannot_be_made_of_is_said_where_it_is() {
        let error = read_as("a.js", "const odd = require('odd'); module.exports = odd;").unwrap_err();
        assert!(error.contains("a.js: this is CommonJS"), "{error}");
        assert!(read_as("b.js", "export const text = 'require(x)';").is_ok());
        assert!(read_as("c.tsx", "export const page = <p/>;").unwrap_err().contains("c.tsx: JSX is not available"));
        let error = read_as("d.ts", "export class A {\n  @seen m() {}\n}").unwrap_err();
        assert!(error.contains("decorators are not available") && error.contains("d.ts:2:3"), "{error}");
    }

    #[test]
    fn what_is_said_of_a_modules_kind_is_found() {
        let text = "import a from './a.json' with { type: 'json' };";
        let allocator = Allocator::default();
        let path = Path::new("x.js");
        let parsed = parse(&allocator, path, text, SourceType::mjs()).unwrap();
        let requests = requests(&parsed, path).unwrap();
        assert_eq!(&text[requests[0].attributes[0].clone()], " with { type: 'json' }");
    }
}
