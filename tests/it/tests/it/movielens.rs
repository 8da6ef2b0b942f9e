//! MovieLens files as they are, where this machine has them.

use anyhow::{Context, Result};
use tidegate_harness::{Host, shared_folder, workspace_root};
use tidegate_it::settled_run;

#[tokio::test(flavor = "multi_thread")]
async fn movielens_files_go_in_as_they_are_and_the_model_is_good() -> Result<()> {
    let Some(folder) = shared_folder()
        .map(|shared| shared.join("data/ml-latest-small"))
        .filter(|it| it.is_dir())
    else {
        eprintln!("skipped: no `data/ml-latest-small` in `TIDEGATE_SHARED` or `../shared`");
        return Ok(());
    };
    let host = Host::with_app(&workspace_root().join("functions/feed-ranking/tidegate.toml")).await?;
    for name in ["movies.csv", "ratings.csv"] {
        let key = format!("raw/{name}");
        host.bucket("data").put_file(&key, &folder.join(name)).await?;
        let run = settled_run(&host, &key).await?;
        assert_eq!(run.state.as_deref(), Some("done"), "{run:#?}");
    }
    let model = host.api.model("ranker").await?;
    let auc = model["versions"][0]["metrics"]["test"]["auc"].as_f64();
    let auc = auc
        .or(model["versions"][0]["metrics"]["auc"].as_f64())
        .with_context(|| format!("no AUC in {model}"))?;
    assert!(auc >= 0.80, "test AUC {auc}");
    Ok(())
}
