//! What was written, acknowledged and read of one key, and the checker over it.
//!
//! Every write carries a version, one higher than the key's last, and begins when the last has been answered or given up.
//! So an acknowledged version that a later read does not see, or something newer, is a violation.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Who acknowledged a write: a sidecar, or the store itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    Sidecar(usize),
    Sql,
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
}

impl History {
    /// The next version, which is about to be sent.
    pub fn issue(&self) -> u64 {
        let mut written = self.written.lock().expect("a lock");
        written.issued += 1;
        written.issued
    }

    pub fn acknowledge(&self, version: u64, via: Via) {
        self.written.lock().expect("a lock").acked.push(Acked { version, via, at: Instant::now() });
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
        }
    }

    /// Checks what was read.
    pub fn check(&self, floor: Floor, seen: u64) -> Option<Violation> {
        let issued = self.written.lock().expect("a lock").issued;
        let violation = |clause, what: String| Some(Violation { clause, what });
        match seen {
            _ if seen < floor.own => {
                violation("C1", format!("read {seen} after the same sidecar had acknowledged {}", floor.own))
            }
            _ if seen < floor.anybody => {
                violation("C2", format!("read {seen} long after {} was committed", floor.anybody))
            }
            _ if seen > issued => violation("C1", format!("read {seen}, which nobody wrote (last: {issued})")),
            _ => None,
        }
    }

    /// Checks what the store holds at the end.
    pub fn check_final(&self, clause: &'static str, stored: u64) -> Option<Violation> {
        let written = self.written.lock().expect("a lock");
        let last = written.acked.last().map_or(0, |acked| acked.version);
        (stored < last || stored > written.issued).then(|| Violation {
            clause,
            what: format!("the store holds {stored}, acknowledged was {last}, sent {}", written.issued),
        })
    }

    pub fn acknowledged(&self) -> usize {
        self.written.lock().expect("a lock").acked.len()
    }
}
