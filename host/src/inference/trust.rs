//! TLS between the host and the workers that it asks: each shows the other a certificate.

use anyhow::{Context as _, Result};
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tidegate_tls::Watched;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use crate::config::WorkerTls;

/// Whom the host takes for a worker, and what it shows them.
#[derive(Debug, Clone)]
pub struct Trust {
    tls: Watched<ClientConfig>,
    /// The name in their certificates, where it is not the one under which each is reached.
    name: Option<ServerName<'static>>,
}

impl Trust {
    /// What is configured; its files are read again whenever a worker is connected to and they have changed.
    pub fn new(config: WorkerTls) -> Result<Self> {
        let name = config.server_name.map(|name| {
            let parsed = ServerName::try_from(name.clone());
            parsed.with_context(|| {
                format!("`worker.server_name` is `{name}`, expected a name of DNS or an IP address")
            })
        });
        Ok(Self {
            tls: tidegate_tls::client(config.authorities, Some(config.identity))?,
            name: name.transpose()?,
        })
    }

    /// A channel that connects when it is first used, and again whenever the connection is lost.
    pub(super) fn channel(&self, endpoint: &Endpoint) -> Channel {
        let trust = self.clone();
        endpoint.connect_with_connector_lazy(tower::service_fn(move |uri: Uri| {
            let trust = trust.clone();
            async move { trust.connect(&uri).await.map(TokioIo::new) }
        }))
    }

    async fn connect(&self, uri: &Uri) -> Result<TlsStream<TcpStream>> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let name = match &self.name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned())?,
        };
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await?;
        stream.set_nodelay(true)?;
        let connected = TlsConnector::from(self.tls.get()).connect(name, stream).await;
        connected.map_err(|error| match tidegate_tls::refused(&error) {
            Some(why) => anyhow::anyhow!("the worker is refused: {why}"),
            None => anyhow::anyhow!("no TLS with the worker: {error}"),
        })
    }
}
