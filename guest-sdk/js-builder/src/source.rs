//! One module's text: JavaScript as it is, TypeScript without its types; and what it asks other modules for.

use std::path::Path;

use anyhow::{Context, Result, bail};
use oxc_allocator::Allocator;
use oxc_ast::ast::Program;
use oxc_codegen::Codegen;
use oxc_parser::{Parser, ParserReturn};
use oxc_semantic::SemanticBuilder;
use oxc_span::SourceType;
use oxc_syntax::module_record::{ExportImportName, ImportImportName};
use oxc_transformer::{TransformOptions, Transformer};

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
    /// Names that are asked for; `None` when it may be all of them.
    pub names: Option<Vec<String>>,
}

pub fn is_typescript(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "ts" || end == "mts")
}

/// Reads a module.
pub fn read(path: &Path) -> Result<Source> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let text = if is_typescript(path) { without_types(path, text)? } else { text };
    let allocator = Allocator::default();
    let parsed = parse(&allocator, path, &text, SourceType::mjs())?;
    let requests = requests(&parsed, path)?;
    Ok(Source { text, requests })
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
    let semantic = SemanticBuilder::new().with_enum_eval(true).build(&program);
    fail_on(semantic.diagnostics.into_iter(), path, &text)?;
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
        requests.push(Request { specifier: specifier.to_string(), places, names });
    }
    requests.sort_by(|a, b| a.specifier.cmp(&b.specifier));
    Ok(requests)
}
