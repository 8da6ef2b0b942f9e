//! Grants: what a function may touch. A refusal names the grant as one would add it to the manifest.

use crate::store::SYSTEM_PREFIX;

/// Buckets whose name starts with this belong to the platform; a manifest cannot grant them.
pub(super) const SYSTEM_BUCKETS: &str = "tidegate-";

/// A place in the object store, in the manifest `bucket/prefix`.
///
/// A prefix that ends with `/` (or is empty) covers every key that starts with it. One that does not covers
/// that key alone and the keys below it as a folder: `data/raw` covers `raw` and `raw/x`, never `raw-secret/x`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketPrefix {
    /// The bucket.
    pub bucket: String,
    /// What keys start with.
    pub prefix: String,
}

impl BucketPrefix {
    /// Whether the key is in the place.
    pub fn covers(&self, bucket: &str, key: &str) -> bool {
        self.bucket == bucket
            && key.strip_prefix(&self.prefix).is_some_and(|rest| {
                self.prefix.is_empty()
                    || self.prefix.ends_with('/')
                    || rest.is_empty()
                    || rest.starts_with('/')
            })
    }

    /// Whether every key that starts with `prefix` is in the place.
    ///
    /// Under `data/raw`, `raw/` is and `raw` is not: it would show `raw-secret/x`.
    pub fn covers_all(&self, bucket: &str, prefix: &str) -> bool {
        let all_below =
            |rest: &str| self.prefix.is_empty() || self.prefix.ends_with('/') || rest.starts_with('/');
        self.bucket == bucket && prefix.strip_prefix(&self.prefix).is_some_and(all_below)
    }
}

/// Objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectGrants {
    /// Where it may read and list.
    pub read: Vec<BucketPrefix>,
    /// Where it may write and delete.
    pub write: Vec<BucketPrefix>,
}

/// Tables of state, or views of features.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameGrants {
    /// What it may read.
    pub read: Vec<String>,
    /// What it may write.
    pub write: Vec<String>,
}

/// Events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventGrants {
    /// The types it may emit.
    pub emit: Vec<String>,
}

/// Jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobGrants {
    /// The kinds it may submit.
    pub submit: Vec<String>,
}

/// Inference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InferenceGrants {
    /// The models it may run.
    pub infer: Vec<String>,
}

/// Outbound HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpGrants {
    /// The hosts it may call: `api.example.com`, or with a port `api.example.com:8443`.
    pub hosts: Vec<String>,
}

/// Redis.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisGrants {
    /// The servers it may connect to: `cache.example.com`, or with a port `cache.example.com:6379`.
    pub hosts: Vec<String>,
}

/// Everything a function may touch; nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Objects.
    pub objects: ObjectGrants,
    /// State.
    pub state: NameGrants,
    /// Events.
    pub events: EventGrants,
    /// Jobs.
    pub jobs: JobGrants,
    /// Inference.
    pub inference: InferenceGrants,
    /// Online features.
    pub features: NameGrants,
    /// Secrets.
    pub secrets: Vec<String>,
    /// Outbound HTTP.
    pub http: HttpGrants,
    /// Redis.
    pub redis: RedisGrants,
}

impl Grants {
    /// Whether it may change anything.
    pub fn may_write(&self) -> bool {
        !(self.objects.write.is_empty()
            && self.state.write.is_empty()
            && self.events.emit.is_empty()
            && self.jobs.submit.is_empty()
            && self.features.write.is_empty())
    }

    /// Whether `function` may read the object.
    pub fn allows_read(&self, function: &str, bucket: &str, key: &str) -> Result<(), String> {
        object(&self.objects.read, "objects.read", function, bucket, key)
    }

    /// Whether `function` may write the object.
    pub fn allows_write(&self, function: &str, bucket: &str, key: &str) -> Result<(), String> {
        object(&self.objects.write, "objects.write", function, bucket, key)
    }

    /// Whether `function` may list the keys that start with `prefix`.
    pub fn allows_list(&self, function: &str, bucket: &str, prefix: &str) -> Result<(), String> {
        refuse_place(bucket, prefix)?;
        if self
            .objects
            .read
            .iter()
            .any(|grant| grant.covers_all(bucket, prefix))
        {
            return Ok(());
        }
        if self.objects.read.iter().any(|grant| grant.covers(bucket, prefix)) {
            return Err(format!(
                "found a listing of `{bucket}/{prefix}`, which reaches beyond the folder that is granted, allowed is `{bucket}/{prefix}/`"
            ));
        }
        Err(missing("objects.read", &format!("{bucket}/{prefix}"), function))
    }

