//! Which subscriptions a topic reaches: a trie over pattern segments.
//!
//! Lookup cost grows with the topic's segments and the wildcards on its way, not with the number of patterns. It runs
//! when a route is computed, not for each message.

use macula_wire::{Pattern, Topic};
use rustc_hash::FxHashMap;
use slab::Slab;

/// Patterns and, for each, who subscribed; `S` names a subscription.
#[derive(Debug)]
pub(crate) struct Interest<S> {
    nodes: Slab<Node<S>>,
    root: usize,
    /// Grows with each change, so that routes computed earlier are known to be stale.
    version: u64,
    len: usize,
}

#[derive(Debug)]
struct Node<S> {
    children: FxHashMap<Box<str>, usize>,
    /// The child for `*`.
    any: Option<usize>,
    /// Subscriptions whose pattern ends here.
    here: Vec<S>,
    /// Subscriptions whose pattern ends with `**` behind here.
    rest: Vec<S>,
}

impl<S> Default for Node<S> {
    fn default() -> Self {
        Self { children: FxHashMap::default(), any: None, here: Vec::new(), rest: Vec::new() }
    }
}

impl<S> Node<S> {
    fn is_unused(&self) -> bool {
        self.children.is_empty() && self.any.is_none() && self.here.is_empty() && self.rest.is_empty()
    }
}

impl<S> Default for Interest<S> {
    fn default() -> Self {
        let mut nodes = Slab::new();
        let root = nodes.insert(Node::default());
        Self { nodes, root, version: 1, len: 0 }
    }
}

impl<S: Copy + Eq> Interest<S> {
    /// Changes whenever a lookup may give another result.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Subscriptions in all.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, pattern: &Pattern, subscription: S) {
        self.version += 1;
        self.len += 1;
        let mut at = self.root;
        for segment in pattern.split('.') {
            match segment {
                "**" => return self.nodes[at].rest.push(subscription),
                "*" => {
                    at = match self.nodes[at].any {
                        Some(child) => child,
                        None => {
                            let child = self.nodes.insert(Node::default());
                            self.nodes[at].any = Some(child);
                            child
                        }
                    }
                }
                literal => {
                    at = match self.nodes[at].children.get(literal) {
                        Some(child) => *child,
                        None => {
                            let child = self.nodes.insert(Node::default());
                            self.nodes[at].children.insert(literal.into(), child);
                            child
                        }
                    }
                }
            }
        }
        self.nodes[at].here.push(subscription);
    }

    /// Takes a subscription out again, and the nodes that only it needed. Nothing happens when it is not there.
    pub(crate) fn remove(&mut self, pattern: &Pattern, subscription: S) {
        let mut path = vec![self.root];
        let mut list_is_rest = false;
        for segment in pattern.split('.') {
            let node = &self.nodes[path[path.len() - 1]];
            let child = match segment {
                "**" => {
                    list_is_rest = true;
                    break;
                }
                "*" => node.any,
                literal => node.children.get(literal).copied(),
            };
            let Some(child) = child else { return };
            path.push(child);
        }
        let last = &mut self.nodes[path[path.len() - 1]];
        let list = if list_is_rest { &mut last.rest } else { &mut last.here };
        let Some(index) = list.iter().position(|s| *s == subscription) else { return };
        list.remove(index);
        self.version += 1;
        self.len -= 1;
        self.prune(&path, pattern);
    }

    fn prune(&mut self, path: &[usize], pattern: &Pattern) {
        let segments: Vec<&str> = pattern.split('.').collect();
        for depth in (1..path.len()).rev() {
            if !self.nodes[path[depth]].is_unused() {
                return;
            }
            self.nodes.remove(path[depth]);
            let parent = &mut self.nodes[path[depth - 1]];
            match segments[depth - 1] {
                "*" => parent.any = None,
                literal => {
                    parent.children.remove(literal);
                }
            }
        }
    }

    /// Adds every subscription whose pattern matches `topic` to `found`, each once for each pattern.
    pub(crate) fn collect(&self, topic: &Topic, found: &mut Vec<S>) {
        self.visit(self.root, Some(topic.as_str()), true, found);
    }

    /// `rest` is what of the topic lies behind this node; a leading wildcard does not reach the system's names.
    fn visit(&self, at: usize, rest: Option<&str>, first: bool, found: &mut Vec<S>) {
        let node = &self.nodes[at];
        let Some(rest) = rest else { return found.extend_from_slice(&node.here) };
        let (segment, behind) = match rest.split_once('.') {
            Some((segment, behind)) => (segment, Some(behind)),
            None => (rest, None),
        };
        if !(first && segment.starts_with('_')) {
            found.extend_from_slice(&node.rest);
            if let Some(child) = node.any {
                self.visit(child, behind, false, found);
            }
        }
        if let Some(child) = node.children.get(segment) {
            self.visit(*child, behind, false, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(interest: &Interest<usize>, topic: &str) -> Vec<usize> {
        let mut found = Vec::new();
        interest.collect(&topic.parse().unwrap(), &mut found);
        found.sort_unstable();
        found
    }

    proptest! {
        /// Against the definition: a subscription is found exactly when its pattern matches, also after removals, and
        /// an empty trie holds nothing but its root.
        #[test]
        fn finds_what_matches(patterns in prop::collection::vec("[ab*_](\\.[ab*]){0,3}(\\.\\*\\*)?|\\*\\*", 1..30),
                              topics in prop::collection::vec("[ab_](\\.[ab]){0,4}", 1..10), removed in prop::collection::vec(any::<bool>(), 30)) {
            let patterns: Vec<Pattern> = patterns.iter().map(|p| p.parse().unwrap()).collect();
            let mut interest = Interest::default();
            for (n, pattern) in patterns.iter().enumerate() { interest.insert(pattern, n); }
            for (n, pattern) in patterns.iter().enumerate() { if removed[n] { interest.remove(pattern, n); } }
            for topic in &topics {
                let parsed: Topic = topic.parse().unwrap();
                let expected: Vec<usize> = (0..patterns.len()).filter(|n| !removed[*n] && patterns[*n].matches(&parsed)).collect();
                prop_assert_eq!(found(&interest, topic), expected);
            }
            for (n, pattern) in patterns.iter().enumerate() { interest.remove(pattern, n); }
            prop_assert_eq!((interest.len(), interest.nodes.len()), (0, 1));
        }
    }

    #[test]
    fn version_tells_of_changes_only() {
        let mut interest = Interest::default();
        let before = interest.version();
        interest.remove(&"a.b".parse().unwrap(), 1);
        assert_eq!(interest.version(), before);
        interest.insert(&"a.*".parse().unwrap(), 1);
        assert_ne!(interest.version(), before);
    }
}
