//! A program with all that it starts: one process group, which ends as a whole.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::scratch::Scratch;
use crate::jobs::session::JobError;

/// Names the file that tells a program its job.
const JOB: &str = "TIDEGATE_JOB";
/// How often it is looked whether the job is still ours.
const LOOK: Duration = Duration::from_millis(100);
/// How long a program may take to end when it is told to; less than the worker takes for its own end.
const FAREWELL: Duration = Duration::from_secs(1);
/// Bytes of a line; the rest of one that is longer is passed over.
const LINE: u64 = 4 << 10;
/// Lines that wait to be heard; a program that is quicker waits.
const AHEAD: usize = 16;

/// A line of a program.
pub(super) enum Heard {
    /// On its standard output.
    Said(String),
    /// On its standard error.
    Complained(String),
}

/// A program that runs. Dropped, it is killed with all that it started.
pub(super) struct Process {
    child: Child,
    heard: Receiver<Heard>,
}

impl Process {
    /// Starts a program with its arguments in a folder of its own.
    pub(super) fn start((program, arguments): (&str, &[String]), scratch: &Scratch) -> Result<Self, String> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env(JOB, scratch.job())
            // What proves to the host that this is its worker is no business of a job.
            .env_remove("TIDEGATE_WORKER_TOKEN")
            .current_dir(scratch.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        ends_with_worker(&mut command);
        let mut child = command
            .spawn()
            .map_err(|error| format!("`{program}` does not start: {error}"))?;
        let (said, heard) = sync_channel(AHEAD);
        let complained = said.clone();
        if let Some(output) = child.stdout.take() {
            std::thread::spawn(move || listen(output, &said, Heard::Said));
        }
        if let Some(output) = child.stderr.take() {
            std::thread::spawn(move || listen(output, &complained, Heard::Complained));
        }
        Ok(Self { child, heard })
    }

    /// Hears every line, and waits for the end; or ends it when nobody wants it any more.
    pub(super) fn follow(
        mut self,
        hear: &mut dyn FnMut(Heard) -> Result<(), JobError>,
        abandoned: &dyn Fn() -> bool,
    ) -> Result<ExitStatus, JobError> {
        loop {
            if abandoned() {
                self.end();
                return Err(JobError::Abandoned);
            }
            match self.heard.recv_timeout(LOOK) {
                Ok(heard) => hear(heard)?,
                Err(RecvTimeoutError::Timeout) => {}
                // It closed both, and has still to end.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK),
            }
            if let Some(status) = self.ended()? {
                self.hear_the_rest(hear)?;
                return Ok(status);
            }
        }
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, JobError> {
        let ended = self.child.try_wait();
        ended.map_err(|error| JobError::Transient(format!("the program is lost: {error}")))
    }

    /// What was said before the end; whoever left the group and holds the output open is not waited for.
    fn hear_the_rest(&self, hear: &mut dyn FnMut(Heard) -> Result<(), JobError>) -> Result<(), JobError> {
        self.signal(Signal::KILL);
        let last = Instant::now() + FAREWELL;
        while let Ok(heard) = self
            .heard
            .recv_timeout(last.saturating_duration_since(Instant::now()))
        {
            hear(heard)?;
        }
        Ok(())
    }

    /// Tells the group to end; what does not is killed when this is dropped.
    fn end(&mut self) {
        self.signal(Signal::TERM);
        let last = Instant::now() + FAREWELL;
        while Instant::now() < last && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(LOOK / 4);
        }
    }

    /// Signals all that is left of the group; that it may be nothing is as well.
    fn signal(&self, signal: Signal) {
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _it_has_ended = self.child.wait();
    }
}

/// Has the program killed when the worker is, which can tell it nothing any more.
fn ends_with_worker(command: &mut Command) {
    #[cfg(target_os = "linux")]
    // SAFETY: between `fork` and `exec` it makes this one system call, and touches no memory.
    unsafe {
        command.pre_exec(|| {
            Ok(rustix::process::set_parent_process_death_signal(Some(
                Signal::KILL,
            ))?)
        });
    }
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}

/// Hands on every line that is not blank, until nobody listens.
fn listen(output: impl Read, to: &SyncSender<Heard>, heard: fn(String) -> Heard) {
    let mut reader = BufReader::new(output);
    while let Some(line) = next_line(&mut reader) {
        let line = line.trim();
        if !line.is_empty() && to.send(heard(line.to_owned())).is_err() {
            return;
        }
    }
}

/// The beginning of the next line; none at the end.
fn next_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    let read = reader.by_ref().take(LINE).read_until(b'\n', &mut line);
    if read.ok()? == 0 {
        return None;
    }
    if !line.ends_with(b"\n") {
        pass_over(reader);
    }
    Some(String::from_utf8_lossy(&line).into_owned())
}

/// Passes over the rest of a line, however long it is.
fn pass_over(reader: &mut impl BufRead) {
    loop {
        let Ok(buffer) = reader.fill_buf() else { return };
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let passed = end.map_or(buffer.len(), |end| end + 1);
        reader.consume(passed);
        if end.is_some() || passed == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_line_that_is_too_long_the_beginning_is_heard_and_the_next_line_is_whole() {
        let long = "x".repeat(3 * LINE as usize);
        let mut reader = BufReader::new(std::io::Cursor::new(format!("{long}\nshort\nlast")));
        assert_eq!(next_line(&mut reader).unwrap().len() as u64, LINE);
        assert_eq!(next_line(&mut reader).unwrap(), "short\n");
        assert_eq!(next_line(&mut reader).unwrap(), "last");
        assert_eq!(next_line(&mut reader), None);
    }
}