    /// Whether `function` may read the table.
    pub fn allows_state_read(&self, function: &str, table: &str) -> Result<(), String> {
        named(&self.state.read, "state.read", function, table)
    }

    /// Whether `function` may write the table.
    pub fn allows_state_write(&self, function: &str, table: &str) -> Result<(), String> {
        named(&self.state.write, "state.write", function, table)
    }

    /// Whether `function` may emit events of this type.
    pub fn allows_emit(&self, function: &str, kind: &str) -> Result<(), String> {
        named(&self.events.emit, "events.emit", function, kind)
    }

    /// Whether `function` may submit jobs of this kind.
    pub fn allows_submit(&self, function: &str, kind: &str) -> Result<(), String> {
        named(&self.jobs.submit, "jobs.submit", function, kind)
    }

    /// Whether `function` may run the model.
    pub fn allows_infer(&self, function: &str, model: &str) -> Result<(), String> {
        named(&self.inference.infer, "inference.infer", function, model)
    }

    /// Whether `function` may read the view.
    pub fn allows_features_read(&self, function: &str, view: &str) -> Result<(), String> {
        named(&self.features.read, "features.read", function, view)
    }

    /// Whether `function` may write the view.
    pub fn allows_features_write(&self, function: &str, view: &str) -> Result<(), String> {
        named(&self.features.write, "features.write", function, view)
    }

    /// Whether `function` may read the secret.
    pub fn allows_secret(&self, function: &str, name: &str) -> Result<(), String> {
        named(&self.secrets, "secrets", function, name)
    }

    /// Whether `function` may call the host (`host` or `host:port`, as a URL's authority has it).
    pub fn allows_http(&self, function: &str, host: &str) -> Result<(), String> {
        hosted(&self.http.hosts, "http.hosts", function, host)
    }

    /// Whether `function` may connect to the Redis server at `host:port`.
    pub fn allows_redis(&self, function: &str, host: &str) -> Result<(), String> {
        hosted(&self.redis.hosts, "redis.hosts", function, host)
    }
}

fn hosted(granted: &[String], grant: &str, function: &str, host: &str) -> Result<(), String> {
    if !is_authority(host) {
        return Err(format!(
            "found the host `{}`, expected `host` or `host:port`",
            host.escape_debug()
        ));
    }
    let name = split_port(host).map_or(host, |(name, _port)| name);
    let covers = |grant: &String| grant.eq_ignore_ascii_case(host) || grant.eq_ignore_ascii_case(name);
    if granted.iter().any(covers) {
        return Ok(());
    }
    Err(missing(grant, host, function))
}

/// Whether the text is `host` or `host:port`: what a user name in front would hide is no host.
pub(super) fn is_authority(text: &str) -> bool {
    let name = split_port(text).map_or(text, |(name, _port)| name);
    let is_name = |name: &str| {
        name.len() <= 253
            && name.split('.').all(|label| !label.is_empty())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    };
    let is_v6 = |name: &str| {
        name.strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
    };
    is_name(name) || is_v6(name)
}

fn split_port(host: &str) -> Option<(&str, u16)> {
    let (name, port) = host.rsplit_once(':')?;
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    Some((name, port.parse().ok().filter(|_| digits)?))
}

fn missing(grant: &str, wanted: &str, function: &str) -> String {
    format!(
        "missing grant `{grant} = [\"{}\"]` in function `{function}`",
        wanted.escape_debug()
    )
}

fn named(granted: &[String], grant: &str, function: &str, wanted: &str) -> Result<(), String> {
    if granted.iter().any(|name| name == wanted) {
        Ok(())
    } else {
        Err(missing(grant, wanted, function))
    }
}

fn object(
    granted: &[BucketPrefix],
    grant: &str,
    function: &str,
    bucket: &str,
    key: &str,
) -> Result<(), String> {
    if key.is_empty() {
        return Err(format!("key `` of bucket `{}` is empty", bucket.escape_debug()));
    }
    refuse_place(bucket, key)?;
    if granted.iter().any(|place| place.covers(bucket, key)) {
        return Ok(());
    }
    let place = key
        .rsplit_once('/')
        .map_or(key.to_owned(), |(folder, _)| format!("{folder}/"));
    Err(missing(grant, &format!("{bucket}/{place}"), function))
}

