//! The recipe of the images. No engine builds them here: what it names has to be there, and hadolint finds nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use tidegate::config::Config;
use tidegate_harness::workspace_root;
use tidegate_infra_tests::{Chart, Containerfile, complaints};

use crate::TRIAL;

/// The images that there are.
const IMAGES: [&str; 3] = ["host", "worker", "worker-cuda"];

#[test]
fn hadolint_finds_nothing() -> Result<()> {
    let file = workspace_root().join("infra/container/Containerfile");
    assert_eq!(complaints(&file)?, "");
    let folder = tempfile::tempdir()?;
    let bad = folder.path().join("Containerfile");
    std::fs::write(&bad, "FROM debian\nRUN cd /tmp\n")?;
    assert!(complaints(&bad)?.contains("DL3006"), "hadolint looks at nothing");
    Ok(())
}

#[test]
fn every_path_that_an_image_copies_is_there_and_sent_to_the_build() -> Result<()> {
    let root = workspace_root();
    let ignored = std::fs::read_to_string(root.join(".dockerignore")).context("no .dockerignore")?;
    assert!(ignored.lines().any(|line| line == "*"), "everything is sent");
    let sent: Vec<&str> = ignored
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    let mut copied = BTreeSet::new();
    for stage in Containerfile::read()?.stages {
        for copy in stage.all("COPY").filter(|copy| !copy.contains("--from=")) {
            let (sources, _) = copy.rsplit_once(' ').context("no place")?;
            copied.extend(sources.split_whitespace().map(str::to_owned));
        }
    }
    assert!(copied.len() >= 8, "{copied:?}");
    for path in &copied {
        assert!(root.join(path).exists(), "`{path}` is not there");
        assert!(
            sent.iter().any(|sent| Path::new(path).starts_with(sent)),
            "`{path}` is not sent"
        );
    }
    for path in sent {
        assert!(
            copied.iter().any(|copied| Path::new(copied).starts_with(path)),
            "nothing needs `{path}`"
        );
    }
    Ok(())
}

#[test]
fn every_member_of_the_workspace_is_copied() -> Result<()> {
    let recipe = Containerfile::read()?;
    let sources: Vec<&str> = recipe
        .stage("sources")
        .context("no sources")?
        .all("COPY")
        .collect();
    for folder in packages()?.values() {
        let first = folder.split('/').next().unwrap_or_default();
        assert!(
            sources
                .iter()
                .any(|copy| copy.split_whitespace().any(|part| part == first)),
            "`{folder}` is missing"
        );
    }
    Ok(())
}

#[test]
fn every_package_that_an_image_builds_has_the_program_that_it_takes() -> Result<()> {
    let packages = packages()?;
    let mut built = 0;
    for stage in Containerfile::read()?.stages {
        for run in stage.all("RUN").filter(|run| run.contains("cargo build")) {
            let words: Vec<&str> = run.split_whitespace().collect();
            let after = |flag: &str| {
                words
                    .windows(2)
                    .filter(|pair| pair[0] == flag)
                    .map(|pair| pair[1])
                    .collect::<Vec<_>>()
            };
            let chosen = after("--package");
            assert!(!chosen.is_empty() && words.contains(&"--locked"), "{run}");
            for package in &chosen {
                let folder = packages
                    .get(*package)
                    .with_context(|| format!("no package `{package}`"))?;
                // A program of the package's own name.
                assert!(
                    workspace_root().join(folder).join("src/main.rs").is_file(),
                    "{folder}"
                );
                let program = format!("target/release/{package}");
                assert!(words.contains(&program.as_str()), "`{program}` is not taken");
                built += 1;
            }
            for feature in after("--features") {
                let (package, feature) = feature.split_once('/').context("no package")?;
                let manifest = manifest(&workspace_root().join(&packages[package]))?;
                assert!(
                    manifest["features"].get(feature).is_some(),
                    "{package} has no `{feature}`"
                );
            }
        }
    }
    assert_eq!(built, 3);
    Ok(())
}

#[test]
fn what_a_stage_takes_from_another_is_made_there() -> Result<()> {
    let recipe = Containerfile::read()?;
    for (nth, stage) in recipe.stages.iter().enumerate() {
        let before = &recipe.stages[..nth];
        for copy in stage.all("COPY") {
            let Some(from) = copy
                .split_whitespace()
                .find_map(|word| word.strip_prefix("--from="))
            else {
                continue;
            };
            let made = before.iter().find(|stage| stage.name == from);
            let made = made.with_context(|| format!("no stage `{from}` before `{}`", stage.name))?;
            let path = copy
                .split_whitespace()
                .find(|word| word.starts_with('/'))
                .context("no path")?;
            let file = Path::new(path).file_name().context("no name")?.to_string_lossy();
            assert!(
                made.all("RUN").any(|run| run.contains(&*file)),
                "`{from}` makes no `{path}`"
            );
        }
    }
    Ok(())
}

