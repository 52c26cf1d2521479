//! Which of the mappings' keys are owned now. One set of modes is never changed: another one takes its place
//! (`app/modes.rs`), as an edition does.

use tokio_util::sync::CancellationToken;

use super::Mapping;
use crate::config::Mode;
use crate::keys::{MappingId, share_of};

/// Who answers for a mapping's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The mode.
    pub mode: Mode,
    /// For so many of a hundred keys; the others are the upstream's.
    pub percent: u8,
}

impl Setting {
    /// Every key is owned.
    const WHOLE: Self = Self { mode: Mode::On, percent: 100 };

    /// What the configuration says.
    #[must_use]
    pub const fn configured(mapping: &Mapping) -> Self {
        Self { mode: mapping.config.mode, percent: mapping.config.percent }
    }

    /// True when the mode holds for this key.
    fn is_for(self, key: &[u8]) -> bool {
        self.percent >= 100 || share_of(key) < self.percent
    }

    /// True when some keys that are owned are not by the `other` setting.
    #[must_use]
    pub const fn gives_up(self, other: Self) -> bool {
        self.owns_some() && (!other.owns_some() || other.percent < self.percent)
    }

    /// True when some keys are owned.
    #[must_use]
    pub const fn owns_some(self) -> bool {
        self.mode.owns() && self.percent > 0
    }
}

/// Mappings that are changing over: nothing is asked of their keys until that is done.
#[derive(Clone, Debug)]
struct Change {
    /// By their numbers.
    is_changing: Vec<bool>,
    done: CancellationToken,
}

/// The modes of all mappings.
#[derive(Clone, Debug, Default)]
pub struct Modes {
    /// By the mapping's number; what is not there is owned as a whole.
    settings: Vec<Setting>,
    /// What the configuration says, in the same order.
    configured: Vec<Setting>,
    /// Some key of some mapping is not owned.
    is_partial: bool,
    /// Some mapping is compared with the upstream.
    shadows: bool,
    /// The upstream is asked for some keys that the store has not.
    falls_back: bool,
    change: Option<Change>,
}

impl Modes {
    /// Modes with these settings, by the numbers of the mappings, where the configuration says something else.
    #[must_use]
    pub fn of(settings: Vec<Setting>, configured: Vec<Setting>) -> Self {
        Self {
            configured,
            is_partial: settings.iter().any(|setting| *setting != Setting::WHOLE),
            shadows: settings.iter().any(|setting| setting.mode == Mode::Shadow && setting.percent > 0),
            falls_back: settings.iter().any(|setting| setting.mode == Mode::Fallback && setting.percent > 0),
            settings,
            change: None,
        }
    }

    /// What the configuration says of these mappings.
    #[must_use]
    pub fn configured(mappings: &[Mapping]) -> Self {
        let configured: Vec<Setting> = mappings.iter().map(Setting::configured).collect();
        Self::of(configured.clone(), configured)
    }

    /// The same settings, while those mappings are changing over that are named. `done` says when that ends.
    #[must_use]
    pub fn changing(&self, mappings: &[MappingId], done: CancellationToken) -> Self {
        let mut is_changing = vec![false; self.settings.len()];
        mappings.iter().for_each(|mapping| is_changing[mapping.index()] = true);
        Self { change: Some(Change { is_changing, done }), ..self.clone() }
    }

    /// The setting of a mapping.
    #[must_use]
    pub fn setting(&self, mapping: MappingId) -> Setting {
        self.settings.get(mapping.index()).copied().unwrap_or(Setting::WHOLE)
    }

    /// What the configuration says of a mapping.
    #[must_use]
    pub fn configured_setting(&self, mapping: MappingId) -> Setting {
        self.configured.get(mapping.index()).copied().unwrap_or(Setting::WHOLE)
    }

    /// What the configuration says, by the numbers of the mappings.
    #[must_use]
    pub fn all_configured(&self) -> Vec<Setting> {
        self.configured.clone()
    }

