//! Which mode each mapping is in, and which one its configuration says.

use serde::Serialize;

use super::subject::Subject;
use crate::mapping::{Mapping, Mappings, Modes};

/// One mapping's mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct ModeFacts {
    pub mapping: String,
    pub mode: &'static str,
    pub percent: u8,
    pub configured_mode: &'static str,
    pub configured_percent: u8,
    pub note: String,
}

/// What a mode that was asked for lasts until.
const UNTIL_RESTART: &str = "a restart and SIGHUP go back to what is configured";

impl ModeFacts {
    fn of(mapping: &Mapping, modes: &Modes) -> Self {
        let (now, configured) = (modes.setting(mapping.id), modes.configured_setting(mapping.id));
        Self {
            mapping: mapping.pattern.text().to_owned(),
            mode: now.mode.name(),
            percent: now.percent,
            configured_mode: configured.mode.name(),
            configured_percent: configured.percent,
            note: if now == configured { String::new() } else { UNTIL_RESTART.to_owned() },
        }
    }

    /// The same, with what else is to be known.
    #[must_use]
    pub fn noting(self, notes: &[String]) -> Self {
        let all = notes.iter().chain(Some(&self.note).filter(|note| !note.is_empty()));
        let note = all.map(String::as_str).collect::<Vec<_>>().join("; ");
        Self { note, ..self }
    }
}

/// The modes of all mappings, definitions first.
#[must_use]
pub fn mode_facts(mappings: &Mappings, modes: &Modes) -> Vec<ModeFacts> {
    mappings.list.iter().map(|mapping| ModeFacts::of(mapping, modes)).collect()
}

impl Subject {
    /// The mode of every mapping.
    #[must_use]
    pub fn modes(&self) -> Vec<ModeFacts> {
        mode_facts(&self.mappings, &self.modes)
    }

    /// The mappings of which some keys are the upstream's, each with its mode.
    #[must_use]
    pub(super) fn not_wholly_on(&self) -> Vec<String> {
        let is_partial = |fact: &ModeFacts| fact.mode != "on" || fact.percent < 100;
        let shown = |fact: ModeFacts| format!("{}: {} {} %", fact.mapping, fact.mode, fact.percent);
        self.modes().into_iter().filter(is_partial).map(shown).collect()
    }
}
