//! Tables of every kind that keys can be copied into, in Postgres and in SQLite, and mappings over them.

use std::process::Output;

use hearthside::config::{self, Config, Faults, read};
use hearthside::mapping::Mappings;

use crate::support::postgres::Postgres;
use crate::support::sidecar::{Builder, Sidecar};

pub(super) const CONFIG: &str = r#"
[[caches]]
key = "h:{id:int}"
type = "hash"
table = "hashes"
overflow = "more"
expires_column = "ends"
write = "through"
delete = "row"

[[caches]]
key = "p:{id:int}"
type = "hash"
table = "plains"
write = "through"

[[caches]]
key = "s:{id}"
type = "string"
table = "strings"
value = "v"
write = "through"

[[caches]]
key = "t:{id:int}"
type = "set"
table = "members"
value = "v"
write = "through"

[[caches]]
key = "l:{id:int}"
type = "list"
query = "SELECT v FROM elements WHERE id = $1 ORDER BY place"
value = "v"
watch = [{ table = "elements" }]
write = "through"
push = "INSERT INTO elements (id, v) VALUES ($1, $2::text)"
remove = """DELETE FROM elements WHERE place IN (SELECT place FROM elements WHERE id = $1 AND v = $2::text
            ORDER BY place LIMIT 1)"""
"#;

const TABLES: &str = "CREATE TABLE hashes (id BIGINT PRIMARY KEY, f TEXT, n BIGINT DEFAULT 7, \
    kind TEXT NOT NULL DEFAULT 'plain', more JSONB, ends TIMESTAMPTZ);\
    CREATE TABLE plains (id BIGINT PRIMARY KEY, f TEXT, n BIGINT);\
    CREATE TABLE strings (id TEXT PRIMARY KEY, v TEXT);\
    CREATE TABLE members (id BIGINT, v TEXT, PRIMARY KEY (v, id));\
    CREATE TABLE elements (place BIGSERIAL PRIMARY KEY, id BIGINT, v TEXT);";

/// A store with those tables.
pub(super) enum Tables {
    Postgres(Postgres),
    Sqlite(tempfile::TempDir),
}

impl Tables {
    pub(super) fn postgres() -> Self {
        let postgres = Postgres::start_with("-c wal_level=replica");
        postgres.sql(TABLES);
        Self::Postgres(postgres)
    }

    pub(super) fn sqlite() -> Self {
        let tables = Self::Sqlite(tempfile::tempdir().expect("a folder"));
        let made = TABLES.replace("BIGSERIAL", "INTEGER").replace("JSONB", "JSON").replace("TIMESTAMPTZ", "TIMESTAMP");
        tables.sql(&made.replace("BIGINT PRIMARY", "INTEGER PRIMARY"));
        tables
    }

    pub(super) fn url(&self) -> String {
        match self {
            Self::Postgres(postgres) => postgres.url(),
            Self::Sqlite(folder) => format!("sqlite://{}", folder.path().join("tables.db").display()),
        }
    }

    pub(super) fn config(&self) -> String {
        match self {
            Self::Postgres(_) => CONFIG.to_owned(),
            Self::Sqlite(_) => CONFIG.replace("::text", ""),
        }
    }

    pub(super) fn sql(&self, sql: &str) -> String {
        match self {
            Self::Postgres(postgres) => postgres.sql(sql),
            Self::Sqlite(folder) => {
                let mut sqlite = std::process::Command::new("sqlite3");
                let output = sqlite.arg("-cmd").arg(".timeout 5000").arg(folder.path().join("tables.db")).arg(sql);
                let output = output.output().expect("sqlite3 is installed (scripts/test installs it)");
                assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
                String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
            }
        }
    }

    /// The settings of the store, and its mappings.
    pub(super) fn settings(&self) -> (config::Store, Mappings) {
        let mut read: Config = read("test", &self.config(), std::iter::empty()).config;
        read.settings.store.url = self.url();
        let mappings = Mappings::compile(&read, &mut Faults::default());
        (read.settings.store, mappings)
    }
}

/// What a command of the program has said: its exit code, its standard output and its standard error.
pub(super) struct Said {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

impl Said {
    /// Fails unless it said each of these, a line of standard output each, and this exit code.
    pub(super) fn expect(&self, code: i32, lines: &[&str]) {
        let Self { out, err, .. } = self;
        for line in lines {
            assert!(out.lines().any(|told| told == *line), "missing {line:?} in\n{out}{err}");
        }
        assert_eq!(self.code, Some(code), "{out}{err}");
    }
}

impl Tables {
    /// The program over this store, with keys of this upstream.
    pub(super) fn builder(&self, upstream: &str) -> Builder {
        Sidecar::builder().config(&self.config()).set("STORE__URL", self.url()).set("UPSTREAM__URL", upstream)
    }
}
