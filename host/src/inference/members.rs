//! The workers that have joined: which of them a request goes to, and when one has left.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::open_inference::ServerLiveRequest;
use super::open_inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use super::resolve::Resolved;
use super::trust::Trust;

/// How a worker is asked.
pub(super) type Client = GrpcInferenceServiceClient<Channel>;

/// By how many requests those that have a model have to be busier, before another worker loads it as well.
const LOADING: usize = 8;
/// Workers at one time.
const MOST: usize = 256;
/// Models that are remembered of one worker; it is asked anew what it has where there are more.
const MODELS: usize = 1024;
/// How often workers are asked whether they are there.
const LOOK: Duration = Duration::from_secs(2);
/// How long one may take to say so.
const ANSWER: Duration = Duration::from_secs(5);
/// One that was not reached for this long has left.
const GONE: Duration = Duration::from_secs(30);
/// Bytes of a message between host and worker at most; what clients may send is bounded by the configuration.
const MESSAGE: usize = 1 << 30;
/// Bytes that may be under way before the receiver has said that it takes more.
const WINDOW: u32 = 8 << 20;

/// A worker that answers inference requests.
pub(super) struct Member {
    name: String,
    address: String,
    /// Whether its process is the host's own.
    child: bool,
    client: Client,
    /// Requests that it is asked at the moment.
    busy: AtomicUsize,
    /// What it is known to have in memory.
    models: Mutex<HashSet<Arc<Resolved>>>,
    /// Since when it is not reached; none where it was reached the last time.
    silent: Mutex<Option<Instant>>,
    /// It loads one model at a time, and requests that come meanwhile wait for that.
    pub(super) loading: tokio::sync::Mutex<()>,
}

impl Member {
    /// A worker that has shown nothing yet; the host's own is asked without TLS, as it is on this machine.
    fn new(name: &str, address: &str, child: bool, trust: Option<&Trust>) -> Result<Self, String> {
        let trust = trust.filter(|_| !child);
        let scheme = if trust.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .map_err(|error| format!("`{address}` is no address for inference: {error}"))?;
        let endpoint = endpoint
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(2))
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .buffer_size(4096);
        let channel = match trust {
            Some(trust) => trust.channel(&endpoint),
            None => endpoint.connect_lazy(),
        };
        let client = Client::new(channel)
            .max_decoding_message_size(MESSAGE)
            .max_encoding_message_size(MESSAGE);
        Ok(Self {
            name: name.to_owned(),
            address: address.to_owned(),
            child,
            client,
            busy: AtomicUsize::new(0),
            models: Mutex::default(),
            silent: Mutex::default(),
            loading: tokio::sync::Mutex::default(),
        })
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether its process is the host's own.
    pub(super) fn is_child(&self) -> bool {
        self.child
    }

    /// How it is asked.
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    fn models(&self) -> MutexGuard<'_, HashSet<Arc<Resolved>>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn silent(&self) -> MutexGuard<'_, Option<Instant>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that it has a model in memory.
    pub(super) fn has(&self, model: &Arc<Resolved>) {
        let mut models = self.models();
        if models.len() >= MODELS && !models.contains(model) {
            models.clear();
        }
        models.insert(model.clone());
    }

    /// Notes that it does not have a model any more.
    pub(super) fn lacks(&self, model: &Resolved) {
        self.models().remove(model);
    }

    /// The same of all versions of a model.
    pub(super) fn lacks_all(&self, name: &str) {
        self.models().retain(|model| model.name != name);
    }

    /// Notes whether it was reached.
    pub(super) fn note<T>(&self, answer: &Result<T, Status>) {
        let mut silent = self.silent();
        match answer {
            Err(status) if unreached(status) => {
                if silent.is_none() {
                    *silent = Some(Instant::now());
                    let reason = status.message();
                    tracing::warn!(
                        worker = self.name,
                        address = self.address,
                        reason,
                        "worker is not reached"
                    );
                }
            }
            _ => *silent = None,
        }
    }

    /// Asks it whether it is there.
    async fn look(&self) {
        let mut client = self.client();
        let asking = tokio::time::timeout(ANSWER, client.server_live(ServerLiveRequest {})).await;
        match asking {
            Ok(answer) => self.note(&answer),
            Err(_) => _ = self.silent().get_or_insert_with(Instant::now),
        }
    }

    fn is_gone(&self) -> bool {
        self.silent().is_some_and(|since| since.elapsed() >= GONE)
    }

    /// The less, the sooner it is asked: those that are reached first, then who has the least to do, to load the model
    /// included, then who has the fewest models.
    fn reluctance(&self, model: &Resolved) -> (bool, usize, usize) {
        let silent = self.silent().is_some();
        let models = self.models();
        let loading = if models.contains(model) { 0 } else { LOADING };
        (silent, self.busy.load(Ordering::Relaxed) + loading, models.len())
    }
}

