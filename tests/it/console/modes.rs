//! The mode of a mapping is changed in the table of mappings.

use super::page::{Place, address, enter, is_quiet};
use crate::support::browser::{Browser, ENTER, ESCAPE, TAB};
use crate::support::sidecar::Sidecar;

const SESSIONS: &str = "player:{character_id:int}:session";

/// The button of the sessions.
const BUTTON: &str = "button.mode[aria-label^='Mode of player:{character_id:int}:session']";

fn is_in(sidecar: &Sidecar, mode: &str) -> bool {
    let told = sidecar.wire().ask("HEARTHSIDE EXPLAIN player:1:session");
    told.contains(&format!("$4\r\nmode\r\n${}\r\n{mode}\r\n", mode.len()))
}

#[test]
fn a_mode_is_changed_by_a_button_and_off_asks_first() {
    let (place, browser) = (Place::new(), Browser::start());
    let sidecar = place.guarded().start_guarded();
    enter(&browser, &sidecar);
    browser.value("location.hash = 'mappings'");
    browser.until_text(BUTTON, "on");
    browser.click(BUTTON);
    browser.until("document.getElementById('modes').open");
    assert!(browser.text("#mode-title").contains(SESSIONS));
    browser.fill("#mode-percent", "101");
    browser.click("#mode-fallback");
    assert_eq!(browser.value("document.getElementById('modes').open"), true, "no such percentage");
    browser.fill("#mode-percent", "50");
    browser.click("#mode-fallback");
    browser.until_text("#mode-outcome", "fallback 50 %");
    browser.until_text("#mode-outcome", "a restart and SIGHUP go back to what is configured");
    browser.until_text(BUTTON, "fallback 50 %");
    assert!(is_in(&sidecar, "fallback"));
    browser.click(BUTTON);
    browser.click("#mode-off");
    browser.until("document.getElementById('sure').open");
    browser.click("#sure button[value='no']");
    browser.until("!document.getElementById('sure').open");
    assert!(is_in(&sidecar, "fallback"), "nothing was changed");
    browser.click(BUTTON);
    browser.click("#mode-off");
    browser.until("document.getElementById('sure').open");
    browser.click("#sure-yes");
    browser.until_text(BUTTON, "off 50 %");
    assert!(is_in(&sidecar, "off"));
    assert!(browser.text("#mode-outcome").contains("upstream"), "what is to be known stands there");
    is_quiet(&browser, &sidecar);
}

#[test]
fn it_is_changed_without_a_mouse_and_on_a_phone() {
    let (place, browser) = (Place::new(), Browser::start());
    let sidecar = place.guarded().start_guarded();
    let mut wire = sidecar.wire();
    browser.resize(360, 740);
    enter(&browser, &sidecar);
    browser.value("location.hash = 'mappings'");
    browser.until_text(BUTTON, "on");
    let has_focus = format!("document.activeElement.matches({BUTTON:?})");
    browser.value(&format!("document.querySelector({BUTTON:?}).focus()"));
    // The row is shown anew when something of it has changed.
    browser.value(&format!("window.old = document.querySelector({BUTTON:?})"));
    wire.ask("HGET player:1:session hp");
    browser.until("!document.contains(window.old)");
    browser.until(&has_focus);
    browser.press(ENTER);
    browser.until("document.getElementById('modes').open && document.activeElement.id === 'mode-percent'");
    let fits = "(r => r.left >= 0 && r.right <= innerWidth && r.height <= innerHeight)\
        (document.getElementById('modes').getBoundingClientRect())";
    assert_eq!(browser.value(fits), true);
    browser.press(ESCAPE);
    browser.until(&format!("!document.getElementById('modes').open && {has_focus}"));
    browser.press(ENTER);
    browser.until("document.getElementById('modes').open");
    for mode in ["on", "fallback", "shadow"] {
        browser.press(TAB);
        browser.until(&format!("document.activeElement.id === 'mode-{mode}'"));
    }
    browser.press(ENTER);
    browser.until_text(BUTTON, "shadow");
    browser.until(&has_focus);
    assert!(is_in(&sidecar, "shadow"));
    assert_eq!(browser.value("document.documentElement.scrollWidth <= innerWidth"), true);
    is_quiet(&browser, &sidecar);
}

#[test]
fn without_a_token_no_mode_is_changed() {
    let (place, browser) = (Place::new(), Browser::start());
    let sidecar = place.open().start();
    browser.open(&format!("{}#mappings", address(&sidecar)));
    browser.until_text(BUTTON, "on");
    assert_eq!(browser.value("[...document.querySelectorAll('button.mode')].every(b => b.disabled)"), true);
    is_quiet(&browser, &sidecar);
}
