//! How long to wait before the next attempt.

use std::time::Duration;

use crate::manifest::Retry;

/// The delay after the `attempt`-th attempt failed: exponential, capped, and with full jitter
/// (`random` in [0, 1)) where the policy asks for it.
///
/// Full jitter: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
pub fn delay_of(policy: &Retry, attempt: u32, random: f64) -> Duration {
    let grown = policy.initial.as_secs_f64() * policy.factor.powi(attempt.saturating_sub(1).min(1000) as i32);
    let capped = grown.min(policy.max_backoff.as_secs_f64());
    Duration::from_secs_f64(if policy.jitter { capped * random } else { capped })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_the_cap() {
        let policy = Retry {
            jitter: false,
            ..Retry::default()
        };
        let delays: Vec<_> = [1, 2, 3, 30]
            .map(|attempt| delay_of(&policy, attempt, 0.0))
            .into();
        assert_eq!(delays, [500, 1000, 2000, 60_000].map(Duration::from_millis));
    }

    #[test]
    fn jitter_stays_below_the_delay() {
        let policy = Retry {
            jitter: true,
            ..Retry::default()
        };
        assert_eq!(delay_of(&policy, 2, 0.5), Duration::from_millis(500));
    }
}
