//! The clients that have come in with credentials of their own, and what closes them when the upstream does not take
//! these any more, as Redis closes the connections of a user that is deleted.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::group::{Credentials, Login};
use crate::errors::as_redis;

/// Closes one client.
pub type Close = Box<dyn Fn() + Send + Sync>;

/// Who is in, on all worker threads.
#[derive(Default)]
pub(crate) struct Logins {
    clients: Mutex<Clients>,
    /// Some are doubted.
    doubted: Notify,
}

#[derive(Default)]
struct Clients {
    last: u64,
    of: HashMap<Arc<Credentials>, HashMap<u64, Close>>,
    /// Those that a node of a cluster does not take, and which one.
    doubted: HashMap<Arc<Credentials>, String>,
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

    /// True while a client is in with these credentials.
    pub(crate) fn are_in(&self, credentials: &Arc<Credentials>) -> bool {
        self.lock().of.contains_key(credentials)
    }

    /// The upstream has refused a connection of this login with `error`. If that says that it does not take the
    /// credentials, whoever came in with them before is closed.
    pub(super) fn refused(&self, login: &Login, error: &str) {
        let Some(credentials) = not_taken(login, error) else { return };
        if let Some(those) = self.lock().of.get(credentials) {
            tracing::info!(
                user = %credentials.shown(),
                clients = those.len(),
                "the upstream does not take a login any more; the clients that came in with it are closed"
            );
            those.values().for_each(|close| close());
        }
    }

    /// One node of a cluster has. That may be its own lack: the home is to be asked.
    pub(super) fn refused_by_node(&self, login: &Login, error: &str, node: String) {
        let Some(credentials) = not_taken(login, error) else { return };
        let mut clients = self.lock();
        if clients.of.contains_key(credentials) {
            clients.doubted.insert(credentials.clone(), node);
            self.doubted.notify_one();
        }
    }

    /// Waits until nodes have refused logins that clients are in with: those, and a node that refused each.
    pub(super) async fn doubted(&self) -> HashMap<Arc<Credentials>, String> {
        loop {
            let doubted = std::mem::take(&mut self.lock().doubted);
            if !doubted.is_empty() {
                return doubted;
            }
            self.doubted.notified().await;
        }
    }
}

/// The credentials of a login, if the error says that they are not taken.
fn not_taken<'l>(login: &'l Login, error: &str) -> Option<&'l Arc<Credentials>> {
    match login {
        Login::Client(credentials) if error.starts_with(as_redis::WRONG_PASSWORD_CODE) => Some(credentials),
        _ => None,
    }
}
