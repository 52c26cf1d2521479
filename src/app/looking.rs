//! The command line looks into a running sidecar: it asks the admin port of the same configuration.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::admin::ask;
use crate::config::Admin;
use crate::inspect::Fact;

/// What is said where keys are not told.
const KEYS_HIDDEN: &str = "
Keys are told here only if admin.token_file is set. HEARTHSIDE TOP and HEARTHSIDE SLOWLOG over the Redis port tell them.
";

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains them")]
pub enum Question {
    Status,
    Mappings,
    Modes,
    /// Another mode is wanted.
    Mode {
        mapping: String,
        mode: String,
        percent: Option<u8>,
    },
    Key {
        key: String,
        with_plan: bool,
    },
    Top {
        by: String,
    },
    Slowlog,
    Clients,
    Events,
}

impl Question {
    const fn method(&self) -> &'static str {
        if matches!(self, Self::Mode { .. }) { "POST" } else { "GET" }
    }

    fn path(&self) -> String {
        let quoted = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        match self {
            Self::Status => "/api/status".to_owned(),
            Self::Mappings => "/api/mappings".to_owned(),
            Self::Modes => "/api/modes".to_owned(),
            Self::Mode { mapping, mode, percent } => {
                let percent = percent.map_or_else(String::new, |percent| format!("&percent={percent}"));
                format!("/api/mode?mapping={}&mode={}{percent}", quoted(mapping), quoted(mode))
            }
            Self::Key { key, with_plan } => {
                format!("/api/key?key={}{}", quoted(key), if *with_plan { "&plan" } else { "" })
            }
            Self::Top { by } => format!("/api/top?by={}", quoted(by)),
            Self::Slowlog => "/api/slowlog".to_owned(),
            Self::Clients => "/api/clients".to_owned(),
            Self::Events => "/api/events".to_owned(),
        }
    }
}

/// The answer, as lines to be read or as JSON.
///
/// # Errors
/// Why there is none.
pub fn look(admin: &Admin, question: &Question, as_json: bool) -> Result<String, String> {
    let (status, body) = ask(admin, question.method(), &question.path()).map_err(|error| error.to_string())?;
    if status != 200 {
        return Err(body.trim().to_owned());
    }
    let hides_keys = body.contains("\"key\":null");
    let fact = Fact::read(&body).filter(|_| !as_json);
    let hint = if hides_keys { KEYS_HIDDEN } else { "" };
    Ok(fact.map_or(body, |fact| fact.text() + hint))
}
