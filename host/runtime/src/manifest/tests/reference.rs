//! The reference, `docs/manifest.md`, against the parser: the same keys, and examples that are good manifests.

use std::collections::BTreeSet;
use std::path::Path;

use super::Manifest;

/// A manifest with a key in every table that no table has: the mistakes name the keys that there are.
const UNKNOWN_EVERYWHERE: &str = r#"
zz = 1
[app]
name = "a"
zz = 1
[[function]]
name = "f"
component = "f.wasm"
zz = 1
trigger = [
    { zz = 1 }, { object = { bucket = "data", zz = 1 } }, { http = { route = "/x", zz = 1 } },
    { schedule = { cron = "@daily", zz = 1 } },
]
record = { bucket = "data", zz = 1 }
limits.zz = 1
rate = { limit = 1, zz = 1 }
retry.zz = 1
reuse.zz = 1
batch.zz = 1
[function.grants]
zz = 1
objects.zz = 1
state.zz = 1
events.zz = 1
jobs.zz = 1
inference.zz = 1
features.zz = 1
http.zz = 1
redis.zz = 1
[[function]]
name = "g"
component = "g.wasm"
key = { of = "subject", zz = 1 }
"#;

fn known_keys() -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for mistake in Manifest::parse(UNKNOWN_EVERYWHERE, "t").unwrap_err().list {
        let allowed = mistake
            .message
            .strip_prefix("unknown key, allowed are ")
            .expect("only unknown keys");
        let allowed = allowed.split("; did you mean").next().unwrap_or_default();
        let table = mistake.path.strip_suffix("zz").expect("only the key `zz`");
        let table = table
            .replace("function.f.", "function.")
            .replace("function.g.", "function.");
        let table = ["[0]", "[1]", "[2]", "[3]"]
            .iter()
            .fold(table, |table, index| table.replace(index, ""));
        known.extend(
            allowed
                .split(", ")
                .map(|key| format!("{table}{}", key.trim_matches('`'))),
        );
    }
    known.extend([
        "function.variables.NAME".into(),
        "function.environment.NAME".into(),
    ]);
    let all: Vec<String> = known.iter().cloned().collect();
    known.retain(|key| !all.iter().any(|other| other.starts_with(&format!("{key}."))));
    known
}

#[test]
fn the_reference_describes_every_key_and_no_other() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/manifest.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let headings = text
        .lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'));
    let described: BTreeSet<String> = headings.map(str::to_owned).collect();
    assert_eq!(described, known_keys());
}

#[test]
fn every_example_of_the_reference_is_a_good_manifest() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/manifest.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut examples = 0;
    for part in text.split("```toml\n").skip(1) {
        let example = part.split("```").next().unwrap();
        let app = if example.contains("[app]") {
            ""
        } else {
            "[app]\nname = \"example\"\n"
        };
        let function = match example.contains("[[function]]") || app.is_empty() {
            true => "",
            false => "[[function]]\nname = \"example\"\ncomponent = \"example.wasm\"\n",
        };
        let alone = "[[function]]\nname = \"example\"\ncomponent = \"example.wasm\"\n";
        let end = if example.contains("[[function]]") || !function.is_empty() {
            ""
        } else {
            alone
        };
        let text = format!("{app}{function}{example}{end}");
        Manifest::parse(&text, "example").unwrap_or_else(|mistakes| panic!("{mistakes}\nin\n{text}"));
        examples += 1;
    }
    assert!(examples >= 30, "{examples} examples");
}