/// Whether a worker did not get to say anything: what it says itself has no other source.
pub(super) fn unreached(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// Whether another worker may answer what this one did not.
pub(super) fn another_may(status: &Status) -> bool {
    unreached(status) || matches!(status.code(), Code::Unavailable | Code::ResourceExhausted)
}

/// A worker that is asked at the moment.
pub(super) struct Busy(pub(super) Arc<Member>);

impl Busy {
    fn new(member: Arc<Member>) -> Self {
        member.busy.fetch_add(1, Ordering::Relaxed);
        Self(member)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The workers that have joined.
#[derive(Default)]
pub(super) struct Members {
    joined: watch::Sender<Vec<Arc<Member>>>,
    /// Requests that wait for the first one.
    waiting: Arc<()>,
    /// How those that the host did not start are asked.
    trust: Option<Trust>,
}

impl Members {
    /// Nobody yet.
    pub(super) fn new(trust: Option<Trust>) -> Self {
        Self {
            trust,
            ..Self::default()
        }
    }

    /// A worker answers at an address from now on. Whoever had its name or its address before is not there any more.
    pub(super) fn join(&self, name: &str, address: &str, child: bool) -> Result<(), String> {
        let known = |member: &Arc<Member>| member.name == name && member.address == address;
        if self.joined.borrow().iter().any(known) {
            return Ok(());
        }
        let member = Arc::new(Member::new(name, address, child, self.trust.as_ref())?);
        let joined = self.joined.send_if_modified(|members| {
            members.retain(|other| other.name != name && other.address != address);
            let room = members.len() < MOST;
            if room {
                members.push(member);
            }
            room
        });
        match joined {
            true => Ok(()),
            false => Err(format!("{MOST} workers answer already, more are not allowed")),
        }
    }

    /// Leaves out those of whom it is true.
    pub(super) fn leave(&self, gone: impl Fn(&Member) -> bool) {
        self.joined.send_if_modified(|members| {
            let before = members.len();
            members.retain(|member| !gone(member));
            members.len() != before
        });
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Member>> {
        self.joined.borrow().clone()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.joined.borrow().len()
    }

    /// Whether a request waits for the first one.
    pub(super) fn is_waited_for(&self) -> bool {
        Arc::strong_count(&self.waiting) > 1
    }

    /// Whether one of them is asked at the moment.
    pub(super) fn is_busy(&self) -> bool {
        let busy = |member: &Arc<Member>| member.busy.load(Ordering::Relaxed) > 0;
        self.joined.borrow().iter().any(busy)
    }

    /// Whether there is one within a time.
    pub(super) async fn any_within(&self, wait: Duration) -> bool {
        if self.count() > 0 {
            return true;
        }
        let _waiting = self.waiting.clone();
        let mut members = self.joined.subscribe();
        let waiting = members.wait_for(|members| !members.is_empty());
        matches!(tokio::time::timeout(wait, waiting).await, Ok(Ok(_)))
    }

    /// The one that is to be asked for a model, other than those that were asked already.
    pub(super) fn enter(&self, model: &Resolved, asked: &[Arc<Member>]) -> Option<Busy> {
        let members = self.joined.borrow();
        let others = members
            .iter()
            .filter(|member| !asked.iter().any(|asked| Arc::ptr_eq(asked, member)));
        let best = others.min_by_key(|member| member.reluctance(model))?;
        Some(Busy::new(best.clone()))
    }

    /// Asks all of them whether they are there, again and again, and leaves those out that have not been for a while.
    pub(super) async fn watch(&self, left: impl Fn(&Member), looked: impl Fn()) {
        loop {
            tokio::time::sleep(LOOK).await;
            let members = self.all();
            futures::future::join_all(members.iter().map(|member| member.look())).await;
            self.leave(|member| {
                let gone = member.is_gone();
                if gone {
                    left(member);
                }
                gone
            });
            looked();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(members: &Members) -> Vec<String> {
        members.all().iter().map(|member| member.name.clone()).collect()
    }

    #[tokio::test]
    async fn a_worker_that_is_not_reached_for_long_has_left_and_may_join_again() {
        let members = Members::default();
        for name in ["one", "other"] {
            members.join(name, &format!("{name}:1"), false).unwrap();
        }
        *members.all()[0].silent() = Instant::now().checked_sub(GONE);
        *members.all()[1].silent() = Some(Instant::now());
        members.leave(Member::is_gone);
        assert_eq!(names(&members), ["other"]);
        members.join("one", "one:1", false).unwrap();
        assert_eq!(names(&members), ["other", "one"]);
        assert!(!members.all()[1].is_gone());
    }

    #[tokio::test]
    async fn a_name_and_an_address_are_of_one_worker() {
        let members = Members::default();
        members.join("one", "a:1", false).unwrap();
        members.join("one", "a:1", false).unwrap();
        members.join("one", "a:2", false).unwrap();
        members.join("other", "a:2", true).unwrap();
        assert_eq!(names(&members), ["other"]);
        assert!(members.join("one", "no address", false).is_err());
        members.leave(Member::is_child);
        assert_eq!(members.count(), 0);
    }
}
