//! The queue of a model whose requests are run together. It has one owner, which makes the batches.
//!
//! A batch is run when it is full, or when its first request has waited for as long as it may, and a session is idle;
//! until then it grows. Requests whose callers have gone are dropped before that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::batch;
use super::model::Core;
use super::sessions::Turn;
use super::tensors::Elements;

/// How requests of a model are run together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// Rows of one batch at most.
    pub most: usize,
    /// How long the first request of a batch waits for others, where a session is idle.
    pub delay: Duration,
}

/// A request that waits.
struct Waiting {
    inputs: Vec<Elements>,
    rows: usize,
    since: Instant,
    answer: oneshot::Sender<Result<Vec<Elements>, Status>>,
}

impl Waiting {
    fn has_caller(&self) -> bool {
        !self.answer.is_closed()
    }
}

/// The way into the queue.
#[derive(Debug)]
pub struct Queue {
    batching: Batching,
    sender: mpsc::Sender<Waiting>,
}

impl Queue {
    /// A queue of at most `waiting` requests, which ends with this handle.
    pub fn start(core: Arc<Core>, batching: Batching, waiting: usize) -> Self {
        let (sender, receiver) = mpsc::channel(waiting.max(1));
        let owner = Owner {
            core,
            batching,
            receiver,
            next: None,
        };
        tokio::spawn(owner.run());
        Self { batching, sender }
    }

    /// Whether a request of so many rows is one for the queue.
    pub fn takes(&self, rows: usize) -> bool {
        rows < self.batching.most
    }

    /// Whether one that is alone need not wait for others.
    pub fn lets_pass(&self) -> bool {
        self.batching.delay.is_zero() && self.sender.capacity() == self.sender.max_capacity()
    }

    /// Waits for the answer to a request; one that is given up is not run.
    pub async fn infer(&self, inputs: Vec<Elements>, rows: usize) -> Result<Vec<Elements>, Status> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting {
            inputs,
            rows,
            since: Instant::now(),
            answer,
        };
        self.sender.try_send(waiting).map_err(|_| {
            let most = self.sender.max_capacity();
            Status::resource_exhausted(format!("{most} requests of this model wait already"))
        })?;
        let gone = |_| Err(Status::unavailable("the model is being unloaded"));
        answered.await.unwrap_or_else(gone)
    }
}

struct Owner {
    core: Arc<Core>,
    batching: Batching,
    receiver: mpsc::Receiver<Waiting>,
    /// Did not fit into the batch before.
    next: Option<Waiting>,
}

impl Owner {
    async fn run(mut self) {
        while let Some(first) = self.first().await {
            let mut batch = vec![first];
            let Ok(turn) = self.fill(&mut batch).await else {
                continue;
            };
            self.drain(&mut batch);
            let core = self.core.clone();
            // A thread of its own: the owner goes on with the next batch.
            tokio::task::spawn_blocking(move || core.answer(turn, batch));
        }
    }

    async fn first(&mut self) -> Option<Waiting> {
        loop {
            let next = match self.next.take() {
                Some(next) => next,
                None => self.receiver.recv().await?,
            };
            if next.has_caller() {
                return Some(next);
            }
        }
    }

    /// Lets a batch grow until it may be run and a session is idle.
    async fn fill(&mut self, batch: &mut Vec<Waiting>) -> Result<Turn, Status> {
        let ripe = batch.first().map_or_else(Instant::now, |first| first.since) + self.batching.delay;
        while !self.is_full(batch) {
            match tokio::time::timeout_at(ripe.into(), self.receiver.recv()).await {
                Ok(Some(next)) => self.add(batch, next),
                // Nobody else comes, or it is time.
                Ok(None) | Err(_) => break,
            }
        }
        let taking = self.core.sessions.clone();
        let taking = taking.take();
        tokio::pin!(taking);
        loop {
            if self.is_full(batch) {
                return taking.await;
            }
            tokio::select! {
                biased;
                turn = &mut taking => return turn,
                Some(next) = self.receiver.recv() => self.add(batch, next),
            }
        }
    }

    /// Adds what came while the session was waited for.
    fn drain(&mut self, batch: &mut Vec<Waiting>) {
        batch.retain(Waiting::has_caller);
        while !self.is_full(batch) {
            match self.receiver.try_recv() {
                Ok(next) => self.add(batch, next),
                Err(_) => return,
            }
        }
    }

    fn is_full(&self, batch: &[Waiting]) -> bool {
        self.next.is_some() || rows(batch) >= self.batching.most
    }

    fn add(&mut self, batch: &mut Vec<Waiting>, next: Waiting) {
        batch.retain(Waiting::has_caller);
        let room = rows(batch) + next.rows <= self.batching.most;
        let alike = batch
            .first()
            .is_none_or(|first| self.core.padding.alike(&first.inputs, &next.inputs));
        match (next.has_caller(), room && alike) {
            (false, _) => {}
            (true, true) => batch.push(next),
            (true, false) => self.next = Some(next),
        }
    }
}

fn rows(batch: &[Waiting]) -> usize {
    batch.iter().map(|waiting| waiting.rows).sum()
}

impl Core {
    /// Runs a batch and answers everybody in it.
    fn answer(&self, mut turn: Turn, mut batch: Vec<Waiting>) {
        batch.retain(Waiting::has_caller);
        let begun = Instant::now();
        for waiting in &batch {
            self.statistics.waited(begun - waiting.since);
        }
        self.answer_some(&mut turn, batch);
    }

    /// An error is the answer to who caused it alone: a batch that fails is halved.
    fn answer_some(&self, turn: &mut Turn, mut batch: Vec<Waiting>) {
        if batch.is_empty() {
            return;
        }
        match self.run_together(turn, &batch) {
            Ok(answers) => {
                for (waiting, answer) in batch.into_iter().zip(answers) {
                    // Who has gone meanwhile is told nothing.
                    let _ = waiting.answer.send(Ok(answer));
                }
            }
            Err(status) if batch.len() <= 1 => {
                for waiting in batch {
                    let _ = waiting.answer.send(Err(status.clone()));
                }
            }
            Err(_) => {
                let rest = batch.split_off(batch.len() / 2);
                self.answer_some(turn, batch);
                self.answer_some(turn, rest);
            }
        }
    }

    fn run_together(&self, turn: &mut Turn, batch: &[Waiting]) -> Result<Vec<Vec<Elements>>, Status> {
        let inputs: Vec<&[Elements]> = batch.iter().map(|waiting| waiting.inputs.as_slice()).collect();
        if let [alone] = inputs.as_slice() {
            return Ok(vec![self.run(turn, alone, rows(batch), 1)?]);
        }
        let joined = batch::join(&self.padding.even(&self.signature, &inputs));
        let outputs = self.run(turn, &joined, rows(batch), batch.len())?;
        let sizes: Vec<usize> = batch.iter().map(|waiting| waiting.rows).collect();
        let mixed = || Status::internal("the model's outputs are not one row for each row of its inputs");
        let answers = batch::split(&self.signature, &outputs, &sizes).ok_or_else(mixed)?;
        let answers = answers.into_iter().zip(inputs);
        let cut = |(outputs, inputs)| self.padding.cut(&self.signature, outputs, inputs);
        Ok(answers.map(cut).collect())
    }
}
