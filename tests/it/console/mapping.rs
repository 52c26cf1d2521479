//! The view that makes a mapping: what comes of it is taken by `check`, and by Postgres.

use serde_json::{Value, json};

use super::page::{Place, TOKEN, enter, is_quiet};
use crate::support::admin::{post_with, request_with};
use crate::support::browser::Browser;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;

const CHOOSE: &str = "(e => { e.value = '{value}'; e.dispatchEvent(new Event('change', { bubbles: true })); })\
    (document.getElementById('{id}'))";

fn choose(browser: &Browser, id: &str, value: &str) {
    browser.value(&CHOOSE.replace("{id}", id).replace("{value}", value));
}

#[test]
fn a_mapping_is_made_of_a_table_and_a_pattern() {
    let (place, browser) = (Place::new(), Browser::start());
    let sidecar = place.guarded().start_guarded();
    place.postgres.sql(
        "CREATE ROLE app; CREATE TABLE carts (owner uuid PRIMARY KEY, items int NOT NULL, note text); \
         INSERT INTO carts SELECT md5(n::text)::uuid, n, 'note ' || n FROM generate_series(1, 5) AS n",
    );
    let mut wire = sidecar.wire();
    let owner = |id| place.postgres.sql(&format!("SELECT md5('{id}')::uuid"));
    (1..=9).for_each(|id| _ = wire.ask(&format!("HGETALL cart:{}", owner(id))));
    (1..=20).for_each(|_| _ = wire.ask("SMEMBERS catalog:all"));
    enter(&browser, &sidecar);
    browser.click("nav a[href='#traffic']");
    browser.until_text("#candidate-table tbody", "catalog:all");
    browser.until_text("#candidate-table tbody", "cart:{id:uuid}");
    browser.click("#candidate-table tr:nth-child(2) a");
    // The candidate names the key, the type and, nearly, the table.
    browser.until("document.getElementById('draft-table').value === 'carts'");
    assert_eq!(browser.value("document.getElementById('draft-key').value"), "cart:{id:uuid}");
    browser.until("document.querySelectorAll('#draft-examples .card').length === 3");
    let shown = browser.text("#draft-examples");
    assert!(shown.contains("cart:") && shown.contains("note "), "{shown}");
    browser.fill("#draft-key", "cart:{id");
    browser.until_text("#draft-faults", "key");
    browser.fill("#draft-key", "player:{character_id:int}:session");
    browser.until_text("#draft-faults", "can match the same key");
    browser.fill("#draft-key", "basket:{owner}");
    browser.until_text("#draft-toml", "basket:{owner}");
    browser.fill("#draft-role", "app");
    browser.until_text("#draft-grants", "TO app;");
    choose(&browser, "draft-write", "through");
    browser.until_text("#draft-toml", "through");
    browser.until_text("#draft-grants", "INSERT");
    let [toml, triggers, grants] = ["#draft-toml", "#draft-triggers", "#draft-grants"].map(|css| browser.text(css));
    place.postgres.sql(&grants);
    place.postgres.sql(&triggers);
    assert_ne!(place.postgres.sql("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'carts'::regclass"), "0");
    let checked = Sidecar::builder().redis(&place.redis).postgres(&place.postgres).config(&toml);
    let checked = checked.execute(&["check", "--connect"]);
    assert!(checked.status.success(), "{toml}\n{}", String::from_utf8_lossy(&checked.stderr));
    choose(&browser, "draft-type", "string");
    browser.until_text("#draft-toml", "value = \"items\"");
    is_quiet(&browser, &sidecar);
}

#[test]
fn a_file_of_sqlite_has_tables_and_needs_no_sql() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("token");
    std::fs::write(&file, TOKEN).expect("written");
    let sidecar = Sidecar::builder().redis(&redis).set("ADMIN__TOKEN_FILE", file.display().to_string());
    let sidecar = sidecar.start_guarded();
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    let (status, body) = request_with(&sidecar, "GET", "/api/tables", &right);
    assert_eq!(status, 200, "{body}");
    let tables: Value = serde_json::from_str(&body).expect("JSON");
    let named = |name: &str| tables.as_array().expect("a list").iter().find(|table| table["name"] == name).cloned();
    assert_eq!(named("characters").expect("the demo's table")["key"], json!(["character_id"]), "{tables}");
    assert!(!body.contains("sqlite_") && !body.contains("_sqlx") && !body.contains("hearthside"), "{body}");
    let drafted = |wish: Value| -> Value {
        let (status, body) = post_with(&sidecar, "/api/draft", &right, &wish.to_string());
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    };
    let wish = json!({ "key": "who:{character_id:int}", "type": "string", "value": "name", "table": "characters",
        "is_definition": true, "write": "reject", "key_columns": { "character_id": "character_id", "gone": "x" } });
    let told = drafted(wish);
    let toml = "[[definitions]]\nkey = \"who:{character_id:int}\"\ntype = \"string\"\ntable = \"characters\"\n\
        value = \"name\"\n";
    assert_eq!((&told["toml"], &told["faults"], &told["triggers"]), (&toml.into(), &json!([]), &"".into()));
    assert_eq!(told["examples"][0], json!({ "key": "who:1", "parts": [["", "survivor 1"]] }), "{told}");
    let wish = json!({ "key": "who:{character_id:int}", "type": "string", "value": "name", "table": "characters",
        "write": "through", "delete": "row", "mode": "shadow", "percent": 5, "watch": null });
    let told = drafted(wish);
    let toml = told["toml"].as_str().expect("a text");
    for line in ["delete = \"row\"", "mode = \"shadow\"", "percent = 5"] {
        assert!(toml.contains(line), "{line} in {told}");
    }
    assert_eq!(told["faults"], json!([]), "{told}");
    let told = drafted(json!({ "key": "a:{character_id}", "type": "hash", "table": "characters", "delte": "row" }));
    assert!(told["faults"][0].as_str().is_some_and(|text| text.contains("delte") && text.contains("delete")), "{told}");
    let told = drafted(json!({ "key": "a:{nosuch}", "type": "hash", "table": "characters" }));
    assert!(told["faults"][0].as_str().is_some_and(|text| text.contains("nosuch")), "{told}");
    assert_eq!(post_with(&sidecar, "/api/draft", &right, "{").0, 400);
}
