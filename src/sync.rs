//! What threads share things with. It is named here, so that `tests/concurrency` can put in its place what
//! tries every order in which threads may take their turns.

pub(crate) use std::sync::{
    Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, atomic,
};
