//! Results as JUnit's XML, which build servers read.

use std::{fmt::Write, time::Duration};

/// One scenario's result.
#[derive(Debug)]
pub struct Case {
    /// The scenario's name.
    pub name: String,
    /// What was not as expected, a line each; empty: it has passed.
    pub failures: Vec<String>,
    /// The plugin's log.
    pub log: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// The document of one plugin's scenarios.
pub fn document(plugin: &str, cases: &[Case]) -> String {
    let failed = cases.iter().filter(|case| !case.failures.is_empty()).count();
    let took: Duration = cases.iter().map(|case| case.took).sum();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let suite = format!(
        "<testsuites><testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" time=\"{:.3}\">",
        escaped(plugin),
        cases.len(),
        took.as_secs_f64()
    );
    writeln!(xml, "{suite}").expect("a String takes everything");
    for case in cases {
        let (name, time) = (escaped(&case.name), case.took.as_secs_f64());
        write!(xml, "  <testcase classname=\"{}\" name=\"{name}\" time=\"{time:.3}\">", escaped(plugin))
            .expect("a String takes everything");
        if let Some(first) = case.failures.first() {
            let (first, all) = (escaped(first), escaped(&case.failures.join("\n")));
            write!(xml, "<failure message=\"{first}\">{all}</failure>").expect("a String takes everything");
        }
        writeln!(xml, "<system-out>{}</system-out></testcase>", escaped(&case.log.join("\n")))
            .expect("a String takes everything");
    }
    xml.push_str("</testsuite></testsuites>\n");
    xml
}

/// Text as XML has it. Characters that XML 1.0 (section 2.2) does not allow become U+FFFD.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' | '\r' => escaped.push(c),
            c if c < ' ' || c == '\u{fffe}' || c == '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_well_formed_whatever_they_say() {
        let case = |name: &str, failures: &[&str]| Case {
            name: name.into(),
            failures: failures.iter().map(|text| (*text).to_owned()).collect(),
            log: vec!["<&>\u{1}".into()],
            took: Duration::from_millis(1500),
        };
        let xml = document("a", &[case("one", &[]), case("two \"quoted\"", &["step 1: a < b", "more"])]);
        assert!(xml.contains("tests=\"2\" failures=\"1\" time=\"3.000\""), "{xml}");
        assert!(xml.contains("name=\"two &quot;quoted&quot;\""), "{xml}");
        assert!(xml.contains("<failure message=\"step 1: a &lt; b\">step 1: a &lt; b\nmore</failure>"), "{xml}");
        assert!(xml.contains("&lt;&amp;&gt;\u{fffd}"), "{xml}");
    }
}
