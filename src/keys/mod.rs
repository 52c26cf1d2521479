//! Which keys are owned: patterns with placeholders, all of them as one matcher, and Redis's glob matching.
//! Pure; knows neither commands nor what lies behind a mapping.

mod glob;
mod globs;
mod id;
mod keyspace;
mod matcher;
mod meeting;
mod pattern;
mod placeholder;
mod radix;
mod share;

pub use glob::{begin_alike, glob_covers, glob_match, literal_beginning, only_text};
pub use id::MappingId;
pub use keyspace::Keyspace;
pub use pattern::{Pattern, PatternError};
pub use placeholder::{PlaceholderKind, day_number};
pub use share::share_of;
