//! The plugin against a host in the same process, with virtual time.

use super::WordCount;
use crate::window::{DISTINCT_MAX, WORD_BYTES_MAX, Window};
use macula_plugin::testing::Host;
use std::time::Duration;

const WINDOW: Duration = Duration::from_secs(10);

fn close_window(host: &mut Host<WordCount>) -> Option<Window> {
    host.advance(WINDOW).expect("the tick is handled");
    let published = host.take_published();
    assert!(published.len() <= 1 && published.iter().all(|message| message.topic == "words.counts"));
    published.first().map(|message| message.json())
}

fn counts(window: &Window) -> Vec<(&str, u64)> {
    window.counts.iter().map(|(word, count)| (word.as_str(), *count)).collect()
}

#[test]
fn each_window_has_its_own_counts() {
    let mut host = Host::<WordCount>::start();
    host.deliver("words.lines", "The quick, the lazy");
    host.deliver("words.lines", "don't — THE end.");
    let window = close_window(&mut host).expect("published");
    assert_eq!(counts(&window), [("don't", 1), ("end", 1), ("lazy", 1), ("quick", 1), ("the", 3)]);
    assert_eq!((window.words, window.others), (7, 0));

    host.deliver("words.lines", "again");
    assert_eq!(counts(&close_window(&mut host).expect("published")), [("again", 1)]);
    assert_eq!(close_window(&mut host), None, "an empty window is not published");
}

#[test]
fn a_window_is_bounded() {
    let mut host = Host::<WordCount>::start();
    host.deliver("words.lines", "x".repeat(WORD_BYTES_MAX + 1));
    for number in 0..DISTINCT_MAX + 5 {
        host.deliver("words.lines", format!("word{number}"));
    }
    let window = close_window(&mut host).expect("published");
    assert_eq!((window.counts.len(), window.others), (DISTINCT_MAX, 6));
    assert_eq!(window.words, DISTINCT_MAX as u64 + 6);
}

#[test]
fn settings_choose_window_and_output() {
    let setup = Host::<WordCount>::setup().config("window-s", "60").config("output", "words.minute");
    let mut host = setup.allow("/mesh/publish", "words.minute").start();
    host.deliver("words.lines", "one");
    assert_eq!(host.advance(Duration::from_secs(59)), Ok(0));
    assert_eq!(host.advance(Duration::from_secs(1)), Ok(1));
    assert_eq!(host.take_published()[0].topic, "words.minute");
}

#[test]
fn the_open_window_survives_a_new_version() {
    let mut host = Host::<WordCount>::start();
    host.deliver("words.lines", "before");
    host.advance(Duration::from_secs(4)).expect("no tick yet");
    host.swap().expect("swaps");
    host.deliver("words.lines", "after");
    host.advance(Duration::from_secs(6)).expect("the timer kept its rhythm");
    let window: Window = host.take_published()[0].json();
    assert_eq!(counts(&window), [("after", 1), ("before", 1)]);
}
