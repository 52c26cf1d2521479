//! Holds the SQL that SQLite is given, byte for byte as the driver logs it, against `recorded.txt`. A difference is
//! either intended or a fault.

use std::collections::BTreeSet;
use std::io::Write;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnectOptions;

use super::Sqlite;
use crate::config::{Config, Faults};
use crate::mapping::{Kind, Mappings};
use crate::record::{Change, Condition, Decimal, Edit};
use crate::store::planning::{self, Catalog};
use crate::store::sweep::Chosen;
use crate::store::{FlushRow, Mark, Plan};

const MAPPINGS: &str = include_str!("recorded.toml");
const TABLES: &str = include_str!("recorded.sql");

/// What the driver logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn begin() -> Self {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().json().with_max_level(tracing::Level::DEBUG);
        let subscriber = subscriber.with_writer(move || writer.clone()).finish();
        tracing::subscriber::set_global_default(subscriber).expect("the only one of this process");
        log
    }

    /// The statements so far, each once.
    fn statements(&self) -> BTreeSet<String> {
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let lines = String::from_utf8(text).expect("text");
        let statement = |line: &str| {
            let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let fields = event.get("fields").filter(|_| event["target"] == "sqlx::query")?;
            let sql = fields["db.statement"].as_str().filter(|sql| !sql.is_empty()).or(fields["summary"].as_str())?;
            Some(sql.trim().replace('\n', " "))
        };
        lines.lines().filter_map(statement).collect()
    }
}

fn fields(changes: &[(&'static str, Change)], condition: Condition) -> Edit {
    Edit::Fields(changes.iter().map(|(field, change)| (Bytes::from(*field), change.clone())).collect(), condition)
}

fn put(text: &'static str) -> Change {
    Change::Put(Bytes::from(text))
}

fn edits() -> Vec<(&'static str, Edit)> {
    use Condition::{Always, FieldAbsent, FieldPresent, RowExists};
    let half = || Change::AddFloat(Decimal::parse(b"0.5").expect("a number"));
    let texts = |texts: &[&'static str]| texts.iter().map(|text| Bytes::from(*text)).collect::<Vec<_>>();
    vec![
        ("h:1", fields(&[("name", put("new"))], Always)),
        ("h:1", fields(&[("name", put("n")), ("hp", put("5")), ("is_on", put("true")), ("at", put("12.5"))], Always)),
        ("h:1", fields(&[("word", put("w")), ("likes", put("[1]"))], Always)),
        ("h:1", fields(&[("word", Change::Clear), ("name", Change::Clear)], RowExists)),
        ("h:1", fields(&[("name", put("n"))], FieldAbsent)),
        ("h:1", fields(&[("name", put("n"))], FieldPresent)),
        ("h:1", fields(&[("hp", Change::Add(2))], Always)),
        ("h:1", fields(&[("coins", half())], Always)),
        ("h:9", fields(&[("hp", put("1")), ("word", put("w"))], Always)),
        ("h:3", fields(&[("hp", put("1"))], Always)),
        ("h:9", Edit::Delete),
        ("p:x:1", fields(&[("", put("v"))], Always)),
        ("p:x:1", fields(&[("", Change::Append(Bytes::from("w")))], Always)),
        ("t:1", Edit::Members(texts(&["a", "b"]), true)),
        ("t:1", Edit::Members(texts(&["a"]), false)),
        ("t:1", Edit::Delete),
        ("l:1", Edit::Push(texts(&["a", "b"]))),
        ("l:1", Edit::Pull(0, Bytes::from("a"))),
    ]
}

async fn write_all(store: &Sqlite, plans: &[Plan]) {
    for (key, edit) in edits() {
        let key = key.as_bytes();
        let plan = plans.iter().find(|plan| plan.values(key).is_some()).expect("a mapping of the key");
        store.rows_of(plan, key).await.expect("loaded");
        let edit = crate::record::RowEdit { edit: &edit, left: Some(60_000), lives: false };
        store.write(plan, key, edit, "o").await.expect("written");
    }
}

async fn flush_all(store: &Sqlite, plan: &Plan) {
    let row = |field: &'static str, left| FlushRow {
        key: Bytes::from("h:1"),
        fields: [(Bytes::from(field), Some(Bytes::from("6")))].into_iter().filter(|_| !field.is_empty()).collect(),
        left,
    };
    store.enroll("j", "j:t").await.expect("noted");
    let rows = [row("seen", None), row("note", Some(Some(1000))), row("", Some(None))];
    for batch in [1, 1] {
        let mark = Mark { journal: "j:t", batch, origin: "o" };
        store.flush(plan, &rows, mark).await.expect("flushed");
    }
    let fence = crate::store::Fence { journal: "j", until: 2, taken: &[1], heir: Some("k"), former: &[] };
    store.fence(fence).await.expect("fenced");
    let (ending, some) = (plan.ending(60.0).expect("it ends"), ["[\"1\"]".to_owned()]);
    for chosen in [Chosen::AllBut(&[]), Chosen::AllBut(&some), Chosen::Only(&some)] {
        store.sweep(ending, chosen).await.expect("swept");
    }
    store.expired(ending, Chosen::AllBut(&some)).await.expect("listed");
}

#[tokio::test]
async fn sqlite_is_given_these_statements() {
    let log = Log::begin();
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("store.db").display());
    let settings = crate::config::Store { url: url.clone(), ..Default::default() };
    // As `options`, which has the driver log nothing.
    let options = SqliteConnectOptions::from_str(&url).expect("a URL");
    let store = Sqlite::over(options, &settings, None).await.expect("opened");
    sqlx::raw_sql(TABLES).execute(&store.pool().await.expect("open")).await.expect("made");
    let before = log.statements();
    let config: Config = crate::config::read("test", MAPPINGS, std::iter::empty()).config;
    let mut faults = Faults::default();
    let mut plans = Vec::new();
    for mapping in Mappings::compile(&config, &mut faults).list {
        let plan =
            planning::plan(&Catalog::Sqlite(store.catalog().await.expect("open")), &mapping).await.expect("planned");
        store.follow(&plan).await.expect("followed");
        match mapping.kind {
            Kind::Definition => store.each_row(&plan, |_| Ok(())).await.expect("loaded"),
            Kind::Cache => {
                let listing = plan.listing.as_ref().expect("listed");
                store.page(listing, &[], 100).await.expect("a page");
                let after: Vec<String> = listing.keys.iter().map(|_| "0".to_owned()).collect();
                store.page(listing, &after, 100).await.expect("a page");
            }
        }
        plans.push(plan);
    }
    assert_eq!(faults.to_string(), "");
    write_all(&store, &plans).await;
    let deferring = plans.iter().find(|plan| plan.mapping.config.defers()).expect("one that defers");
    flush_all(&store, deferring).await;
    let open = store.writer.lock().await.expect("the connection").open.take().expect("it is open");
    open.connection.close().await.expect("closed");
    store.readers.lock().await.close().await;
    let given: Vec<String> = log.statements().difference(&before).cloned().collect();
    if std::env::var_os("HEARTHSIDE_RECORD").is_some() {
        std::fs::write("src/store/sqlite/recorded.txt", given.join("\n") + "\n").expect("written");
        return;
    }
    assert_eq!(given.join("\n") + "\n", include_str!("recorded.txt"), "if that is meant: HEARTHSIDE_RECORD=1");
}
