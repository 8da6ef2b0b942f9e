//! `tidegate runs`: what an event from outside led to, as a tree of steps.

mod resume;

use std::collections::HashSet;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::text::{self, Cell, Colour, colour_of, cut, date, duration, field, function_of, tame};
use super::{Target, client};

/// Shows runs as trees of steps, the latest first; `runs resume` lets a paused one go on
#[derive(Args)]
pub struct Runs {
    #[command(subcommand)]
    command: Option<Command>,
    /// One run
    run: Option<String>,
    /// Runs at most
    #[arg(long, default_value_t = 10)]
    limit: usize,
    #[command(flatten)]
    target: Target,
}

#[derive(Subcommand)]
enum Command {
    Resume(resume::Resume),
}

impl Runs {
    pub(super) async fn run(self) -> Result<()> {
        if let Some(Command::Resume(resume)) = self.command {
            return resume.run(&self.target).await;
        }
        let client = self.target.client()?;
        if let Some(run) = &self.run {
            let answer = client
                .get(&format!("/api/v1/runs/{}", client::part(run)), &[])
                .await?;
            if self.target.json {
                return text::say_json(&answer);
            }
            show(&answer)?;
            return text::say(&trace_of(&answer));
        }
        let answer = client
            .get("/api/v1/runs", &[("limit", self.limit.to_string())])
            .await?;
        if self.target.json {
            return text::say_json(&answer);
        }
        let mut runs = answer["runs"].as_array().cloned().unwrap_or_default();
        if runs.is_empty() {
            return text::say("no runs yet: `tidegate put` or `tidegate invoke` starts one\n");
        }
        // The latest stands last, where the eye is.
        runs.reverse();
        for run in &runs {
            show(
                &client
                    .get(&format!("/api/v1/runs/{}", client::part(field(run, "run"))), &[])
                    .await?,
            )?;
            text::say("\n")?;
        }
        Ok(())
    }
}

fn show(run: &Value) -> Result<()> {
    let mut run = run.clone();
    tell_of_jobs(&mut run);
    text::say(&text::aligned(&rows(&run), text::coloured()))
}

/// Where else to look for the run; nothing where its steps carry no trace.
fn trace_of(run: &Value) -> String {
    match run["steps"][0]["trace_id"].as_str() {
        Some(trace) => format!("trace {trace}\n"),
        None => String::new(),
    }
}

/// A job's step tells what its worker last said.
fn tell_of_jobs(run: &mut Value) {
    let jobs = run["jobs"].as_array().cloned().unwrap_or_default();
    for step in run["steps"].as_array_mut().into_iter().flatten() {
        let job = jobs
            .iter()
            .find(|job| job["id"] == step["event"] && field(job, "phase") == "running");
        if let Some(job) = job {
            step["reason"] = super::jobs::detail(job).into();
        }
    }
}

