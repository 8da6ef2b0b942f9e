//! A guest that does what its event asks for, good or bad: what the tests of the host send it.

use std::collections::VecDeque;

use serde::Deserialize;
use tidegate_sdk::prelude::*;

tidegate_sdk::function!(handle);

/// What to do.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Deed {
    /// Nothing.
    Nothing,
    /// Add one to `counters/KEY`, by a conditional write.
    Count { key: String },
    /// Emit this many events of type `Echo`.
    Emit { count: u32 },
    /// Emit this many events that ask for nothing.
    Flood { kind: String, count: u32 },
    /// Emit an event of the first type, which asks for the same with the others.
    Pass { to: VecDeque<String> },
    /// Write an object, read it back before it is committed, and delete another.
    Objects {
        bucket: String,
        key: String,
        text: String,
    },
    /// Write under a key and then fail: nothing may be left of it.
    WriteThenFail { key: String },
    /// Fail the first `times` attempts, then succeed.
    Flaky { times: u32 },
    /// Refuse for good.
    Reject { reason: String },
    /// Trap.
    Trap,
    /// Never end.
    Spin,
    /// Take memory until there is no more.
    Grow,
    /// Call the host without end.
    Calls,
    /// Log without end.
    Logs { lines: u32 },
    /// Read an object.
    Read { bucket: String, key: String },
    /// Fail until an object is there.
    Await { bucket: String, key: String },
    /// Open an object and trap, as a library does that panics on what it holds.
    ReadThenTrap { bucket: String, key: String },
    /// Write state, where nothing is said a 1.
    State {
        table: String,
        key: String,
        #[serde(default = "one")]
        value: serde_json::Value,
    },
    /// Recurse until the stack is gone.
    Recurse,
    /// Sleep where the host waits.
    Sleep { seconds: u64 },
    /// Await what never comes.
    Pending,
    /// Open an object this many times and keep every handle.
    Handles {
        bucket: String,
        key: String,
        count: usize,
    },
    /// Hand an import an argument of this many bytes.
    Giant { import: String, bytes: usize },
}

fn one() -> serde_json::Value {
    1.into()
}

async fn handle(event: Event) -> Result<(), Failure> {
    match event.json()? {
        Deed::Nothing => Ok(()),
        Deed::Count { key } => count(&key).await,
        Deed::Emit { count } => {
            for number in 0..count {
                events::emit("Echo", &serde_json::json!({ "number": number }))?;
            }
            Ok(())
        }
        Deed::Flood { kind, count } => {
            for _ in 0..count {
                events::emit(&kind, &serde_json::json!({ "do": "nothing" }))?;
            }
            Ok(())
        }
        Deed::Pass { mut to } => {
            if let Some(next) = to.pop_front() {
                events::emit(&next, &serde_json::json!({ "do": "pass", "to": to }))?;
            }
            Ok(())
        }
        Deed::Objects { bucket, key, text } => write_and_read(&bucket, &key, &text).await,
        Deed::WriteThenFail { key } => {
            state::put("counters", &key, &1)?;
            events::emit("Echo", &serde_json::json!({}))?;
            Err(Failure::reject("after the write"))
        }
        Deed::Flaky { times } if event.attempt <= times => Err(Failure::retry_after(10, "not yet")),
        Deed::Flaky { .. } => Ok(()),
        Deed::Reject { reason } => Err(Failure::reject(reason)),
        Deed::Trap => std::process::abort(),
        Deed::Spin => loop {
            std::hint::black_box(());
        },
        Deed::Grow => grow(),
        Deed::Calls => loop {
            let _answer = config::variable("nothing");
        },
        Deed::Logs { lines } => {
            for line in 0..lines {
                log::info!("line {line}");
            }
            Ok(())
        }
        Deed::Read { bucket, key } => {
            objects::open(&bucket, &key).await?;
            Ok(())
        }
        Deed::Await { bucket, key } => match objects::open(&bucket, &key).await {
            Err(Error::NotFound(reason)) => Err(Failure::retry_after(200, reason)),
            opened => Ok(opened.map(drop)?),
        },
        Deed::ReadThenTrap { bucket, key } => {
            objects::open(&bucket, &key).await?;
            std::process::abort()
        }
        Deed::State { table, key, value } => {
            state::put(&table, &key, &value)?;
            Ok(())
        }
        Deed::Recurse => {
            std::hint::black_box(recurse(1));
            Ok(())
        }
        Deed::Sleep { seconds } => {
            std::thread::sleep(std::time::Duration::from_secs(seconds));
            Ok(())
        }
        Deed::Pending => std::future::pending().await,
        Deed::Handles { bucket, key, count } => {
            let mut held = Vec::new();
            for _ in 0..count {
                held.push(objects::open(&bucket, &key).await?);
            }
            Ok(())
        }
        Deed::Giant { import, bytes } => giant(&import, bytes).await,
    }
}

async fn count(key: &str) -> Result<(), Failure> {
    match state::get::<u64>("counters", key).await? {
        None => state::put_if_absent("counters", key, &1)?,
        Some(found) => state::put_if_version("counters", key, &(found.value + 1), found.version)?,
    }
    Ok(())
}

async fn write_and_read(bucket: &str, key: &str, text: &str) -> Result<(), Failure> {
    objects::put(bucket, key, Some("text/plain"), text.as_bytes()).await?;
    let back = objects::open(bucket, key).await?.bytes(1 << 20).await?;
    if back != text.as_bytes() {
        return Err(Failure::reject("an invocation does not see its own write"));
    }
    Ok(())
}

/// Calls an import with what is far too much; its answer is the step's failure.
async fn giant(import: &str, bytes: usize) -> Result<(), Failure> {
    let text = "g".repeat(bytes);
    match import {
        "state.get" => drop(state::get_raw("counters", &text).await?),
        "state.put" => state::put_raw("counters", &text, b"", state::Condition::None)?,
        "state.get-many" => {
            let keys = vec!["k".to_owned(); bytes];
            drop(state::get_many::<u64>("counters", &keys).await?);
        }
        "objects.open" => drop(objects::open("data", &format!("in/{text}")).await?),
        "objects.create" => drop(objects::put("data", &format!("out/{text}"), None, b"").await?),
        "objects.content-type" => drop(objects::put("data", "out/small", Some(&text), b"").await?),
        "events.emit" => drop(events::emit_about("Echo", &text, &1)?),
        "events.data" => drop(events::emit("Echo", &text)?),
        "config.variable" => drop(config::variable(&text)),
        "config.secret" => drop(config::secret(&text)?),
        "log.write" => log::info!("{text}"),
        "log.progress" => log::progress(1, 2, &text),
        "failure" => return Err(Failure::reject(text)),
        other => return Err(Failure::reject(format!("no import `{other}`"))),
    }
    Ok(())
}

fn grow() -> Result<(), Failure> {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        held.push(vec![1; 1 << 20]);
        std::hint::black_box(&held);
    }
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    std::hint::black_box(recurse(std::hint::black_box(depth + 1))) + 1
}
