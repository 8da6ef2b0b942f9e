//! The order of notices of one object.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// A place in the order of an object's notices: hexadecimal digits.
///
/// Of two that differ in length the shorter one is filled up with zeros on the right, as S3's documentation has it: they
/// are fractions of a longer one, not numbers. Padded on the left, `0A` would come before `055A`, though it is the later
/// one. Those of one length, which is the common case, are in the same order either way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sequencer(String);

impl Sequencer {
    /// Reads one; none where it is no hexadecimal number.
    pub fn parse(text: &str) -> Option<Self> {
        let sound = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        sound.then(|| Self(text.to_ascii_uppercase()))
    }

    /// The place of a notice that tells none: services other than Amazon's leave it out.
    pub fn at(time: u64) -> Self {
        Self(format!("{time:016X}"))
    }

    fn significant(&self) -> &str {
        self.0.trim_end_matches('0')
    }
}

impl PartialEq for Sequencer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Sequencer {}

impl PartialOrd for Sequencer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sequencer {
    fn cmp(&self, other: &Self) -> Ordering {
        // Zeros on the right change nothing: without them the order of bytes is that of the padded texts.
        self.significant().cmp(other.significant())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn padded(text: &str, len: usize) -> String {
        format!("{text:0<len$}").to_ascii_uppercase()
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_texts_padded_on_the_right(a in "[0-9a-fA-F]{1,20}", b in "[0-9a-fA-F]{1,20}") {
            let (first, second) = (Sequencer::parse(&a).unwrap(), Sequencer::parse(&b).unwrap());
            prop_assert_eq!(first.cmp(&second), padded(&a, 20).cmp(&padded(&b, 20)));
        }

        #[test]
        fn of_one_length_it_is_that_of_the_numbers(a: u64, b: u64) {
            let of = |number: u64| Sequencer::parse(&format!("{number:016x}")).unwrap();
            prop_assert_eq!(of(a).cmp(&of(b)), a.cmp(&b));
        }
    }

    #[test]
    fn what_is_no_hexadecimal_number_is_none() {
        assert!(Sequencer::parse("").is_none());
        assert!(Sequencer::parse("00XY").is_none());
    }
}
