//! A real Prometheus that scrapes one sidecar, with the alert rules of `deploy/prometheus`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::sidecar::Sidecar;
use super::{free_port, until};

/// The alert rules that are shipped.
pub const RULES: &str = include_str!("../../../deploy/prometheus/alerts.yaml");

/// Runs `promtool` in a folder, with this text as its input.
pub fn promtool(folder: &str, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("prometheus is installed (scripts/test installs it)");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

pub struct Prometheus {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Prometheus {
    /// Scrapes this sidecar and evaluates the alerts several times a second; none of them waits before it fires.
    pub fn over(sidecar: &Sidecar) -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
        let impatient = RULES.lines().filter(|line| !line.trim_start().starts_with("for:"));
        let rules: String = impatient.map(|line| line.to_owned() + "\n").collect();
        let target = sidecar.logged_port("admin port").expect("an admin port");
        let config = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}\nrule_files: \
             [alerts.yaml]\nscrape_configs: [{{job_name: hearthside, static_configs: [{{targets: \
             ['127.0.0.1:{target}']}}]}}]\n"
        );
        fs::write(folder.path().join("alerts.yaml"), rules).expect("written");
        fs::write(folder.path().join("prometheus.yaml"), config).expect("written");
        let child = Command::new("prometheus")
            .args(["--config.file=prometheus.yaml", "--storage.tsdb.path=data", "--log.level=error"])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(folder.path())
            .spawn()
            .expect("prometheus is installed (scripts/test installs it)");
        let prometheus = Self { child, port, _folder: folder };
        until("Prometheus has scraped the sidecar twice", || {
            let count = prometheus.try_ask("count_over_time(up[1h]) > 1");
            count.is_ok_and(|found| !found.is_empty())
        });
        prometheus
    }

    fn get(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        // Of HTTP/1.0 the body is not in pieces.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
    }

    /// The series that an expression gives now, or why there are none.
    pub fn try_ask(&self, expression: &str) -> Result<Vec<Value>, String> {
        let query: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let body = self.get(&format!("/api/v1/query?query={query}")).map_err(|error| error.to_string())?;
        let told: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
        match &told["data"]["result"] {
            Value::Array(series) if told["status"] == "success" => Ok(series.clone()),
            _ => Err(body),
        }
    }

    /// The series that an expression gives now.
    pub fn ask(&self, expression: &str) -> Vec<Value> {
        self.try_ask(expression).unwrap_or_else(|why| panic!("{expression}: {why}"))
    }

    /// The alerts that fire now, by their names.
    pub fn firing(&self) -> Vec<String> {
        let firing = self.ask("ALERTS{alertstate=\"firing\"}");
        let mut names: Vec<String> =
            firing.iter().map(|alert| alert["metric"]["alertname"].as_str().expect("a name").to_owned()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Returns when all of these fire.
    pub fn until_fires(&self, alerts: &[&str]) {
        let mut firing = Vec::new();
        let start = std::time::Instant::now();
        while !alerts.iter().all(|alert| firing.iter().any(|name| name == alert)) {
            assert!(start.elapsed().as_secs() < 20, "{alerts:?} do not fire, but {firing:?}");
            std::thread::sleep(std::time::Duration::from_millis(20));
            firing = self.firing();
        }
    }

    /// Returns when nothing fires.
    pub fn until_calm(&self) {
        until("no alert fires", || self.firing().is_empty());
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _ended = self.child.wait();
    }
}
