//! A sidecar with a token, and a browser that shows its console.

use tempfile::TempDir;

use crate::support::browser::Browser;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar, demo};
use crate::support::warnings;

pub const TOKEN: &str = "a-long-secret";

const CARTS: &str = "[[caches]]\nkey = \"cart:{owner}\"\ntype = \"hash\"\ntable = \"carts\"\n";

/// What stands behind a console.
pub struct Place {
    pub redis: Redis,
    pub postgres: Postgres,
    folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("token"), TOKEN).expect("written");
        Self { redis: Redis::start(), postgres: Postgres::start(), folder }
    }

    /// The demo's mappings, and no token.
    pub fn open(&self) -> Builder {
        demo(&self.redis, &self.postgres)
    }

    /// The same with a token.
    pub fn guarded(&self) -> Builder {
        let file = self.folder.path().join("token").display().to_string();
        self.open().set("ADMIN__TOKEN_FILE", file).expect(&[warnings::ADMIN_REFUSED])
    }

    /// The carts of these owners as `cart:{owner}`, in place of the demo, and a token.
    pub fn carts(&self, owners: &[&str]) -> Builder {
        let rows: Vec<String> = owners.iter().map(|owner| format!("('{owner}', 3)")).collect();
        let table = "CREATE TABLE carts (owner text PRIMARY KEY, items int)";
        self.postgres.sql(&format!("{table}; INSERT INTO carts VALUES {}", rows.join(", ")));
        let file = self.folder.path().join("token").display().to_string();
        let builder = Sidecar::builder().redis(&self.redis).postgres(&self.postgres).config(CARTS).migrated();
        builder.set("ADMIN__TOKEN_FILE", file).expect(&[warnings::ADMIN_REFUSED])
    }
}

/// The address of the console.
pub fn address(sidecar: &Sidecar) -> String {
    format!("http://127.0.0.1:{}/", sidecar.logged_port("admin port").expect("an admin port"))
}

/// Opens the console, and gives it the token that it asks for.
pub fn enter(browser: &Browser, sidecar: &Sidecar) {
    enter_at(browser, &address(sidecar));
}

/// The same at another address that leads to it.
pub fn enter_at(browser: &Browser, address: &str) {
    browser.open(address);
    browser.fill("#token", TOKEN);
    browser.click("#sign-in button");
    browser.until_text("#health", "all is up");
}

/// The page has complained of nothing, and has asked nobody but its own port.
pub fn is_quiet(browser: &Browser, sidecar: &Sidecar) {
    let complaints = browser.complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");
    let (own, asked) = (address(sidecar), browser.asked());
    let outside: Vec<_> = asked.iter().filter(|url| url.starts_with("http") && !url.starts_with(&own)).collect();
    assert!(asked.iter().any(|url| url.starts_with(&own)) && outside.is_empty(), "{outside:#?}");
}
