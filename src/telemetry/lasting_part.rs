//! The parts of the sidecar that go on for as long as it runs, in an operator's words.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is explained by `LastingPart::words`")]
pub enum LastingPart {
    Accepting,
    Admin,
    ChangeFeed,
    Cluster,
    Deferring,
    Definitions,
    Flushing,
    History,
    IdleConnections,
    Journal,
    Near,
    PrivateServer,
    ReadingAgain,
    Reaper,
    Refresher,
    Renewals,
    Replicas,
    SchemaWatch,
    Sentinels,
    StoreHealth,
    Subscriptions,
    Sweeper,
    TakingOver,
    Tidying,
    Traces,
    UpstreamConnections,
    UpstreamHealth,
    Verifier,
    WarmStart,
    Worker,
}

/// Each with its label in metrics, what it is, and what a panic of it means and what follows.
const ALL: [(LastingPart, [&str; 3]); 30] = [
    (
        LastingPart::Accepting,
        ["accepting", "taking in clients", "One newcomer may have been closed; the others are taken in again"],
    ),
    (LastingPart::Admin, ["admin", "a request to the admin port", "It is answered with 500; the next ones are served"]),
    (
        LastingPart::ChangeFeed,
        [
            "change_feed",
            "the change feed",
            "Changes may have been missed: it counts as a gap, at whose end what is in memory is forgotten. The feed \
             begins again",
        ],
    ),
    (
        LastingPart::Cluster,
        [
            "cluster",
            "the watch over the upstream's cluster",
            "A slot that has moved may have been noticed later; it begins again and asks every node",
        ],
    ),
    (
        LastingPart::Deferring,
        [
            "deferring",
            "the look at which mappings take deferred writes",
            "hearthside_mapping_defers was not kept up meanwhile; it is again",
        ],
    ),
    (
        LastingPart::Definitions,
        [
            "definitions",
            "the reloading of definitions",
            "Those that were being loaded are loaded again; until then their last good version is served",
        ],
    ),
    (
        LastingPart::Flushing,
        ["flushing", "the saving of deferred writes", "What waits is saved by the next attempt; nothing is lost"],
    ),
    (
        LastingPart::History,
        ["history", "the notes for the console's plots", "A few seconds are missing in them; it begins again"],
    ),
    (
        LastingPart::IdleConnections,
        [
            "idle_connections",
            "the closing of idle connections to the upstream",
            "Some may stay open for longer; it begins again",
        ],
    ),
    (
        LastingPart::Journal,
        [
            "journal",
            "the journal's writer",
            "Deferred writes are refused from now on, and what waits is not saved; what was acknowledged stays in the \
             journal. Start the sidecar again",
        ],
    ),
    (
        LastingPart::Near,
        [
            "near",
            "the listening for what changes at the upstream ([[near]])",
            "What was kept is forgotten, and keys are read at the upstream until it begins again",
        ],
    ),
    (
        LastingPart::PrivateServer,
        [
            "private_server",
            "the watch over the private redis-server",
            "The server itself goes on; one that ended meanwhile is started again",
        ],
    ),
    (
        LastingPart::ReadingAgain,
        [
            "reading_again",
            "the reading of all mappings on request",
            "What was asked for is done later: it begins again with that",
        ],
    ),
    (
        LastingPart::Reaper,
        [
            "reaper",
            "the watch over what clients hold",
            "Clients past their limits were not closed meanwhile; it begins again",
        ],
    ),
    (
        LastingPart::Refresher,
        [
            "refresher",
            "the loading of keys that have changed",
            "Some are loaded when somebody reads them, as without cache.refresh; it begins again",
        ],
    ),
    (
        LastingPart::Renewals,
        [
            "renewals",
            "the journaling of renewals by reads",
            "Some keys may end earlier than their last read says; it begins again",
        ],
    ),
    (
        LastingPart::Replicas,
        [
            "replicas",
            "the watch over the upstream's replicas",
            "Reads went to the primary meanwhile; it begins again and asks every server",
        ],
    ),
    (
        LastingPart::SchemaWatch,
        [
            "schema_watch",
            "the schema watch",
            "Changes of the schema were not seen meanwhile; it begins again and sees them",
        ],
    ),
    (
        LastingPart::Sentinels,
        [
            "sentinels",
            "the watch over the sentinels",
            "A failover may have been noticed later; it begins again and asks all of them",
        ],
    ),
    (
        LastingPart::StoreHealth,
        [
            "store_health",
            "the watch over the store's health",
            "/readyz went on with the last answer meanwhile; it begins again",
        ],
    ),
    (
        LastingPart::Subscriptions,
        [
            "subscriptions",
            "the shared subscriber connection",
            "Messages may have been missed; everything is subscribed again",
        ],
    ),
    (
        LastingPart::Sweeper,
        ["sweeper", "the sweeper", "Rows of keys that have ended stay in the store for longer; it begins again"],
    ),
    (
        LastingPart::TakingOver,
        [
            "taking_over",
            "the taking over of what the journal held at the start",
            "Nothing is saved before it is done; it begins again",
        ],
    ),
    (
        LastingPart::Tidying,
        ["tidying", "the housekeeping of memory", "What was forgotten takes memory for longer; it begins again"],
    ),
    (
        LastingPart::Traces,
        ["traces", "the exporting of traces", "The spans that it had taken are lost; it begins again"],
    ),
    (
        LastingPart::UpstreamConnections,
        [
            "upstream_connections",
            "a connection to the upstream",
            "It is closed like one that the upstream has closed: what was under way on it is sent again or answered \
             with an error, one client is disconnected, and it is opened again",
        ],
    ),
    (
        LastingPart::UpstreamHealth,
        [
            "upstream_health",
            "the watch over the upstream's health",
            "hearthside_upstream_up was not kept up meanwhile; it begins again",
        ],
    ),
    (
        LastingPart::Verifier,
        ["verifier", "the verifier", "The hits that it had taken are not verified; it begins again"],
    ),
    (
        LastingPart::WarmStart,
        ["warm_start", "the warm start", "Keys that were hot may be loaded or noted later; it begins again"],
    ),
    (
        LastingPart::Worker,
        ["worker", "a worker thread's loop", "Its clients were closed and may connect again; it begins again"],
    ),
];

impl LastingPart {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        ALL.into_iter().map(|(part, _)| part)
    }

    fn about(self) -> [&'static str; 3] {
        ALL.into_iter().find(|(part, _)| *part == self).map_or([""; 3], |(_, about)| about)
    }

    /// Its label in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.about()[0]
    }

    /// What it is.
    #[must_use]
    pub fn words(self) -> &'static str {
        self.about()[1]
    }

    /// What a panic of it means, and what follows.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        self.about()[2]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{ALL, LastingPart};

    #[test]
    fn every_part_is_listed_once_with_a_name_of_its_own() {
        let names: HashSet<&str> = LastingPart::all().map(LastingPart::name).collect();
        let last = LastingPart::Worker as usize;
        assert_eq!((names.len(), ALL.len()), (last + 1, last + 1));
    }
}
