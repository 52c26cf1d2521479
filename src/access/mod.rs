//! Who a client may be and what it may do: `[auth]` and `[[users]]`. Pure: credentials or a request in, a decision out.
//!
//! Source: <https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/>

mod password;
mod user;

use std::collections::HashMap;
use std::sync::Arc;

pub use password::Token;
pub use user::User;

use crate::command::{Request, Spec};
use crate::config::{AuthMode, Config, Faults};
use crate::errors;

/// The user that a client is before it says otherwise.
pub const DEFAULT_USER: &str = "default";

/// What the configuration says of users.
#[derive(Debug, Default)]
pub struct Access {
    /// `auth.mode`.
    pub mode: AuthMode,
    users: HashMap<String, Arc<User>>,
}

impl Access {
    /// Reads `[auth]` and `[[users]]`; what is wrong with them goes to `faults`.
    #[must_use]
    pub fn compile(config: &Config, faults: &mut Faults) -> Self {
        let mode = config.settings.auth.mode;
        let mut users = HashMap::new();
        for settings in &config.users {
            let user = Arc::new(User::compile(settings, faults));
            if users.insert(settings.name.clone(), user).is_some() {
                faults.add(format!("{}.name", settings.path), format!("the user '{}' is there twice", settings.name));
            }
        }
        if mode == AuthMode::Users && users.is_empty() {
            faults.add("auth.mode", "is \"users\", but there is no [[users]] block: nobody could do anything");
        }
        if mode != AuthMode::Users && !users.is_empty() {
            faults.add("auth.mode", "there are [[users]] blocks, which only auth.mode = \"users\" looks at");
        }
        Self { mode, users }
    }

    /// Goes on with what the users of `before` have taken, who may take as much as these say from now on.
    pub fn inherit(&mut self, before: &Self) {
        for (name, user) in &mut self.users {
            if let (Some(before), Some(user)) = (before.users.get(name), Arc::get_mut(user)) {
                before.quota.allow(user.quota.allowance());
                user.quota = before.quota.clone();
            }
        }
    }

    /// The user that a new connection is; `None` when it must authenticate first.
    #[must_use]
    pub fn first_user(&self) -> Option<Arc<User>> {
        self.users.get(DEFAULT_USER).filter(|user| user.nopass).cloned()
    }

    /// The user with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<User>> {
        self.users.get(name).cloned()
    }

    /// The user with this name and password.
    #[must_use]
    pub fn login(&self, name: &[u8], password: &[u8]) -> Option<Arc<User>> {
        let user = self.users.get(std::str::from_utf8(name).ok()?)?;
        user.has_password(password).then(|| user.clone())
    }

    /// True when there may be a user of this name.
    #[must_use]
    pub fn is_user(&self, name: &str) -> Option<bool> {
        match self.mode {
            AuthMode::Users => Some(self.users.contains_key(name)),
            AuthMode::None | AuthMode::Upstream => (name == DEFAULT_USER).then_some(true),
        }
    }

    /// Why a client that is `user` may not send this command, if so: with `auth.mode = "users"` it must authenticate
    /// first.
    #[must_use]
    pub fn unauthenticated(&self, user: Option<&User>, spec: Option<&'static Spec>) -> Option<&'static str> {
        let must = self.mode == AuthMode::Users && user.is_none() && !needs_no_login(spec);
        must.then_some(errors::as_redis::NO_AUTH)
    }
}

/// True for commands that everybody may send: AUTH, HELLO, QUIT and RESET.
fn needs_no_login(spec: Option<&'static Spec>) -> bool {
    spec.is_some_and(|spec| spec.flags.no_auth)
}

