//! What goes wrong between the page and its port, and what an operator types that is no key or address as usual.

use super::page::{Place, address, enter, enter_at, is_quiet};
use crate::support::browser::Browser;
use crate::support::proxy::{Proxy, Spoil};
use crate::support::until;
use crate::support::wire::Wire;

#[test]
fn a_page_whose_answers_break_off_goes_on_and_says_since_when_it_has_heard_nothing() {
    let (place, browser) = (Place::new(), Browser::start());
    let sidecar = place.guarded().start_guarded();
    let proxy = Proxy::to(sidecar.logged_port("admin port").expect("an admin port"));
    enter_at(&browser, &format!("http://127.0.0.1:{}/", proxy.port));
    // In the middle of what the port says.
    proxy.spoil(Spoil::Truncate);
    browser.until_text("#health", "nothing heard since 20");
    browser.until("!document.getElementById('trouble').hidden");
    proxy.spoil(Spoil::Nothing);
    browser.until_text("#health", "all is up");
    for view in ["overview", "mappings", "clients"] {
        browser.value(&format!("location.hash = '{view}'"));
        browser.until_text("#health", "all is up");
        proxy.refuse_new(true);
        proxy.cut();
        browser.until_text("#health", "nothing heard since 20");
        browser.until_text("#trouble", "does not answer");
        proxy.refuse_new(false);
        browser.until_text("#health", "all is up");
        browser.until("document.getElementById('trouble').hidden");
    }
    proxy.hold(true);
    browser.until_text("#health", "nothing heard since 20");
    proxy.hold(false);
    browser.until_text("#health", "all is up");
}

#[test]
fn a_lone_percent_in_the_address_is_a_text() {
    let (place, browser) = (Place::new(), Browser::start());
    let sidecar = place.guarded().start_guarded();
    enter_at(&browser, &format!("{}#key/50%25%20of%20100%", address(&sidecar)));
    browser.until_text("#key-answer", "50% of 100%");
    assert_eq!(browser.value("document.getElementById('key-input').value"), "50% of 100%");
    browser.value("location.hash = 'key/%zz%C3%A4-%ff'");
    browser.until_text("#key-answer", "%zzä-%ff");
    browser.value("location.hash = 'new/a%:{id}/hash'");
    browser.until("document.getElementById('draft-key').value === 'a%:{id}'");
    is_quiet(&browser, &sidecar);
}

#[test]
fn forgetting_a_key_forgets_that_one_alone() {
    let (place, browser) = (Place::new(), Browser::start());
    let sidecar = place.carts(&["1", "2", "[12]", "*", r"\*"]).start_guarded();
    let (mut wire, owners) = (sidecar.wire(), ["1", "2", "[12]", "*", r"\*"]);
    let mut held = || {
        let mut is_held =
            |owner: &str| !wire.ask(&format!("HEARTHSIDE EXPLAIN cart:{owner}")).contains("not in memory");
        owners.into_iter().filter(|owner| is_held(owner)).collect::<Vec<_>>()
    };
    enter(&browser, &sidecar);
    let forget = |key: &str, told: &str| {
        let mut wire = sidecar.wire();
        owners.iter().for_each(|owner| _ = wire.ask(&format!("HGETALL cart:{owner}")));
        browser.value(&format!("location.hash = 'key/' + encodeURIComponent({key:?})"));
        browser.until_text("#key-answer h2", key);
        browser.click("#key-forget");
        browser.until_text("#key-outcome", &format!("{key}: {told}"));
    };
    forget("cart:[12]", "One key is forgotten.");
    assert_eq!(held(), ["1", "2", "*", r"\*"]);
    forget("cart:*", "One key is forgotten.");
    assert_eq!(held(), ["1", "2", "[12]", r"\*"]);
    forget(r"cart:\*", "One key is forgotten.");
    assert_eq!(held(), ["1", "2", "[12]", "*"]);
    forget("cart:?", "Nothing of it was in memory.");
    assert_eq!(held().len(), owners.len());
    assert_eq!(sidecar.wire().ask(r"HEARTHSIDE INVALIDATE cart:\[12]"), ":1\r\n", "a glob that stands for one key");
    is_quiet(&browser, &sidecar);
}

