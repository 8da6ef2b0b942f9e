//! What flows how: keys and rates.

use super::*;

/// The manifest `GOOD`, its first function with more in it.
fn with(more: &str) -> String {
    changed("description = \"Takes files in.\"", more)
}

#[test]
fn a_key_says_where_it_is_and_how_its_events_are_handled() {
    let read = |more: &str| {
        Manifest::parse(&with(more), "t").unwrap().functions[0]
            .key
            .clone()
    };
    let key = KeySpec {
        of: KeyPath::Data("/user/id".into()),
        concurrency: 1,
        ordered: true,
    };
    assert_eq!(read("key = { of = \"data.user.id\", ordered = true }"), Some(key));
    let key = KeySpec {
        of: KeyPath::Subject,
        concurrency: 3,
        ordered: false,
    };
    assert_eq!(read("key = { of = \"subject\", concurrency = 3 }"), Some(key));
    assert_eq!(read(""), None);
}

#[test]
fn a_wrong_key_is_refused_with_what_is_allowed() {
    for (more, path, words) in [
        (
            "key = { of = \"user\" }",
            "key.of",
            "found `user`, expected `subject`, `source`, `type`, or a value",
        ),
        ("key = {}", "key", "`of` is missing"),
        ("key = 1", "key", "found `1`, expected a table"),
        (
            "key = { of = \"type\", concurrency = 0 }",
            "key.concurrency",
            "from 1 to 1000",
        ),
        (
            "key = { of = \"type\", concurrency = 2, ordered = true }",
            "key",
            "`concurrency` of 2, expected 1",
        ),
    ] {
        let found = mistakes(&with(more));
        let path = format!("function.ingest.{path}: ");
        assert!(
            found
                .iter()
                .any(|line| line.contains(&path) && line.contains(words)),
            "{more}: {found:?}"
        );
    }
    let of_requests = changed(
        "component = \"rank.wasm\"",
        "component = \"rank.wasm\"\nkey = { of = \"type\" }",
    );
    assert!(
        mistakes(&of_requests)[0]
            .contains("function.rank.key: found a key, but the function has http triggers")
    );
}

#[test]
fn a_rate_has_a_limit_a_time_and_a_burst() {
    let read = |more: &str| {
        let manifest = Manifest::parse(&with(more), "t");
        manifest.unwrap().functions[0].rate.clone()
    };
    let rate = |limit, seconds, burst| {
        Some(Rate {
            limit,
            per: Duration::from_secs(seconds),
            burst,
        })
    };
    assert_eq!(read("rate = { limit = 100 }"), rate(100, 1, 100));
    assert_eq!(
        read("rate = { limit = 2, per = \"1m\", burst = 5 }"),
        rate(2, 60, 5)
    );
    assert_eq!(read(""), None);
    for (more, path, words) in [
        (
            "rate = {}",
            "rate",
            "`limit` is missing, expected a whole number from 1 to 1000000",
        ),
        (
            "rate = { limit = 0 }",
            "rate.limit",
            "found `0`, expected a whole number from 1",
        ),
        (
            "rate = { limit = 1, per = \"0s\" }",
            "rate.per",
            "from `1ms` to `24h`",
        ),
        ("rate = { limit = 1, burst = 0 }", "rate.burst", "found `0`"),
    ] {
        let found = mistakes(&with(more));
        let path = format!("function.ingest.{path}: ");
        assert!(found.len() == 1, "{more}: {found:?}");
        assert!(
            found[0].contains(&path) && found[0].contains(words),
            "{more}: {found:?}"
        );
    }
}
