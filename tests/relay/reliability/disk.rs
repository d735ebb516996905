//! A disk that forgets. It holds two states of every file and directory: what a process sees, and what
//! would be there after a loss of power. What is written becomes durable by an fsync of the file, and a
//! name (of a new file, of a renamed or removed one) by an fsync of its directory, and by nothing else.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ffi::{OsStr, OsString},
};

use rustix::process::{Pid, Signal, kill_process};

/// The number of the root.
pub(super) const ROOT: u64 = 1;

/// What survives of that which was not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Survival {
    /// Nothing.
    Nothing,
    /// Of each file and directory the first so many changes, the last of them in part.
    Prefix,
    /// All of it: the process has ended, and the power is still there.
    Everything,
}

impl Survival {
    /// How many of so many changes are whole.
    fn of(self, changes: usize, rng: &mut fastrand::Rng) -> usize {
        match self {
            Survival::Nothing => 0,
            Survival::Prefix => rng.usize(..=changes),
            Survival::Everything => changes,
        }
    }
}

/// When the power goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Edge {
    /// When a sync is asked for, before it has done anything.
    Before,
    /// When it is done, before anybody is told so.
    After,
}

/// The disk.
#[derive(Debug)]
pub(super) struct State {
    nodes: HashMap<u64, Node>,
    next: u64,
    /// The power is off: nothing becomes durable.
    off: bool,
    /// When the power goes by itself: after so many more syncs; and whom it ends, if that is known.
    cut: Option<(u64, Edge, Option<Pid>)>,
    /// Whether the power went with a sync.
    pub(super) has_cut: bool,
}

#[derive(Debug)]
enum Node {
    File(File),
    Directory(Directory),
}

#[derive(Default, Debug)]
struct File {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Resize(u64),
}

#[derive(Default, Debug)]
struct Directory {
    names: BTreeMap<OsString, u64>,
    durable: BTreeMap<OsString, u64>,
    unsynced: Vec<Naming>,
}

