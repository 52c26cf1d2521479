//! A real Chromium without a window, driven by WebDriver over plain HTTP: each request of the protocol that is needed is
//! one line here.
//!
//! Sources: <https://www.w3.org/TR/webdriver2/>, <https://chromedevtools.github.io/devtools-protocol/>

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{free_port, until};

/// The name under which WebDriver tells an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// It runs as root in a container, and asks nobody but the page.
const OPTIONS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

/// Keys that are no letters.
/// Source: <https://www.w3.org/TR/webdriver2/#keyboard-actions>
pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";
pub const ESCAPE: &str = "\u{e00c}";
const SHIFT: &str = "\u{e008}";

pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _folder: TempDir,
}

impl Browser {
    pub fn start() -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null());
        let driver = command.spawn().expect("chromedriver is not installed (scripts/test installs it)");
        let mut browser = Self { driver, port, session: String::new(), _folder: folder };
        until("chromedriver is ready", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let profile = format!("--user-data-dir={}", browser._folder.path().display());
        let options: Vec<&str> = OPTIONS.into_iter().chain([&*profile, "--window-size=1280,900"]).collect();
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": options, "perfLoggingPrefs": { "enableNetwork": true } },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        let made = browser.ask("POST", "/session", &wanted);
        browser.session = made["sessionId"].as_str().expect("a session").to_owned();
        browser
    }

    /// What the driver answers, good or bad.
    fn answer(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a timeout");
        let body = if method == "POST" { body.to_string() } else { String::new() };
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .expect("sends");
        // The driver leaves the connection open.
        let mut answer = BufReader::new(stream);
        let (mut status, mut length, mut line) = (0, 0, String::new());
        while line != "\r\n" {
            line.clear();
            assert!(answer.read_line(&mut line).expect("answers") > 0, "{method} {path}: no answer");
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().expect("a status");
            }
            if let Some(rest) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = rest.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        answer.read_exact(&mut body).expect("a body");
        (status, serde_json::from_slice::<Value>(&body).expect("JSON")["value"].clone())
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, value) = self.answer(method, path, body);
        assert_eq!(status, 200, "{method} {path} {body}: {value}");
        value
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", &format!("/session/{}{path}", self.session), body)
    }

    /// A command of the browser's own protocol.
    fn tell(&self, command: &str, parameters: &Value) {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }));
    }

    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// The value of a JavaScript expression in the page.
    pub fn value(&self, expression: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": format!("return ({expression});"), "args": [] }))
    }

    /// The path of an element, without the window's address.
    fn element(&self, css: &str) -> String {
        let path = format!("/session/{}/element", self.session);
        let mut found = Value::Null;
        until(&format!("{css} is there"), || {
            let (status, value) = self.answer("POST", &path, &json!({ "using": "css selector", "value": css }));
            found = value;
            status == 200
        });
        format!("/element/{}", found[ELEMENT].as_str().expect("an element"))
    }

    pub fn click(&self, css: &str) {
        // What is shown anew meanwhile is looked for again.
        until(&format!("{css} is clicked"), || {
            let path = format!("/session/{}{}/click", self.session, self.element(css));
            let (status, value) = self.answer("POST", &path, &json!({}));
            let is_gone = value["error"] == "stale element reference";
            assert!(status == 200 || is_gone, "{css}: {value}");
            !is_gone
        });
    }

    /// Writes into a field, in place of what stands in it.
    pub fn fill(&self, css: &str, text: &str) {
        let element = self.element(css);
        self.post(&format!("{element}/clear"), &json!({}));
        self.post(&format!("{element}/value"), &json!({ "text": text }));
    }

    /// Presses keys one after the other, wherever the focus is.
    pub fn press(&self, keys: &str) {
        let down_and_up = |key: char| ["keyDown", "keyUp"].map(|kind| stroke(kind, &key.to_string()));
        self.strike(&keys.chars().flat_map(down_and_up).collect::<Vec<_>>());
    }

    /// Presses one key while Shift is held.
    pub fn press_shifted(&self, key: &str) {
        self.strike(&[stroke("keyDown", SHIFT), stroke("keyDown", key), stroke("keyUp", key), stroke("keyUp", SHIFT)]);
    }

    fn strike(&self, strokes: &[Value]) {
        self.post("/actions", &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] }));
    }

    /// The text of an element as it is shown; nothing where there is none.
    pub fn text(&self, css: &str) -> String {
        let found = self.value(&format!("document.querySelector({})?.innerText ?? ''", json!(css)));
        found.as_str().expect("a text").to_owned()
    }

    /// Waits until an element shows a text, and gives all that it shows.
    pub fn until_text(&self, css: &str, text: &str) -> String {
        let mut shown = String::new();
        until(&format!("{css} shows '{text}'; it shows '{}'", self.text(css)), || {
            shown = self.text(css);
            shown.contains(text)
        });
        shown
    }

    /// Waits until an expression is true.
    pub fn until(&self, expression: &str) {
        until(expression, || self.value(expression) == true);
    }

    /// A window as wide and high as that, of a phone or not.
    pub fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.tell("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Whether the system prefers `dark` or `light`.
    pub fn prefer(&self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.tell("Emulation.setEmulatedMedia", &json!({ "features": [feature] }));
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        self.post("/se/log", &json!({ "type": kind })).as_array().expect("a list").clone()
    }

    /// What the page has complained of since the last time: errors, warnings, and requests that were refused.
    pub fn complaints(&self) -> Vec<String> {
        self.log("browser").iter().map(|line| line["message"].to_string()).collect()
    }

    /// The addresses that were asked for since the last time.
    pub fn asked(&self) -> Vec<String> {
        let sent = |line: &Value| {
            let told: Value = serde_json::from_str(line["message"].as_str()?).ok()?;
            let message = &told["message"];
            (message["method"] == "Network.requestWillBeSent")
                .then(|| message["params"]["request"]["url"].as_str().map(str::to_owned))?
        };
        self.log("performance").iter().filter_map(sent).collect()
    }

    /// Writes what is shown, to the end of the page, to a file.
    pub fn picture(&self, file: &Path) {
        let shown = json!({ "captureBeyondViewport": true, "format": "png" });
        let taken = self.post("/goog/cdp/execute", &json!({ "cmd": "Page.captureScreenshot", "params": shown }));
        fs::write(file, BASE64_STANDARD.decode(taken["data"].as_str().expect("a picture")).expect("base64"))
            .expect("written");
    }
}

fn stroke(kind: &str, key: &str) -> Value {
    json!({ "type": kind, "value": key })
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.session.is_empty() {
            let shown = self.answer(
                "POST",
                &format!("/session/{}/execute/sync", self.session),
                &json!({ "script": "return location.href + '\\n' + document.body.innerText", "args": [] }),
            );
            eprintln!("--- the page\n{}", shown.1.as_str().unwrap_or_default());
        }
        if !self.session.is_empty() {
            self.answer("DELETE", &format!("/session/{}", self.session), &Value::Null);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
