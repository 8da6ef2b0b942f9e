//! A span: a piece of work that has ended, as OpenTelemetry describes it.

use crate::Context;

/// What part a span plays between its parent and its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Work inside of a process.
    Internal,
    /// A request that was answered.
    Server,
    /// A request that was made.
    Client,
    /// A message that was sent.
    Producer,
    /// A message that was handled.
    Consumer,
}

/// What an attribute holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Words.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Yes or no.
    Flag(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// How a piece of work failed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    pub(crate) kind: String,
    pub(crate) message: String,
}

/// A piece of work that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub(crate) context: Context,
    pub(crate) parent: Option<Context>,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) attributes: Vec<(&'static str, Value)>,
    pub(crate) failure: Option<Failure>,
}

impl Span {
    /// Work that began and ended at these times, in nanoseconds since the Unix epoch.
    pub fn new(
        context: Context,
        parent: Option<Context>,
        kind: Kind,
        name: impl Into<String>,
        (start_ns, end_ns): (u64, u64),
    ) -> Self {
        Self {
            context,
            parent,
            name: name.into(),
            kind,
            start_ns,
            end_ns: end_ns.max(start_ns),
            attributes: Vec::new(),
            failure: None,
        }
    }

    /// Tells one more thing of it.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }

    /// Tells one more thing of it, where that is known.
    #[must_use]
    pub fn with_some(self, name: &'static str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Says that it failed, in which way, and why.
    #[must_use]
    pub fn failed(self, kind: &str, message: &str) -> Self {
        let mut failed = self.with("error.type", kind);
        failed.failure = Some(Failure {
            kind: kind.to_owned(),
            message: message.to_owned(),
        });
        failed
    }
}