fn refuse_place(bucket: &str, key: &str) -> Result<(), String> {
    let shown = || (start(key).escape_debug(), start(bucket).escape_debug());
    if let Some(wrong) = wrong_key(key) {
        let (key, bucket) = shown();
        return Err(format!("key `{key}` of bucket `{bucket}` {wrong}"));
    }
    if bucket.is_empty() || bucket.starts_with(SYSTEM_PREFIX) || bucket.starts_with(SYSTEM_BUCKETS) {
        let (_, bucket) = shown();
        return Err(format!(
            "bucket `{bucket}` belongs to the platform, no grant opens it"
        ));
    }
    Ok(())
}

/// As much of a name as an error shows.
fn start(name: &str) -> &str {
    const SHOWN: usize = 1100;
    &name[..name.floor_char_boundary(SHOWN)]
}

/// Why a key, or the start of one, can be none, whatever is granted.
pub(super) fn wrong_key(key: &str) -> Option<&'static str> {
    const LONGEST: usize = 1024;
    if key.len() > LONGEST {
        return Some("is longer than 1,024 bytes");
    }
    if key.starts_with('/') || key.contains('\\') || key.chars().any(char::is_control) {
        return Some("starts with `/`, or holds a backslash or a control character");
    }
    key.split('/')
        .any(|segment| matches!(segment, "." | ".."))
        .then_some("holds a `.` or `..` segment")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reads(places: &[(&str, &str)]) -> Grants {
        let place = |(bucket, prefix): &(&str, &str)| BucketPrefix {
            bucket: (*bucket).into(),
            prefix: (*prefix).into(),
        };
        Grants {
            objects: ObjectGrants {
                read: places.iter().map(place).collect(),
                write: Vec::new(),
            },
            ..Grants::default()
        }
    }

    #[test]
    fn a_prefix_without_a_slash_is_a_key_or_a_folder_never_the_start_of_a_name() {
        let grants = reads(&[("data", "raw")]);
        assert!(grants.allows_read("f", "data", "raw").is_ok());
        assert!(grants.allows_read("f", "data", "raw/x").is_ok());
        assert!(grants.allows_read("f", "data", "raw-secret/x").is_err());
        assert!(grants.allows_read("f", "other", "raw/x").is_err());
    }

    #[test]
    fn tricks_with_keys_are_refused_even_under_a_grant_of_everything() {
        let grants = reads(&[("data", "")]);
        for key in ["", "../x", "a/../b", "a/./b", "/a", "a\\b", "a\nb", "a\0b"] {
            assert!(grants.allows_read("f", "data", key).is_err(), "{key:?}");
        }
        assert!(grants.allows_read("f", "data", "a/..b/c").is_ok());
    }

    #[test]
    fn a_refusal_names_the_grant_to_add() {
        let refused = reads(&[]).allows_read("ingest", "data", "raw/x.csv").unwrap_err();
        assert_eq!(
            refused,
            "missing grant `objects.read = [\"data/raw/\"]` in function `ingest`"
        );
    }

    #[test]
    fn a_key_at_the_root_of_a_bucket_does_not_ask_for_the_whole_bucket() {
        let refused = reads(&[]).allows_write("ingest", "data", "x.csv").unwrap_err();
        assert_eq!(
            refused,
            "missing grant `objects.write = [\"data/x.csv\"]` in function `ingest`"
        );
    }

    #[test]
    fn what_a_guest_says_cannot_break_out_of_the_message() {
        let refused = Grants::default().allows_emit("f", "x\"]\nevil").unwrap_err();
        assert_eq!(
            refused,
            r#"missing grant `events.emit = ["x\"]\nevil"]` in function `f`"#
        );
    }

    #[test]
    fn a_listing_never_reaches_beyond_its_grant() {
        let grants = reads(&[("data", "raw"), ("data", "staging/")]);
        for allowed in ["raw/", "raw/2026", "staging/", "staging/a"] {
            assert!(grants.allows_list("f", "data", allowed).is_ok(), "{allowed}");
        }
        for refused in ["", "r", "raw", "raw-secret/", "staging", "raw/../x", "/raw"] {
            assert!(grants.allows_list("f", "data", refused).is_err(), "{refused}");
        }
        let refused = grants.allows_list("f", "data", "raw").unwrap_err();
        assert!(refused.ends_with("allowed is `data/raw/`"), "{refused}");
        assert!(reads(&[("data", "")]).allows_list("f", "data", "").is_ok());
    }

    #[test]
    fn buckets_of_the_platform_stay_closed_even_to_a_grant() {
        let grants = reads(&[("$components", ""), ("tidegate-jobs", "")]);
        for bucket in ["$components", "tidegate-jobs", ""] {
            assert!(grants.allows_read("f", bucket, "x").is_err(), "{bucket}");
            assert!(grants.allows_list("f", bucket, "").is_err(), "{bucket}");
        }
    }

    #[test]
    fn no_grant_is_no_access() {
        let none = Grants::default();
        assert!(!none.may_write());
        let refusals = [
            (
                none.allows_read("f", "data", "raw/x"),
                "objects.read = [\"data/raw/\"]",
            ),
            (
                none.allows_write("f", "data", "raw/x"),
                "objects.write = [\"data/raw/\"]",
            ),
            (
                none.allows_list("f", "data", "raw/"),
                "objects.read = [\"data/raw/\"]",
            ),
            (none.allows_state_read("f", "t"), "state.read = [\"t\"]"),
            (none.allows_state_write("f", "t"), "state.write = [\"t\"]"),
            (none.allows_emit("f", "Ready"), "events.emit = [\"Ready\"]"),
            (none.allows_submit("f", "train"), "jobs.submit = [\"train\"]"),
            (none.allows_infer("f", "ranker"), "inference.infer = [\"ranker\"]"),
            (none.allows_features_read("f", "v"), "features.read = [\"v\"]"),
            (none.allows_features_write("f", "v"), "features.write = [\"v\"]"),
            (none.allows_secret("f", "key"), "secrets = [\"key\"]"),
            (none.allows_http("f", "a.b"), "http.hosts = [\"a.b\"]"),
            (none.allows_redis("f", "a.b:1"), "redis.hosts = [\"a.b:1\"]"),
        ];
        for (refused, grant) in refusals {
            assert_eq!(
                refused.unwrap_err(),
                format!("missing grant `{grant}` in function `f`")
            );
        }
    }

    #[test]
    fn a_host_hidden_behind_a_granted_name_is_refused() {
        let mut grants = Grants::default();
        grants.http.hosts = vec!["api.example.com".into(), "[::1]:80".into()];
        for trick in [
            "api.example.com:80@evil.example",
            "api.example.com@evil.example",
            "api.example.com:",
            "api.example.com:x",
            "api.example.com:99999",
            "api.example.com:+80",
            "api.example.com:80:80",
            "api.example.com/x",
            "api.example.com.",
            "",
            "evil\n",
        ] {
            assert!(grants.allows_http("f", trick).is_err(), "{trick}");
        }
        assert!(grants.allows_http("f", "api.example.com:80").is_ok());
        assert!(grants.allows_http("f", "[::1]:80").is_ok());
        assert!(grants.allows_http("f", "[::1]:81").is_err());
    }

    proptest! {
        #[test]
        fn a_key_that_is_allowed_lies_at_or_below_its_prefix(prefix in "[a-c/.]{0,6}", key in "[a-c/.\\\\-]{0,10}") {
            if reads(&[("data", &prefix)]).allows_read("f", "data", &key).is_ok() {
                let folder = prefix.strip_suffix('/').unwrap_or(&prefix);
                let below = key.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                prop_assert!(prefix.is_empty() || below);
                prop_assert!(key.split('/').all(|segment| segment != ".." && segment != "."));
            }
        }

        #[test]
        fn what_a_listing_shows_could_also_be_read(grant in "[a-c/]{0,4}", prefix in "[a-c/]{0,6}", rest in "[a-c/-]{1,4}") {
            let grants = reads(&[("data", &grant)]);
            let key = format!("{prefix}{rest}");
            if grants.allows_list("f", "data", &prefix).is_ok() && wrong_key(&key).is_none() {
                prop_assert!(grants.allows_read("f", "data", &key).is_ok(), "{grant} {prefix} {key}");
            }
        }
    }

    #[test]
    fn a_host_is_granted_by_its_name_with_or_without_a_port() {
        let mut grants = Grants::default();
        grants.http.hosts = vec!["api.example.com".into(), "other.example.com:8443".into()];
        assert!(grants.allows_http("f", "API.example.com:443").is_ok());
        assert!(grants.allows_http("f", "other.example.com:8443").is_ok());
        assert!(grants.allows_http("f", "other.example.com:9").is_err());
        assert!(grants.allows_http("f", "evil-api.example.com").is_err());
    }
}
