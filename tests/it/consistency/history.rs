//! What was written, acknowledged and read of one key, and the checker over it.
//!
//! Every write carries a version, one higher than the key's last, and begins when the last has been answered or given
//! up. So an acknowledged version that a later read does not see, or something newer, is a violation.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Who acknowledged a write: a sidecar, the store itself, or the upstream itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    Sidecar(usize),
    Directly,
}

/// An acknowledged version.
#[derive(Clone, Copy, Debug)]
struct Acked {
    version: u64,
    via: Via,
    at: Instant,
}

#[derive(Debug, Default)]
struct Written {
    /// The highest version that was ever sent, answered or not.
    issued: u64,
    acked: Vec<Acked>,
    /// The versions that are no value but its absence.
    absent: BTreeSet<u64>,
    /// No version up to here is known to be acknowledged: the journal went back in time.
    lost: u64,
}

/// What a version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Value,
    Absence,
}

/// The history of one key's field.
#[derive(Debug, Default)]
pub struct History {
    written: Mutex<Written>,
}

/// Something that the contract rules out.
#[derive(Debug)]
pub struct Violation {
    pub clause: &'static str,
    pub what: String,
}

impl Violation {
    /// The same of another clause, which says it of other keys.
    pub fn of_clause(self, clause: &'static str) -> Self {
        Self { clause, ..self }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.clause, self.what)
    }
}

/// What a reader must see at least, as it was known before it asked.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// The last version that the same sidecar acknowledged (C1).
    own: u64,
    /// The last version that anybody acknowledged longer than the bound ago (C2).
    anybody: u64,
    lost: u64,
}

impl History {
    /// A key that is not there yet.
    pub fn of_nothing() -> Self {
        let history = Self::default();
        history.written.lock().expect("a lock").absent.insert(0);
        history
    }

    /// The next version, which is about to be sent.
    pub fn issue(&self, what: What) -> u64 {
        let mut written = self.written.lock().expect("a lock");
        written.issued += 1;
        let version = written.issued;
        if what == What::Absence {
            written.absent.insert(version);
        }
        version
    }

    /// Sends the next version, and notes its acknowledgement.
    pub fn send(&self, what: What, via: Via, mut write: impl FnMut(u64) -> bool) -> bool {
        let version = self.issue(what);
        let is_acknowledged = write(version);
        if is_acknowledged {
            self.acknowledge(version, via);
        }
        is_acknowledged
    }

    pub fn acknowledge(&self, version: u64, via: Via) {
        let mut written = self.written.lock().expect("a lock");
        if version > written.lost {
            written.acked.push(Acked { version, via, at: Instant::now() });
        }
    }

    /// The last version that was acknowledged.
    pub fn last(&self) -> u64 {
        self.written.lock().expect("a lock").acked.last().map_or(0, |acked| acked.version)
    }

    /// What is saved stays; what was acknowledged after it may be lost.
    pub fn go_back_to(&self, saved: u64, via: Via) {
        let mut written = self.written.lock().expect("a lock");
        written.acked.retain(|acked| acked.version < saved);
        written.acked.push(Acked { version: saved, via, at: Instant::now() });
        written.lost = written.issued;
    }

    /// What was acknowledged may be lost, all of it.
    pub fn forget(&self) {
        let mut written = self.written.lock().expect("a lock");
        written.acked.clear();
        written.lost = written.issued;
    }

    /// What a read that begins now through `sidecar` must see, where others' writes may take `bound` to show.
    pub fn floor(&self, sidecar: usize, bound: Duration) -> Floor {
        let written = self.written.lock().expect("a lock");
        let newest = |holds: &dyn Fn(&Acked) -> bool| {
            written.acked.iter().rev().find(|acked| holds(acked)).map_or(0, |acked| acked.version)
        };
        Floor {
            own: newest(&|acked| acked.via == Via::Sidecar(sidecar)),
            anybody: newest(&|acked| acked.at.elapsed() > bound),
            lost: written.lost,
        }
    }

    /// Checks what was read; `None`: nothing was there. C7 is C1 and C2 of what is not there.
    pub fn check(&self, floor: Floor, seen: Option<u64>) -> Option<Violation> {
        let written = self.written.lock().expect("a lock");
        let violation = |clause, what: String| Some(Violation { clause, what });
        if floor.lost != written.lost {
            // What had been acknowledged when it was asked may have been lost meanwhile.
            return None;
        }
        let Some(seen) = seen else {
            let newest = written.absent.last().copied();
            return match newest {
                Some(newest) if newest >= floor.own.max(floor.anybody) => None,
                _ => violation(
                    "C7",
                    format!("read nothing, though it was there from {floor:?} on (last gone: {newest:?})"),
                ),
            };
        };
        match seen {
            _ if seen < floor.own => {
                violation("C1", format!("read {seen} after the same sidecar had acknowledged {}", floor.own))
            }
            _ if seen < floor.anybody => {
                violation("C2", format!("read {seen} long after {} was committed", floor.anybody))
            }
            _ if seen > written.issued || written.absent.contains(&seen) => {
                violation("C1", format!("read {seen}, which nobody wrote (last: {})", written.issued))
            }
            _ => None,
        }
    }

    /// Checks what the store holds at the end.
    pub fn check_final(&self, clause: &'static str, stored: Option<u64>) -> Option<Violation> {
        let written = self.written.lock().expect("a lock");
        let last = written.acked.last().map_or(0, |acked| acked.version);
        let is_right = match stored {
            Some(stored) => (last..=written.issued).contains(&stored) && !written.absent.contains(&stored),
            None => written.absent.range(last..).next().is_some(),
        };
        (!is_right).then(|| Violation {
            clause,
            what: format!("the store holds {stored:?}, acknowledged was {last}, sent {}", written.issued),
        })
    }

    pub fn acknowledged(&self) -> usize {
        self.written.lock().expect("a lock").acked.len()
    }
}
