//! The promotion rule: when a new version takes the place of the one in production.

use serde::{Deserialize, Serialize};

/// A version whose AUC is better by more than this is promoted.
pub const MARGIN: f64 = 0.01;

/// What becomes of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It becomes the champion.
    Promote,
    /// It is better than the champion, by too little to be promoted without a person.
    Candidate,
    /// It is not better than the champion.
    Reject,
}

impl Decision {
    /// The word used in records and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Candidate => "candidate",
            Self::Reject => "reject",
        }
    }
}

/// A decision and why it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What becomes of the version.
    pub decision: Decision,
    /// Why, for a person.
    pub reason: String,
}

/// Compares a new version's AUC with the champion's on the same test split.
///
/// An AUC that is not a number between 0 and 1 is never promoted.
pub fn decide(candidate: f64, champion: Option<f64>) -> Verdict {
    let (decision, reason) = if !(0.0..=1.0).contains(&candidate) {
        (
            Decision::Reject,
            format!("its auc is {candidate}, not a number between 0 and 1"),
        )
    } else {
        match champion.filter(|auc| auc.is_finite()) {
            None => (
                Decision::Promote,
                format!("auc {candidate:.4}, and there is no champion to compare with"),
            ),
            Some(champion) => compare(candidate, champion),
        }
    };
    Verdict { decision, reason }
}

fn compare(candidate: f64, champion: f64) -> (Decision, String) {
    let gain = candidate - champion;
    let facts = format!("auc {candidate:.4} against the champion's {champion:.4} ({gain:+.4})");
    if gain > MARGIN {
        (
            Decision::Promote,
            format!("{facts}, better by more than {MARGIN}"),
        )
    } else if gain > 0.0 {
        (
            Decision::Candidate,
            format!("{facts}, better but not by more than {MARGIN}"),
        )
    } else {
        (Decision::Reject, format!("{facts}, not better"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(candidate: f64, champion: impl Into<Option<f64>>) -> Decision {
        decide(candidate, champion.into()).decision
    }

    #[test]
    fn the_first_version_is_promoted() {
        assert_eq!(of(0.5, None), Decision::Promote);
        assert_eq!(of(0.5, f64::NAN), Decision::Promote);
    }

    #[test]
    fn the_gain_decides() {
        assert_eq!(of(0.85, 0.83), Decision::Promote);
        assert_eq!(of(0.835, 0.83), Decision::Candidate);
        assert_eq!(of(0.75, 0.75 - MARGIN / 2.0), Decision::Candidate);
        assert_eq!(of(0.83, 0.83), Decision::Reject);
        assert_eq!(of(0.80, 0.83), Decision::Reject);
    }

    #[test]
    fn an_auc_that_is_no_auc_is_rejected() {
        for auc in [f64::NAN, f64::INFINITY, -0.1, 1.1] {
            assert_eq!(of(auc, None), Decision::Reject);
        }
    }

    #[test]
    fn the_reason_names_both_numbers() {
        let reason = decide(0.85, Some(0.83)).reason;
        assert!(
            reason.contains("0.8500") && reason.contains("0.8300") && reason.contains("+0.0200"),
            "{reason}"
        );
    }

    #[test]
    fn the_word_in_json_is_the_word_in_text() {
        for decision in [Decision::Promote, Decision::Candidate, Decision::Reject] {
            let json = serde_json::to_string(&decision).unwrap();
            assert_eq!(json, format!("\"{}\"", decision.as_str()));
        }
    }

    proptest! {
        #[test]
        fn a_better_auc_never_gets_a_worse_decision(a in 0.0..=1.0f64, b in 0.0..=1.0f64, champion in 0.0..=1.0f64) {
            let rank = |auc| match of(auc, champion) {
                Decision::Reject => 0,
                Decision::Candidate => 1,
                Decision::Promote => 2,
            };
            prop_assert!(rank(a.max(b)) >= rank(a.min(b)));
        }
    }
}
