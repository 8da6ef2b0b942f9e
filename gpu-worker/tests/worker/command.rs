//! `train.command` in the real binary: a program of the operator's goes on where it was killed, and ends with its job.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fake_host::{FakeHost, Worker};

const LIMIT: Duration = Duration::from_secs(60);
/// Counts to six, and keeps what it counted; after three it waits until the file that it is given is there.
const COUNTS: &str = r#"
grep -q '"parameters":{"word":"six"}' "$TIDEGATE_JOB" && cat inputs/greeting.txt && echo || exit 1
n=$(cat checkpoint/count 2>/dev/null || echo 0)
while [ "$n" -lt 6 ]; do
  if [ "$n" -eq 3 ] && [ ! -e "$0" ]; then sleep 0.02; continue; fi
  n=$((n + 1))
  echo "$n" > checkpoint/count.new && mv checkpoint/count.new checkpoint/count
  echo "{\"epoch\": $n, \"of\": 6, \"metrics\": {\"loss\": 0.$((9 - n))}, \"checkpoint\": true}"
done
echo "$n" > outputs/count.txt && cp inputs/greeting.txt outputs/model.onnx
echo '{"outputs": {"metrics": {"validation": {"auc": 0.75}}}}'
"#;

/// A job that runs a command of the worker.
fn config(command: &str) -> Value {
    json!({
        "model": "m", "command": command, "parameters": {"word": "six"},
        "inputs": {"greeting.txt": "data/d/greeting"}, "output": {"bucket": "models", "prefix": "m/1"},
    })
}

async fn host() -> FakeHost {
    let host = FakeHost::start().await;
    host.put_object("data/d/greeting", b"hello".to_vec());
    host
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_was_killed_with_its_worker_goes_on_from_its_checkpoint() {
    let (host, folder) = (host().await, tempfile::tempdir().unwrap());
    let gate = folder.path().join("open");
    let commands = json!({"count": ["sh", "-c", COUNTS, gate]});
    host.submit("j", "train.command", config("count"));
    let worker = Worker::with_commands(&host, &commands);
    host.checkpoints("j", 3).await;
    worker.kill();
    assert!(host.finished("j").is_none());
    std::fs::write(&gate, "").unwrap();
    host.expire_leases();
    let _worker = Worker::with_commands(&host, &commands);
    let outputs = host.outputs("j").await;
    assert_eq!(host.checkpoints_of("j"), 6, "it began anew: {outputs}");
    assert_eq!(host.object("models/m/1/count.txt").unwrap(), "6\n");
    let history: Vec<Value> = (1..=6)
        .map(|epoch| json!({"epoch": epoch, "loss": f64::from(9 - epoch) / 10.0}))
        .collect();
    assert_eq!(outputs["history"], json!(history));
    assert_eq!(outputs["metrics"]["validation"]["auc"], 0.75);
    assert_eq!(outputs["parameters"], json!({"word": "six"}));
    assert_eq!(outputs["model"]["key"], "m/1/model.onnx");
    assert_eq!(outputs["model"]["size"], 5);
    assert_eq!(outputs["files"].as_array().map(Vec::len), Some(2));
}

/// The program's own process, and one that it started.
async fn started(folder: &Path) -> [String; 2] {
    wait(|| {
        let text = std::fs::read_to_string(folder.join("pids")).ok()?;
        let mut pids = text.lines().map(str::to_owned);
        Some([pids.next()?, pids.next()?])
    })
    .await
}

/// What writes the ids of two processes to a file, and waits for nothing.
fn idles(folder: &Path) -> Value {
    let pids = folder.join("pids").display().to_string();
    let script = format!("echo $$ > {pids}; sleep 1000 & echo $! >> {pids}; wait");
    json!({"idle": ["sh", "-c", script]})
}

/// Waits until a process has ended; one that nobody waits for is a zombie, which has ended as well.
async fn ended(pid: &str) {
    let state = format!("/proc/{pid}/stat");
    wait(|| {
        let alive = std::fs::read_to_string(&state).is_ok_and(|state| !state.contains(") Z "));
        (!alive).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_lost_ends_its_program_with_all_that_it_started() {
    let (host, folder) = (host().await, tempfile::tempdir().unwrap());
    let _worker = Worker::with_commands(&host, &idles(folder.path()));
    host.submit("j", "train.command", config("idle"));
    let pids = started(folder.path()).await;
    host.withdraw("j");
    for pid in &pids {
        ended(pid).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_ends_ends_its_program_and_a_killed_one_leaves_none_behind() {
    for kill in [false, true] {
        let (host, folder) = (host().await, tempfile::tempdir().unwrap());
        let worker = Worker::with_commands(&host, &idles(folder.path()));
        host.submit("j", "train.command", config("idle"));
        let [program, _other] = started(folder.path()).await;
        match kill {
            true => worker.kill(),
            false => worker.terminate_and_wait(LIMIT),
        }
        ended(&program).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_fails_or_is_not_allowed_is_told_with_its_last_words() {
    let host = host().await;
    let commands = json!({
        "bad": ["sh", "-c", "echo the data is odd >&2; exit 3"],
        "nowhere": ["/nowhere/program"],
        "litters": ["sh", "-c", "mkdir outputs/folder"],
    });
    let _worker = Worker::with_commands(&host, &commands);
    for (command, told) in [
        ("bad", "command `bad` ended with exit status: 3: the data is odd"),
        (
            "sh",
            "this worker has no command `sh`, allowed are `bad`, `litters`, `nowhere`",
        ),
        ("nowhere", "`/nowhere/program` does not start: No such file"),
        ("litters", "the program left \"folder\", allowed are files"),
    ] {
        host.submit(command, "train.command", config(command));
        let reason = host.failure(command).await;
        assert!(reason.contains(told), "{command}: {reason}");
    }
}

async fn wait<T>(look: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < LIMIT, "waited too long");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
