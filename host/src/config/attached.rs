//! `[attached.NAME]`: buckets of others.

use std::collections::BTreeMap;

use tidegate_cloud::Attached;
use tidegate_runtime::manifest::is_bucket;

use super::read::Reader;

/// Reads all of them; `kind` is the store's.
pub(super) fn read(from: &mut Reader, kind: &str) -> BTreeMap<String, Attached> {
    let attached = from.tables("attached", |inner| Attached {
        bucket: inner.needed("bucket", "it is the bucket, as S3 knows it"),
        prefix: inner.text("prefix").unwrap_or_default(),
        queue: inner.text("queue"),
        region: inner.text("region"),
        endpoint: inner.text("endpoint"),
    });
    for name in attached.keys().filter(|name| !is_bucket(name)) {
        let name = name.escape_debug();
        from.refuse(format!(
            "`attached.{name}` is no name of a bucket: 3 to 63 lower-case letters, digits, `-` and `.`, without \
             `tidegate-` before them"
        ));
    }
    if kind != "aws" && !attached.is_empty() {
        from.refuse(format!(
            "`attached` is set, and `store.kind` is `\"{kind}\"`, expected `\"aws\"`"
        ));
    }
    attached
}
