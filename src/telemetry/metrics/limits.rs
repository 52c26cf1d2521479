//! What is counted of the limits of users and mappings.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::register::Register;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UserLimit {
    user: String,
    /// A key of the `[[users]]` block.
    limit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MappingLimit {
    mapping: String,
    /// A key of the `[[caches]]` block.
    limit: &'static str,
}

/// Of the limits that are configured.
#[derive(Debug)]
pub struct LimitMetrics {
    users: Family<UserLimit, Counter>,
    mappings: Family<MappingLimit, Counter>,
}

impl LimitMetrics {
    pub(super) fn register(r: &mut Register) -> Self {
        Self {
            users: r.family(
                "user_limited",
                "Commands that were refused because a limit of their [[users]] block was reached, by user and limit",
            ),
            mappings: r.family(
                "mapping_limited",
                "Commands whose loads were refused because a limit of the mapping's block was reached, by mapping and \
                 limit",
            ),
        }
    }

    /// The counter of a user's limit.
    pub fn of_user(&self, user: &str, limit: &'static str) -> Counter {
        self.users.get_or_create_owned(&UserLimit { user: user.to_owned(), limit })
    }

    /// The counter of a mapping's limit.
    pub fn of_mapping(&self, mapping: &str, limit: &'static str) -> Counter {
        self.mappings.get_or_create_owned(&MappingLimit { mapping: mapping.to_owned(), limit })
    }
}
