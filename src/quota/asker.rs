//! One command that may need loads. All its loads together take one place of its user and one of each mapping, and its
//! first load of a mapping is the one that the mapping's rate refuses: a command is let in as a whole, or not.

use std::sync::Arc;

use super::{Limit, Place, Quota, Refused};
use crate::telemetry::clock::Tick;
use crate::telemetry::traces::CommandTrace;

/// The places that a load takes until it has ended.
pub type Places = [Option<Arc<Place>>; 2];

/// One command that may need loads.
#[derive(Debug)]
pub struct Asker {
    user: Option<Arc<Quota>>,
    now: Tick,
    taken: Vec<Arc<Place>>,
    /// Why the command is answered with an error: nothing more is loaded for it.
    refused: Option<Refused>,
    /// What of the command is traced.
    pub trace: Option<Arc<CommandTrace>>,
}

impl Asker {
    /// A command that came at `now`, of a user with such a quota.
    #[must_use]
    pub const fn new(user: Option<Arc<Quota>>, now: Tick) -> Self {
        Self { user, now, taken: Vec::new(), refused: None, trace: None }
    }

    /// The same, of a command that is traced, perhaps.
    #[must_use]
    pub fn traced(self, trace: Option<Arc<CommandTrace>>) -> Self {
        Self { trace, ..self }
    }

    /// Lets one load begin.
    ///
    /// # Errors
    /// A limit of its user or of the mapping is reached.
    pub fn admit(&mut self, mapping: &Arc<Quota>) -> Result<Places, Refused> {
        if let Some(refused) = &self.refused {
            return Err(refused.again());
        }
        let admitted = self.admit_one(mapping);
        self.refused = admitted.as_ref().err().cloned();
        admitted
    }

    fn admit_one(&mut self, mapping: &Arc<Quota>) -> Result<Places, Refused> {
        let of_user = self.user.as_ref().map(|user| self.place(user)).transpose()?;
        let of_mapping = self.place(mapping)?;
        match of_mapping.is_first {
            true => mapping.take(self.now)?,
            false => mapping.spend(self.now, 1),
        }
        Ok([of_user.map(|taken| self.keep(taken)), Some(self.keep(of_mapping))])
    }

    /// A place of `quota`: the one that the command has there, or its first.
    fn place(&self, quota: &Arc<Quota>) -> Result<Taken, Refused> {
        if let Some(place) = self.taken.iter().find(|place| place.is_of(quota)) {
            return Ok(Taken { place: place.clone(), is_first: false });
        }
        let place = Place::of(quota).ok_or_else(|| quota.refused(Limit::Loads))?;
        Ok(Taken { place: Arc::new(place), is_first: true })
    }

    fn keep(&mut self, taken: Taken) -> Arc<Place> {
        if taken.is_first {
            self.taken.push(taken.place.clone());
        }
        taken.place
    }
}

/// A place, and whether the command had none there before.
struct Taken {
    place: Arc<Place>,
    is_first: bool,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Asker;
    use crate::quota::{Allowance, Quota, Whose};
    use crate::telemetry::clock::Tick;

    fn quota(whose: Whose, rate: Option<&str>, loads: Option<u32>) -> Arc<Quota> {
        let rate = rate.map(|rate| serde_json::from_value(rate.into()).expect("a rate"));
        Arc::new(Quota::new(whose, "game", Allowance { rate, burst: None, loads }))
    }

    fn asker(user: &Arc<Quota>) -> Asker {
        Asker::new(Some(user.clone()), Tick::from_ms(1))
    }

    #[test]
    fn the_loads_of_a_command_take_one_place_until_the_last_has_ended() {
        let (user, mapping) = (quota(Whose::User, None, Some(1)), quota(Whose::Mapping, None, Some(2)));
        let mut first = asker(&user);
        let mut loads: Vec<_> = (0..5).map(|_| first.admit(&mapping).expect("one command")).collect();
        drop(first);
        let refused = asker(&user).admit(&mapping).expect_err("its user has one under way");
        assert!(refused.text().contains(" 1 commands of the user 'game' "), "{}", refused.text());
        loads.truncate(1);
        assert!(asker(&user).admit(&mapping).is_err());
        drop(loads);
        assert!(asker(&user).admit(&mapping).is_ok());
    }

    #[test]
    fn what_a_mapping_refuses_takes_no_place_of_the_user() {
        let (user, mapping) = (quota(Whose::User, None, Some(1)), quota(Whose::Mapping, Some("1/s"), None));
        drop(asker(&user).admit(&mapping).expect("the first"));
        let refused = asker(&user).admit(&mapping).expect_err("too fast");
        assert!(refused.text().contains("load_rate of its block"), "{}", refused.text());
        mapping.allow(Allowance::default());
        assert!(asker(&user).admit(&mapping).is_ok());
    }

    #[test]
    fn a_command_with_more_keys_than_the_rate_is_let_in_and_paid_for() {
        let (user, mapping) = (quota(Whose::User, None, None), quota(Whose::Mapping, Some("10/s"), None));
        let mut large = asker(&user);
        assert!((0..30).all(|_| large.admit(&mapping).is_ok()));
        let at = |ms| Asker::new(None, Tick::from_ms(ms)).admit(&mapping).is_ok();
        assert!(!at(2000) && at(2101));
    }

    #[test]
    fn a_reload_keeps_who_is_inside() {
        let (user, mapping) = (quota(Whose::User, None, None), quota(Whose::Mapping, None, None));
        let loads: Vec<_> = (0..3).map(|_| asker(&user).admit(&mapping).expect("no limit")).collect();
        user.allow(Allowance { loads: Some(3), ..Allowance::default() });
        assert!(asker(&user).admit(&mapping).is_err());
        drop(loads);
        assert!(asker(&user).admit(&mapping).is_ok());
    }
}
