//! Sizes and durations as people write them.

use std::time::Duration;

/// `64MiB`, `1GiB`, `512KiB`, `10MB`, `100B`.
pub(super) fn size(text: &str) -> Option<u64> {
    let units = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
    ];
    let (number, unit) = units
        .into_iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    number.trim().parse::<u64>().ok()?.checked_mul(unit)
}

/// `500ms`, `30s`, `5m`, `1h`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    let (number, unit) = units
        .into_iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    Some(Duration::from_millis(
        number.trim().parse::<u64>().ok()?.checked_mul(unit)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_read_with_their_units() {
        assert_eq!(size("64MiB"), Some(64 << 20));
        assert_eq!(size("10 MB"), Some(10_000_000));
        assert_eq!(size("12 parsecs"), None);
        assert_eq!(size("99999999999GiB"), None);
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("5m"), Some(Duration::from_secs(300)));
        assert_eq!(duration("5"), None);
    }
}
