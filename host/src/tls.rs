//! The certificate of a host in development: made on the first start, signed by itself.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use tidegate_tls::Identity;

/// The names that the certificate stands for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The identity in `folder`; made there when it is missing.
pub fn find_or_make(folder: &Path) -> Result<Identity> {
    let identity = Identity {
        certificate: folder.join("cert.pem"),
        key: folder.join("key.pem"),
    };
    if !(identity.certificate.is_file() && identity.key.is_file()) {
        make(&identity, folder)?;
    }
    Ok(identity)
}

fn make(identity: &Identity, folder: &Path) -> Result<()> {
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
    write_private(&identity.key, key.serialize_pem().as_bytes())?;
    write_private(&identity.certificate, certificate.pem().as_bytes())
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

    use tidegate_tls::Clients;

    use super::*;

    #[test]
    fn the_identity_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let first = find_or_make(&folder.path().join("tls")).unwrap();
        let pem = std::fs::read(&first.certificate).unwrap();
        let again = find_or_make(&folder.path().join("tls")).unwrap();
        assert_eq!(std::fs::read(&again.certificate).unwrap(), pem);
        assert_eq!(
            std::fs::metadata(&first.key).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let server = tidegate_tls::server(again, Clients::Anyone).unwrap();
        assert_eq!(server.get().alpn_protocols.len(), 2);
    }
}