/// Why `user` may not send `request`, if so. Commands that need no login are for every user, as in Redis.
#[must_use]
pub fn refusal(user: &User, request: &Request<'_>, spec: Option<&'static Spec>) -> Option<String> {
    if needs_no_login(spec) {
        return None;
    }
    user.refusal(request, spec)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::Access;
    use crate::command::{Request, lookup};
    use crate::config::load;
    use crate::resp::encode;
    use crate::resp::request::RequestScanner;

    const USERS: &str = r#"
        [auth]
        mode = "users"
        [[users]]
        name = "game"
        # secret
        passwords = ["2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"]
        commands = ["@all", "-@dangerous", "config|get", "sort", "-hgetall"]
        keys = ["player:*", "shared"]
        channels = ["game:*"]
        [[users]]
        name = "keeper"
        commands = ["hearthside|invalidate"]
        keys = ["player:*"]
        [[users]]
        name = "default"
        nopass = true
        commands = ["ping", "client", "json.get"]
        keys = ["*"]
    "#;

    fn access(text: &str) -> (Access, Vec<String>) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config.toml");
        std::fs::write(&file, text).expect("writes");
        let mut loaded = load(Some(&file), std::iter::empty());
        let access = Access::compile(&loaded.config, &mut loaded.faults);
        (access, loaded.faults.to_string().lines().map(str::to_owned).collect())
    }

    fn verdict(access: &Access, user: Option<&str>, line: &str) -> String {
        let mut raw = BytesMut::new();
        encode::request(&mut raw, &line.split(' ').collect::<Vec<_>>());
        let mut scanner = RequestScanner::default();
        scanner.scan(&raw).expect("a request");
        let request = Request::new(&raw, scanner.spans());
        let user = user.and_then(|user| access.users.get(user)).map(|user| &**user);
        let spec = lookup(request.arg(0), request.arg(1));
        let refused = match (access.unauthenticated(user, spec), user) {
            (Some(text), _) => Some(text.to_owned()),
            (None, Some(user)) => super::refusal(user, &request, spec),
            (None, None) => None,
        };
        refused.unwrap_or_else(|| "allowed".into())
    }

    #[test]
    fn passwords_are_compared_by_their_hash() {
        let (access, faults) = access(USERS);
        assert_eq!(faults, [""; 0]);
        assert!(access.login(b"game", b"secret").is_some());
        assert!(access.login(b"game", b"Secret").is_none() && access.login(b"game", b"").is_none());
        assert!(access.login(b"nobody", b"secret").is_none());
        assert!(access.login(b"default", b"whatever").is_some(), "nopass takes any");
        assert!(access.first_user().is_some());
    }

    #[test]
    fn a_user_may_do_what_the_rules_say() {
        let (access, _) = access(USERS);
        for (user, line, expected) in [
            (None, "GET player:1", "NOAUTH Authentication required."),
            (None, "auth game secret", "allowed"),
            (Some("game"), "get player:1", "allowed"),
            (Some("game"), "MGET player:1 shared", "allowed"),
            (
                Some("game"),
                "MGET player:1 other",
                "NOPERM this user has no permissions to access one of the keys used as arguments",
            ),
            (Some("game"), "flushall", "NOPERM this user has no permissions to run the 'flushall' command"),
            (Some("game"), "config get x", "allowed"),
            (Some("game"), "config set x y", "NOPERM this user has no permissions to run the 'config|set' command"),
            (Some("game"), "hgetall player:1", "NOPERM this user has no permissions to run the 'hgetall' command"),
            (Some("game"), "publish game:x hello", "allowed"),
            (
                Some("game"),
                "subscribe game:x other",
                "NOPERM this user has no permissions to access one of the channels used as arguments",
            ),
            (Some("game"), "psubscribe game:*", "allowed"),
            (
                Some("game"),
                "psubscribe game:x*",
                "NOPERM this user has no permissions to access one of the channels used as arguments",
            ),
            (Some("game"), "spublish game:x hello", "allowed"),
            (Some("game"), "ssubscribe game:x", "allowed"),
            (
                Some("game"),
                "ssubscribe player:1",
                "NOPERM this user has no permissions to access one of the channels used as arguments",
            ),
            (Some("game"), "hearthside help", "allowed"),
            (
                Some("game"),
                "HEARTHSIDE pause 2000",
                "NOPERM this user has no permissions to run the 'hearthside|pause' command",
            ),
            (Some("game"), "hearthside nosuch", "NOPERM this user has no permissions to run the 'hearthside' command"),
            (
                Some("game"),
                "georadius player:1 1 1 10 km STORE player:2 STORE other",
                "NOPERM this user has no permissions to access one of the keys used as arguments",
            ),
            (Some("keeper"), "hearthside invalidate player:1", "allowed"),
            (Some("keeper"), "hearthside invalidate player:1*", "allowed"),
            (
                Some("keeper"),
                "hearthside invalidate *",
                "NOPERM this user has no permissions to access one of the keys used as arguments",
            ),
            (
                Some("keeper"),
                "hearthside invalidate other",
                "NOPERM this user has no permissions to access one of the keys used as arguments",
            ),
            (
                Some("keeper"),
                "hearthside reload",
                "NOPERM this user has no permissions to run the 'hearthside|reload' command",
            ),
            (Some("default"), "client list", "allowed"),
            (Some("default"), "json.get x", "allowed"),
            (Some("default"), "JSON.SET x", "NOPERM this user has no permissions to run the 'json.set' command"),
        ] {
            assert_eq!(verdict(&access, user, line), expected, "{line}");
        }
        for line in ["eval script 0", "sort player:1 by x", "json.set player:1"] {
            assert!(verdict(&access, Some("game"), line).starts_with("NOPERM hearthside: "), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_with_users_is_told() {
        let (_, faults) = access(
            "[auth]\nmode = \"users\"\n[[users]]\nname = \"a\"\npasswords = [\"secret\"]\n\
             commands = [\"@nosuch\", \"nosuch\"]\n[[users]]\nname = \"a\"\nnopass = true\nburst = 0\n\
             [[users]]\nname = \"b\"\nrate = \"fast\"",
        );
        let all = faults.join("\n");
        for expected in
            ["users[0].passwords", "'@nosuch'", "'nosuch'", "is there twice", "[1].burst: must be", "[2].rate: "]
        {
            assert!(all.contains(expected), "{expected}: {all}");
        }
        assert!(!all.contains("secret"), "{all}");
        let (_, faults) = access("[auth]\nmode = \"users\"");
        assert!(faults.join("\n").contains("no [[users]]"), "{faults:?}");
    }
}
