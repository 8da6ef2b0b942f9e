//! Limits, rates, retries and batches: every number has a range, and a default.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::values::{duration, size};
use super::walk::{Fields, Value};
use super::{Batch, KeyPath, KeySpec, Limits, OnExhausted, Rate, Retry, Reuse};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIME: &str = "a duration such as `30s`, from `1ms` to `1h`";
const TIMES: RangeInclusive<u128> = 1..=3_600_000;

const DELAY: &str = "a duration such as `500ms`, from `1ms` to `24h`";
const DELAYS: RangeInclusive<u128> = 1..=86_400_000;

/// How far the events of a schedule are spread.
pub(super) fn jitter(fields: &mut Fields<'_>) -> Duration {
    time(fields, "jitter", DELAYS, DELAY).unwrap_or_default()
}

pub(super) fn limits(mut fields: Fields<'_>) -> Limits {
    let default = Limits::default();
    let wall_time = time(&mut fields, "wall_time", TIMES, TIME).unwrap_or(default.wall_time);
    let limits = Limits {
        memory: bytes(
            &mut fields,
            "memory",
            MIB..=4 * GIB,
            "a size such as `64MiB`, from `1MiB` to `4GiB`",
        )
        .unwrap_or(default.memory),
        wall_time,
        cpu_time: time(&mut fields, "cpu_time", TIMES, TIME).unwrap_or(wall_time),
        concurrency: count(&mut fields, "concurrency", 1..=10_000).unwrap_or(default.concurrency),
        backlog: fields
            .number("backlog", 1..=100_000_000)
            .unwrap_or(default.backlog),
        log_bytes: bytes(
            &mut fields,
            "log_bytes",
            KIB..=16 * MIB,
            "a size such as `256KiB`, from `1KiB` to `16MiB`",
        )
        .unwrap_or(default.log_bytes),
        effects_bytes: bytes(
            &mut fields,
            "effects_bytes",
            KIB..=GIB,
            "a size such as `64MiB`, from `1KiB` to `1GiB`",
        )
        .unwrap_or(default.effects_bytes),
        effects_count: fields
            .number("effects_count", 1..=10_000_000)
            .unwrap_or(default.effects_count),
        host_calls: fields
            .number("host_calls", 1..=1_000_000_000)
            .unwrap_or(default.host_calls),
        handles: count(&mut fields, "handles", 16..=1_000_000).unwrap_or(default.handles),
    };
    fields.finish();
    limits
}

pub(super) fn retry(mut fields: Fields<'_>) -> Retry {
    let default = Retry::default();
    let retry = Retry {
        max_attempts: count(&mut fields, "max_attempts", 1..=1000).unwrap_or(default.max_attempts),
        initial: time(&mut fields, "initial", DELAYS, DELAY).unwrap_or(default.initial),
        factor: factor(&mut fields).unwrap_or(default.factor),
        max_backoff: time(&mut fields, "max_backoff", DELAYS, DELAY).unwrap_or(default.max_backoff),
        jitter: flag(&mut fields, "jitter").unwrap_or(default.jitter),
        max_age: time(
            &mut fields,
            "max_age",
            1000..=720 * 3_600_000,
            "a duration such as `6h`, from `1s` to `720h`",
        )
        .unwrap_or(default.max_age),
        on_exhausted: fields
            .parsed("on_exhausted", "`dead` or `pause`", |text| match text {
                "dead" => Some(OnExhausted::Dead),
                "pause" => Some(OnExhausted::Pause),
                _ => None,
            })
            .unwrap_or(default.on_exhausted),
    };
    if retry.initial > retry.max_backoff {
        let (initial, longest) = (retry.initial, retry.max_backoff);
        fields.note(format!(
            "found `initial` of {initial:?} and `max_backoff` of {longest:?}, expected it no shorter"
        ));
    }
    fields.finish();
    retry
}

