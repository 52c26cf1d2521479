//! How a mapping is adopted: whether its keys are the sidecar's to answer, or still the upstream's.

use serde::{Deserialize, Serialize};

/// Who answers for the keys of a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The upstream, as if the mapping were not there.
    Off,
    /// The upstream; what the mapping would have answered is compared in the background.
    Shadow,
    /// The sidecar; the upstream where the store has not the key.
    Fallback,
    /// The sidecar.
    #[default]
    On,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Off, Self::Shadow, Self::Fallback, Self::On];

    /// The name that is written in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Shadow => "shadow",
            Self::Fallback => "fallback",
            Self::On => "on",
        }
    }

    /// The mode of this name, in capitals or not.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| name.eq_ignore_ascii_case(mode.name().as_bytes()))
    }

    /// True when the sidecar answers, or says who does.
    #[must_use]
    pub const fn owns(self) -> bool {
        matches!(self, Self::On | Self::Fallback)
    }
}
