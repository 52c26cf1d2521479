//! How it looks: light and dark, on a screen and on a phone, and without a mouse. `HEARTHSIDE_PICTURES=<folder>` keeps
//! pictures of every view.

use std::path::PathBuf;

use super::page::{Place, TOKEN, address, enter, is_quiet};
use crate::support::admin::request_with;
use crate::support::browser::{Browser, ENTER, ESCAPE, TAB};
use crate::support::until;

/// The views, by what their addresses end with.
const VIEWS: [&str; 7] = ["overview", "mappings", "key/player:1:session", "traffic", "clients", "events", "new"];

/// The brightness of the page's background, 0 to 765.
fn brightness(browser: &Browser) -> u64 {
    let colour = browser.value("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)");
    colour.as_array().expect("numbers").iter().filter_map(serde_json::Value::as_u64).take(3).sum()
}

/// Shows every view, none of which is wider than the window.
fn walk(browser: &Browser, name: &str) {
    let folder = std::env::var_os("HEARTHSIDE_PICTURES").map(PathBuf::from);
    for view in VIEWS {
        let first = view.split('/').next().expect("a name");
        browser.value(&format!("location.hash = '{view}'"));
        browser.until(&format!("!document.getElementById('view-{first}').hidden"));
        let told =
            "document.querySelectorAll('#view-{first} tbody tr, #view-{first} pre, #view-{first} canvas').length";
        browser.until(&format!("{} > 0", told.replace("{first}", first)));
        assert_eq!(browser.value("document.documentElement.scrollWidth <= innerWidth"), true, "{name} {view}");
        if let Some(folder) = &folder {
            std::fs::create_dir_all(folder).expect("a folder");
            browser.picture(&folder.join(format!("{name}-{first}.png")));
        }
    }
}

#[test]
fn every_view_fits_a_screen_and_a_phone_light_and_dark() {
    let (place, browser) = (Place::new(), Browser::start());
    let sidecar = place.guarded().start_guarded();
    let mut wire = sidecar.wire();
    for id in 1..=40 {
        (0..id).for_each(|_| _ = wire.ask(&format!("HGETALL player:{id}:session")));
        wire.ask(&format!("HSET cart:{id} items 3"));
        wire.ask(&format!("HGETALL cart:{id}"));
    }
    until("there is something to plot", || {
        let told = request_with(&sidecar, "GET", "/api/history", &format!("Authorization: Bearer {TOKEN}\r\n")).1;
        told.matches("at_ms").count() > 2
    });
    browser.prefer("light");
    enter(&browser, &sidecar);
    assert!(brightness(&browser) > 600);
    walk(&browser, "light");
    browser.prefer("dark");
    assert!(brightness(&browser) < 150, "as the system prefers");
    walk(&browser, "dark");
    browser
        .value("(e => { e.value = 'light'; e.dispatchEvent(new Event('change')); })(document.getElementById('theme'))");
    assert!(brightness(&browser) > 600, "as is chosen");
    browser.resize(360, 740);
    walk(&browser, "phone");
    is_quiet(&browser, &sidecar);
}

#[test]
fn everything_is_reached_and_done_without_a_mouse() {
    let (place, browser) = (Place::new(), Browser::start());
    let sidecar = place.guarded().start_guarded();
    sidecar.wire().ask("HGET player:1:session hp");
    browser.open(&address(&sidecar));
    browser.until("document.activeElement.id === 'token'");
    browser.press(TOKEN);
    browser.press(ENTER);
    browser.until_text("#health", "all is up");
    // The way through the head: a link past it, leaving, the colours, the views.
    browser.open(&address(&sidecar));
    browser.until_text("#health", "all is up");
    let mut way = Vec::new();
    for _ in 0..10 {
        browser.press(TAB);
        let name = browser.value("(e => e.id || e.getAttribute('href') || e.textContent)(document.activeElement)");
        way.push(name.as_str().expect("a name").to_owned());
        let is_seen = browser.value("getComputedStyle(document.activeElement).outlineStyle === 'solid'");
        assert_eq!(is_seen, true, "the focus of {way:?}");
    }
    let views = VIEWS.map(|view| format!("#{}", view.split('/').next().expect("a name")));
    assert_eq!(way[..3], ["#main", "leave", "theme"]);
    assert_eq!(way[3..], views);
    // Back to the third view, whose heading has the focus then.
    (0..4).for_each(|_| browser.press_shifted(TAB));
    browser.press(ENTER);
    // The link has the same text.
    browser.until("document.activeElement.matches('#view-key h1')");
    browser.press(TAB);
    browser.press("player:1:session");
    browser.press(ENTER);
    browser.until_text("#key-answer", "in memory");
    // A button of the keyboard's: the dialog takes the focus, and gives it back.
    browser.value("location.hash = 'overview'");
    browser.until("!document.getElementById('view-overview').hidden");
    browser.value("document.getElementById('do-pause').focus()");
    browser.press(ENTER);
    browser.until("document.getElementById('sure').open && document.activeElement.id === 'sure-yes'");
    browser.press(ESCAPE);
    browser.until("!document.getElementById('sure').open && document.activeElement.id === 'do-pause'");
    let unnamed = browser.value(
        "[...document.querySelectorAll('button, input, select, a, section, meter')].filter(e => !(e.textContent.trim() \
         || e.getAttribute('aria-label') || e.labels?.length)).length",
    );
    assert_eq!(unnamed, 0, "everything has a name");
    is_quiet(&browser, &sidecar);
}
