//! Certificates and keys out of files; an error names the file.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The certificates of a file, in its order; one at least.
pub(super) fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = read(file)?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.with_context(|| format!("`{}` is no certificate (PEM)", file.display()))?;
    ensure!(!found.is_empty(), "`{}` holds no certificate", file.display());
    Ok(found)
}

/// The first private key of a file.
pub(super) fn key(file: &Path) -> Result<PrivateKeyDer<'static>> {
    let key = PrivateKeyDer::from_pem_slice(&read(file)?);
    key.with_context(|| format!("`{}` holds no private key", file.display()))
}

/// The authorities of a file; a bundle of a system may have some that are not understood here.
pub(super) fn authorities(file: &Path) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    let (known, _) = store.add_parsable_certificates(chain(file)?);
    ensure!(
        known > 0,
        "`{}` holds no certificate of an authority",
        file.display()
    );
    Ok(store)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("`{}` cannot be read", file.display()))
}
