//! Certificates for tests: authorities, and what they sign.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// An authority, its certificate in a file.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub file: String,
}

/// A certificate and its key, in files.
pub struct Signed {
    pub certificate: String,
    pub key: String,
}

fn write(folder: &Path, name: &str, text: String) -> String {
    let path = folder.join(name).display().to_string();
    std::fs::write(&path, text).expect("written");
    path
}

/// A name of its own: whoever signs under the subject's name counts as having signed itself.
fn named(name: &str, hosts: Vec<String>) -> CertificateParams {
    let mut params = CertificateParams::new(hosts).expect("parameters");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Authority {
    pub fn new(folder: &Path, name: &str) -> Self {
        let mut params = named(name, Vec::new());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let file = write(folder, &format!("{name}.pem"), issuer.pem());
        Self { issuer, file }
    }

    /// Signs a certificate for `localhost`, into files of this name.
    pub fn sign(&self, folder: &Path, name: &str) -> Signed {
        let key = KeyPair::generate().expect("a key");
        let params = named(name, vec!["localhost".to_owned()]);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Signed {
            certificate: write(folder, &format!("{name}.cert.pem"), certificate.pem()),
            key: write(folder, &format!("{name}.key.pem"), key.serialize_pem()),
        }
    }
}
