//! What an operator may look at while a sidecar runs. The facts are gathered here once, as plain values, for everybody
//! who shows them: HEARTHSIDE over the Redis port, `/api` on the admin port, and the command line. Never shows what a
//! key holds.

mod candidates;
mod connected;
mod events;
mod explain;
mod fact;
mod history;
mod key_name;
mod mappings;
mod modes;
mod shadow;
mod slow;
mod status;
mod subject;
mod times;
mod top;

pub use candidates::CandidateFacts;
pub use connected::ConnectedFacts;
pub use events::{EventFacts, event_facts};
pub use explain::Explanation;
pub use fact::Fact;
pub use history::{History, Sample};
pub use mappings::MappingFacts;
pub use modes::{ModeFacts, mode_facts};
pub use shadow::MismatchFacts;
pub use slow::SlowFacts;
pub use status::Status;
pub use subject::{About, Subject};
pub use top::{Sight, Top, TopFacts};
