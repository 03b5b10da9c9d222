//! `log`: write to the plugin's log.

use super::InstanceState;
use crate::{
    bindings::log,
    log::{LogLevel, LogSource},
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
        let dropped = self.plugin.log.write(level(asked), LogSource::Plugin, target, message, fields);
        self.plugin.counters.log_dropped.add(dropped);
        Ok(())
    }
}
