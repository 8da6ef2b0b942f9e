//! Who holds up whom: floods beside a few events of others.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use tidegate_runtime::dispatch::{Handler, Places};
use tidegate_runtime::event::Event;
use tidegate_runtime::sandbox::{Call, Outcome, Usage};
use tidegate_runtime::store::memory::Memory;

use crate::executor::{Executor, Node};
use crate::pipeline::Pipeline;
use crate::process::Process;

/// Events of a flood.
const FLOOD: usize = 2000;
/// How long each is handled.
const TAKES: Duration = Duration::from_millis(10);

/// Handles every event, and notes in which order.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

#[async_trait]
impl Handler for Notes {
    async fn run(&self, call: Arc<Call>) -> Outcome {
        self.0.lock().unwrap().push(call.event.id.clone());
        call.services.clock.sleep(TAKES).await;
        Outcome {
            result: Ok(call.take_effects()),
            logs: call.take_logs(),
            wall: TAKES,
            usage: Usage::default(),
        }
    }
}

/// An event of a type, about somebody.
fn event(process: &Process, kind: usize, user: &str, id: String) -> Event {
    Event {
        data: Bytes::from(json!({ "user": user }).to_string()),
        ..process.event(kind, id)
    }
}

/// Handles a flood of `T0` about `user`, and when it has begun, a few events of another type or somebody else; returns
/// in which order.
fn order(
    functions: &str,
    places: usize,
    others: impl Fn(&Process) -> Vec<Event> + Send + 'static,
) -> Vec<String> {
    let text = format!("[app]\nname = \"sim\"\n{functions}");
    let places = Places {
        total: places,
        ..Places::default()
    };
    let pipeline = Arc::new(Pipeline::written(&text, places).unwrap());
    let (executor, notes) = (Executor::new(1), Arc::new(Notes::default()));
    let (store, world) = (Arc::new(Memory::with_clock(executor.clock())), executor.clone());
    let noted = notes.clone();
    let ran = executor.run(async move {
        let process = Process::start(
            world.world(Node::Platform),
            store.clone(),
            &pipeline,
            notes.clone(),
        );
        for n in 0..FLOOD {
            let flood = event(&process, 0, "flood", format!("flood-{n:04}"));
            process.take_in(flood).await.unwrap();
        }
        let seen = || notes.0.lock().unwrap().len();
        while seen() < FLOOD / 10 {
            world.clock().sleep(TAKES).await;
        }
        for other in others(&process) {
            process.take_in(other).await.unwrap();
        }
        notes.0.lock().unwrap().push("sent".into());
        while !pipeline.waiting(&*store).await.unwrap().is_empty() {
            world.clock().sleep(TAKES).await;
        }
    });
    ran.unwrap();
    noted.0.lock().unwrap().clone()
}

/// How many of the flood were handled between the moment that the others were sent and the last of them.
fn between(order: &[String]) -> usize {
    let sent = order.iter().position(|id| id == "sent").unwrap();
    let last = order.iter().rposition(|id| id.starts_with("other")).unwrap();
    order[sent..last]
        .iter()
        .filter(|id| id.starts_with("flood"))
        .count()
}

#[test]
fn a_flood_of_one_function_holds_up_no_other() {
    let functions = "[[function]]\nname = \"f0\"\ncomponent = \"f.wasm\"\ntrigger = [{ event = \"T0\" }]\n\
         [[function]]\nname = \"f1\"\ncomponent = \"f.wasm\"\ntrigger = [{ event = \"T1\" }]\n";
    let order = order(functions, 2, |process| {
        (0..5)
            .map(|n| event(process, 1, "", format!("other-{n}")))
            .collect()
    });
    assert_eq!(order.len(), FLOOD + 5 + 1);
    let between = between(&order);
    assert!(
        between <= 10,
        "{between} events of the flood went before five others"
    );
}

#[test]
fn a_flood_of_one_key_holds_up_no_other_and_stays_in_order() {
    let functions = "[[function]]\nname = \"f0\"\ncomponent = \"f.wasm\"\ntrigger = [{ event = \"T0\" }]\n\
         key = { of = \"data.user\", ordered = true }\n";
    let order = order(functions, 16, |process| {
        (0..5)
            .map(|n| event(process, 0, &format!("u{n}"), format!("other-{n}")))
            .collect()
    });
    let between = between(&order);
    assert!(
        between <= 5,
        "{between} events of the flood went before five of other keys"
    );
    let flood: Vec<_> = order.iter().filter(|id| id.starts_with("flood")).collect();
    assert!(flood.len() == FLOOD && flood.is_sorted());
}
