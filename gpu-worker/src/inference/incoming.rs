//! Connections on which the client has shown a certificate of a known authority.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tidegate_tls::Watched;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

/// Handshakes at one time; more connections wait unaccepted.
const HANDSHAKES: usize = 64;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause after a connection that cannot be accepted.
const PAUSE: Duration = Duration::from_millis(50);

type Accepted = io::Result<TlsStream<TcpStream>>;

/// The connections to a listener, until nobody wants them any more.
pub fn certified(listener: TcpListener, tls: Watched<ServerConfig>) -> ReceiverStream<Accepted> {
    let (hand_over, handed) = mpsc::channel(HANDSHAKES);
    tokio::spawn(async move {
        let gone = hand_over.clone();
        tokio::select! {
            () = accept(&listener, &tls, hand_over) => {}
            () = gone.closed() => {}
        }
    });
    ReceiverStream::new(handed)
}

async fn accept(listener: &TcpListener, tls: &Watched<ServerConfig>, hand_over: mpsc::Sender<Accepted>) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let acceptor = TlsAcceptor::from(tls.get());
                tokio::spawn(shake_hands(stream, acceptor, place, hand_over.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn shake_hands(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    _place: OwnedSemaphorePermit,
    hand_over: mpsc::Sender<Accepted>,
) {
    let address = stream.peer_addr().ok();
    let shaking = async {
        stream.set_nodelay(true)?;
        acceptor.accept(stream).await
    };
    match tokio::time::timeout(PATIENCE, shaking).await {
        // Where the server has ended meanwhile, so does the connection.
        Ok(Ok(stream)) => _ = hand_over.send(Ok(stream)).await,
        Ok(Err(error)) => match tidegate_tls::refused(&error) {
            Some(why) => tracing::warn!(?address, %why, "a client's certificate is refused"),
            None => tracing::debug!(?address, %error, "no TLS with a client"),
        },
        Err(_) => tracing::debug!(?address, "a client does not go on with TLS"),
    }
}