#[test]
fn images_have_a_base_with_a_tag_a_user_that_is_not_root_and_no_shell() -> Result<()> {
    let recipe = Containerfile::read()?;
    for argument in &recipe.arguments {
        let (name, image) = argument.split_once('=').context("no default")?;
        let (_, tag) = image
            .rsplit_once(':')
            .with_context(|| format!("`{name}` has no tag"))?;
        assert!(!tag.contains('/') && tag != "latest", "{argument}");
    }
    let user = Chart::find().render(TRIAL)?;
    let host = user.all("Deployment").next().context("no host")?;
    let user = host.pods()?.spec["securityContext"]["runAsUser"].to_string();
    for image in IMAGES {
        let stage = recipe
            .stage(image)
            .with_context(|| format!("no image `{image}`"))?;
        let below = match recipe.stage(&stage.base) {
            Some(below) => below,
            None => stage,
        };
        assert_eq!(below.base, "${RUNTIME}", "{image}");
        assert_eq!(
            below.all("USER").next_back(),
            Some(format!("{user}:{user}").as_str()),
            "{image}"
        );
        let entry = below.all("ENTRYPOINT").next_back().context("no entry")?;
        let entry: Vec<String> = serde_json::from_str(entry).context("the entry wants a shell")?;
        assert!(entry[0].starts_with("/usr/local/bin/tidegate"), "{entry:?}");
        for shelled in ["RUN", "HEALTHCHECK", "ADD"] {
            assert_eq!(stage.all(shelled).count(), 0, "{image}: {shelled}");
        }
    }
    Ok(())
}

#[test]
fn the_host_takes_the_configuration_of_its_image() -> Result<()> {
    let config = Config::load(&workspace_root().join("infra/container/host.toml"))?;
    assert!(config.gateway.listen.ip().is_unspecified());
    assert!(
        config.s3.listen.ip().is_loopback(),
        "its keys are known to everybody"
    );
    let data = config.data_dir.display().to_string();
    assert_eq!(volumes(&Containerfile::read()?, "host")?, [data.as_str(), "/tmp"]);
    Ok(())
}

#[test]
fn whatever_a_task_on_fargate_writes_to_belongs_to_the_user_of_its_image() -> Result<()> {
    // Fargate makes a volume with the owner and the rights that the image declares for its place, else with root's.
    let recipe = Containerfile::read()?;
    let declared: BTreeSet<String> = ["host", "worker"]
        .iter()
        .map(|image| volumes(&recipe, image))
        .collect::<Result<Vec<_>>>()?
        .concat()
        .into_iter()
        .collect();
    let task = workspace_root().join("infra/terraform/modules/platform/fargate.tf");
    let task = std::fs::read_to_string(task)?;
    let mounted: Vec<&str> = task
        .split("containerPath = \"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert_eq!(mounted.len(), 3, "{mounted:?}");
    assert!(
        mounted.iter().all(|place| declared.contains(*place)),
        "{mounted:?}"
    );
    Ok(())
}

/// The places that an image declares as volumes.
fn volumes(recipe: &Containerfile, image: &str) -> Result<Vec<String>> {
    let stage = recipe
        .stage(image)
        .with_context(|| format!("no image `{image}`"))?;
    let declared = stage.all("VOLUME").flat_map(str::split_whitespace);
    Ok(declared.map(str::to_owned).collect())
}

#[test]
fn onnx_runtime_is_a_release_that_is_tested_and_is_known_by_its_hash() -> Result<()> {
    let root = workspace_root();
    let pinned = std::fs::read_to_string(root.join("infra/container/onnxruntime.txt"))?;
    let version = pinned.split_once("onnxruntime==").context("no version")?.1;
    let release = version.split('.').take(2).collect::<Vec<_>>().join(".");
    let tested = std::fs::read_to_string(root.join("tests/xtask/src/setup/onnxruntime.rs"))?;
    assert!(
        tested.contains(&format!("onnxruntime=={release}.")),
        "the tests run another one than {release}"
    );
    let hashes: Vec<&str> = pinned
        .split("--hash=sha256:")
        .skip(1)
        .map(|rest| rest[..64].trim())
        .collect();
    assert_eq!(hashes.len(), 2, "one for each architecture");
    assert!(
        hashes
            .iter()
            .all(|hash| hash.len() == 64 && hash.chars().all(|c| c.is_ascii_hexdigit()))
    );
    Ok(())
}

/// The folders of the workspace's packages by their names.
fn packages() -> Result<BTreeMap<String, String>> {
    let root = workspace_root();
    let mut packages = BTreeMap::new();
    for member in manifest(&root)?["workspace"]["members"]
        .as_array()
        .context("no members")?
    {
        let member = member.as_str().context("no text")?;
        let folders = match member.strip_suffix("/*") {
            None => vec![member.to_owned()],
            Some(above) => std::fs::read_dir(root.join(above))?
                .map(|entry| Ok(format!("{above}/{}", entry?.file_name().to_string_lossy())))
                .collect::<Result<_>>()?,
        };
        for folder in folders
            .into_iter()
            .filter(|folder| root.join(folder).join("Cargo.toml").is_file())
        {
            let name = manifest(&root.join(&folder))?["package"]["name"]
                .as_str()
                .context("no name")?
                .to_owned();
            packages.insert(name, folder);
        }
    }
    Ok(packages)
}

fn manifest(folder: &Path) -> Result<toml::Table> {
    let file = folder.join("Cargo.toml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("no `{}`", file.display()))?;
    Ok(text.parse()?)
}
