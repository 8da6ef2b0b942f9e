//! Two ends in one process, which hand each other what they would send.

use std::io::{Read as _, Write as _};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ConnectionCommon, ServerConnection};
use tempfile::TempDir;

use super::*;

/// An authority of its own, and what it has certified, in a folder.
struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Certifies a name; the files are overwritten when it is done again.
    fn certify(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let identity = Identity {
            certificate: self.folder.path().join(format!("{name}.pem")),
            key: self.folder.path().join(format!("{name}.key")),
        };
        std::fs::write(&identity.certificate, certificate.pem()).unwrap();
        std::fs::write(&identity.key, key.serialize_pem()).unwrap();
        identity
    }
}

/// Lets two ends come to terms: whether the client showed a certificate, or what the first of them to complain says.
fn meet(server: &Watched<ServerConfig>, client: &Watched<ClientConfig>, name: &str) -> Result<bool, String> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(client.get(), name).unwrap();
    let mut server = ServerConnection::new(server.get()).unwrap();
    client.writer().write_all(b"x").unwrap();
    while client.wants_write() || server.wants_write() {
        carry(&mut client, &mut server)?;
        carry(&mut server, &mut client)?;
    }
    let mut got = [0];
    server.reader().read_exact(&mut got).unwrap();
    Ok(server.peer_certificates().is_some())
}

fn carry<A, B>(from: &mut ConnectionCommon<A>, to: &mut ConnectionCommon<B>) -> Result<(), String> {
    let mut sent = Vec::new();
    from.write_tls(&mut sent).unwrap();
    let mut rest = sent.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets().map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[test]
fn both_ends_show_certificates_of_one_authority() {
    let authority = Authority::new();
    let must = server(authority.certify("worker"), Clients::MustShow(authority.file())).unwrap();
    let host = client(authority.file(), Some(authority.certify("host"))).unwrap();
    assert_eq!(meet(&must, &host, "worker"), Ok(true));
    let nobody = client(authority.file(), None).unwrap();
    let refused = meet(&must, &nobody, "worker").unwrap_err();
    assert!(refused.contains("no certificates"), "{refused}");
    let may = server(authority.certify("worker"), Clients::MayShow(authority.file())).unwrap();
    assert_eq!(meet(&may, &nobody, "worker"), Ok(false));
    assert_eq!(meet(&may, &host, "worker"), Ok(true));
}

#[test]
fn certificates_of_another_authority_or_name_are_refused() {
    let (own, other) = (Authority::new(), Authority::new());
    let anyone = server(own.certify("worker"), Clients::Anyone).unwrap();
    for clients in [Clients::MustShow(own.file()), Clients::MayShow(own.file())] {
        let server = server(own.certify("worker"), clients).unwrap();
        let stranger = client(own.file(), Some(other.certify("host"))).unwrap();
        let refused = meet(&server, &stranger, "worker").unwrap_err();
        assert!(refused.contains("invalid peer certificate"), "{refused}");
    }
    let wary = client(other.file(), None).unwrap();
    let refused = meet(&anyone, &wary, "worker").unwrap_err();
    assert!(refused.contains("invalid peer certificate"), "{refused}");
    let host = client(own.file(), None).unwrap();
    let refused = meet(&anyone, &host, "elsewhere").unwrap_err();
    assert!(refused.contains("not valid for name"), "{refused}");
}

#[test]
fn files_that_change_are_read_again_and_what_makes_no_sense_is_not_taken() {
    let (old, new) = (Authority::new(), Authority::new());
    let identity = old.certify("worker");
    let server = server(identity.clone(), Clients::Anyone).unwrap();
    let (trusts_old, trusts_new) = (
        client(old.file(), None).unwrap(),
        client(new.file(), None).unwrap(),
    );
    assert_eq!(meet(&server, &trusts_old, "worker"), Ok(false));
    let renewed = new.certify("worker");
    std::fs::copy(&renewed.certificate, &identity.certificate).unwrap();
    assert_eq!(
        meet(&server, &trusts_old, "worker"),
        Ok(false),
        "the key is not there yet"
    );
    std::fs::copy(&renewed.key, &identity.key).unwrap();
    assert_eq!(meet(&server, &trusts_new, "worker"), Ok(false));
    std::fs::remove_file(&identity.key).unwrap();
    assert_eq!(meet(&server, &trusts_new, "worker"), Ok(false));
}

#[test]
fn a_file_that_holds_something_else_is_named() {
    let authority = Authority::new();
    let identity = authority.certify("worker");
    let refused = |authorities: &str| client(authorities.into(), None).unwrap_err().to_string();
    assert_eq!(refused("/nowhere/ca.pem"), "`/nowhere/ca.pem` cannot be read");
    assert_eq!(refused("/dev/null"), "`/dev/null` holds no certificate");
    let swapped = Identity {
        certificate: identity.certificate.clone(),
        key: identity.certificate.clone(),
    };
    let refused = server(swapped, Clients::Anyone).unwrap_err().to_string();
    assert!(refused.contains("worker.pem` holds no private key"), "{refused}");
    let other = Identity {
        key: authority.certify("host").key,
        ..identity
    };
    let refused = server(other, Clients::Anyone).unwrap_err().to_string();
    assert!(refused.contains("do not fit"), "{refused}");
}
