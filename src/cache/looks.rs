//! What an operator may look at: how much of each mapping is in memory, and the plan it has.

use super::Cache;
use super::memory::residents::Room;
use crate::keys::MappingId;
use crate::store::CurrentPlan;

impl Cache {
    /// What is in memory of all mappings.
    #[must_use]
    pub fn room(&self) -> Room {
        let rooms = self.memory.source.all().map(|cached| self.memory.room(cached.mapping().id));
        rooms.fold(Room::default(), |sum, room| Room {
            entries: sum.entries + room.entries,
            bytes: sum.bytes + room.bytes,
        })
    }

    /// What is in memory of one.
    #[must_use]
    pub fn room_of(&self, id: MappingId) -> Room {
        self.memory.room(id)
    }

    /// `cache.max_bytes`.
    #[must_use]
    pub fn most_bytes(&self) -> u64 {
        self.memory.most_bytes()
    }

    /// The plan of a mapping, as it stands now.
    #[must_use]
    pub fn plan_of(&self, id: MappingId) -> Option<&CurrentPlan> {
        self.memory.source.cached(id).map(|cached| &cached.current)
    }
}
