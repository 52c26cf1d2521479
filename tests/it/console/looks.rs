//! What is only looked at: the whole, mappings, a key.

use super::page::{Place, TOKEN, enter, is_quiet};
use crate::support::admin::request_with;
use crate::support::browser::Browser;
use crate::support::{until, warnings};

#[test]
fn the_whole_the_mappings_and_a_key_are_shown() {
    let (place, browser) = (Place::new(), Browser::start());
    let sidecar = place.guarded().set("STORE__SCHEMA_INTERVAL", "100ms").expect(&[warnings::NO_TRIGGERS]);
    let sidecar = sidecar.start_guarded();
    let mut wire = sidecar.wire();
    wire.ask("HGET player:1:session hp");
    enter(&browser, &sidecar);
    browser.until_text("#lights", "Postgres");
    assert_eq!(browser.value("document.querySelectorAll('#lights .light.up').length"), 3);
    browser.until_text("#figures", "built-in config.toml");
    for plot in ["throughput", "hits", "latency", "loads", "lag", "clients"] {
        browser.until(&format!("document.querySelector('#plot-{plot} canvas')?.width > 100"));
        until(&format!("{plot} has a figure"), || {
            wire.ask("HGET player:1:session hp");
            wire.ask("HEARTHSIDE INVALIDATE player:1:session");
            browser.value(&format!("/\\d/.test(document.querySelector('#plot-{plot} b').textContent)")) == true
        });
    }
    browser.click("nav a[href='#mappings']");
    let table = browser.until_text("#mapping-table", "player:{character_id:int}:session");
    assert!(table.contains("table sessions") && !table.contains("triggers are missing"), "{table}");
    wire.ask("HGET player:1:session hp");
    browser.click("nav a[href='#key']");
    browser.fill("#key-input", "player:1:session");
    browser.click("#key-explain");
    let told = browser.until_text("#key-answer", "in memory");
    assert!(told.contains("SELECT") && told.contains("$1 = 1"), "{told}");
    assert!(told.contains("changes are told") && !told.contains("switched off"), "{told}");
    browser.click("#key-plan");
    browser.until_text("#key-answer", "Index Scan");
    browser.click("#key-compare");
    browser.until_text("#key-outcome", "The same in memory and in the store");
    browser.click("#key-forget");
    browser.until_text("#key-outcome", "One key is forgotten.");
    let told = browser.until_text("#key-answer", "not in memory");
    assert!(told.contains("last forgotten"), "{told}");
    place.postgres.sql("ALTER TABLE sessions DISABLE TRIGGER USER");
    until("the head and the key say that nothing is told", || {
        browser.click("#key-explain");
        browser.text("#key-answer").contains("switched off") && browser.text("#health").contains("not told")
    });
    is_quiet(&browser, &sidecar);
}

#[test]
fn hot_keys_candidates_what_was_slow_clients_and_events_are_shown() {
    let (place, browser) = (Place::new(), Browser::start());
    let sidecar = place.guarded().set("SLOWLOG__STORE", "1us").set("SLOWLOG__COMMANDS", "1us").start_guarded();
    let mut wire = sidecar.wire();
    wire.ask("CLIENT SETNAME busy");
    for id in 1..=30 {
        (0..40 / id).for_each(|_| _ = wire.ask(&format!("HGETALL player:{id}:session")));
        wire.ask(&format!("HSET cart:{id} items 3"));
        (0..3).for_each(|_| _ = wire.ask(&format!("HGETALL cart:{id}")));
    }
    enter(&browser, &sidecar);
    browser.click("nav a[href='#traffic']");
    let shown = browser.until_text("#top-table tbody tr", "player:1:session");
    assert!(shown.contains("40"), "{shown}");
    let shown = browser.until_text("#candidate-table tbody tr", "cart:{id:int}");
    assert!(shown.contains("120") && shown.contains("75.0 %") && shown.contains("hash"), "{shown}");
    browser.until_text("#slow-table tbody tr", "player:");
    browser.value(
        "(e => { e.value = 'misses'; e.dispatchEvent(new Event('change')); })(document.getElementById('top-by'))",
    );
    browser.until("document.querySelectorAll('#top-table tbody tr').length === 20");
    browser.click("#top-table tbody tr a");
    browser.until_text("#key-answer", "in memory");
    browser.click("nav a[href='#clients']");
    browser.until_text("#client-table tbody", "busy");
    let order = || browser.value("document.querySelector('#client-table th[aria-sort]')?.getAttribute('aria-sort')");
    browser.click("#client-table th:nth-child(4) button");
    assert_eq!(order(), "descending");
    browser.click("#client-table th:nth-child(4) button");
    assert_eq!(order(), "ascending");
    browser.click("nav a[href='#events']");
    browser.until_text("#event-table tbody", "the change feed of Postgres is connected");
    is_quiet(&browser, &sidecar);
}

#[test]
fn the_page_is_for_everybody_and_asks_nobody_else() {
    let place = Place::new();
    let sidecar = place.guarded().start_guarded();
    let (status, page) = request_with(&sidecar, "GET", "/", "Sec-Fetch-Site: cross-site\r\n");
    assert!(status == 200 && page.contains("<title>Hearthside</title>"), "a link of another page leads here: {page}");
    for path in page.split(['"']).filter(|text| text.starts_with("/console/")) {
        assert_eq!(request_with(&sidecar, "GET", path, "").0, 200, "{path}");
        assert_eq!(request_with(&sidecar, "GET", path, "Sec-Fetch-Site: cross-site\r\n").0, 403, "{path}");
    }
    assert!(request_with(&sidecar, "GET", "/console/uplot/LICENSE", "").1.contains("MIT License"));
    assert_eq!(request_with(&sidecar, "GET", "/console/none.js", "").0, 404);
    assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains("<script>"), "{page}");
    let rights = |token: &str| request_with(&sidecar, "GET", "/api/rights", token);
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(rights(""), (200, "{\"asked\":true,\"token\":false}\n".into()));
    assert_eq!(rights(&right), (200, "{\"asked\":true,\"token\":true}\n".into()));
    assert_eq!(rights("Authorization: Bearer a-wrong-secret\r\n").0, 401);
    assert_eq!(rights(&format!("{right}Origin: http://other.example\r\n")).0, 403);
}

#[test]
fn of_very_many_clients_the_first_in_the_chosen_order_are_shown() {
    let (place, browser) = (Place::new(), Browser::start());
    let sidecar = place.guarded().start_guarded();
    let mut crowd: Vec<_> = (0..450).map(|_| sidecar.wire()).collect();
    // Not always the one that was opened last.
    let id = |reply: String| reply[1..].trim().parse::<u64>().expect("a number");
    let ids: Vec<u64> = crowd.iter_mut().map(|wire| id(wire.ask("CLIENT ID"))).collect();
    let last = (0..ids.len()).max_by_key(|at| ids[*at]).expect("a client");
    crowd[last].ask("CLIENT SETNAME the-last");
    enter(&browser, &sidecar);
    browser.value("location.hash = 'clients'");
    browser.until("document.querySelectorAll('#client-table tbody tr').length === 400");
    browser.until_text("#client-table .rest", "The first 400 of 450");
    assert!(!browser.text("#client-table tbody").contains("the-last"));
    browser.click("#client-table th:nth-child(2) button");
    browser.until_text("#client-table tbody tr", "the-last");
    drop(crowd);
    browser.until("document.querySelector('#client-table .rest').hidden");
    is_quiet(&browser, &sidecar);
}
