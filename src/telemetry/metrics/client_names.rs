//! Shows how many clients are connected under which name, as they have told it (CLIENT SETNAME): the most frequent
//! names, and the others as one.

use std::collections::BTreeMap;
use std::sync::Mutex;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::register::Register;
use crate::telemetry::{cut, locked};

/// So many names are shown.
const MOST: usize = 20;

/// As what the others are shown: no client can have this name, which has a space.
const OTHERS: &str = "(all others)";

/// A longer name is shown by its beginning.
const LONGEST: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NameLabel {
    name: String,
}

/// Clients by name, as they were last counted.
#[derive(Debug)]
pub struct ClientNames {
    clients: Family<NameLabel, Gauge>,
    shown: Mutex<Vec<NameLabel>>,
}

impl ClientNames {
    pub(super) fn register(r: &mut Register) -> Self {
        let others = [NameLabel { name: OTHERS.to_owned() }];
        let clients = r.family_of(
            "clients_by_name",
            "Clients that are connected, by the name that they have given themselves: the most frequent ones",
            others,
        );
        Self { clients, shown: Mutex::default() }
    }

    /// So many clients have these names now.
    pub fn are(&self, names: impl IntoIterator<Item = (String, u64)>) {
        let mut shown = locked(&self.shown);
        let now: Vec<(NameLabel, u64)> =
            most_frequent(names).into_iter().map(|(name, clients)| (NameLabel { name }, clients)).collect();
        for (label, clients) in &now {
            self.clients.get_or_create(label).set(clients.cast_signed());
        }
        let now: Vec<NameLabel> = now.into_iter().map(|(label, _)| label).collect();
        shown.iter().filter(|label| !now.contains(label)).for_each(|label| _ = self.clients.remove(label));
        *shown = now;
    }
}

/// The most frequent names, and the others as one.
fn most_frequent(names: impl IntoIterator<Item = (String, u64)>) -> Vec<(String, u64)> {
    let mut sums = BTreeMap::<String, u64>::new();
    for (name, clients) in names {
        *sums.entry(cut(&name, LONGEST).to_owned()).or_default() += clients;
    }
    let mut most: Vec<(String, u64)> = sums.into_iter().collect();
    most.sort_by_key(|(_, clients)| std::cmp::Reverse(*clients));
    let others: u64 = most.iter().skip(MOST).map(|(_, clients)| clients).sum();
    most.truncate(MOST);
    most.push((OTHERS.to_owned(), others));
    most
}

#[cfg(test)]
mod tests {
    use super::most_frequent;

    #[test]
    fn the_most_frequent_names_are_shown_and_the_others_as_one() {
        let long = "é".repeat(100);
        let names = (0..100_u64).map(|i| (format!("n{i}"), i)).chain([(long.clone(), 900), (long + "x", 100)]);
        let shown = most_frequent(names);
        assert_eq!((shown.len(), &shown[0], &shown[1]), (21, &("é".repeat(32), 1000), &("n99".to_owned(), 99)));
        assert_eq!(shown[20], ("(all others)".to_owned(), (0..81).sum()));
    }
}
