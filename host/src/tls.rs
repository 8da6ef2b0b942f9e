//! The certificate of a host in development: made on the first start, signed by itself.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The names that the certificate stands for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A certificate with its key, as files.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate (PEM), which clients trust.
    pub certificate: PathBuf,
    /// The private key (PEM), for the host alone.
    pub key: PathBuf,
}

impl Identity {
    /// The identity in `folder`; made there when it is missing.
    pub fn find_or_make(folder: &Path) -> Result<Self> {
        let identity = Self {
            certificate: folder.join("cert.pem"),
            key: folder.join("key.pem"),
        };
        if !(identity.certificate.is_file() && identity.key.is_file()) {
            identity.make(folder)?;
        }
        Ok(identity)
    }

    fn make(&self, folder: &Path) -> Result<()> {
        let mut builder = std::fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot make `{}`", folder.display()))?;
        let mut params = rcgen::CertificateParams::new(NAMES.map(str::to_owned).to_vec())?;
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Tidegate development");
        params
            .extended_key_usages
            .push(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
        let key = rcgen::KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        write_private(&self.key, key.serialize_pem().as_bytes())?;
        write_private(&self.certificate, certificate.pem().as_bytes())
    }

    /// How a server presents itself: HTTP/2 where the client can, else HTTP/1.1.
    pub fn server_config(&self) -> Result<Arc<rustls::ServerConfig>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.certificates()?, self.private_key()?)
            .with_context(|| {
                format!(
                    "`{}` and `{}` do not fit",
                    self.certificate.display(),
                    self.key.display()
                )
            })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        let pem = read(&self.certificate)?;
        let found: Vec<_> = rustls_pemfile::certs(&mut pem.as_slice()).collect::<Result<_, _>>()?;
        if found.is_empty() {
            bail!("`{}` holds no certificate", self.certificate.display());
        }
        Ok(found)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>> {
        let pem = read(&self.key)?;
        let key = rustls_pemfile::private_key(&mut pem.as_slice())?;
        key.with_context(|| format!("`{}` holds no private key", self.key.display()))
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// Written whole under another name first, so that a crash leaves no half of it.
fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension("partial");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options
        .open(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written
        .and_then(|()| std::fs::rename(&partial, path))
        .with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_identity_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let first = Identity::find_or_make(&folder.path().join("tls")).unwrap();
        let pem = std::fs::read(&first.certificate).unwrap();
        let again = Identity::find_or_make(&folder.path().join("tls")).unwrap();
        assert_eq!(std::fs::read(&again.certificate).unwrap(), pem);
        assert_eq!(
            std::fs::metadata(&first.key).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(again.server_config().unwrap().alpn_protocols.len(), 2);
    }

    #[test]
    fn a_file_that_is_no_certificate_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::find_or_make(folder.path()).unwrap();
        std::fs::write(&identity.certificate, "nothing").unwrap();
        let error = identity.server_config().unwrap_err().to_string();
        assert!(error.contains("cert.pem"), "{error}");
    }
}
