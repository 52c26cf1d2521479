//! Which server the upstream says it is: Redis, or a program like it, in which version and with which modules.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::resp::reply::parts;
use crate::resp::{Proto, decode};

/// What HELLO tells of a server, as far as it is not about the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `redis`, `valkey`.
    pub server: String,
    /// Its version.
    pub version: String,
    /// The list of its modules as HELLO writes it, in RESP2 and in RESP3.
    modules: [Bytes; 2],
}

impl Identity {
    /// The list of the server's modules, a whole reply.
    #[must_use]
    pub const fn modules(&self, proto: Proto) -> &Bytes {
        match proto {
            Proto::Resp2 => &self.modules[0],
            Proto::Resp3 => &self.modules[1],
        }
    }

    /// By the answers to HELLO in both protocols.
    pub(super) fn read(answers: [&Bytes; 2]) -> Option<Self> {
        let text = |name| String::from_utf8(decode::bulk(told_by_hello(answers[0], name)?)?.to_vec()).ok();
        let modules = [told_by_hello(answers[0], "modules")?, told_by_hello(answers[1], "modules")?];
        let modules = modules.map(Bytes::copy_from_slice);
        Some(Self { server: text("server")?, version: text("version")?, modules })
    }
}

/// What an answer to HELLO tells under this name, a whole reply.
pub(super) fn told_by_hello<'a>(answer: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let told = parts(answer)?;
    told.chunks_exact(2).find(|pair| decode::bulk(pair[0]) == Some(name.as_bytes())).map(|pair| pair[1])
}

/// The upstream's identity, once it is known: INFO tells its version, HELLO the rest.
#[derive(Debug)]
pub struct Version {
    identity: Mutex<Arc<Identity>>,
    /// It does not know HELLO.
    is_old: AtomicBool,
}

impl Default for Version {
    /// That of the Redis this program is built after.
    fn default() -> Self {
        let modules = [Bytes::from_static(b"*0\r\n"), Bytes::from_static(b"*0\r\n")];
        let identity = Identity { server: "redis".to_owned(), version: "7.0.15".to_owned(), modules };
        Self { identity: Mutex::new(Arc::new(identity)), is_old: false.into() }
    }
}

impl Version {
    /// What is known.
    #[must_use]
    pub fn get(&self) -> Arc<Identity> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True unless the server has said that it does not know HELLO.
    pub(crate) fn has_hello(&self) -> bool {
        !self.is_old.load(Ordering::Relaxed)
    }

    pub(super) fn lacks_hello(&self) {
        self.is_old.store(true, Ordering::Relaxed);
    }

    /// The upstream has been lost: it may be another server that is found next.
    pub(super) fn may_be_of_another(&self) {
        self.is_old.store(false, Ordering::Relaxed);
    }

    pub(super) fn set(&self, version: String) {
        let before = self.get();
        self.identify(Identity { version, ..(*before).clone() });
    }

    pub(super) fn identify(&self, identity: Identity) {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(identity);
    }
}
