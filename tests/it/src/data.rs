//! A data set that is small, always the same, and can be learnt.

use std::fmt::Write as _;

const USERS: u64 = 60;
const ITEMS: u64 = 80;
const GROUPS: u64 = 4;
const FIRST_SECOND: u64 = 1_700_000_000;
const SECONDS_BETWEEN_ROWS: u64 = 400;

/// Variants of the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Every row is as it should be.
    Clean,
    /// Every hundredth row is malformed.
    Malformed,
}

/// Interactions as CSV: users and items belong to groups, and like meets like.
pub fn interactions(rows: u64, seed: u64, flavour: Flavour) -> String {
    let mut text = String::from("user_id,item_id,timestamp,click,dwell_seconds,device,category\n");
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    for row in 0..rows {
        let (user, item) = (random.below(USERS), random.below(ITEMS));
        let alike = user % GROUPS == item % GROUPS;
        let click = u64::from(random.below(100) < if alike { 85 } else { 12 });
        let dwell = click * (5 + random.below(100));
        let time = FIRST_SECOND + row * SECONDS_BETWEEN_ROWS;
        let device = ["mobile", "desktop", "tablet"][random.below(3) as usize];
        let user = if flavour == Flavour::Malformed && row % 100 == 7 {
            "nobody".to_owned()
        } else {
            user.to_string()
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{user},{item},{time},{click},{dwell},{device},group{}",
            item % GROUPS
        );
    }
    text
}

/// A xorshift generator: the data must be the same wherever the tests run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}
