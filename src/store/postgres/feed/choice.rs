//! Which feed is taken where `store.feed = "auto"` leaves it open: replication where the server and the role allow it
//! and the publication tells everything that triggers would tell, else notices. It is asked at the start, and again
//! whenever the feed has to be connected again: a feed that is connected is never given up for another one. The outbox
//! is never taken so: it needs triggers of its own, and somebody who wants them.

use super::{FeedKind, Feeds};
use crate::config;
use crate::mapping::Mapping;
use crate::store::postgres::feed::ability::Ability;
use crate::store::triggers::{Lack, Means};
use crate::store::{StoreError, publication, triggers};

/// How changes are told now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// By which feed.
    pub kind: FeedKind,
    /// Why it is that one.
    pub why: String,
    /// Whether the other one may take its place.
    pub(super) has_fallback: bool,
}

impl Taken {
    /// What the settings say.
    pub(super) fn fixed(wanted: config::Feed) -> Self {
        let (kind, word) = match wanted {
            // Until the server has been asked.
            config::Feed::Auto => (FeedKind::Notify, "auto"),
            config::Feed::Notify => (FeedKind::Notify, "notify"),
            config::Feed::Outbox => (FeedKind::Outbox, "outbox"),
            config::Feed::Replication => (FeedKind::Replication, "replication"),
        };
        Self { kind, why: format!("store.feed = \"{word}\""), has_fallback: false }
    }

    /// Of what the server can do, and what either feed would miss of the mappings. `refused` is why a stream could not
    /// be had a moment ago, although the server answers.
    fn of(ability: &Ability, publication: &str, refused: Option<&str>, untold: &Untold) -> Self {
        let notify = |why: String| Self { kind: FeedKind::Notify, why, has_fallback: false };
        let has_fallback = untold.by_triggers.is_subset_of(&untold.by_publication);
        let why = "the server and the role allow it".to_owned();
        let replication = Self { kind: FeedKind::Replication, why, has_fallback };
        if let Some(why) = ability.why_not(publication) {
            return notify(why);
        }
        if !untold.by_publication.is_subset_of(&untold.by_triggers) {
            return notify(untold.by_publication.texts());
        }
        // Where triggers do not tell everything, a stream that cannot be had now is tried again and again.
        let passing = ability.why_not_now().or_else(|| refused.map(str::to_owned)).filter(|_| has_fallback);
        passing.map_or(replication, notify)
    }
}

/// What mappings are not told of all their changes.
#[derive(Debug)]
struct Missed(Vec<Lack>);

impl Missed {
    fn has(&self, mapping: usize) -> bool {
        self.0.iter().any(|lack| lack.mappings.contains(&mapping))
    }

    /// Whether the mappings that miss something here miss something there, too.
    fn is_subset_of(&self, other: &Self) -> bool {
        self.0.iter().flat_map(|lack| &lack.mappings).all(|mapping| other.has(*mapping))
    }

    fn texts(&self) -> String {
        self.0.iter().map(|lack| lack.text.as_str()).collect::<Vec<_>>().join("; ")
    }
}

/// The same by each feed.
struct Untold {
    by_publication: Missed,
    by_triggers: Missed,
}

impl Feeds {
    /// Asks which feed serves these mappings, where the settings leave that open. True where it is another one than
    /// before.
    ///
    /// # Errors
    /// [`StoreError`]: the server does not answer, and the feed stays the one that it is.
    pub(in crate::store) async fn choose(
        &self,
        mappings: &[Mapping],
        refused: Option<&str>,
    ) -> Result<bool, StoreError> {
        if self.wanted != config::Feed::Auto {
            return Ok(false);
        }
        let asked = tokio::time::timeout(self.patience * (1 + mappings.len() as u32), self.ask(mappings, refused));
        let silent = |_| Err(StoreError::Unavailable("it fell silent while it was asked about change feeds".into()));
        let now = asked.await.unwrap_or_else(silent)?;
        let before = self.taken.swap(now.clone().into());
        if now.why != before.why {
            match now.kind {
                FeedKind::Replication => tracing::info!(why = now.why, "changes are told by logical replication"),
                FeedKind::Notify | FeedKind::Outbox => {
                    tracing::info!(why = now.why, "changes are told by triggers, not by replication")
                }
            }
        }
        Ok(now.kind != before.kind)
    }

    async fn ask(&self, mappings: &[Mapping], refused: Option<&str>) -> Result<Taken, StoreError> {
        let ability = Ability::ask(&self.questions.pool(), &self.publication).await?;
        let mappings: Vec<&Mapping> = mappings.iter().filter(|mapping| mapping.config.file.is_none()).collect();
        let by_publication =
            Missed(publication::missing_of(&self.questions.pool(), &mappings, &self.publication).await?);
        let by_triggers = Missed(triggers::missing_of(&self.questions.pool(), &mappings, Means::Notices).await?);
        Ok(Taken::of(&ability, &self.publication, refused, &Untold { by_publication, by_triggers }))
    }
}

#[cfg(test)]
mod tests {
    use super::{FeedKind, Missed, Taken, Untold};
    use crate::store::postgres::feed::ability::Ability;
    use crate::store::triggers::Lack;

    fn missed(mappings: &[usize]) -> Missed {
        let lack = Lack { text: "t".into(), mappings: mappings.to_vec() };
        Missed(if mappings.is_empty() { Vec::new() } else { vec![lack] })
    }

    fn taken(ability: &Ability, refused: Option<&str>, by_publication: &[usize], by_triggers: &[usize]) -> Taken {
        let untold = Untold { by_publication: missed(by_publication), by_triggers: missed(by_triggers) };
        Taken::of(ability, "p", refused, &untold)
    }

    #[test]
    fn replication_is_taken_where_it_tells_what_triggers_tell() {
        let able = Ability::of_everything();
        assert_eq!(taken(&able, None, &[], &[]).kind, FeedKind::Replication);
        assert_eq!(taken(&able, None, &[], &[1]).kind, FeedKind::Replication);
        assert_eq!(taken(&able, None, &[2], &[1, 2]).kind, FeedKind::Replication);
        let worse = taken(&able, None, &[0], &[]);
        assert_eq!((worse.kind, worse.why.as_str()), (FeedKind::Notify, "t"));
        assert_eq!(taken(&Ability { has_publication: false, ..able }, None, &[], &[0]).kind, FeedKind::Notify);
    }

    #[test]
    fn notices_take_its_place_only_where_they_tell_everything() {
        let able = Ability::of_everything();
        let without_slots = Ability { has_slots: false, ..Ability::of_everything() };
        assert_eq!(taken(&able, Some("refused"), &[], &[]).why, "refused");
        assert_eq!(taken(&able, Some("refused"), &[], &[]).kind, FeedKind::Notify);
        assert_eq!(taken(&without_slots, None, &[1], &[1]).kind, FeedKind::Notify);
        assert_eq!(taken(&without_slots, None, &[], &[1]).kind, FeedKind::Replication);
        assert_eq!(taken(&able, Some("refused"), &[], &[0]).kind, FeedKind::Replication);
    }
}
