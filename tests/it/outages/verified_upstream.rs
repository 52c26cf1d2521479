//! What a `rediss://` upstream must prove (`upstream.tls_verify`), and what is said when it does not.

use std::process::Command;

use tempfile::TempDir;

use crate::support::admin::metric;
use crate::support::certificates::{Authority, Signed};
use crate::support::redis::Redis;
use crate::support::sentinels::{SERVICE, Sentinel};
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::{free_port, warnings};

/// A server that speaks TLS, with a certificate for `localhost`.
struct Encrypted {
    _redis: Redis,
    port: u16,
    folder: TempDir,
    authority: Authority,
    signed: Signed,
}

impl Encrypted {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::new(folder.path(), "ca");
        let signed = authority.sign(folder.path(), "server");
        let port = free_port();
        let (tls_port, port_text) = ("--tls-port", port.to_string());
        let files = ["--tls-cert-file", &signed.certificate, "--tls-key-file", &signed.key];
        let ca = ["--tls-ca-cert-file", &authority.file, "--tls-auth-clients", "no"];
        let redis = Redis::with(&[[tls_port, &port_text].as_slice(), &files, &ca].concat());
        Self { _redis: redis, port, folder, authority, signed }
    }

    /// As openssl tells it.
    fn fingerprint(&self) -> String {
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-noout", "-fingerprint", "-sha256", "-in", &self.signed.certificate]);
        let told = String::from_utf8(openssl.output().expect("openssl is installed").stdout).expect("text");
        told.trim().rsplit('=').next().expect("a fingerprint").to_owned()
    }

    /// A sidecar that connects to this host and wants this proof.
    fn before(&self, host: &str, ca_file: &str, verify: &str) -> Builder {
        Sidecar::builder()
            .set("UPSTREAM__URL", format!("rediss://{host}:{}", self.port))
            .set("UPSTREAM__CA_FILE", ca_file)
            .set("UPSTREAM__TLS_VERIFY", verify)
            .set("UPSTREAM__QUEUE_TIMEOUT", "100ms")
            .expect(warnings::UPSTREAM_AWAY)
    }

    /// What a client is told by such a sidecar.
    fn told(&self, host: &str, ca_file: &str, verify: &str) -> String {
        self.before(host, ca_file, verify).start().wire().ask("SET a 1")
    }
}

#[test]
fn the_error_says_which_setting_would_help() {
    let server = Encrypted::start();
    let other = Authority::new(server.folder.path(), "other").file;
    let (ca, fingerprint) = (server.authority.file.clone(), server.fingerprint());
    let plain = fingerprint.replace(':', "").to_lowercase();
    let alone = format!("upstream.tls_verify = \"fingerprint:{plain}\"");
    assert_eq!(server.told("localhost", &ca, "full"), "+OK\r\n");
    let told = server.told("localhost", &other, "full");
    assert!(told.contains("name its authority in upstream.ca_file") && told.contains(&alone), "{told}");
    let told = server.told("127.0.0.1", &ca, "full");
    assert!(told.contains("upstream.tls_verify = \"ca\"") && told.contains(&alone), "{told}");
    assert_eq!(server.told("127.0.0.1", &ca, "ca"), "+OK\r\n");
    let told = server.told("127.0.0.1", &other, "ca");
    assert!(told.contains("name its authority in upstream.ca_file") && told.contains(&alone), "{told}");
    assert_eq!(server.told("127.0.0.1", &other, &format!("fingerprint:{fingerprint}")), "+OK\r\n");
    let told = server.told("localhost", &ca, &format!("fingerprint:{}", "00".repeat(32)));
    assert!(told.contains("another certificate") && told.contains(&plain), "{told}");
}

#[test]
fn a_server_of_which_nothing_is_verified_is_warned_about() {
    let server = Encrypted::start();
    let sidecar = server.before("127.0.0.1", "", "none").expect(&[warnings::UNVERIFIED]).start();
    assert_eq!(sidecar.wire().ask("SET a 1"), "+OK\r\n");
    assert!(sidecar.log().contains("nothing of the upstream is verified"), "{}", sidecar.log());
    assert_eq!(metric(&sidecar, "hearthside_upstream_tls_unverified"), 1.0);
}

#[test]
fn a_wrong_proof_is_a_fault_of_the_configuration() {
    let done = Sidecar::builder().set("UPSTREAM__TLS_VERIFY", "sometimes").execute(&["check"]);
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(told.contains("upstream.tls_verify") && told.contains("openssl x509"), "{told}");
}

#[test]
fn sentinels_and_their_master_speak_tls() {
    let server = Encrypted::start();
    let Encrypted { authority, signed, .. } = &server;
    let port = free_port();
    let more = format!(
        "tls-port {port}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients no\n\
         tls-replication yes",
        signed.certificate, signed.key, authority.file
    );
    let _sentinel = Sentinel::start(server.port, 1, &more);
    let url = format!("rediss+sentinel://127.0.0.1:{port}/{SERVICE}");
    let sidecar = server.before("", &authority.file, "ca").set("UPSTREAM__URL", url).start();
    assert_eq!(sidecar.wire().ask("SET a 1"), "+OK\r\n");
}