/// The run's own row, then one for each step.
fn rows(run: &Value) -> Vec<Vec<Cell>> {
    let steps = run["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let started = run["started"].as_u64().unwrap_or_default();
    let state = field(run, "state");
    let took = run["finished"]
        .as_u64()
        .map(|end| duration(end.saturating_sub(started) as f64))
        .unwrap_or_default();
    let what = format!("{} {}", field(run, "type"), tame(field(run, "subject")));
    let mut rows = vec![vec![
        Cell::new(field(run, "run")).colour(Colour::Bold),
        Cell::new(cut(what.trim(), 60)),
        Cell::new(state).colour(colour_of(state)),
        Cell::new(""),
        Cell::new(took).right(),
        Cell::new(date(started)).colour(Colour::Dim),
    ]];
    let mut shown = HashSet::new();
    let roots: Vec<usize> = (0..steps.len())
        .filter(|&index| cause(steps, index).is_none())
        .collect();
    branch(steps, &roots, "", &mut shown, &mut rows);
    rows
}

/// The step that emitted the event which this step handles.
fn cause(steps: &[Value], index: usize) -> Option<usize> {
    let event = steps[index]["event"].as_str()?;
    let emits = |step: &Value| {
        step["emitted"]
            .as_array()
            .is_some_and(|emitted| emitted.iter().any(|id| id.as_str() == Some(event)))
    };
    let parent = steps[index]["parent"].as_str();
    let by_list = (0..steps.len()).find(|&other| other != index && emits(&steps[other]));
    by_list.or_else(|| {
        (0..steps.len())
            .find(|&other| other != index && parent.is_some() && steps[other]["event"].as_str() == parent)
    })
}

fn branch(
    steps: &[Value],
    siblings: &[usize],
    indent: &str,
    shown: &mut HashSet<usize>,
    rows: &mut Vec<Vec<Cell>>,
) {
    for (place, &index) in siblings.iter().enumerate() {
        if !shown.insert(index) {
            continue;
        }
        let last = place + 1 == siblings.len();
        rows.push(row(
            &steps[index],
            &format!("{indent}{}", if last { "└─ " } else { "├─ " }),
        ));
        let children: Vec<usize> = (0..steps.len())
            .filter(|&other| cause(steps, other) == Some(index))
            .collect();
        branch(
            steps,
            &children,
            &format!("{indent}{}", if last { "   " } else { "│  " }),
            shown,
            rows,
        );
    }
}

fn row(step: &Value, indent: &str) -> Vec<Cell> {
    let state = field(step, "state");
    let attempt = step["attempt"].as_u64().unwrap_or(1);
    let what = format!("{} {}", field(step, "type"), tame(field(step, "subject")));
    let took = step["duration_ms"].as_f64().map(duration).unwrap_or_default();
    vec![
        Cell::new(format!("{indent}{}", function_of(step))),
        Cell::new(cut(what.trim(), 60)).colour(Colour::Dim),
        Cell::new(state).colour(colour_of(state)),
        Cell::new(if attempt > 1 {
            format!("attempt {attempt}")
        } else {
            String::new()
        })
        .colour(Colour::Yellow),
        Cell::new(took).right(),
        match field(step, "reason") {
            "" => Cell::new(format!(
                "{}{}{}{}",
                usage(&step["usage"]),
                effects(&step["effects"]),
                company(step),
                waiting(step)
            ))
            .colour(Colour::Dim),
            reason => Cell::new(cut(&tame(reason), 200)).colour(colour_of(state)),
        },
    ]
}

/// What a step took besides time; nothing where that is not known.
pub(super) fn usage(usage: &Value) -> String {
    match (usage["cpu_ms"].as_f64(), usage["peak_memory"].as_f64()) {
        (Some(cpu), Some(memory)) => format!("cpu {}, {:.1} MiB", duration(cpu), memory / f64::from(1 << 20)),
        _ => String::new(),
    }
}

/// What an invocation's unit had in it, kinds without any left out: `, 2 writes, 1 object`.
pub(super) fn effects(counts: &Value) -> String {
    let kinds = [
        ("state", "write"),
        ("objects", "object"),
        ("events", "event"),
        ("jobs", "job"),
        ("joins", "join"),
    ];
    let said = kinds.map(|(key, noun)| match counts[key].as_u64() {
        None | Some(0) => String::new(),
        Some(1) => format!(", 1 {noun}"),
        Some(count) => format!(", {count} {noun}s"),
    });
    said.concat()
}

/// What an open join waits for.
fn waiting(step: &Value) -> String {
    match step["waits_for"].as_u64() {
        Some(1) => "waits for 1 part".into(),
        Some(parts) => format!("waits for {parts} parts"),
        None => String::new(),
    }
}

/// Which batch a step was handled in, and where else to look for what it emitted.
fn company(step: &Value) -> String {
    let Some(events) = step["batch"]["events"].as_u64() else {
        return String::new();
    };
    let first = field(&step["batch"], "first");
    if first == field(step, "event") {
        return format!(", first of a batch of {events}");
    }
    format!(
        ", in a batch of {events} with `{first}` of run {}",
        field(&step["batch"], "run")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_hang_from_the_step_that_caused_them() {
        let step = |function: &str, event: &str, parent: Option<&str>, emitted: &[&str]| {
            json!({ "function": function, "event": event, "parent": parent, "type": "T", "state": "done",
                "attempt": 1, "duration_ms": 5.0, "emitted": emitted })
        };
        let run = json!({
            "run": "R", "type": "tidegate.object.created", "subject": "raw/a.csv", "state": "done", "started": 0,
            "finished": 1500,
            "steps": [
                step("ingest", "e1", None, &["e2"]),
                step("audit", "e1", None, &[]),
                step("validate", "e2", Some("e1"), &["e3"]),
                step("features", "e3", Some("e2"), &[]),
            ],
        });
        let shown = text::aligned(&rows(&run), false);
        let names: Vec<&str> = shown
            .lines()
            .map(|line| line.split("  ").find(|part| !part.is_empty()).unwrap())
            .collect();
        assert_eq!(names[0], "R");
        assert!(shown.contains("├─ ingest"), "{shown}");
        assert!(shown.contains("│  └─ validate"), "{shown}");
        assert!(shown.contains("│     └─ features"), "{shown}");
        assert!(shown.contains("└─ audit"), "{shown}");
        assert!(shown.lines().next().unwrap().contains("1.5 s"), "{shown}");
    }

    #[test]
    fn a_step_of_a_batch_tells_which() {
        let batch = json!({ "events": 3, "first": "e1", "run": "R" });
        let usage = json!({ "cpu_ms": 2.0, "peak_memory": 1048576 });
        let step = |event: &str| json!({ "event": event, "function": "f", "state": "done", "batch": batch, "usage": usage });
        let run = json!({ "run": "R", "steps": [step("e1"), step("e2")] });
        let shown = text::aligned(&rows(&run), false);
        assert!(shown.contains("1.0 MiB, first of a batch of 3"), "{shown}");
        assert!(
            shown.contains("1.0 MiB, in a batch of 3 with `e1` of run R"),
            "{shown}"
        );
    }

    #[test]
    fn a_step_tells_how_much_it_committed_and_a_run_its_trace() {
        let step = json!({
            "event": "e", "function": "f", "state": "done", "trace_id": "4bf9", "usage": { "cpu_ms": 2.0, "peak_memory": 0 },
            "effects": { "state": 2, "objects": 1, "events": 0, "jobs": 0, "joins": 0 },
        });
        let run = json!({ "run": "R", "steps": [step] });
        let shown = text::aligned(&rows(&run), false);
        assert!(
            shown.contains("cpu 2.0 ms, 0.0 MiB, 2 writes, 1 object\n"),
            "{shown}"
        );
        assert_eq!(trace_of(&run), "trace 4bf9\n");
        assert_eq!(trace_of(&json!({ "steps": [] })), "");
    }

    #[test]
    fn an_open_join_tells_what_it_waits_for() {
        let step = json!({ "event": "j", "function": "$join", "state": "joining", "waits_for": 3 });
        let shown = text::aligned(&rows(&json!({ "run": "R", "steps": [step] })), false);
        assert!(
            shown.contains("joining") && shown.contains("waits for 3 parts"),
            "{shown}"
        );
    }

    #[test]
    fn steps_that_name_each_other_do_not_go_round() {
        let step = |event: &str, parent: &str| json!({ "function": event, "event": event, "parent": parent, "emitted": [] });
        let run = json!({ "run": "R", "steps": [step("a", "b"), step("b", "a"), step("c", "c")] });
        assert!(rows(&run).len() <= 4);
    }
}
