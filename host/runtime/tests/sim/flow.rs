//! Who holds up whom: floods beside a few events of others.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use tidegate_runtime::dispatch::{Full, Handler, NoRoom, Places};
use tidegate_runtime::effects::Emission;
use tidegate_runtime::event::Event;
use tidegate_runtime::sandbox::{Call, Outcome, Usage};
use tidegate_runtime::store::Store as _;
use tidegate_runtime::store::memory::Memory;

use crate::executor::{Executor, Node};
use crate::pipeline::Pipeline;
use crate::process::Process;

/// Events of a flood.
const FLOOD: usize = 2000;
/// How long each is handled.
const TAKES: Duration = Duration::from_millis(10);

/// Handles every event, and notes when. One that is about `emit` has it emit another, of type `T1`.
#[derive(Default)]
struct Notes(Mutex<Vec<(u64, String)>>);

#[async_trait]
impl Handler for Notes {
    async fn run(&self, call: Arc<Call>) -> Outcome {
        let now = call.services.clock.now_ms();
        self.0.lock().unwrap().push((now, call.event.id.clone()));
        call.services.clock.sleep(TAKES).await;
        if call.event.subject.as_deref() == Some("emit") {
            call.effects().emit(emission(&call)).unwrap();
        }
        Outcome {
            result: Ok(call.take_effects()),
            logs: call.take_logs(),
            wall: TAKES,
            usage: Usage::default(),
        }
    }
}

fn emission(call: &Call) -> Emission {
    Emission {
        id: call.derived_id(0),
        kind: "T1".into(),
        subject: None,
        content_type: None,
        data: Bytes::new(),
        delay: None,
        part_of: None,
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
) -> Vec<(u64, String)> {
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
        let now = world.clock().now_ms();
        notes.0.lock().unwrap().push((now, "sent".into()));
        while !pipeline.waiting(&*store).await.unwrap().is_empty() {
            world.clock().sleep(TAKES).await;
        }
    });
    ran.unwrap();
    noted.0.lock().unwrap().clone()
}

/// How many of the flood were handled between the moment that the others were sent and the last of them.
fn between(order: &[(u64, String)]) -> usize {
    let sent = order.iter().position(|(_, id)| id == "sent").unwrap();
    let last = order.iter().rposition(|(_, id)| id.starts_with("other"));
    let between = &order[sent..last.unwrap()];
    between.iter().filter(|(_, id)| id.starts_with("flood")).count()
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
    let ids = order.iter().map(|(_, id)| id);
    let flood: Vec<_> = ids.filter(|id| id.starts_with("flood")).collect();
    assert!(flood.len() == FLOOD && flood.is_sorted());
}

/// The most that began within so many milliseconds.
fn most_within(order: &[(u64, String)], time: u64) -> usize {
    let began = order.iter().filter(|(_, id)| id != "sent").map(|(at, _)| *at);
    let began: Vec<u64> = began.collect();
    let within = |from: u64| {
        let until = from + time;
        began.iter().filter(|at| (from..until).contains(*at)).count()
    };
    began.iter().map(|from| within(*from)).max().unwrap_or_default()
}

#[test]
fn events_begin_at_the_rate_of_their_function_and_none_is_lost() {
    let functions = "[[function]]\nname = \"f0\"\ncomponent = \"f.wasm\"\ntrigger = [{ event = \"T0\" }]\n\
         rate = { limit = 50, burst = 5 }\n";
    let order = order(functions, 16, |_| Vec::new());
    assert_eq!(order.len(), FLOOD + 1);
    let second = most_within(&order, 1000);
    assert!((50..=55).contains(&second), "{second} in a second");
    let minute = most_within(&order, 60_000);
    assert_eq!(minute, FLOOD, "the whole flood takes {FLOOD} / 50 = 40 seconds");
}

#[test]
fn a_full_queue_takes_nothing_from_outside_and_all_that_steps_emit() {
    const EVENTS: usize = 50;
    let text = "[app]\nname = \"sim\"\n\
         [[function]]\nname = \"f0\"\ncomponent = \"f.wasm\"\ntrigger = [{ event = \"T0\" }]\n\
         [[function]]\nname = \"f1\"\ncomponent = \"f.wasm\"\ntrigger = [{ event = \"T1\" }]\n\
         limits = { concurrency = 1, backlog = 3 }\n";
    let pipeline = Arc::new(Pipeline::written(text, Places::default()).unwrap());
    let (executor, notes) = (Executor::new(1), Arc::new(Notes::default()));
    let (store, world) = (Arc::new(Memory::with_clock(executor.clock())), executor.clone());
    let noted = notes.clone();
    let ran = executor.run(async move {
        let process = Process::start(world.world(Node::Platform), store.clone(), &pipeline, notes);
        for n in 0..EVENTS {
            let emits = Event {
                subject: Some("emit".into()),
                ..process.event(0, format!("root-{n:02}"))
            };
            process.take_in(emits).await.unwrap();
        }
        while store.depth("f1@0").await.unwrap().ready <= 3 {
            world.clock().sleep(TAKES / 10).await;
        }
        let offer = |n: usize| process.offer(process.event(1, format!("offer-{n}")));
        let refused = offer(1).await;
        let at_rest = async || {
            while !pipeline.waiting(&*store).await.unwrap().is_empty() {
                world.clock().sleep(TAKES).await;
            }
        };
        at_rest().await;
        offer(2).await.unwrap();
        at_rest().await;
        refused
    });
    let refused = ran.unwrap().unwrap_err();
    assert!(
        matches!(&refused, NoRoom::Full(Full { function, waiting: 4.., bound: 3 }) if function == "f1"),
        "{refused:?}"
    );
    let order = noted.0.lock().unwrap();
    let mut ids: Vec<_> = order.iter().map(|(_, id)| id).collect();
    assert_eq!(ids.pop().unwrap(), "offer-2");
    let once: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!((ids.len(), once.len()), (2 * EVENTS, 2 * EVENTS));
}
