//! What operators see, logs and metrics, and what every module needs for them: the clock, random identifiers, the
//! identity of files, the count of the memory that clients hold, and what becomes of parts that end in a panic.

pub mod audit;
pub mod client_logs;
pub mod client_memory;
pub mod clock;
pub mod events;
pub mod forbidden_commands;
pub mod lasting;
pub mod lasting_part;
pub mod light;
pub mod locked;
pub mod log;
pub mod log_throttle;
pub mod metrics;
pub mod out_of_files;
pub mod pace;
pub mod planted;
pub mod progress;
pub mod random_id;
pub mod refusals;
pub mod shown;
pub mod slow;
pub mod sqlite_files;
pub mod top;
pub mod traces;

pub use audit::Audit;
pub use lasting::{caught, joined, lasting};
pub use lasting_part::LastingPart;
pub use light::Light;
pub use locked::locked;
pub use log_throttle::LogThrottle;
pub use metrics::Metrics;
pub use pace::Pace;
pub use progress::Progress;
pub use shown::{cut, shown};
pub use top::{PassedReader, TopKeys, TopKind, TopReader};
pub use traces::Traces;
