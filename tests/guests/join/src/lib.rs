//! A guest that fans out and joins: `Split` opens a join of parts, `Part` is one, `Joined` follows them.

use serde_json::json;
use tidegate_sdk::jobs::Job;
use tidegate_sdk::prelude::*;

tidegate_sdk::function!(handle);

/// How to fan out.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Split {
    parts: usize,
    /// The part that is refused until `counters/healed` is there.
    sick: Option<usize>,
    /// Whether the join shall be found without the sick part.
    without_sick: bool,
    /// So many parts submit a job each, which is a part as well.
    jobs: usize,
}

/// A part.
#[derive(Serialize, Deserialize)]
struct Part {
    name: String,
    /// Fails its first attempt.
    flaky: bool,
    sick: bool,
    /// Emits one more part.
    more: bool,
    /// Submits a job as one more part.
    job: bool,
}

async fn handle(event: Event) -> Result<(), Failure> {
    match event.kind.as_str() {
        "Split" => split(event.json()?),
        "Part" => part(event.attempt, event.json()?).await,
        "Joined" => joined(event.json()?).await,
        "Trained" => count("trained").await,
        _ => events::emit_part("Part", &json!({})).map(drop),
    }
}

fn split(
    Split {
        parts,
        sick,
        without_sick,
        jobs,
    }: Split,
) -> Result<(), Failure> {
    let of = |number: usize| Part {
        name: number.to_string(),
        flaky: number % 7 == 1,
        sick: sick == Some(number),
        more: number == 2,
        job: number < jobs,
    };
    let all: Vec<Part> = (0..parts).map(of).collect();
    let expected = all.iter().filter(|part| !(part.sick && without_sick));
    let mut expected: Vec<String> = expected.map(|part| part.name.clone()).collect();
    expected.extend(
        all.iter()
            .filter(|part| part.more)
            .map(|part| format!("{}-more", part.name)),
    );
    let all = all.iter().map(|part| events::outgoing("Part", part));
    let all = all.collect::<Result<Vec<_>, _>>()?;
    events::join(&all, &events::outgoing("Joined", &expected)?)?;
    Ok(())
}

async fn part(attempt: u32, part: Part) -> Result<(), Failure> {
    let place = config::parse("place", "a".to_owned())?;
    if part.flaky && attempt == 1 {
        return Err(Failure::retry_after(10, "not yet"));
    }
    if part.sick && place == "a" && state::get::<u64>("counters", "healed").await?.is_none() {
        return Err(Failure::reject("sick"));
    }
    if part.more && place == "a" {
        let more = Part {
            name: format!("{}-more", part.name),
            flaky: true,
            sick: false,
            more: false,
            job: false,
        };
        events::emit_part("Part", &more)?;
    }
    if part.job && place == "a" {
        Job::new("train.odd", "Trained").part().submit(&json!({}))?;
    }
    count(&format!("{place}-{}", part.name)).await
}

/// Sees that every part was handled by both functions before.
async fn joined(expected: Vec<String>) -> Result<(), Failure> {
    for place in ["a", "b"] {
        for name in &expected {
            let key = format!("{place}-{name}");
            if state::get::<u64>("counters", &key).await?.is_none() {
                return Err(Failure::reject(format!("`{key}` is not handled yet")));
            }
        }
    }
    count("joined").await
}

async fn count(key: &str) -> Result<(), Failure> {
    match state::get::<u64>("counters", key).await? {
        None => state::put_if_absent("counters", key, &1),
        Some(found) => state::put_if_version("counters", key, &(found.value + 1), found.version),
    }
}
