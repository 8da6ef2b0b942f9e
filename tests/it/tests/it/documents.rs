//! What the documents promise is what the tests show.

use std::path::Path;

use anyhow::{Context as _, Result};
use tidegate_harness::workspace_root;

#[test]
fn every_test_that_the_guarantees_name_exists() -> Result<()> {
    let root = workspace_root();
    let page = std::fs::read_to_string(root.join("docs/guarantees.md")).context("no docs/guarantees.md")?;
    let mut sources = String::new();
    for folder in ["gpu-worker", "host", "tests"] {
        gather(&root.join(folder), &mut sources)?;
    }
    let named: Vec<&str> = page
        .split("[`")
        .skip(1)
        .filter_map(|rest| rest.split("`]").next())
        .collect();
    assert!(named.len() > 20, "{named:?}");
    for test in named {
        assert!(
            sources.contains(&format!("fn {test}(")),
            "no test is called `{test}`"
        );
    }
    Ok(())
}

fn gather(folder: &Path, into: &mut String) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            gather(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&std::fs::read_to_string(&path)?);
        }
    }
    Ok(())
}
