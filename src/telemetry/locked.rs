//! What a mutex guards.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Nothing panics while one is held; what it guards is whole even so.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