#[derive(Debug)]
enum Naming {
    Put(OsString, u64),
    Remove(OsString),
    Rename(OsString, OsString, u64),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write(at, written) => {
                let (at, end) = (*at as usize, *at as usize + written.len());
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[at..end].copy_from_slice(written);
            }
            Change::Resize(length) => bytes.resize(*length as usize, 0),
        }
    }

    /// Its beginning.
    fn torn(&self, rng: &mut fastrand::Rng) -> Change {
        match self {
            Change::Write(at, written) => {
                Change::Write(*at, written[..rng.usize(..=written.len())].to_vec())
            }
            Change::Resize(length) => Change::Resize(*length),
        }
    }
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<OsString, u64>) {
        match self {
            Naming::Put(name, node) => {
                names.insert(name.clone(), *node);
            }
            Naming::Remove(name) => {
                names.remove(name);
            }
            Naming::Rename(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

impl Directory {
    fn change(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.unsynced.push(naming);
    }
}

impl State {
    pub(super) fn new() -> State {
        State {
            nodes: HashMap::from([(ROOT, Node::Directory(Directory::default()))]),
            next: ROOT + 1,
            off: false,
            cut: None,
            has_cut: false,
        }
    }

    fn file(&mut self, node: u64) -> Option<&mut File> {
        match self.nodes.get_mut(&node)? {
            Node::File(file) => Some(file),
            Node::Directory(_) => None,
        }
    }

    fn directory(&mut self, node: u64) -> Option<&mut Directory> {
        match self.nodes.get_mut(&node)? {
            Node::Directory(directory) => Some(directory),
            Node::File(_) => None,
        }
    }

    /// What a name in a directory stands for.
    pub(super) fn find(&mut self, parent: u64, name: &OsStr) -> Option<u64> {
        self.directory(parent)?.names.get(name).copied()
    }

    /// The names in a directory.
    pub(super) fn names(&mut self, node: u64) -> Option<Vec<(OsString, u64)>> {
        let names = self.directory(node)?.names.iter();
        Some(names.map(|(name, node)| (name.clone(), *node)).collect())
    }

    /// How long a file is; none: it is a directory, or not there.
    pub(super) fn length(&self, node: u64) -> Option<u64> {
        match self.nodes.get(&node)? {
            Node::File(file) => Some(file.bytes.len() as u64),
            Node::Directory(_) => None,
        }
    }

    pub(super) fn is_there(&self, node: u64) -> bool {
        self.nodes.contains_key(&node)
    }

    /// A new file or directory.
    pub(super) fn make(&mut self, parent: u64, name: &OsStr, is_directory: bool) -> Option<u64> {
        let node = self.next;
        self.directory(parent)?
            .change(Naming::Put(name.to_owned(), node));
        self.next += 1;
        let made = match is_directory {
            true => Node::Directory(Directory::default()),
            false => Node::File(File::default()),
        };
        self.nodes.insert(node, made);
        Some(node)
    }

    /// Takes a name away. What it stood for stays as long as somebody has it open, and until the loss of
    /// power that shows whether the directory was synced.
    pub(super) fn remove(&mut self, parent: u64, name: &OsStr) -> Option<()> {
        self.find(parent, name)?;
        self.directory(parent)?
            .change(Naming::Remove(name.to_owned()));
        Some(())
    }

    pub(super) fn rename(
        &mut self,
        (parent, name): (u64, &OsStr),
        (to_parent, to_name): (u64, &OsStr),
    ) -> Option<()> {
        let node = self.find(parent, name)?;
        self.directory(to_parent)?;
        let (from, to) = (name.to_owned(), to_name.to_owned());
        if parent == to_parent {
            self.directory(parent)?
                .change(Naming::Rename(from, to, node));
        } else {
            self.directory(to_parent)?.change(Naming::Put(to, node));
            self.directory(parent)?.change(Naming::Remove(from));
        }
        Some(())
    }

    /// A part of a file.
    pub(super) fn read(&mut self, node: u64, at: u64, length: usize) -> Option<&[u8]> {
        let bytes = &self.file(node)?.bytes;
        let at = (at as usize).min(bytes.len());
        let end = at.saturating_add(length).min(bytes.len());
        Some(&bytes[at..end])
    }

    pub(super) fn write(&mut self, node: u64, at: u64, bytes: &[u8]) -> Option<()> {
        self.change(node, Change::Write(at, bytes.to_vec()))
    }

    pub(super) fn resize(&mut self, node: u64, length: u64) -> Option<()> {
        self.change(node, Change::Resize(length))
    }

    fn change(&mut self, node: u64, change: Change) -> Option<()> {
        let file = self.file(node)?;
        change.apply(&mut file.bytes);
        file.unsynced.push(change);
        Some(())
    }

    /// Makes a file, or the names in a directory, durable; false: the power is off.
    pub(super) fn sync(&mut self, node: u64) -> bool {
        if self.off {
            return false;
        }
        let now = match &mut self.cut {
            Some((0, edge, victim)) => Some((*edge, *victim)),
            Some((left, ..)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        self.has_cut |= now.is_some();
        if let Some((Edge::Before, victim)) = now {
            self.go_off(victim);
            return false;
        }
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => {
                let changes = file.unsynced.drain(..);
                changes.for_each(|change| change.apply(&mut file.durable));
            }
            Some(Node::Directory(directory)) => {
                let changes = directory.unsynced.drain(..);
                changes.for_each(|change| change.apply(&mut directory.durable));
            }
            None => {}
        }
        if let Some((Edge::After, victim)) = now {
            self.go_off(victim);
            return false;
        }
        true
    }

    /// The power goes, and the process with it: it is not told anything any more.
    fn go_off(&mut self, victim: Option<Pid>) {
        self.off = true;
        if let Some(victim) = victim {
            // One that has ended is what is wanted.
            let _ = kill_process(victim, Signal::KILL);
        }
    }

    /// The power goes now.
    pub(super) fn set_off(&mut self) {
        self.off = true;
    }

    /// The power goes with a sync: the one after so many others.
    pub(super) fn set_cut(&mut self, after: u64, edge: Edge, victim: Option<Pid>) {
        self.cut = Some((after, edge, victim));
    }

    /// The power comes back: what was not durable is gone, but for what survives.
    pub(super) fn lose(&mut self, survival: Survival, rng: &mut fastrand::Rng) {
        // In the order of their numbers, so that a seed makes the same loss of the same changes.
        let mut numbers: Vec<u64> = self.nodes.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            match self.nodes.get_mut(&number) {
                Some(Node::File(file)) => {
                    let whole = survival.of(file.unsynced.len(), rng);
                    let mut changes = file.unsynced.drain(..);
                    for change in changes.by_ref().take(whole) {
                        change.apply(&mut file.durable);
                    }
                    if let (Some(last), Survival::Prefix) = (changes.next(), survival) {
                        last.torn(rng).apply(&mut file.durable);
                    }
                    drop(changes);
                    file.bytes.clone_from(&file.durable);
                }
                Some(Node::Directory(directory)) => {
                    let whole = survival.of(directory.unsynced.len(), rng);
                    for naming in directory.unsynced.drain(..).take(whole) {
                        naming.apply(&mut directory.durable);
                    }
                    directory.names.clone_from(&directory.durable);
                }
                None => {}
            }
        }
        self.forget_nameless();
        (self.off, self.cut, self.has_cut) = (false, None, false);
    }

    fn forget_nameless(&mut self) {
        let (mut named, mut left) = (HashSet::from([ROOT]), vec![ROOT]);
        while let Some(node) = left.pop() {
            for (_, node) in self.names(node).unwrap_or_default() {
                if named.insert(node) {
                    left.push(node);
                }
            }
        }
        self.nodes.retain(|node, _| named.contains(node));
    }
}

/// The disk forgets what it has to forget, and no more.
#[test]
fn what_was_synced_is_there_after_a_loss_and_nothing_else() {
    let mut rng = fastrand::Rng::with_seed(1);
    let name = OsStr::new;
    let mut disk = State::new();
    let file = disk.make(ROOT, name("a"), false).unwrap();
    disk.write(file, 0, b"one").unwrap();
    disk.sync(file);
    // Its bytes are durable, and its name is not.
    disk.lose(Survival::Nothing, &mut rng);
    assert_eq!(disk.find(ROOT, name("a")), None);

    let file = disk.make(ROOT, name("a"), false).unwrap();
    disk.write(file, 0, b"one").unwrap();
    disk.sync(ROOT);
    disk.sync(file);
    disk.write(file, 3, b"two").unwrap();
    disk.rename((ROOT, name("a")), (ROOT, name("b"))).unwrap();
    assert_eq!(disk.read(file, 0, 9), Some(&b"onetwo"[..]));
    disk.lose(Survival::Nothing, &mut rng);
    assert_eq!(disk.find(ROOT, name("b")), None);
    assert_eq!(disk.find(ROOT, name("a")), Some(file));
    assert_eq!(disk.read(file, 0, 9), Some(&b"one"[..]));

    disk.remove(ROOT, name("a")).unwrap();
    disk.sync(ROOT);
    disk.lose(Survival::Nothing, &mut rng);
    assert!(!disk.is_there(file));

    let file = disk.make(ROOT, name("c"), false).unwrap();
    disk.sync(ROOT);
    let mut lengths = HashSet::new();
    for _ in 0..100 {
        disk.resize(file, 0).unwrap();
        disk.sync(file);
        disk.write(file, 0, b"abc").unwrap();
        disk.write(file, 3, b"def").unwrap();
        disk.lose(Survival::Prefix, &mut rng);
        let left = disk.read(file, 0, 9).unwrap();
        assert!(b"abcdef".starts_with(left));
        lengths.insert(left.len());
    }
    assert_eq!(lengths.len(), 7);
    disk.set_off();
    disk.write(file, 0, b"xyz").unwrap();
    assert!(!disk.sync(file));
}
