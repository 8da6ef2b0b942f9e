//! The Terraform modules as their READMEs tell of them. What they make, `terraform test` looks at (tests/cloud).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tidegate_harness::workspace_root;

/// The folders of modules and examples.
fn modules() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for kind in ["modules", "examples"] {
        let folder = workspace_root().join("infra/terraform").join(kind);
        for entry in std::fs::read_dir(&folder).with_context(|| format!("no `{}`", folder.display()))? {
            found.push(entry?.path());
        }
    }
    Ok(found)
}

/// The names of a module's blocks of a kind.
fn blocks(module: &Path, kind: &str) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(module)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "tf") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let declared = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(kind)?.strip_prefix(" \"")?;
            Some(rest.split_once('"')?.0.to_owned())
        });
        names.extend(declared);
    }
    Ok(names)
}

/// The names in the first column of the table below a heading.
fn told(readme: &str, heading: &str) -> BTreeSet<String> {
    let below = readme.split_once(&format!("\n## {heading}\n"));
    let section = below.map_or("", |(_, rest)| rest);
    let section = section.split("\n## ").next().unwrap_or_default();
    let first = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    first
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_module_tells_of_its_inputs_and_outputs_and_has_tests() -> Result<()> {
    let modules = modules()?;
    assert!(modules.len() >= 6, "{modules:?}");
    for module in modules {
        let place = module.display();
        let readme = std::fs::read_to_string(module.join("README.md"))
            .with_context(|| format!("no README of `{place}`"))?;
        for (kind, heading) in [("variable", "Inputs"), ("output", "Outputs")] {
            let (declared, told) = (blocks(&module, kind)?, told(&readme, heading));
            assert!(!declared.is_empty(), "`{place}` declares no {kind}");
            assert_eq!(told, declared, "`{place}`, {heading}: the README is left");
        }
        let tests =
            std::fs::read_dir(module.join("tests")).with_context(|| format!("no tests of `{place}`"))?;
        let mut files = tests.flatten().map(|entry| entry.file_name());
        assert!(
            files.any(|name| name.to_string_lossy().ends_with(".tftest.hcl")),
            "`{place}` has no test"
        );
    }
    Ok(())
}
