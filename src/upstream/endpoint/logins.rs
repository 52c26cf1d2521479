//! The clients that have come in with credentials of their own, and what closes them when the upstream does not take
//! these any more, as Redis closes the connections of a user that is deleted.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::group::{Credentials, Login};
use crate::errors::as_redis;

/// Closes one client.
pub type Close = Box<dyn Fn() + Send + Sync>;

/// Who is in, on all worker threads.
#[derive(Default)]
pub(crate) struct Logins {
    clients: Mutex<Clients>,
}

#[derive(Default)]
struct Clients {
    last: u64,
    of: HashMap<Arc<Credentials>, HashMap<u64, Close>>,
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.lock().of.keys()).finish()
    }
}

impl Logins {
    fn lock(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client has come in; its number here, under which it leaves.
    pub(crate) fn enter(&self, credentials: &Arc<Credentials>, close: Close) -> u64 {
        let mut clients = self.lock();
        clients.last += 1;
        let number = clients.last;
        clients.of.entry(credentials.clone()).or_default().insert(number, close);
        number
    }

    /// It has another login now, or is gone.
    pub(crate) fn leave(&self, credentials: &Arc<Credentials>, number: u64) {
        let mut clients = self.lock();
        let Some(those) = clients.of.get_mut(credentials) else { return };
        those.remove(&number);
        if those.is_empty() {
            clients.of.remove(credentials);
        }
    }

    /// The upstream has refused a connection of this login with `error`. If that says that it does not take the
    /// credentials, whoever came in with them before is closed.
    pub(super) fn refused(&self, login: &Login, error: &str) {
        let Login::Client(credentials) = login else { return };
        if !error.starts_with(as_redis::WRONG_PASSWORD_CODE) {
            return;
        }
        if let Some(those) = self.lock().of.get(credentials) {
            let user = credentials.user.as_deref().map(String::from_utf8_lossy);
            tracing::info!(
                user = user.as_deref().unwrap_or_default(),
                clients = those.len(),
                "the upstream does not take a login any more; the clients that came in with it are closed"
            );
            those.values().for_each(|close| close());
        }
    }
}
