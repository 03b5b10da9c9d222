//! Counts words in windows of time, and publishes the counts of each window when it closes.
//!
//! What it keeps is bounded: a window counts so many different words, all others together. It survives a new version of
//! the plugin: the open window is handed over.

mod window;

use macula_plugin::{debug, prelude::*};
use std::time::Duration;
use window::Window;

#[derive(Default)]
struct WordCount {
    output: String,
    window: Window,
}

impl Lifecycle for WordCount {
    fn init(&mut self, _: StartReason) -> Result {
        self.output = config::get_or("output", "words.counts");
        timers::every("window", Duration::from_secs(config::parse_or("window-s", 10)?))?;
        Ok(())
    }
}

impl MessageHandler for WordCount {
    fn on_message(&mut self, message: Message) -> Result {
        self.window.count(message.text()?);
        Ok(())
    }
}

impl TimerHandler for WordCount {
    fn on_timer(&mut self, tick: Tick) -> Result {
        debug!(words = self.window.words, "the window closes");
        if self.window.words > 0 {
            self.window.ended_ms = tick.due_ms;
            publish(&*self.output).json(&self.window).send()?;
        }
        self.window = Window::default();
        Ok(())
    }
}

impl StateHandler for WordCount {
    fn snapshot(&mut self) -> Result<Vec<u8>> {
        Ok(to_json(&self.window)?)
    }

    fn restore(&mut self, state: Vec<u8>, _version: &str) -> Result {
        self.window = from_json(&state)?;
        Ok(())
    }
}

macula_plugin::export!(WordCount: lifecycle, message, timer, state);

#[cfg(test)]
mod tests;
