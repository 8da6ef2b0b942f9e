//! Stamps: numbers that grow, for versions, sequencers, places in queues and claims.
//!
//! A stamp is the time in microseconds with a tag of the host below it: two hosts never give the same one. A host's
//! next stamp is beyond every one that it gave or saw, so that what is caused comes after its cause, whatever the
//! clocks say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_runtime::clock::Clock;

/// Bits of the host's tag.
const TAG_BITS: u32 = 12;
const TAGS: u64 = 1 << TAG_BITS;

/// Gives stamps.
pub(crate) struct Stamps {
    tag: u64,
    last: AtomicU64,
    clock: Arc<dyn Clock>,
}

impl Stamps {
    /// Stamps of a host that drew this number.
    pub(crate) fn new(drawn: u64, clock: Arc<dyn Clock>) -> Self {
        Self {
            tag: drawn % TAGS,
            last: AtomicU64::new(0),
            clock,
        }
    }

    /// The next stamp.
    pub(crate) fn next(&self) -> u64 {
        let now = self.clock.now_ms().saturating_mul(1000) << TAG_BITS | self.tag;
        let later = |last: u64| now.max((last / TAGS + 1) * TAGS + self.tag);
        let before = self
            .last
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(later(last)));
        later(before.unwrap_or_else(|last| last))
    }

    /// Goes beyond a stamp that was seen.
    pub(crate) fn saw(&self, stamp: u64) {
        self.last.fetch_max(stamp, Ordering::AcqRel);
    }
}

/// What spreads stamps over shards: the tag is of no use for that.
pub(crate) fn spread(stamp: u64) -> u64 {
    stamp >> TAG_BITS
}

#[cfg(test)]
mod tests {
    use tidegate_runtime::clock::SystemClock;

    use super::*;

    #[test]
    fn stamps_grow_beyond_what_was_given_and_what_was_seen() {
        let stamps = Stamps::new(77, Arc::new(SystemClock));
        let first = stamps.next();
        assert!(stamps.next() > first);
        let ahead = first + (1 << 40);
        stamps.saw(ahead);
        let next = stamps.next();
        assert!(next > ahead && next % TAGS == 77);
    }
}
