//! Effects in a few words: what a handling did, to be read later and compared with what another would do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Emission, OpenedJoin, Staged, Submission};
use crate::store::{Publication, StateWrite};

/// Effects of one handling that are told of; the rest is counted.
const MOST: usize = 100;

/// What an effect concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A key of state.
    State,
    /// An object.
    Object,
    /// An event.
    Event,
    /// A job.
    Job,
    /// A join, by the event that follows its parts; those are among the events.
    Join,
}

/// One effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// What it concerns.
    pub kind: Kind,
    /// `TABLE/KEY`, `BUCKET/KEY`, an event's type and subject, or a job's kind.
    pub name: String,
    /// Bytes of the value, the object, the data or the configuration; none deletes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The digest of what has this size: of an object its entity tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// The effects of one handling.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// State, objects, jobs, joins, events, each in their order; up to a hundred.
    pub effects: Vec<Effect>,
    /// How many more there were.
    #[serde(default)]
    pub more: u64,
}

/// How an effect differs between two handlings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Difference {
    /// Both have it, with the same content.
    Same,
    /// Both have it, with other contents.
    Changed,
    /// Only the later one has it.
    Added,
    /// Only the earlier one has it.
    Missing,
}

/// An effect beside its counterpart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// How they differ.
    pub difference: Difference,
    /// The later handling's; where it has none, the earlier one's.
    #[serde(flatten)]
    pub effect: Effect,
}

impl Summary {
    /// What was staged, in a few words.
    pub fn of(staged: &Staged) -> Self {
        let all = staged
            .state
            .iter()
            .map(of_state)
            .chain(staged.objects.iter().map(of_object))
            .chain(staged.jobs.iter().map(of_job))
            .chain(staged.joins.iter().map(of_join))
            .chain(staged.events.iter().map(of_event));
        let effects: Vec<_> = all.take(MOST).collect();
        Self {
            more: staged.counts().total().saturating_sub(effects.len()) as u64,
            effects,
        }
    }

    /// What differs from an earlier handling.
    pub fn against(&self, earlier: &Self) -> Vec<Change> {
        let mut before: BTreeMap<_, _> = numbered(&earlier.effects).collect();
        let mut changes: Vec<_> = numbered(&self.effects)
            .map(|(at, effect)| {
                let difference = match before.remove(&at) {
                    None => Difference::Added,
                    Some(found) if found == effect => Difference::Same,
                    Some(_) => Difference::Changed,
                };
                change(difference, effect)
            })
            .collect();
        changes.extend(
            before
                .into_values()
                .map(|effect| change(Difference::Missing, effect)),
        );
        changes
    }
}

fn change(difference: Difference, effect: &Effect) -> Change {
    Change {
        difference,
        effect: effect.clone(),
    }
}

/// Effects by kind and name, those that share both by their order.
fn numbered(effects: &[Effect]) -> impl Iterator<Item = ((Kind, &str, usize), &Effect)> {
    let mut seen: BTreeMap<(Kind, &str), usize> = BTreeMap::new();
    effects.iter().map(move |effect| {
        let count = seen.entry((effect.kind, effect.name.as_str())).or_default();
        *count += 1;
        ((effect.kind, effect.name.as_str(), *count), effect)
    })
}

fn effect(kind: Kind, name: String, content: Option<&[u8]>) -> Effect {
    Effect {
        kind,
        name,
        size: content.map(|content| content.len() as u64),
        digest: content.map(|content| blake3::hash(content).to_hex()[..16].to_owned()),
    }
}

fn of_state(write: &StateWrite) -> Effect {
    effect(
        Kind::State,
        format!("{}/{}", write.table, write.key),
        write.value.as_deref(),
    )
}

fn of_object(publication: &Publication) -> Effect {
    let staged = publication.staged.as_ref();
    Effect {
        kind: Kind::Object,
        name: format!("{}/{}", publication.bucket, publication.key),
        size: staged.map(|staged| staged.size),
        digest: staged.map(|staged| staged.etag.clone()),
    }
}

fn of_event(emission: &Emission) -> Effect {
    of_emission(Kind::Event, emission)
}

fn of_join(opened: &OpenedJoin) -> Effect {
    of_emission(Kind::Join, &opened.then)
}

fn of_emission(kind: Kind, emission: &Emission) -> Effect {
    let name = match &emission.subject {
        Some(subject) => format!("{} {subject}", emission.kind),
        None => emission.kind.clone(),
    };
    effect(kind, name, Some(&emission.data))
}

fn of_job(submission: &Submission) -> Effect {
    let config = submission.config.to_string();
    effect(Kind::Job, submission.kind.clone(), Some(config.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(effects: &[(Kind, &str, &str)]) -> Summary {
        let effects = effects.iter();
        Summary {
            effects: effects
                .map(|(kind, name, content)| effect(*kind, (*name).to_owned(), Some(content.as_bytes())))
                .collect(),
            more: 0,
        }
    }

    #[test]
    fn effects_are_compared_by_what_they_concern_and_in_their_order() {
        let earlier = summary(&[
            (Kind::State, "t/a", "1"),
            (Kind::State, "t/b", "1"),
            (Kind::Event, "Ready", "x"),
            (Kind::Event, "Ready", "y"),
        ]);
        let later = summary(&[
            (Kind::State, "t/a", "1"),
            (Kind::State, "t/b", "2"),
            (Kind::Object, "data/o", "z"),
            (Kind::Event, "Ready", "x"),
        ]);
        let changes = later.against(&earlier);
        let shown: Vec<_> = changes
            .iter()
            .map(|change| (change.difference, change.effect.name.as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                (Difference::Same, "t/a"),
                (Difference::Changed, "t/b"),
                (Difference::Added, "data/o"),
                (Difference::Same, "Ready"),
                (Difference::Missing, "Ready"),
            ]
        );
    }

    #[test]
    fn what_is_beyond_the_bound_is_counted() {
        let write = |n: usize| StateWrite {
            table: "t".into(),
            key: n.to_string(),
            value: None,
            condition: crate::store::Condition::None,
        };
        let staged = Staged {
            state: (0..MOST + 5).map(write).collect(),
            ..Staged::default()
        };
        let summary = Summary::of(&staged);
        assert_eq!((summary.effects.len(), summary.more), (MOST, 5));
        assert_eq!(summary.effects[0].size, None);
    }
}
