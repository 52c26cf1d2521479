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
        let [plain, mapped] = answers.map(|answer| Some(parts(answer)?.chunks_exact(2).map(pair).collect::<Vec<_>>()));
        let (plain, mapped) = (plain?, mapped?);
        let value = |pairs: &[(&[u8], &[u8])], name: &str| {
            pairs.iter().find(|(key, _)| *key == name.as_bytes()).map(|(_, value)| value.to_vec())
        };
        let text = |name| String::from_utf8(decode::bulk(&value(&plain, name)?)?.to_vec()).ok();
        let modules = [value(&plain, "modules")?, value(&mapped, "modules")?].map(Bytes::from);
        Some(Self { server: text("server")?, version: text("version")?, modules })
    }
}

/// The name and the value of an entry.
fn pair<'a>(pair: &[&'a [u8]]) -> (&'a [u8], &'a [u8]) {
    (decode::bulk(pair[0]).unwrap_or_default(), pair[1])
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
