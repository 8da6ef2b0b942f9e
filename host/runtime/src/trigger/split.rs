//! Splits: which version of a function takes an event or a request.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Versions that share at most.
const MOST: usize = 2;

/// One or two versions of a function, each with its share in hundredths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<u64, u64>")]
pub struct Split(BTreeMap<u64, u64>);

/// Why shares are no split.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// None, or too many.
    #[error("found {0} versions, allowed are one or two")]
    Count(usize),
    /// A version that would get nothing.
    #[error("found a weight of 0 for version {0}, allowed are 1 to 100; leave the version out instead")]
    Nothing(u64),
    /// The shares do not make a whole.
    #[error("found weights that sum to {0}, expected 100")]
    Sum(u64),
}

impl TryFrom<BTreeMap<u64, u64>> for Split {
    type Error = SplitError;

    fn try_from(shares: BTreeMap<u64, u64>) -> Result<Self, SplitError> {
        if shares.is_empty() || shares.len() > MOST {
            return Err(SplitError::Count(shares.len()));
        }
        if let Some((version, _)) = shares.iter().find(|(_, share)| **share == 0) {
            return Err(SplitError::Nothing(*version));
        }
        match shares
            .values()
            .fold(0, |sum: u64, share| sum.saturating_add(*share))
        {
            100 => Ok(Self(shares)),
            sum => Err(SplitError::Sum(sum)),
        }
    }
}

impl Split {
    /// Everything to one version.
    pub fn whole(version: u64) -> Self {
        Self(BTreeMap::from([(version, 100)]))
    }

    /// What becomes of a split when a version shall have a share of it: the rest is of whichever other version has the
    /// most. A version that is alone has all of it, and one that shall have nothing comes into no split.
    pub fn turned(before: Option<&Self>, version: u64, share: u64) -> Option<Self> {
        let others = before.into_iter().flat_map(Self::shares);
        let others = others.filter(|(other, _)| *other != version);
        let rest = others.max_by_key(|(_, share)| *share).map(|(other, _)| other);
        match (share, rest) {
            (1..100, Some(rest)) => Some(Self(BTreeMap::from([(version, share), (rest, 100 - share)]))),
            (0, Some(rest)) if before.is_some_and(|before| before.has(version)) => Some(Self::whole(rest)),
            (0, _) => before.cloned(),
            _ => Some(Self::whole(version)),
        }
    }

    /// The versions, each with its share.
    pub fn shares(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|(version, share)| (*version, *share))
    }

    /// Whether a version has a share.
    pub fn has(&self, version: u64) -> bool {
        self.0.contains_key(&version)
    }

    /// The version that a key falls to: always the same one. Where the newer version's share grows, no key that
    /// fell to it before falls back.
    pub fn pick(&self, key: &str) -> u64 {
        let Some((&newest, &share)) = self.0.last_key_value() else {
            return 0;
        };
        let oldest = self.0.keys().next().copied().unwrap_or(newest);
        if place_of(key) < share { newest } else { oldest }
    }

    /// The version with the larger share, of equal ones the newer.
    pub fn heaviest(&self) -> u64 {
        let heaviest = self.0.iter().max_by_key(|(_, share)| **share);
        heaviest.map_or(0, |(version, _)| *version)
    }
}

/// A number below 100 that a key always has.
fn place_of(key: &str) -> u64 {
    let hash = blake3::hash(key.as_bytes());
    let drawn = hash
        .as_bytes()
        .iter()
        .take(8)
        .fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
    drawn % 100
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, (version, share)) in self.0.iter().rev().enumerate() {
            let comma = if nth == 0 { "" } else { "," };
            write!(f, "{comma}{version}={share}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(shares: &[(u64, u64)]) -> Result<Split, SplitError> {
        Split::try_from(shares.iter().copied().collect::<BTreeMap<_, _>>())
    }

    #[test]
    fn one_or_two_versions_share_a_hundred() {
        assert!(split(&[(3, 100)]).is_ok());
        assert!(split(&[(3, 90), (4, 10)]).is_ok());
        assert_eq!(split(&[]), Err(SplitError::Count(0)));
        assert_eq!(split(&[(1, 30), (2, 30), (3, 40)]), Err(SplitError::Count(3)));
        assert_eq!(split(&[(1, 100), (2, 0)]), Err(SplitError::Nothing(2)));
        assert_eq!(split(&[(1, 50), (2, 51)]), Err(SplitError::Sum(101)));
        assert_eq!(split(&[(1, u64::MAX), (2, 1)]), Err(SplitError::Sum(u64::MAX)));
    }

    #[test]
    fn keys_fall_to_versions_by_their_weights_and_stay() {
        let shares = split(&[(3, 90), (4, 10)]).unwrap();
        let keys: Vec<String> = (0..2000).map(|n| format!("run-{n}")).collect();
        let newer = keys.iter().filter(|key| shares.pick(key) == 4).count();
        assert!((140..=260).contains(&newer), "{newer} of 2000");
        let more = split(&[(3, 50), (4, 50)]).unwrap();
        let fell_back = keys
            .iter()
            .any(|key| shares.pick(key) == 4 && more.pick(key) == 3);
        assert!(!fell_back);
    }

    #[test]
    fn a_version_takes_its_share_from_whoever_has_the_most() {
        let turned = |before: &[(u64, u64)], version, share| {
            let before = split(before).ok();
            Split::turned(before.as_ref(), version, share).map(|split| split.to_string())
        };
        assert_eq!(turned(&[], 1, 10).as_deref(), Some("1=100"));
        assert_eq!(turned(&[], 1, 0), None);
        assert_eq!(turned(&[(3, 100)], 4, 10).as_deref(), Some("4=10,3=90"));
        assert_eq!(turned(&[(3, 90), (4, 10)], 4, 50).as_deref(), Some("4=50,3=50"));
        assert_eq!(turned(&[(3, 90), (4, 10)], 5, 10).as_deref(), Some("5=10,3=90"));
        assert_eq!(turned(&[(3, 90), (4, 10)], 4, 100).as_deref(), Some("4=100"));
        assert_eq!(turned(&[(3, 90), (4, 10)], 4, 0).as_deref(), Some("3=100"));
        assert_eq!(turned(&[(3, 90), (4, 10)], 5, 0).as_deref(), Some("4=10,3=90"));
        assert_eq!(turned(&[(4, 100)], 4, 0).as_deref(), Some("4=100"));
    }

    #[test]
    fn the_heaviest_is_the_newer_of_equals() {
        assert_eq!(split(&[(3, 90), (4, 10)]).unwrap().heaviest(), 3);
        assert_eq!(split(&[(3, 50), (4, 50)]).unwrap().heaviest(), 4);
        assert_eq!(Split::whole(7).heaviest(), 7);
    }
}
