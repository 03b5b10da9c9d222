//! Topics that a plugin publishes to, parsed and decided once.

use std::collections::HashMap;

use macula_wire::{Operation, Topic, TopicError};
use rustc_hash::FxBuildHasher;

use crate::rights::RightsCell;

/// Topics kept. A plugin with more of them in use pays the parsing now and then.
const TOPICS_MAX: usize = 1024;

/// Parsed topics and whether the plugin may publish to them, under one generation of its rights.
#[derive(Debug, Default)]
pub(super) struct TopicCache {
    generation: u64,
    decisions: HashMap<Topic, bool, FxBuildHasher>,
}

impl TopicCache {
    /// The topic that `text` spells, and whether the plugin may publish to it.
    pub(super) fn resolve(&mut self, rights: &RightsCell, text: &str) -> Result<(&Topic, bool), TopicError> {
        let generation = rights.generation();
        if generation != self.generation {
            self.decisions.clear();
            self.generation = generation;
        }
        if !self.decisions.contains_key(text) {
            let topic: Topic = text.parse()?;
            if self.decisions.len() >= TOPICS_MAX {
                self.decisions.clear();
            }
            let allowed = rights.current().allows(Operation::Publish, &topic);
            self.decisions.insert(topic, allowed);
        }
        match self.decisions.get_key_value(text) {
            Some((topic, allowed)) => Ok((topic, *allowed)),
            None => unreachable!("it was there or has just been inserted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{manifest::Asks, rights::Rights};

    #[test]
    fn decisions_end_with_the_rights_they_were_made_under() {
        let rights = RightsCell::new(Rights::default());
        let mut cache = TopicCache::default();
        assert!(!cache.resolve(&rights, "a.b").unwrap().1);
        rights.replace(Rights::as_asked(&Asks { publish: vec!["a.*".parse().unwrap()], ..Asks::default() }));
        assert!(cache.resolve(&rights, "a.b").unwrap().1);
        assert_eq!(cache.resolve(&rights, "a.b").unwrap().0.as_str(), "a.b");
        assert!(cache.resolve(&rights, "a..b").is_err());
    }

    #[test]
    fn it_stays_small() {
        let rights = RightsCell::new(Rights::default());
        let mut cache = TopicCache::default();
        for number in 0..3 * TOPICS_MAX {
            cache.resolve(&rights, &number.to_string()).unwrap();
            assert!(cache.decisions.len() <= TOPICS_MAX);
        }
    }
}
