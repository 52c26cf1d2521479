//! What operators see: logs and metrics; and the process's clock.

pub mod clock;
pub mod fresh;
pub mod holding;
pub mod lack;
pub mod log;
pub mod metrics;
pub mod planted;
pub mod refusals;
pub mod seldom;
pub mod unasked;

pub use metrics::Metrics;
pub use seldom::Seldom;
