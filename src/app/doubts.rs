//! What is to be known of a mapping that has another mode, beside what happened while it changed over: of which time it
//! is not known which of its keys were taken from the upstream, and where the upstream may still have keys that were
//! deleted here.

use std::collections::HashMap;

use super::mirroring::is_brought;
use crate::config::Mode;
use crate::mapping::{Kind, Mapping, Modes, Setting};

/// The list of written keys is not whole.
const UNKNOWN: &str = "which keys were taken from the upstream is not known of all of that time (it is not kept over \
    a restart, nor noted while mode = \"on\"): keys that were written or deleted then may be missing there, or be as \
    they were before";

/// Copies come to light.
const OLD_COPIES: &str = "keys that were deleted, or have ended, while the mapping was on are answered by the \
    upstream again if it still has them: UNLINK there what should be gone";

/// A mapping as it was left last.
#[derive(Clone, Copy, Debug)]
struct Known {
    setting: Setting,
    /// Keys may have been taken from the upstream, or written, that nobody has noted.
    has_gap: bool,
}

/// Of every mapping, by its pattern.
#[derive(Debug, Default)]
pub(super) struct Doubts(HashMap<String, Known>);

impl Doubts {
    /// These modes are in force from now on.
    pub(super) fn look(&mut self, mappings: &[Mapping], modes: &Modes) {
        let known = |mapping: &Mapping| {
            let (pattern, setting) = (mapping.pattern.text(), modes.setting(mapping.id));
            let has_gap = has_gap(self.0.get(pattern).copied(), mapping, setting);
            (pattern.to_owned(), Known { setting, has_gap })
        };
        self.0 = mappings.iter().map(known).collect();
    }

    /// What is to be known when a mapping has another setting than before.
    pub(super) fn notes(&self, mapping: &Mapping, before: Setting, after: Setting) -> Vec<&'static str> {
        let has_gap = self.0.get(mapping.pattern.text()).is_some_and(|known| known.has_gap);
        let is_unknown = has_gap && before.gives_up(after);
        let has_old = before.owns_some() && before.mode == Mode::On && after.mode == Mode::Fallback;
        let notes = [is_unknown.then_some(UNKNOWN), (has_old && after.owns_some()).then_some(OLD_COPIES)];
        notes.into_iter().flatten().collect()
    }
}

/// Whether that is so of a mapping with this setting, which was as it is `known`; nothing where it is new, or the
/// sidecar has just begun.
fn has_gap(known: Option<Known>, mapping: &Mapping, now: Setting) -> bool {
    let falls_back = now.mode == Mode::Fallback && now.owns_some() && mapping.kind == Kind::Cache;
    match known {
        _ if !now.owns_some() => false,
        None => falls_back,
        Some(Known { setting, has_gap }) => {
            let was_on = setting.owns_some() && setting.mode == Mode::On;
            let was_unnoted = was_on && mapping.config.is_written() && !is_brought(mapping, setting.mode);
            has_gap || falls_back && was_unnoted
        }
    }
}
