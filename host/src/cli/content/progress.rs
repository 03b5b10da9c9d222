//! How a transfer is getting on: a bar for people, events for programs, nothing in a pipe.

use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::{cli::CommonFlags, output};

/// Events at most so often.
const EVENT_INTERVAL: Duration = Duration::from_millis(500);

/// Shows progress as it is welcome.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    is_json: bool,
    said: Option<Instant>,
}

impl Progress {
    pub(super) fn new(common: &CommonFlags) -> Self {
        let is_welcome = output::is_watched() && !common.json;
        let style = "{bytes:>10} of {total_bytes} [{bar:30}] {binary_bytes_per_sec}, {eta} left {msg}";
        let bar = is_welcome.then(|| {
            let bar = ProgressBar::new(0);
            bar.set_style(ProgressStyle::with_template(style).expect("a constant").progress_chars("=> "));
            bar
        });
        Self { bar, is_json: common.json, said: None }
    }

    pub(super) fn show(&mut self, bytes: u64, total: Option<u64>, providers: usize, rate: f64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total.unwrap_or(bytes));
            bar.set_position(bytes);
            bar.set_message(if providers == 1 { "from 1 node".into() } else { format!("from {providers} nodes") });
        }
        if self.is_json && self.said.is_none_or(|said| said.elapsed() >= EVENT_INTERVAL) {
            self.said = Some(Instant::now());
            output::json(&serde_json::json!({
                "state": "running", "bytes": bytes, "total": total, "providers": providers, "rate": rate.max(0.0).round(),
            }));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// For people.
pub(super) fn bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}
