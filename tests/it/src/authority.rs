//! Certificates of an authority that a test makes for itself.

use std::path::PathBuf;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::Scene;

/// An authority, and where its certificate lies.
pub struct Authority<'a> {
    scene: &'a Scene,
    name: &'a str,
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Its certificate (PEM).
    pub file: PathBuf,
}

impl<'a> Authority<'a> {
    /// A new one.
    pub fn new(scene: &'a Scene, name: &'a str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let file = scene.file(&format!("{name}.ca.pem"), &issuer.pem())?;
        Ok(Self {
            scene,
            name,
            issuer,
            file,
        })
    }

    /// A certificate for a name or an address, and its key.
    pub fn certify(&self, subject: &str) -> Result<[PathBuf; 2]> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![subject.to_owned()])?.signed_by(&key, &self.issuer)?;
        let file = |kind: &str, text: &str| self.scene.file(&format!("{}.{subject}.{kind}", self.name), text);
        Ok([
            file("cert.pem", &certificate.pem())?,
            file("key.pem", &key.serialize_pem())?,
        ])
    }
}
