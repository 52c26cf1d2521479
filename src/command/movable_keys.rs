//! The keys of commands whose options decide where the keys are (Redis calls them "movablekeys"): no key specification
//! says it, or only for the usual order of options. Each function reads the options as the command itself does.
//!
//! Sources: `sortCommand`, `migrateCommand`, `xreadCommand` and `georadiusGeneric` of Redis 7.0.

use super::Request;

/// How one command's options are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    /// SORT: the list, and what the last STORE names.
    Sort,
    /// MIGRATE: one key, or all behind KEYS.
    Migrate,
    /// XREAD and XREADGROUP: the first half of what stands behind STREAMS.
    Streams,
    /// GEORADIUS and GEORADIUSBYMEMBER: the set, and what any STORE or STOREDIST from this argument on names. The
    /// command obeys the last one, Redis's own key specifications name the first.
    Radius(usize),
}

/// An option, and how many arguments belong to it.
type Options = &'static [(&'static str, usize)];

const SORT: Options = &[("LIMIT", 2), ("GET", 1), ("BY", 1), ("STORE", 1)];
const MIGRATE: Options = &[("COPY", 0), ("REPLACE", 0), ("AUTH", 1), ("AUTH2", 2)];
const STREAMS: Options = &[("BLOCK", 1), ("COUNT", 1), ("GROUP", 2), ("NOACK", 0), ("CLAIM", 1)];

impl Walk {
    /// The walk of the command `name`, if it needs one.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "sort" => Self::Sort,
            "migrate" => Self::Migrate,
            "xread" | "xreadgroup" => Self::Streams,
            "georadius" => Self::Radius(6),
            "georadiusbymember" => Self::Radius(5),
            _ => return None,
        })
    }

    /// Visits the positions of the keys.
    pub(super) fn visit(self, request: &Request<'_>, visit: &mut impl FnMut(usize)) {
        match self {
            Self::Sort => {
                (1..request.len().min(2)).for_each(&mut *visit);
                let stored = places(request, 2, SORT).filter(|at| request.is(*at, "STORE"));
                stored.map(|at| at + 1).filter(|at| *at < request.len()).last().into_iter().for_each(visit);
            }
            Self::Migrate => match places(request, 6, MIGRATE).find(|at| request.is(*at, "KEYS")) {
                Some(at) if request.arg(3).is_empty() => (at + 1..request.len()).for_each(visit),
                // With a key in the usual place it is a syntax error.
                _ => (3..request.len().min(4)).for_each(visit),
            },
            Self::Streams => {
                let first = streams(request).1 + 1;
                (first..first + request.len().saturating_sub(first) / 2).for_each(visit);
            }
            Self::Radius(options) => {
                (1..request.len().min(2)).for_each(&mut *visit);
                let stores = |at: &usize| request.is(*at, "STORE") || request.is(*at, "STOREDIST");
                (options..request.len().saturating_sub(1)).filter(stores).for_each(|at| visit(at + 1));
            }
        }
    }
}

/// Whether XREAD or XREADGROUP has the option BLOCK, and where its STREAMS stands (the end, if it has none).
pub(super) fn streams(request: &Request<'_>) -> (bool, usize) {
    // XREADGROUP must name its group before.
    let earliest = if request.is(0, "XREADGROUP") { 4 } else { 1 };
    let mut blocks = false;
    for at in places(request, 1, STREAMS) {
        if at >= earliest && request.is(at, "STREAMS") {
            return (blocks, at);
        }
        blocks |= request.is(at, "BLOCK");
    }
    (blocks, request.len())
}

/// The key patterns of SORT: what stands behind BY and GET.
pub(super) fn sorted_by<'r>(request: &Request<'r>) -> Vec<&'r [u8]> {
    let named = places(request, 2, SORT).filter(|at| request.is(*at, "BY") || request.is(*at, "GET"));
    named.filter(|at| at + 1 < request.len()).map(|at| request.arg(at + 1)).collect()
}

/// The places from `first` on where an option may stand: those that belong to another one are stepped over.
fn places(request: &Request<'_>, first: usize, options: Options) -> impl Iterator<Item = usize> {
    let after = move |at: &usize| {
        let more = options.iter().find(|(name, _)| request.is(*at, name)).map_or(0, |(_, more)| *more);
        Some(at + 1 + more)
    };
    std::iter::successors(Some(first), after).take_while(|at| *at < request.len())
}