#[test]
fn what_comes_late_is_not_shown_below_another_key() {
    let (place, browser) = (Place::new(), Browser::start());
    let sidecar = place.carts(&["1", "2"]).start_guarded();
    sidecar.wire().ask("HGETALL cart:1");
    enter(&browser, &sidecar);
    browser.value("location.hash = 'key/cart:1'");
    browser.until_text("#key-answer", "in memory");
    let mut session = place.postgres.session();
    session.run("BEGIN; LOCK TABLE carts IN ACCESS EXCLUSIVE MODE; UPDATE carts SET items = 77;");
    browser.click("#key-compare");
    until("it waits for the table", || place.postgres.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") != "0");
    browser.fill("#key-input", "cart:2");
    browser.click("#key-explain");
    browser.until_text("#key-answer h2", "cart:2");
    session.run("ROLLBACK;");
    browser.until("performance.getEntriesByType('resource').some(it => it.name.includes('/api/compare'))");
    assert_eq!(browser.text("#key-outcome"), "", "it is about another key");
    browser.click("#key-compare");
    browser.until_text("#key-outcome", "cart:2: Nothing is in memory; in the store: there.");
    is_quiet(&browser, &sidecar);
}

#[test]
fn a_text_that_cannot_be_copied_is_selected() {
    let (place, browser) = (Place::new(), Browser::start());
    let sidecar = place.guarded().start_guarded();
    enter(&browser, &sidecar);
    // As over plain HTTP from another machine.
    browser.value("Object.defineProperty(navigator, 'clipboard', { value: undefined }) && (location.hash = 'new')");
    browser.until_text("#draft-toml", "[[caches]]");
    browser.click("#draft .card:has(#draft-toml) button");
    browser.until_text("#draft .card:has(#draft-toml) button", "Ctrl+C");
    let selected = browser.value("getSelection().toString().trim()");
    assert_eq!(selected, browser.text("#draft-toml").trim());
    is_quiet(&browser, &sidecar);
}

#[test]
fn a_key_that_cannot_be_read_as_text_or_is_very_long_is_shown_and_asked_for_as_it_is() {
    let (place, browser) = (Place::new(), Browser::start());
    let (odd, long) = ("a\u{1}b\u{202e}c", "x".repeat(3000));
    let sidecar = place.carts(&[odd, &long]).start_guarded();
    let mut wire = sidecar.wire();
    enter(&browser, &sidecar);
    let asked = |what: &str| {
        browser.until(&format!("performance.getEntriesByType('resource').some(it => it.name.endsWith('{what}'))"));
    };
    browser.value("location.hash = 'key/b%FF%00*'");
    browser.until_text("#key-answer h2", r"b\xff\x00*");
    assert_eq!(browser.value("document.getElementById('key-input').value"), r"b\xff\x00*");
    asked("/api/key?key=b%FF%00*");
    browser.click("#key-forget");
    browser.until_text("#key-outcome", r"b\xff\x00*: Nothing of it was in memory.");
    asked("/api/forget?key=b%FF%00%5C*");
    // Written by hand it is the text that it looks like.
    browser.fill("#key-input", r"b\xff");
    browser.click("#key-explain");
    asked("/api/key?key=b%5Cxff");
    let in_memory = |wire: &mut Wire, owner: &str| {
        let key = format!("cart:{owner}");
        wire.call(&["HGETALL", &key]);
        browser.value(&format!("location.hash = 'key/' + encodeURIComponent({key:?})"));
    };
    in_memory(&mut wire, odd);
    browser.until_text("#key-answer h2", r"cart:a\u{1}b\u{202e}c");
    browser.click("#key-forget");
    browser.until_text("#key-outcome", r"cart:a\u{1}b\u{202e}c: One key is forgotten.");
    in_memory(&mut wire, &long);
    browser.until_text("#key-answer h2 summary", "Show all 3,005 characters");
    let all = "document.querySelector('#key-answer h2 details > code')";
    assert_eq!(browser.value(&format!("{all}.checkVisibility()")), false);
    browser.click("#key-answer h2 summary");
    assert_eq!(browser.value(&format!("{all}.checkVisibility() && {all}.textContent.length")), 3005);
    browser.click("#key-forget");
    browser.until_text("#key-outcome", "…: One key is forgotten.");
    is_quiet(&browser, &sidecar);
}

#[test]
fn a_table_that_was_made_meanwhile_can_be_chosen() {
    let (place, browser) = (Place::new(), Browser::start());
    let sidecar = place.guarded().start_guarded();
    enter_at(&browser, &format!("{}#new", address(&sidecar)));
    let has =
        |name: &str| format!("[...document.querySelectorAll('#draft-table option')].some(it => it.value === '{name}')");
    browser.until(&has("sessions"));
    browser.value("document.getElementById('draft-table').value = 'sessions'");
    place.postgres.sql("CREATE TABLE later (id int PRIMARY KEY, text text)");
    browser.value("location.hash = 'key'");
    browser.value("location.hash = 'new'");
    browser.until(&has("later"));
    assert_eq!(browser.value("document.getElementById('draft-table').value"), "sessions", "what was chosen stays");
    is_quiet(&browser, &sidecar);
}
