//! Which lanes a client may share: those in its protocol, its database, and with its rights.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::resp::Proto;

/// Which lanes a client uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Group {
    /// The client's RESP version, which is the lane's.
    pub proto: Proto,
    /// The client's database, which is the lane's.
    pub db: i64,
    /// As whom the lane speaks.
    pub login: Login,
}

/// As whom a connection speaks to the upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Login {
    /// With the credentials of `upstream.url`.
    #[default]
    Service,
    /// With none: as the upstream's default user, if that needs no password.
    Nobody,
    /// With the client's own (`auth.mode = "upstream"`).
    Client(Arc<Credentials>),
}

/// What a client gave to AUTH. The password is never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// Absent in the form `AUTH password`.
    pub user: Option<Vec<u8>>,
    /// As it came.
    pub password: Vec<u8>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?})", self.user.as_deref().map(String::from_utf8_lossy))
    }
}

impl Credentials {
    /// The user's name, for logs.
    pub(super) fn shown(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.user.as_deref().unwrap_or_default())
    }

    /// The AUTH request that proves them.
    #[must_use]
    pub fn auth(&self) -> Vec<&[u8]> {
        let user = self.user.as_deref();
        [Some(&b"AUTH"[..]), user, Some(&self.password)].into_iter().flatten().collect()
    }
}
