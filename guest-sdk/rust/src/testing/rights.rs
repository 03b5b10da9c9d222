//! What the plugin may do in a test.

use super::{manifest::Manifest, pattern};
use crate::Error;

/// The manifest's asks, all granted, plus and minus what the test says. The last word counts.
#[derive(Debug, Default)]
pub(super) struct Rights(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    command: String,
    pattern: String,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    Deny,
}

impl Rights {
    pub(super) fn asked_by(manifest: &Manifest) -> Self {
        let mut rights = Self::default();
        for (command, patterns) in [
            ("/mesh/subscribe", &manifest.subscribe),
            ("/mesh/publish", &manifest.publish),
            ("/mesh/advertise", &manifest.advertise),
            ("/mesh/call", &manifest.call),
            ("/mesh/fetch", &manifest.fetch),
        ] {
            for pattern in patterns {
                rights.rule(command, pattern, Verdict::Allow);
            }
        }
        rights
    }

    pub(super) fn rule(&mut self, command: &str, pattern: &str, verdict: Verdict) {
        assert!(command.starts_with("/mesh/"), "{command:?} is not a command such as /mesh/publish");
        assert!(pattern::is_pattern(pattern), "{pattern:?} is not a pattern");
        self.0.push(Rule { command: command.to_owned(), pattern: pattern.to_owned(), verdict });
    }

    pub(super) fn allow(&self, command: &str, target: &str) -> bool {
        let last = self.0.iter().rev().find(|rule| rule.command == command && pattern::covers(&rule.pattern, target));
        last.is_some_and(|rule| rule.verdict == Verdict::Allow)
    }

    pub(super) fn check(&self, command: &str, target: &str) -> Result<(), Error> {
        if self.allow(command, target) { Ok(()) } else { Err(Error::Denied(format!("{command} {target}"))) }
    }
}