    /// The settings, by the numbers of the mappings.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        self.settings.clone()
    }

    /// True when a key of the mapping is owned.
    #[inline]
    #[must_use]
    pub fn owns(&self, mapping: MappingId, key: &[u8]) -> bool {
        !self.is_partial || self.owns_by_setting(mapping, key)
    }

    fn owns_by_setting(&self, mapping: MappingId, key: &[u8]) -> bool {
        let setting = self.setting(mapping);
        setting.mode.owns() && setting.is_for(key)
    }

    /// True when some key of the mapping may be owned.
    #[must_use]
    pub fn owns_some(&self, mapping: MappingId) -> bool {
        self.setting(mapping).owns_some()
    }

    /// True when every key of the mapping is owned.
    #[must_use]
    pub fn owns_all(&self, mapping: MappingId) -> bool {
        let setting = self.setting(mapping);
        setting.mode.owns() && setting.percent >= 100
    }

    /// True when keys that a mapping's pattern matches are the upstream's.
    #[must_use]
    pub const fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// True when a request may have to wait, be compared, or ask both sides: routing looks at its keys once more.
    #[inline]
    #[must_use]
    pub const fn looks_twice(&self) -> bool {
        self.shadows || self.falls_back || self.change.is_some()
    }

    /// True when the upstream is asked for some keys that the store has not.
    #[must_use]
    pub const fn falls_back_somewhere(&self) -> bool {
        self.falls_back
    }

    /// True when the upstream is asked for this key, if the store has it not.
    #[must_use]
    pub fn falls_back(&self, mapping: MappingId, key: &[u8]) -> bool {
        let setting = self.setting(mapping);
        self.falls_back && setting.mode == Mode::Fallback && setting.is_for(key)
    }

    /// True if these are the same settings, and nothing is changing over.
    #[must_use]
    pub fn is_as(&self, other: &Self) -> bool {
        self.settings == other.settings && !self.is_changing() && !other.is_changing()
    }

    /// True while some mapping is changing over.
    #[must_use]
    pub const fn is_changing(&self) -> bool {
        self.change.is_some()
    }

    /// True while the mapping is changing over.
    #[must_use]
    pub fn is_held(&self, mapping: MappingId) -> bool {
        self.change.as_ref().is_some_and(|change| change.is_changing.get(mapping.index()) == Some(&true))
    }

    /// Comes when what is changing over is done; at once if nothing is.
    pub fn changed(&self) -> impl Future<Output = ()> + use<> {
        let done = self.change.as_ref().map(|change| change.done.clone());
        async move {
            if let Some(done) = done {
                done.cancelled().await;
            }
        }
    }

    /// True when reads of this key are to be compared with what the mapping would have answered.
    #[must_use]
    pub fn shadows(&self, mapping: MappingId, key: &[u8]) -> bool {
        let setting = self.setting(mapping);
        setting.mode == Mode::Shadow && setting.is_for(key)
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::{Modes, Setting};
    use crate::config::Mode;
    use crate::keys::MappingId;

    fn modes(settings: &[(Mode, u8)]) -> Modes {
        let settings = settings.iter().map(|(mode, percent)| Setting { mode: *mode, percent: *percent });
        Modes::of(settings.collect(), Vec::new())
    }

    fn owned(modes: &Modes, keys: usize) -> Vec<usize> {
        (0..keys).filter(|id| modes.owns(MappingId::default(), format!("player:{id}").as_bytes())).collect()
    }

    #[test]
    fn a_percentage_owns_its_part_and_a_larger_one_only_more() {
        let mut before = Vec::new();
        for percent in [0, 1, 10, 50, 99, 100] {
            let now = owned(&modes(&[(Mode::On, percent)]), 10_000);
            assert!(now.len().abs_diff(100 * usize::from(percent)) < 150, "{percent}: {}", now.len());
            assert!(before.iter().all(|key| now.contains(key)), "{percent}");
            before = now;
        }
        assert_eq!(owned(&modes(&[(Mode::Off, 100)]), 100).len(), 0);
        assert_eq!(owned(&modes(&[(Mode::Shadow, 100)]), 100).len(), 0);
        assert_eq!(owned(&Modes::default(), 100).len(), 100);
    }

    #[test]
    fn what_is_changing_over_is_held_until_that_is_done() {
        let [first, second] = [0, 1].map(MappingId::new);
        let (before, done) = (modes(&[(Mode::On, 100), (Mode::On, 100)]), CancellationToken::new());
        assert!(!before.looks_twice() && !before.is_held(first));
        let during = before.changing(&[second], done);
        assert!(during.looks_twice() && during.is_held(second) && !during.is_held(first));
        for mode in [Mode::Shadow, Mode::Fallback] {
            assert!(modes(&[(mode, 5)]).looks_twice() && !modes(&[(mode, 0)]).looks_twice());
        }
    }

    #[test]
    fn a_key_falls_back_that_is_owned_in_this_mode() {
        let [half, whole] = [50, 100].map(|percent| modes(&[(Mode::Fallback, percent)]));
        for id in 0..100 {
            let key = format!("player:{id}");
            let falls_back = |modes: &Modes| modes.falls_back(MappingId::default(), key.as_bytes());
            assert_eq!(falls_back(&half), half.owns(MappingId::default(), key.as_bytes()), "{key}");
            assert!(falls_back(&whole) && !falls_back(&modes(&[(Mode::On, 100)])), "{key}");
        }
    }
}
