//! Log lines and progress, kept with the invocation: `log::info!("{rows} rows")`, `log::progress(..)`.

use crate::bindings::tidegate::function::log;

pub use log::Level;

pub use crate::{
    __log_debug as debug, __log_error as error, __log_info as info, __log_trace as trace, __log_warn as warn,
};

/// Writes one line.
pub fn write(level: Level, message: &str) {
    log::write(level, message);
}

/// Progress of a long step: `done` of `total` in `unit`, shown live; a total of 0 is unknown.
pub fn progress(done: u64, total: u64, unit: &str) {
    log::progress(done, total, unit);
}

/// Writes a line at level trace.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_trace {
    ($($message:tt)*) => { $crate::log::write($crate::log::Level::Trace, &::std::format!($($message)*)) };
}

/// Writes a line at level debug.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_debug {
    ($($message:tt)*) => { $crate::log::write($crate::log::Level::Debug, &::std::format!($($message)*)) };
}

/// Writes a line at level info.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_info {
    ($($message:tt)*) => { $crate::log::write($crate::log::Level::Info, &::std::format!($($message)*)) };
}

/// Writes a line at level warn.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_warn {
    ($($message:tt)*) => { $crate::log::write($crate::log::Level::Warn, &::std::format!($($message)*)) };
}

/// Writes a line at level error.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_error {
    ($($message:tt)*) => { $crate::log::write($crate::log::Level::Error, &::std::format!($($message)*)) };
}
