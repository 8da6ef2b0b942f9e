//! A rung: trials that are trained as long as each other, and a join that goes on when all have ended.

use serde::{Deserialize, Serialize};
use tidegate_sdk::prelude::*;
use tidegate_sdk::search::ranked;

use crate::request::Search;
use crate::trial::{Place, Trial, results_prefix};
use crate::{TABLE, ending};

/// The data of `RungEnded`.
#[derive(Debug, Serialize, Deserialize)]
struct Rung {
    search: String,
    rung: u32,
}

/// Begins a search with its first rung.
pub(crate) fn begin(event: &Event) -> Result<(), Failure> {
    let search: Search = event.json()?;
    search.check()?;
    state::put_if_absent(TABLE, &search_key(&event.id), &search)?;
    open(&event.id, 0, 0..search.trials)
}

/// The search of an id.
pub(crate) async fn search(id: &str) -> Result<Search, Failure> {
    let found = state::get(TABLE, &search_key(id)).await?;
    Ok(found.or_reject_with(&format!("there is no search `{id}`"))?.value)
}

fn search_key(id: &str) -> String {
    format!("{id}/search")
}

/// Begins a rung: a part for each trial, and the end of the rung after all of them.
fn open(search: &str, rung: u32, trials: impl IntoIterator<Item = usize>) -> Result<(), Failure> {
    let due = trials.into_iter().map(|trial| {
        let search = search.to_owned();
        events::outgoing("TrialDue", &Place { search, rung, trial })
    });
    let search = search.to_owned();
    let ended = events::outgoing("RungEnded", &Rung { search, rung })?;
    events::join(&due.collect::<Result<Vec<_>, _>>()?, &ended)?;
    Ok(())
}

/// Goes on with the best trials of a rung, or ends the search.
pub(crate) async fn end(event: &Event) -> Result<(), Failure> {
    let Rung { search: id, rung } = event.json()?;
    let search = search(&id).await?;
    let trials = trials(&id, rung).await?;
    let best = best(&search, &trials);
    let next = rung + 1;
    if next == search.rungs || best.is_empty() {
        return ending::end(event, &id, &search).await;
    }
    let kept: Vec<usize> = best.into_iter().take(search.halving().trials_of(next)).collect();
    let (of, to) = (trials.len(), search.halving().resource_of(next));
    log::info!("rung {rung} has ended: trials {kept:?} of {of} go on, with {to}");
    open(&id, next, kept)
}

/// What is known of the trials of a rung.
pub(crate) async fn trials(search: &str, rung: u32) -> Result<Vec<Trial>, Failure> {
    let mut rows = state::query(TABLE, &results_prefix(search, rung));
    let mut trials = Vec::new();
    while let Some((_, trial)) = rows.next().await? {
        trials.push(trial.value);
    }
    Ok(trials)
}

/// The numbers of those that scored, the best first.
fn best(search: &Search, trials: &[Trial]) -> Vec<usize> {
    let sign = if search.minimise { -1.0 } else { 1.0 };
    let scores: Vec<Option<f64>> = trials.iter().map(|trial| Some(sign * trial.score?)).collect();
    let order = ranked(&scores).into_iter().filter_map(|at| trials.get(at));
    order
        .filter(|trial| trial.score.is_some())
        .map(|trial| trial.place.trial)
        .collect()
}

/// The best trial of a rung that left a model.
pub(crate) fn winner<'a>(search: &Search, trials: &'a [Trial]) -> Option<&'a Trial> {
    let order = best(search, trials);
    let mut order = order
        .iter()
        .filter_map(|number| trials.iter().find(|trial| trial.place.trial == *number));
    order.find(|trial| trial.model.is_some())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn trial(number: usize, score: Option<f64>, has_model: bool) -> Trial {
        let model = has_model.then(|| json!({"bucket": "models", "key": "k", "sha256": "", "size": 1}));
        let trial = json!({
            "search": "S", "rung": 0, "trial": number, "job": "j", "parameters": {}, "score": score, "reason": null,
            "metrics": {}, "used": {}, "model": model,
        });
        serde_json::from_value(trial).unwrap()
    }

    fn search(minimise: bool) -> Search {
        let search = json!({
            "model": "m", "kind": "train.mlp", "config": {}, "space": {}, "trials": 4, "minimise": minimise,
        });
        serde_json::from_value(search).unwrap()
    }

    #[test]
    fn what_failed_does_not_go_on_and_the_winner_has_a_model() {
        let trials = [
            trial(0, Some(0.5), true),
            trial(2, None, false),
            trial(5, Some(0.9), false),
            trial(7, Some(0.6), true),
        ];
        assert_eq!(best(&search(false), &trials), [5, 7, 0]);
        assert_eq!(best(&search(true), &trials), [0, 7, 5]);
        assert_eq!(winner(&search(false), &trials).unwrap().place.trial, 7);
        assert_eq!(winner(&search(false), &trials[1..2]), None);
    }
}
