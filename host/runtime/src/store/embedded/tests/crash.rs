//! A process that is killed at any moment loses nothing it acknowledged and keeps nothing half done.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;
use crate::store::conformance::delete;

/// Where the child works; set only for the child.
const DIR: &str = "TIDEGATE_CRASH_TEST_DIR";
const ROUNDS: u64 = 12;
const COMMITTERS: u64 = 8;

/// Not a test of its own: the process that the other test kills.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let store = Arc::new(open(Path::new(&dir)));
    let tasks: Vec<_> = (0..COMMITTERS)
        .map(|task| tokio::spawn(work(store.clone(), task)))
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Claims an event, and in one unit: settles it, writes two values and an object, removes the values before,
/// and enqueues the next. Every acknowledged step is printed.
async fn work(store: Arc<Embedded>, task: u64) {
    let queue = format!("q{task}");
    loop {
        let claimed = store.claim(&queue, 1, Duration::from_millis(200)).await.unwrap();
        let step = claimed
            .first()
            .map_or(0, |delivery| delivery.event.id.parse::<u64>().unwrap());
        let staged = stage(
            &*store,
            format!("{task}/{step}")
                .repeat(1 + step as usize % 3000)
                .as_bytes(),
        )
        .await;
        let text = step.to_string();
        let mut next = enqueue(&queue, &(step + 1).to_string());
        if step % 3 == 0 {
            next.not_before = Some(SystemClock.now_ms() + 1 + step % 7);
        }
        let last = step.wrapping_sub(1);
        let unit = Unit {
            settle: claimed.into_iter().map(|delivery| delivery.receipt).collect(),
            state: vec![
                put("a", &format!("{task}/{step}"), &text),
                put("b", &format!("{task}/{step}"), &text),
                put("last", &task.to_string(), &text),
                delete("b", &format!("{task}/{last}")),
            ],
            objects: vec![publication("o", &task.to_string(), Some(staged))],
            enqueue: vec![next],
            ..Unit::default()
        };
        store.commit(unit).await.unwrap();
        println!("done {task} {step}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_nothing_and_leaves_nothing_half_done() {
    let dir = TempDir::new().unwrap();
    let mut acknowledged = BTreeMap::new();
    for round in 0..ROUNDS {
        let pause = Duration::from_millis(150 + (round * 7919) % 613);
        acknowledged.extend(run_and_kill(dir.path(), pause));
        let store = open(dir.path());
        for task in 0..COMMITTERS {
            check(&store, task, acknowledged.get(&task).copied()).await;
        }
        check_blobs(&store, dir.path()).await;
    }
    let steps: u64 = acknowledged.values().sum();
    assert!(
        acknowledged.len() as u64 == COMMITTERS && steps > 100,
        "{steps} steps in all"
    );
}

/// Runs the child, kills it in the middle, and returns the last acknowledged step of each task.
fn run_and_kill(dir: &Path, pause: Duration) -> BTreeMap<u64, u64> {
    let name = concat!(module_path!(), "::child");
    let name = name.split_once("::").unwrap().1;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || output.lines().map_while(Result::ok).collect::<Vec<_>>());
    std::thread::sleep(pause);
    child.kill().unwrap();
    child.wait().unwrap();
    let mut steps = BTreeMap::new();
    for line in reader.join().unwrap() {
        let Some(at) = line.find("done ") else { continue };
        let mut words = line[at + 5..].split(' ').map(str::parse::<u64>);
        if let (Some(Ok(task)), Some(Ok(step))) = (words.next(), words.next()) {
            steps.insert(task, step);
        }
    }
    steps
}

/// The steps of one task are there without a gap, and so is exactly one next event.
async fn check(store: &Embedded, task: u64, acknowledged: Option<u64>) {
    let last = store.get("last", &task.to_string()).await.unwrap();
    let last = last.map(|last| {
        String::from_utf8(last.value.to_vec())
            .unwrap()
            .parse::<u64>()
            .unwrap()
    });
    assert!(
        last >= acknowledged,
        "task {task} acknowledged {acknowledged:?}, found {last:?}"
    );
    let Some(last) = last else { return };
    let all = store
        .query("a", &format!("{task}/"), None, usize::MAX - 1, Order::Ascending)
        .await
        .unwrap();
    assert_eq!(all.entries.len() as u64, last + 1, "task {task} has every step");
    let only = store
        .query("b", &format!("{task}/"), None, 10, Order::Ascending)
        .await
        .unwrap();
    let keys: Vec<_> = only.entries.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(
        keys,
        [format!("{task}/{last}")],
        "what a step deletes is gone, what it writes is there"
    );
    let reader = store.open("o", &task.to_string()).await.unwrap().unwrap();
    let bytes = reader.read_at(0, usize::MAX / 2).await.unwrap();
    assert!(
        bytes == format!("{task}/{last}").repeat(1 + last as usize % 3000),
        "the object is the step's"
    );
    let next = store
        .claim(&format!("q{task}"), 10, Duration::from_millis(300))
        .await
        .unwrap();
    assert_eq!(
        ids(&next),
        [(last + 1).to_string()],
        "task {task}: the unsettled event comes back"
    );
}

async fn check_blobs(store: &Embedded, dir: &Path) {
    let objects = store.list("o", "", None, 1000).await.unwrap().entries;
    let named: HashSet<_> = published_blobs(&store.core.objects).unwrap();
    let on_disk: HashSet<_> = blobs(dir).into_iter().collect();
    assert_eq!(
        (named.len(), &named),
        (objects.len(), &on_disk),
        "no orphan, no missing blob"
    );
}
