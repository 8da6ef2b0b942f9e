//! TLS of host and worker: who an end is ([`Identity`]), whom it lets in ([`Clients`]), and how both are made of files that
//! are read again when they change ([`Watched`]).
//!
//! Host and worker share this package, as each is the server of the other.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod pem;
mod watched;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ServerConfig};

pub use watched::Watched;

/// What is spoken within: HTTP/2 where the other end can, else HTTP/1.1.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A certificate with its key, as files (PEM).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Whom a server lets in, by the authorities (PEM) whose certificates clients may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clients {
    /// Everybody; no client is asked for a certificate.
    Anyone,
    /// Those who show none, and those whose certificate is of these authorities.
    MayShow(PathBuf),
    /// Those whose certificate is of these authorities.
    MustShow(PathBuf),
}

impl Clients {
    fn authorities(&self) -> Option<&Path> {
        match self {
            Self::Anyone => None,
            Self::MayShow(file) | Self::MustShow(file) => Some(file),
        }
    }
}

/// How a server presents itself and lets clients in.
pub fn server(identity: Identity, clients: Clients) -> Result<Watched<ServerConfig>> {
    let mut files = vec![identity.certificate.clone(), identity.key.clone()];
    files.extend(clients.authorities().map(Path::to_owned));
    Watched::new(files, move || server_config(&identity, &clients))
}

/// Whom a client takes for its server, by the authorities in a file (PEM), and how it presents itself, if it does.
pub fn client(authorities: PathBuf, identity: Option<Identity>) -> Result<Watched<ClientConfig>> {
    let mut files = vec![authorities.clone()];
    files.extend(
        identity
            .iter()
            .flat_map(|own| [own.certificate.clone(), own.key.clone()]),
    );
    Watched::new(files, move || client_config(&authorities, identity.as_ref()))
}

/// What a handshake failed of, if it is the certificate that the other end showed, or did not show.
pub fn refused(error: &std::io::Error) -> Option<&rustls::Error> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let certificate = matches!(
        error,
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented
    );
    certificate.then_some(error)
}

fn server_config(identity: &Identity, clients: &Clients) -> Result<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match clients.authorities() {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(pem::authorities(file)?), provider());
            let verifier = match clients {
                Clients::MayShow(_) => verifier.allow_unauthenticated(),
                _ => verifier,
            };
            builder.with_client_cert_verifier(verifier.build()?)
        }
    };
    let (chain, key) = (pem::chain(&identity.certificate)?, pem::key(&identity.key)?);
    let mut config = builder
        .with_single_cert(chain, key)
        .with_context(|| identity.unfit())?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok(config)
}

fn client_config(authorities: &Path, identity: Option<&Identity>) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(pem::authorities(authorities)?);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(own) => builder
            .with_client_auth_cert(pem::chain(&own.certificate)?, pem::key(&own.key)?)
            .with_context(|| own.unfit())?,
    };
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Identity {
    fn unfit(&self) -> String {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        format!("`{certificate}` and `{key}` do not fit")
    }
}

#[cfg(test)]
mod tests;
