//! Grants: what a function may touch. A refusal names the grant as one would add it to the manifest.

/// A place in the object store.
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
    fn covers(&self, bucket: &str, key: &str) -> bool {
        self.bucket == bucket
            && key.strip_prefix(&self.prefix).is_some_and(|rest| {
                self.prefix.is_empty() || self.prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/')
            })
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
        if self.objects.read.iter().any(|grant| grant.covers(bucket, prefix)) {
            return Ok(());
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

    /// Whether `function` may call the host (`host` or `host:port`).
    pub fn allows_http(&self, function: &str, host: &str) -> Result<(), String> {
        let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
        let granted = |grant: &String| grant.eq_ignore_ascii_case(host) || grant.eq_ignore_ascii_case(name);
        if self.http.hosts.iter().any(granted) {
            return Ok(());
        }
        Err(missing("http.hosts", host, function))
    }
}

fn missing(grant: &str, wanted: &str, function: &str) -> String {
    format!("missing grant `{grant} = [\"{wanted}\"]` in function `{function}`")
}

fn named(granted: &[String], grant: &str, function: &str, wanted: &str) -> Result<(), String> {
    if granted.iter().any(|name| name == wanted) { Ok(()) } else { Err(missing(grant, wanted, function)) }
}

fn object(granted: &[BucketPrefix], grant: &str, function: &str, bucket: &str, key: &str) -> Result<(), String> {
    if let Some(wrong) = wrong_key(key) {
        return Err(format!("key `{}` of bucket `{bucket}` {wrong}", key.escape_debug()));
    }
    if granted.iter().any(|place| place.covers(bucket, key)) {
        return Ok(());
    }
    let folder = key.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    Err(missing(grant, &format!("{bucket}/{folder}"), function))
}

/// Why a key cannot be one, whatever is granted.
fn wrong_key(key: &str) -> Option<&'static str> {
    const LONGEST: usize = 1024;
    if key.is_empty() {
        return Some("is empty");
    }
    if key.len() > LONGEST {
        return Some("is longer than 1,024 bytes");
    }
    if key.starts_with('/') || key.contains('\\') || key.chars().any(char::is_control) {
        return Some("starts with `/`, or holds a backslash or a control character");
    }
    key.split('/').any(|segment| matches!(segment, "." | "..")).then_some("holds a `.` or `..` segment")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(places: &[(&str, &str)]) -> Grants {
        let place = |(bucket, prefix): &(&str, &str)| BucketPrefix { bucket: (*bucket).into(), prefix: (*prefix).into() };
        Grants {
            objects: ObjectGrants { read: places.iter().map(place).collect(), write: Vec::new() },
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
        assert_eq!(refused, "missing grant `objects.read = [\"data/raw/\"]` in function `ingest`");
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
