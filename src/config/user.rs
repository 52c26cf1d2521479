//! `[auth]` and `[[users]]`: who may come in, and what they may do.

use serde::{Deserialize, Serialize};

use super::Rate;

/// How clients authenticate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Auth {
    /// `none`, `users` or `upstream`.
    pub mode: AuthMode,
}

/// Who checks a client's credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// Nobody: every client may do everything, as with a Redis whose default user has no password.
    #[default]
    None,
    /// The `[[users]]` of this configuration; the upstream sees the credentials of `upstream.url`.
    Users,
    /// The upstream: a client's own credentials open its connections there.
    Upstream,
}

/// One block of `[[users]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserConfig {
    /// Where the block stands, for faults.
    #[serde(skip)]
    pub path: String,
    /// The name that AUTH gives.
    pub name: String,
    /// SHA-256 of each password, in hexadecimal digits.
    #[serde(default)]
    pub passwords: Vec<String>,
    /// No password is needed; for `default` not even AUTH.
    #[serde(default)]
    pub nopass: bool,
    /// Rules in order: `@category`, `command`, `container|subcommand`; a `-` takes away. None: no command.
    #[serde(default)]
    pub commands: Vec<String>,
    /// Globs of the keys it may name.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Globs of the channels it may use.
    #[serde(default)]
    pub channels: Vec<String>,
    /// Commands of all its clients together, in a time; none: as many as they like.
    pub rate: Option<Rate>,
    /// So many may come at once after a silence; none: what `rate` allows in a second.
    pub burst: Option<u32>,
    /// Commands of all its clients together for which keys are loaded from the store at the same time, at most.
    pub loads: Option<u32>,
}