pub(super) fn reuse(mut fields: Fields<'_>) -> Reuse {
    let default = Reuse::default();
    let reuse = Reuse {
        invocations: count(&mut fields, "invocations", 1..=1_000_000).unwrap_or(default.invocations),
        idle: time(&mut fields, "idle", TIMES, TIME).unwrap_or(default.idle),
    };
    fields.finish();
    reuse
}

pub(super) fn batch(mut fields: Fields<'_>) -> Batch {
    const WINDOW: &str = "a duration such as `200ms`, from `0ms` to `5m`";
    const BYTES: &str = "a size such as `6MiB`, from `1KiB` to `64MiB`";
    let default = Batch::default();
    let batch = Batch {
        size: count(&mut fields, "size", 1..=10_000).unwrap_or(default.size),
        window: time(&mut fields, "window", 0..=300_000, WINDOW).unwrap_or(default.window),
        bytes: bytes(&mut fields, "bytes", KIB..=64 * MIB, BYTES).unwrap_or(default.bytes),
    };
    fields.finish();
    batch
}

pub(super) fn key(mut fields: Fields<'_>) -> KeySpec {
    const PATH: &str = "`subject`, `source`, `type`, or a value in the data such as `data.user.id`";
    let mut of = None;
    fields.required("of", PATH, |text| {
        of = KeyPath::read(text);
        of.is_some()
    });
    let key = KeySpec {
        of: of.unwrap_or(KeyPath::Subject),
        concurrency: count(&mut fields, "concurrency", 1..=1000).unwrap_or(1),
        ordered: flag(&mut fields, "ordered").unwrap_or(false),
    };
    if key.ordered && key.concurrency > 1 {
        let found = key.concurrency;
        fields.note(format!(
            "found `ordered` and `concurrency` of {found}, expected 1: events in order are handled one at a time"
        ));
    }
    fields.finish();
    key
}

/// A rate; none where its `limit` is missing or wrong, which is noted.
pub(super) fn rate(mut fields: Fields<'_>) -> Option<Rate> {
    const COUNT: RangeInclusive<u64> = 1..=1_000_000;
    const PER: &str = "a duration such as `1s`, from `1ms` to `24h`";
    fields.require("limit", "a whole number from 1 to 1000000");
    let limit = count(&mut fields, "limit", COUNT);
    let per = time(&mut fields, "per", DELAYS, PER).unwrap_or(Duration::from_secs(1));
    let burst = count(&mut fields, "burst", COUNT).or(limit);
    fields.finish();
    Some(Rate {
        limit: limit?,
        per,
        burst: burst?,
    })
}

fn flag(fields: &mut Fields<'_>, key: &'static str) -> Option<bool> {
    fields.value(key, "`true` or `false`", |value| match value {
        Value::Boolean(flag) => Some(*flag),
        _ => None,
    })
}

fn bytes(
    fields: &mut Fields<'_>,
    key: &'static str,
    range: RangeInclusive<u64>,
    expected: &str,
) -> Option<u64> {
    fields.parsed(key, expected, |text| {
        size(text).filter(|bytes| range.contains(bytes))
    })
}

fn time(
    fields: &mut Fields<'_>,
    key: &'static str,
    range: RangeInclusive<u128>,
    expected: &str,
) -> Option<Duration> {
    fields.parsed(key, expected, |text| {
        duration(text).filter(|time| range.contains(&time.as_millis()))
    })
}

fn count(fields: &mut Fields<'_>, key: &'static str, range: RangeInclusive<u64>) -> Option<u32> {
    fields
        .number(key, range)
        .and_then(|number| u32::try_from(number).ok())
}

fn factor(fields: &mut Fields<'_>) -> Option<f64> {
    fields.value("factor", "a number from 1 to 100", |value| {
        let factor = match value {
            Value::Integer(number) => *number as f64,
            Value::Float(number) => *number,
            _ => return None,
        };
        (1.0..=100.0).contains(&factor).then_some(factor)
    })
}
