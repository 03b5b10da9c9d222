//! Write to the plugin's log, with the macros [`trace!`](crate::trace!), [`debug!`](crate::debug!),
//! [`info!`](crate::info!), [`warn!`](crate::warn!) and [`error!`](crate::error!).
//!
//! Fields first, then the text: `name = value` shows the value with `Display`, `name = ?value` with `Debug`, and a bare
//! `name` is the variable of that name. Nothing is formatted or computed when nobody would see the level.
//!
//! ```
//! use macula_plugin::{info, debug};
//! # fn f(room: &str, celsius: f64, window: Vec<f64>) {
//! info!("ready");
//! info!(room, celsius, "above the threshold");
//! debug!(window = ?window, readings = window.len(), "closing the window of {room}");
//! # }
//! ```
//!
//! The host adds time, plugin, version, instance and trace. Bytes per second are a quota; what is above it is counted and
//! dropped, never an error. A panic's message is written here, at `error`, before the instance ends.

use crate::host;
use std::fmt::{self, Display};

/// How much an entry matters, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// Decisions.
    Debug,
    /// What an operator wants to know.
    Info,
    /// Somebody else misbehaved.
    Warn,
    /// An operator must act.
    Error,
}

/// Whether anybody would see this level now. The macros ask by themselves.
pub fn enabled(level: Level) -> bool {
    host::log_enabled(level)
}

/// Writes one entry, as the macros do. `target` says where in the plugin; fields are names and values to filter by.
pub fn write(level: Level, target: &str, message: &str, fields: &[(&str, &str)]) {
    host::log_write(level, target, message, fields);
}

#[doc(hidden)]
pub fn write_entry(level: Level, target: &str, message: fmt::Arguments<'_>, fields: &[(&str, &dyn Display)]) {
    let values: Vec<String> = fields.iter().map(|(_, value)| value.to_string()).collect();
    let fields: Vec<(&str, &str)> = fields.iter().zip(&values).map(|((name, _), value)| (*name, &**value)).collect();
    match message.as_str() {
        Some(text) => write(level, target, text, &fields),
        None => write(level, target, &message.to_string(), &fields),
    }
}

/// Writes an entry of level `trace`: see [`log`](mod@crate::log).
#[macro_export]
macro_rules! trace {
    ($($entry:tt)+) => { $crate::__log!($crate::log::Level::Trace, [], $($entry)+) };
}

/// Writes an entry of level `debug`: see [`log`](mod@crate::log).
#[macro_export]
macro_rules! debug {
    ($($entry:tt)+) => { $crate::__log!($crate::log::Level::Debug, [], $($entry)+) };
}

/// Writes an entry of level `info`: see [`log`](mod@crate::log).
#[macro_export]
macro_rules! info {
    ($($entry:tt)+) => { $crate::__log!($crate::log::Level::Info, [], $($entry)+) };
}

/// Writes an entry of level `warn`: see [`log`](mod@crate::log).
#[macro_export]
macro_rules! warn {
    ($($entry:tt)+) => { $crate::__log!($crate::log::Level::Warn, [], $($entry)+) };
}

/// Writes an entry of level `error`: see [`log`](mod@crate::log).
#[macro_export]
macro_rules! error {
    ($($entry:tt)+) => { $crate::__log!($crate::log::Level::Error, [], $($entry)+) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:expr, [$($field:tt)*], $text:literal $($arguments:tt)*) => {
        if $crate::log::enabled($level) {
            $crate::log::write_entry(
                $level,
                ::core::module_path!(),
                ::core::format_args!($text $($arguments)*),
                &[$($field)*],
            );
        }
    };
    ($level:expr, [$($field:tt)*], $name:ident = ? $value:expr, $($entry:tt)+) => {
        $crate::__log!(
            $level,
            [$($field)* (::core::stringify!($name), &::core::format_args!("{:?}", $value)),],
            $($entry)+
        )
    };
    ($level:expr, [$($field:tt)*], $name:ident = $value:expr, $($entry:tt)+) => {
        $crate::__log!($level, [$($field)* (::core::stringify!($name), &$value),], $($entry)+)
    };
    ($level:expr, [$($field:tt)*], $name:ident, $($entry:tt)+) => {
        $crate::__log!($level, [$($field)* (::core::stringify!($name), &$name),], $($entry)+)
    };
    ($level:expr, [$($field:tt)*], $($entry:tt)+) => {
        ::core::compile_error!("fields first, then the text in quotes: info!(room, celsius = 31.5, \"above {limit}\")")
    };
}

/// Sends what libraries write through the `log` crate to the plugin's log. [`export!`](crate::export) installs it when
/// this crate's feature `log` is on.
#[cfg(feature = "log")]
pub(crate) fn install_facade() {
    struct Facade;

    fn level(level: ::log::Level) -> Level {
        match level {
            ::log::Level::Trace => Level::Trace,
            ::log::Level::Debug => Level::Debug,
            ::log::Level::Info => Level::Info,
            ::log::Level::Warn => Level::Warn,
            ::log::Level::Error => Level::Error,
        }
    }

    impl ::log::Log for Facade {
        fn enabled(&self, metadata: &::log::Metadata<'_>) -> bool {
            enabled(level(metadata.level()))
        }

        fn log(&self, record: &::log::Record<'_>) {
            if self.enabled(record.metadata()) {
                write_entry(level(record.level()), record.target(), *record.args(), &[]);
            }
        }

        fn flush(&self) {}
    }

    if ::log::set_logger(&Facade).is_ok() {
        ::log::set_max_level(::log::LevelFilter::Trace);
    }
}
