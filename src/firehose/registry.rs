//! Who subscribes now, and how to wake them.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::bell::Bell;
use crate::sync::{
    Condvar, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// One subscriber as others see it: numbers that it updates and nobody has to lock.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) peer: SocketAddr,
    pub(super) user_agent: String,
    since: SystemTime,
    pub(super) frames: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) position: AtomicU64,
    /// Rings when the subscriber is to look at the ring or at the stop.
    pub(super) bell: Bell,
    /// Whether it waits for frames. One that waits for its socket has enough to do.
    sleeping: AtomicBool,
    /// The operator has sent it away.
    dismissed: AtomicBool,
}

/// A subscriber, for people to read.
#[derive(Clone, Debug)]
pub struct SubscriberInfo {
    /// Its number since the start of the relay.
    pub id: u64,
    /// Where it connects from.
    pub peer: SocketAddr,
    /// What it says that it is.
    pub user_agent: String,
    /// When it connected.
    pub since: SystemTime,
    /// Frames of the stream that it took.
    pub frames: u64,
    /// Bytes that it took.
    pub bytes: u64,
    /// The seq of the last frame that it took, or its cursor.
    pub position: u64,
}

/// The subscribers of the relay.
#[derive(Default, Debug)]
pub(super) struct Registry {
    entries: Mutex<Entries>,
    left: Condvar,
}

#[derive(Default, Debug)]
struct Entries {
    by_id: BTreeMap<u64, Arc<Entry>>,
    next_id: u64,
}

/// A place in the registry; dropping it leaves.
#[derive(Debug)]
pub(super) struct Registration {
    registry: Arc<Registry>,
    pub(super) entry: Arc<Entry>,
}

impl Registry {
    pub(super) fn register(
        self: &Arc<Self>,
        peer: SocketAddr,
        user_agent: String,
    ) -> io::Result<Registration> {
        let bell = Bell::new()?;
        let mut entries = self.lock();
        entries.next_id += 1;
        let entry = Arc::new(Entry {
            id: entries.next_id,
            peer,
            user_agent,
            since: SystemTime::now(),
            frames: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            position: AtomicU64::new(0),
            bell,
            sleeping: AtomicBool::new(false),
            dismissed: AtomicBool::new(false),
        });
        entries.by_id.insert(entry.id, Arc::clone(&entry));
        Ok(Registration {
            registry: Arc::clone(self),
            entry,
        })
    }

    /// How many subscribe.
    pub(super) fn count(&self) -> usize {
        self.lock().by_id.len()
    }

    /// Wakes those who wait for frames: `most` of them, from this number on, those who have been here longest first.
    /// The number of the next one who waits, if there is one.
    pub(super) fn wake_sleeping(&self, from: u64, most: usize) -> Option<u64> {
        let mut left = most;
        for (id, entry) in self.lock().by_id.range(from..) {
            if left == 0 {
                // As in `falls_asleep`: not a mere read.
                if entry.sleeping.fetch_or(false, Ordering::SeqCst) {
                    return Some(*id);
                }
            } else if entry.sleeping.swap(false, Ordering::SeqCst) {
                entry.bell.ring();
                left -= 1;
            }
        }
        None
    }

    /// Wakes everybody, whatever they wait for.
    pub(super) fn wake_all(&self) {
        self.lock().by_id.values().for_each(|e| e.bell.ring());
    }

    /// The lowest position of a subscriber; one that has not begun is at 0.
    pub(super) fn lowest(&self) -> Option<u64> {
        let entries = self.lock();
        let positions = entries.by_id.values();
        positions.map(|e| e.position.load(Ordering::Relaxed)).min()
    }

    /// Sends one away; false where there is none of that number.
    pub(super) fn dismiss(&self, id: u64) -> bool {
        let entries = self.lock();
        let Some(entry) = entries.by_id.get(&id) else {
            return false;
        };
        entry.dismissed.store(true, Ordering::SeqCst);
        entry.bell.ring();
        true
    }

    /// The position of each subscriber that has begun.
    pub(super) fn positions(&self) -> Vec<u64> {
        let entries = self.lock();
        let positions = entries.by_id.values();
        let positions = positions.map(|e| e.position.load(Ordering::Relaxed));
        positions.filter(|position| *position > 0).collect()
    }

    pub(super) fn list(&self) -> Vec<SubscriberInfo> {
        let entries = self.lock();
        entries.by_id.values().map(|entry| entry.info()).collect()
    }

