//! What the console does, and for whom.

use super::page::{Place, TOKEN, address, enter, is_quiet};
use crate::support::admin::{request, request_with};
use crate::support::browser::Browser;
use crate::support::until;
use crate::support::warnings;

/// Everything that changes something, or shows what keys hold.
const GUARDED: [(&str, &str); 10] = [
    ("POST", "/api/forget?key=player:1:session"),
    ("POST", "/api/reload"),
    ("POST", "/api/pause?ms=60000"),
    ("POST", "/api/resume"),
    ("POST", "/api/mode?mapping=ALL&mode=off"),
    ("POST", "/api/triggers"),
    ("POST", "/api/compare?key=player:1:session"),
    ("GET", "/api/candidates"),
    ("GET", "/api/tables"),
    ("POST", "/api/draft"),
];

/// Presses a button, and says that it is meant.
fn press(browser: &Browser, button: &str) {
    browser.click(button);
    browser.until("document.getElementById('sure').open");
    browser.click("#sure-yes");
}

#[test]
fn buttons_do_what_they_say() {
    let (place, browser) = (Place::new(), Browser::start());
    let sidecar = place.guarded().expect(&[warnings::HELD_BACK, warnings::NO_TRIGGERS]).start_guarded();
    let mut wire = sidecar.wire();
    (1..=3).for_each(|id| _ = wire.ask(&format!("HGET player:{id}:session hp")));
    enter(&browser, &sidecar);
    browser.click("#do-pause");
    browser.until("document.getElementById('sure').open");
    browser.click("#sure button[value='no']");
    browser.until("!document.getElementById('sure').open");
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n", "nothing was held back");
    press(&browser, "#do-pause");
    browser.until_text("#action-outcome", "paused");
    browser.until_text("#health", "upstream paused");
    browser.until_text("#lights .paused", "RESUME");
    browser.value("location.hash = 'clients'");
    browser.until_text("#health", "upstream paused");
    browser.value("location.hash = 'overview'");
    wire.send(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n");
    assert_eq!(sidecar.wire().ask("HGET player:1:session nosuch"), "$-1\r\n", "owned keys are answered");
    browser.click("#do-resume");
    browser.until_text("#action-outcome", "resumed");
    browser.until_text("#health", "all is up");
    assert_eq!(wire.frame(), b"$1\r\n1\r\n");
    press(&browser, "#do-reload");
    browser.until_text("#action-outcome", "reloaded");
    (1..=3).for_each(|id| _ = wire.ask(&format!("HGET player:{id}:session hp")));
    browser.fill("#invalidate-pattern", "player:[12]:*");
    press(&browser, "#do-invalidate");
    browser.until_text("#action-outcome", "2 forgotten");
    place.postgres.sql(
        "DO $$ DECLARE t record; BEGIN FOR t IN SELECT tgname FROM pg_trigger \
        WHERE tgrelid = 'sessions'::regclass AND NOT tgisinternal LOOP \
        EXECUTE format('DROP TRIGGER %I ON sessions', t.tgname); END LOOP; END $$",
    );
    press(&browser, "#do-triggers");
    browser.until_text("#action-outcome", "sessions");
    assert_ne!(place.postgres.sql("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'sessions'::regclass"), "0");
    browser.value("location.hash = 'key/player:3:session'");
    browser.until_text("#key-answer", "player:3:session");
    wire.ask("HGET player:3:session hp");
    place.postgres.sql("SET session_replication_role = replica; UPDATE sessions SET hp = 12345 WHERE character_id = 3");
    browser.click("#key-compare");
    browser.until_text("#key-outcome", "One difference");
    let shown = browser.text("#key-differences");
    assert!(shown.contains("hp") && shown.contains("12345"), "{shown}");
    is_quiet(&browser, &sidecar);
}

#[test]
fn without_a_token_nothing_is_done_and_no_value_is_shown() {
    let (place, browser) = (Place::new(), Browser::start());
    let guarded = place.guarded().start_guarded();
    guarded.wire().ask("HGET player:1:session hp");
    for (method, path) in GUARDED {
        assert_eq!(request(&guarded, method, path).0, 401, "{path}");
        let foreign = format!("Authorization: Bearer {TOKEN}\r\nOrigin: http://other.example\r\n");
        assert_eq!(request_with(&guarded, method, path, &foreign).0, 403, "{path}");
    }
    browser.open(&address(&guarded));
    browser.fill("#token", "a-wrong-secret");
    browser.click("#sign-in button");
    browser.until_text("#sign-in [role='alert']", "not the token");
    assert_eq!(browser.text("#lights"), "");
    let complaints = browser.complaints();
    assert!(
        complaints.iter().all(|text| text.contains("401")),
        "the browser tells of the refusal alone: {complaints:?}"
    );
    let open = place.open().start();
    let mut wire = open.wire();
    let hp = wire.ask("HGET player:1:session hp");
    wire.ask("SET private:1 a-secret-value");
    for (method, path) in GUARDED {
        let (status, body) = request(&open, method, path);
        assert!(status == 403 && body.contains("admin.token_file"), "{path}: {status} {body}");
    }
    browser.asked();
    browser.open(&address(&open));
    browser.until_text("#session", "read only");
    browser.until_text("#lights", "Postgres");
    assert_eq!(browser.value("[...document.querySelectorAll('#actions button')].every(b => b.disabled)"), true);
    browser.value("location.hash = 'key/player:1:session'");
    browser.until_text("#key-answer", "in memory");
    assert_eq!(browser.value("document.getElementById('key-forget').disabled"), true);
    assert_eq!(browser.value("document.getElementById('key-compare').disabled"), true);
    let mut seen = String::new();
    for view in ["overview", "mappings", "key", "traffic", "clients", "events", "new"] {
        browser.value(&format!("location.hash = '{view}'"));
        browser.until(&format!("!document.getElementById('view-{view}').hidden"));
        seen.push_str(&browser.text("main"));
    }
    browser.value("location.hash = 'traffic'");
    browser.until_text("#top-table", "a key of this mapping");
    seen.push_str(&browser.text("main"));
    assert!(!seen.contains("a-secret-value") && !seen.contains("private:1"), "{seen}");
    assert!(hp.starts_with('$'));
    until("it is in memory still", || wire.ask("HGET player:1:session hp") == hp);
    is_quiet(&browser, &open);
}
