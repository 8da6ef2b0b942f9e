//! W3C trace context: which trace, which span in it, and whether anybody wants to see it.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

/// The flag that says that the trace is recorded.
const SAMPLED: u8 = 1;

/// A span's place in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    trace: NonZeroU128,
    span: NonZeroU64,
    flags: u8,
}

impl Context {
    /// The root of a new trace, from numbers that nobody drew before.
    pub fn root(trace: u128, span: u64) -> Self {
        Self {
            trace: NonZeroU128::new(trace).unwrap_or(NonZeroU128::MIN),
            span: NonZeroU64::new(span).unwrap_or(NonZeroU64::MIN),
            flags: SAMPLED,
        }
    }

    /// Reads a `traceparent`; none where it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if version != "00" || parts.next().is_some() {
            return None;
        }
        Some(Self {
            trace: NonZeroU128::new(u128::from_str_radix(hex(trace, 32)?, 16).ok()?)?,
            span: NonZeroU64::new(u64::from_str_radix(hex(span, 16)?, 16).ok()?)?,
            flags: u8::from_str_radix(hex(flags, 2)?, 16).ok()?,
        })
    }

    /// The same trace at another span.
    pub fn at(self, span: u64) -> Self {
        let span = NonZeroU64::new(span).unwrap_or(NonZeroU64::MIN);
        Self { span, ..self }
    }

    /// A span below this one that is the same whenever it is asked for by the same words: what a crash repeats is
    /// the same span again.
    pub fn below(self, words: &[&str]) -> Self {
        let words = words.iter().flat_map(|word| word.bytes().chain([0]));
        let bytes = self.span.get().to_le_bytes().into_iter().chain(words);
        // FNV-1a, and a last stir: its upper bits alone say little of short words.
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        self.at((hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The trace as it is written: 32 digits.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// The span as it is written: 16 digits.
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span)
    }

    /// Whether the trace is recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// As a `traceparent` has it.
impl fmt::Display for Context {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

fn hex(text: &str, len: usize) -> Option<&str> {
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == len && text.bytes().all(digit)).then_some(text)
}

tokio::task_local! {
    static CURRENT: Context;
}

/// Runs a future inside a span: what it begins stands below it.
pub async fn within<T>(context: Context, future: impl Future<Output = T>) -> T {
    CURRENT.scope(context, future).await
}

/// The span that this task runs inside of.
pub fn current() -> Option<Context> {
    CURRENT.try_get().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_and_written_as_it_was() {
        let context = Context::parse(SOUND).unwrap();
        assert_eq!(context.to_string(), SOUND);
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span_id(), "00f067aa0ba902b7");
        assert!(context.is_sampled());
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        for odd in [
            "",
            "00-short-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Context::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_span_below_is_known_by_its_words() {
        let parent = Context::parse(SOUND).unwrap();
        let first = parent.below(&["ingest", "1"]);
        assert_eq!(first, parent.below(&["ingest", "1"]));
        assert_eq!(first.trace_id(), parent.trace_id());
        for other in [["ingest", "2"], ["inges", "t1"], ["validate", "1"]] {
            assert_ne!(first, parent.below(&other), "{other:?}");
        }
        assert_ne!(first, parent.at(7).below(&["ingest", "1"]));
    }

    #[tokio::test]
    async fn a_task_knows_the_span_that_it_runs_inside_of() {
        let context = Context::parse(SOUND).unwrap();
        assert_eq!(current(), None);
        assert_eq!(within(context, async { current() }).await, Some(context));
    }
}