    /// Waits until nobody is left; false when `timeout` passed first.
    pub(super) fn wait_empty(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut entries = self.lock();
        while !entries.by_id.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            entries = self
                .left
                .wait_timeout(entries, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.lock().by_id.remove(&self.entry.id);
        self.registry.left.notify_all();
    }
}

impl Entry {
    /// Whether the operator has sent it away.
    pub(super) fn is_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::SeqCst)
    }

    /// Says that it is going to sleep; false where there is news all the same, and it is awake. A frame
    /// that was published before is not announced again, so what is new is looked for after this is said.
    pub(super) fn falls_asleep(&self, is_news: impl FnOnce() -> bool) -> bool {
        // Not a mere write: of two that exchange it, the later one sees what the other did before.
        self.sleeping.swap(true, Ordering::SeqCst);
        if is_news() {
            self.wake_up();
            return false;
        }
        true
    }

    /// Says that it is awake, and silences the bell.
    pub(super) fn wake_up(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
        self.bell.silence();
    }

    /// Whether it does not wait for frames.
    #[cfg(test)]
    pub(super) fn is_awake(&self) -> bool {
        !self.sleeping.load(Ordering::SeqCst)
    }

    fn info(&self) -> SubscriberInfo {
        SubscriberInfo {
            id: self.id,
            peer: self.peer,
            user_agent: self.user_agent.clone(),
            since: self.since,
            frames: self.frames.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            position: self.position.load(Ordering::Relaxed),
        }
    }

    /// Its number.
    pub(super) fn id(&self) -> u64 {
        self.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_is_gone_and_awaited() {
        let registry = Arc::new(Registry::default());
        let peer = "192.0.2.1:5".parse().unwrap();
        let first = registry.register(peer, "a".into()).unwrap();
        let second = registry.register(peer, "b".into()).unwrap();
        let ids: Vec<u64> = registry.list().iter().map(|s| s.id).collect();
        assert_eq!(ids, [1, 2]);
        drop(first);
        assert_eq!(registry.list()[0].user_agent, "b");
        assert!(!registry.wait_empty(Duration::ZERO));
        let waits = Arc::clone(&registry);
        let waiter = std::thread::spawn(move || waits.wait_empty(Duration::from_secs(60)));
        drop(second);
        assert!(waiter.join().unwrap());
    }

    #[test]
    fn who_is_sent_away_is_told_also_while_it_waits_for_its_socket() {
        let registry = Arc::new(Registry::default());
        let peer = "192.0.2.1:5".parse().unwrap();
        let one = registry.register(peer, String::new()).unwrap();
        let other = registry.register(peer, String::new()).unwrap();
        assert!(registry.dismiss(one.entry.id()));
        assert!(one.entry.is_dismissed() && !other.entry.is_dismissed());
        assert!(rustix::io::read(&one.entry.bell, &mut [0u8; 8]).is_ok());
        assert!(rustix::io::read(&other.entry.bell, &mut [0u8; 8]).is_err());
        drop(one);
        assert!(!registry.dismiss(1) && !registry.dismiss(3));
    }

    #[test]
    fn the_bell_rings_for_those_who_sleep() {
        let registry = Arc::new(Registry::default());
        let peer = "192.0.2.1:5".parse().unwrap();
        let one = registry.register(peer, String::new()).unwrap();
        let rings = |entry: &Entry| rustix::io::read(&entry.bell, &mut [0u8; 8]).is_ok();
        let wake = || registry.wake_sleeping(0, 9);
        wake();
        assert!(!rings(&one.entry));
        assert!(one.entry.falls_asleep(|| false));
        wake();
        assert!(rings(&one.entry));
        wake();
        assert!(!rings(&one.entry));
        assert!(!one.entry.falls_asleep(|| true), "there is news");
        wake();
        assert!(!rings(&one.entry));
        registry.wake_all();
        assert!(rings(&one.entry));
    }

    #[test]
    fn who_was_not_reached_is_named() {
        let registry = Arc::new(Registry::default());
        let peer = "192.0.2.1:5".parse().unwrap();
        let registered: Vec<Registration> = (0..5)
            .map(|_| registry.register(peer, String::new()).unwrap())
            .collect();
        let sleep = |ids: &[usize]| {
            let asleep = ids
                .iter()
                .all(|id| registered[id - 1].entry.falls_asleep(|| false));
            assert!(asleep);
        };
        sleep(&[1, 3, 5]);
        assert_eq!(registry.wake_sleeping(0, 2), Some(5));
        assert_eq!(registry.wake_sleeping(4, 1), None);
        sleep(&[2, 4]);
        assert_eq!(registry.wake_sleeping(3, 1), None);
        assert_eq!(registry.wake_sleeping(0, 0), Some(2));
        assert_eq!(registry.wake_sleeping(0, 1), None);
    }
}
