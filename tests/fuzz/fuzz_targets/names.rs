//! Names: what parses prints to what parses to the same, and covering implies matching.

#![no_main]

use libfuzzer_sys::fuzz_target;
use macula_transport::RelayUrl;
use macula_wire::{ContentType, NodeId, Pattern, PluginName, RealmName, Topic};

fuzz_target!(|text: &str| {
    let mut halves = text.splitn(3, '\n');
    let (first, second) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
    let third = halves.next().unwrap_or_default();
    if let Ok(topic) = first.parse::<Topic>() {
        assert_eq!(topic.as_str(), first);
        assert!(Pattern::from(topic.clone()).matches(&topic), "a name matches itself");
    }
    if let (Ok(wide), Ok(narrow), Ok(topic)) =
        (first.parse::<Pattern>(), second.parse::<Pattern>(), third.parse::<Topic>())
    {
        if wide.covers(&narrow) && narrow.matches(&topic) {
            assert!(wide.matches(&topic), "{wide} covers {narrow}, which matches {topic}");
        }
        assert!(wide.covers(&wide));
    }
    if let Ok(url) = text.parse::<RelayUrl>() {
        assert_eq!(url.to_string().parse::<RelayUrl>().as_ref(), Ok(&url));
    }
    if let Ok(node) = text.parse::<NodeId>() {
        assert_eq!(node.to_string().parse::<NodeId>().as_ref(), Ok(&node));
    }
    let _ = (text.parse::<RealmName>(), text.parse::<PluginName>(), text.parse::<ContentType>());
});
