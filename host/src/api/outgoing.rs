//! Answers of functions on their way out: the places that a request takes are free again when its answer was sent,
//! or given up.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::Response;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use tidegate_runtime::sandbox::Body;
use tokio::sync::mpsc;

/// An answer that is complete frees its places at once when it is not larger: its function has ended, and a
/// connection's own buffers hold as much.
const SMALL: usize = 64 << 10;

type Failed = Box<dyn std::error::Error + Send + Sync>;
type Piece = Result<Frame<Bytes>, Failed>;

/// Takes the places until the answer was sent. A client that takes nothing of it for `pause` loses the rest.
pub(super) fn hold<S: Send + 'static>(
    response: Response<Body>,
    places: S,
    pause: Duration,
) -> Response<Body> {
    let (head, mut body) = response.into_parts();
    let hint = body.size_hint();
    // What is complete is there at once, and fast; what is not goes through a task of its own.
    let first = body.frame().now_or_never();
    if matches!(first, Some(None)) {
        return Response::from_parts(head, body);
    }
    let first = first.flatten();
    if body.is_end_stream()
        && let Some(Ok(frame)) = &first
        && let Some(data) = frame.data_ref().filter(|data| data.len() <= SMALL)
    {
        let whole = Full::new(data.clone()).map_err(|never| match never {});
        return Response::from_parts(head, whole.boxed_unsync());
    }
    let (sender, pieces) = mpsc::channel(1);
    let ended = Arc::new(AtomicBool::new(false));
    let outgoing = Outgoing {
        pieces,
        ended: ended.clone(),
        left: hint.exact(),
    };
    tokio::spawn(async move {
        if send(first, body, &sender, pause).await {
            ended.store(true, Ordering::Release);
        }
        drop(places);
    });
    Response::from_parts(head, outgoing.boxed_unsync())
}

/// Sends every piece; whether all of them were taken.
async fn send(
    mut first: Option<Piece>,
    mut body: Body,
    sender: &mpsc::Sender<Piece>,
    pause: Duration,
) -> bool {
    loop {
        let next = match first.take() {
            Some(first) => Some(first),
            None => tokio::select! {
                next = body.frame() => next,
                () = sender.closed() => return false,
            },
        };
        // Also after the last piece: there is room again when it was taken.
        let Ok(Ok(room)) = tokio::time::timeout(pause, sender.reserve()).await else {
            return false;
        };
        match next {
            Some(piece) => room.send(piece),
            None => return true,
        }
    }
}

/// The body that the connection takes from.
struct Outgoing {
    pieces: mpsc::Receiver<Piece>,
    /// Whether all of it was sent.
    ended: Arc<AtomicBool>,
    left: Option<u64>,
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Failed;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        let piece = ready!(self.pieces.poll_recv(cx));
        if let (Some(Ok(frame)), Some(left)) = (&piece, &mut self.left) {
            let taken = frame.data_ref().map_or(0, |data| data.len() as u64);
            *left = left.saturating_sub(taken);
        }
        Poll::Ready(match piece {
            Some(piece) => Some(piece),
            None if self.ended.swap(true, Ordering::AcqRel) => None,
            None => Some(Err("the client took nothing of the answer for too long".into())),
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::StreamBody;
    use tokio::sync::Semaphore;

    use super::*;

    const PAUSE: Duration = Duration::from_millis(600);

    fn streamed(pieces: usize) -> Body {
        let piece = || Ok::<_, Failed>(Frame::data(Bytes::from_static(b"tide")));
        StreamBody::new(stream::iter((0..pieces).map(move |_| piece()))).boxed_unsync()
    }

    async fn held(body: Body) -> (Arc<Semaphore>, Body) {
        let slots = Arc::new(Semaphore::new(1));
        let slot = slots.clone().acquire_owned().await.unwrap();
        let response = hold(Response::new(body), slot, PAUSE);
        (slots, response.into_body())
    }

    #[tokio::test]
    async fn a_place_is_free_when_the_last_piece_was_taken() {
        let (slots, mut body) = held(streamed(3)).await;
        for _ in 0..3 {
            tokio::time::sleep(PAUSE / 3).await;
            assert_eq!(slots.available_permits(), 0);
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "tide");
        }
        assert!(body.frame().await.is_none());
        let _free = slots.acquire().await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_loses_the_place_and_the_rest() {
        let (slots, mut body) = held(streamed(3)).await;
        tokio::time::sleep(PAUSE / 3).await;
        assert_eq!(slots.available_permits(), 0);
        let _free = tokio::time::timeout(10 * PAUSE, slots.acquire()).await.unwrap();
        assert!(body.frame().await.unwrap().is_ok(), "one piece was on its way");
        assert!(
            body.frame().await.unwrap().is_err(),
            "a cut answer is no whole one"
        );
    }

    #[tokio::test]
    async fn a_client_that_went_away_gives_its_place_back_at_once() {
        let waiting = StreamBody::new(stream::pending::<Piece>()).boxed_unsync();
        let (slots, body) = held(waiting).await;
        tokio::task::yield_now().await;
        assert_eq!(slots.available_permits(), 0);
        drop(body);
        let begun = std::time::Instant::now();
        let _free = slots.acquire().await.unwrap();
        assert!(begun.elapsed() < PAUSE, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_small_answer_that_is_complete_takes_no_place() {
        let full = |len: usize| {
            Full::new(Bytes::from(vec![7; len]))
                .map_err(|never| match never {})
                .boxed_unsync()
        };
        let (slots, body) = held(full(SMALL)).await;
        assert_eq!(
            (slots.available_permits(), body.size_hint().exact()),
            (1, Some(SMALL as u64))
        );
        let large = SMALL + 1;
        let (slots, body) = held(full(large)).await;
        assert_eq!(
            (slots.available_permits(), body.size_hint().exact()),
            (0, Some(large as u64))
        );
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), large);
    }
}
