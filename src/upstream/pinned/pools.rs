//! The pinned connections of one worker thread to every server of the upstream, and the clients whose logins some of
//! them speak with.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::pool::Pool;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::group::{Credentials, Login};
use crate::upstream::endpoint::logins::{Close, Logins};

/// A server's pool, by the server: for as long as it is here, no other has its address.
#[derive(Debug, Default)]
pub(crate) struct Pools(RefCell<HashMap<*const Endpoint, Rc<Pool>>>);

impl Pools {
    /// That of a server.
    pub(crate) fn of(&self, server: Arc<Endpoint>) -> Rc<Pool> {
        let mut pools = self.0.borrow_mut();
        pools.entry(Arc::as_ptr(&server)).or_insert_with(|| Rc::new(Pool::new(server))).clone()
    }

    /// Closes what has been idle for too long, or serves nobody any more.
    pub(crate) fn tend(&self) {
        self.0.borrow_mut().retain(|_, pool| {
            pool.tend();
            !pool.endpoint.is_retired()
        });
    }

    /// Notes that a client has come in with this login.
    pub(crate) fn enter(self: &Rc<Self>, logins: &Arc<Logins>, login: &Login, close: Close) -> Option<Member> {
        let Login::Client(credentials) = login else { return None };
        let number = logins.enter(credentials, close);
        Some(Member { credentials: credentials.clone(), number, logins: logins.clone(), pools: self.clone() })
    }
}

/// A client that has shown its credentials to the upstream, for as long as it is one.
#[derive(Debug)]
pub struct Member {
    credentials: Arc<Credentials>,
    /// Its number among those who may be closed.
    number: u64,
    logins: Arc<Logins>,
    pools: Rc<Pools>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.logins.leave(&self.credentials, self.number);
        if !self.logins.are_in(&self.credentials) {
            // Other threads close theirs when they look the next time.
            self.pools.tend();
        }
    }
}
