//! Batches: entries of units that come at about one time go out in one call, as the services bill by call.
//!
//! One call is under way at a time, and what comes meanwhile makes up the next: a lonely entry does not wait, and under
//! load calls are full.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use tidegate_runtime::store::StoreError;
use tokio::sync::oneshot;

/// An entry, and who is told what became of it.
type Entry<T> = (T, oneshot::Sender<Result<(), StoreError>>);

/// Entries that wait for a call.
pub(crate) struct Batches<T> {
    inner: Mutex<Inner<T>>,
}

struct Inner<T> {
    waiting: Vec<Entry<T>>,
    /// Whether a call is under way.
    sending: bool,
}

impl<T> Default for Batches<T> {
    fn default() -> Self {
        Self {
            inner: Mutex::new(Inner {
                waiting: Vec::new(),
                sending: false,
            }),
        }
    }
}

impl<T: Send + 'static> Batches<T> {
    /// Sends entries, in their order, by calls of up to `most`, and together with those of others; returns when all of
    /// them were sent, or a call failed. Whoever finds no call under way makes the calls, for all, until nothing waits.
    pub(crate) async fn send<C>(
        self: &Arc<Self>,
        entries: Vec<T>,
        most: usize,
        call: C,
    ) -> Result<(), StoreError>
    where
        C: Fn(Vec<T>) -> BoxFuture<'static, Result<(), StoreError>> + Send + Sync + 'static,
    {
        let (entries, told): (Vec<_>, Vec<_>) = entries.into_iter().map(entry).unzip();
        if self.add(entries) {
            tokio::spawn(self.clone().make_calls(most, call));
        }
        for told in told {
            told.await.map_err(StoreError::new)??;
        }
        Ok(())
    }

    /// Adds entries; whether nobody makes calls.
    fn add(&self, entries: Vec<Entry<T>>) -> bool {
        let mut inner = self.inner();
        inner.waiting.extend(entries);
        !inner.waiting.is_empty() && !std::mem::replace(&mut inner.sending, true)
    }

    async fn make_calls<C>(self: Arc<Self>, most: usize, call: C)
    where
        C: Fn(Vec<T>) -> BoxFuture<'static, Result<(), StoreError>>,
    {
        while let Some(batch) = self.next(most) {
            let (entries, tell): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let sent = call(entries).await;
            for tell in tell {
                // Who asked may have gone.
                let _ = tell.send(sent.clone());
            }
        }
    }

    fn next(&self, most: usize) -> Option<Vec<Entry<T>>> {
        let mut inner = self.inner();
        inner.sending = !inner.waiting.is_empty();
        let count = most.min(inner.waiting.len());
        inner.sending.then(|| inner.waiting.drain(..count).collect())
    }

    fn inner(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn entry<T>(entry: T) -> (Entry<T>, oneshot::Receiver<Result<(), StoreError>>) {
    let (tell, told) = oneshot::channel();
    ((entry, tell), told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_while_a_call_is_under_way_goes_together_in_the_next() {
        let batches = Arc::new(Batches::default());
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (go, gate) = tokio::sync::watch::channel(false);
        let sends = (0..7_u32).map(|number| {
            let (noted, gate) = (calls.clone(), gate.clone());
            batches.send(vec![number], 4, move |batch| {
                noted.lock().unwrap().push(batch.clone());
                let mut gate = gate.clone();
                Box::pin(async move {
                    gate.wait_for(|open| *open).await.map_err(StoreError::new)?;
                    if batch.contains(&6) {
                        return Err(StoreError("not this one".into()));
                    }
                    Ok(())
                })
            })
        });
        let opening = async {
            while calls.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            go.send(true).unwrap();
        };
        let (sent, ()) = tokio::join!(futures::future::join_all(sends), opening);
        assert_eq!(
            *calls.lock().unwrap(),
            [vec![0, 1, 2, 3], vec![4, 5, 6]].map(|call| call.to_vec())
        );
        let failed: Vec<bool> = sent.iter().map(Result::is_err).collect();
        assert_eq!(failed, [false, false, false, false, true, true, true]);
    }
}
