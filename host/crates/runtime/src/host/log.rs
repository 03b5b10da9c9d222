//! `log`: write to the plugin's log.

use super::InstanceState;
use crate::{
    bindings::log,
    log::{Entry, LogLevel, LogSource},
};

fn level(level: log::Level) -> LogLevel {
    match level {
        log::Level::Trace => LogLevel::Trace,
        log::Level::Debug => LogLevel::Debug,
        log::Level::Info => LogLevel::Info,
        log::Level::Warn => LogLevel::Warn,
        log::Level::Error => LogLevel::Error,
    }
}

impl log::Host for InstanceState {
    fn enabled(&mut self, asked: log::Level) -> wasmtime::Result<bool> {
        Ok(self.plugin.log.is_enabled(level(asked)))
    }

    fn write(
        &mut self,
        asked: log::Level,
        target: String,
        message: String,
        mut fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        if let Some(trace) = &self.handling.trace {
            fields.push(("trace".to_owned(), trace.trace_id().to_owned()));
        }
        let (level, cause_depth) = (level(asked), self.handling.cause_depth);
        let entry = Entry { level, source: LogSource::Plugin, target, message, fields, cause_depth };
        let dropped = self.plugin.log.write(entry);
        self.plugin.counters.log_dropped.add(dropped);
        Ok(())
    }
}
