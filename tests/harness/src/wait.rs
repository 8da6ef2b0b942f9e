//! Waiting with an end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const PAUSE: Duration = Duration::from_millis(25);

/// Asks `probe` until it has an answer, for at most `limit`; `what` names what was waited for.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        let last = match probe().await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if started.elapsed() >= limit {
            match last {
                Some(error) => bail!(
                    "{what}: not within {} s; the last try said: {error:#}",
                    limit.as_secs()
                ),
                None => bail!("{what}: not within {} s", limit.as_secs()),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
