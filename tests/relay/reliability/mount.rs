//! The disk that forgets ([`super::disk`]), mounted.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyStatfs, ReplyWrite,
    Request, TimeOrNow, WriteFlags,
};
use rustix::process::Pid;
use tempfile::TempDir;

use super::disk::{Edge, State, Survival};

/// The kernel alone changes what is here, and may remember it.
const FOR_LONG: Duration = Duration::from_secs(3600);
const BLOCK: u64 = 4096;
/// Blocks that the disk says to have, and to have free.
const BLOCKS: u64 = 1 << 24;

/// A mounted disk. Dropping it unmounts it.
pub(super) struct Disk {
    state: Arc<Mutex<State>>,
    session: Option<BackgroundSession>,
    at: TempDir,
}

impl Disk {
    /// A new disk; why there can be none on this machine.
    pub(super) fn new() -> io::Result<Disk> {
        let mut disk = Disk {
            state: Arc::new(Mutex::new(State::new())),
            session: None,
            at: TempDir::with_prefix("zlay-disk-")?,
        };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&mut self) -> io::Result<()> {
        let mut config = Config::default();
        let name = MountOption::FSName("zlay-disk".to_owned());
        config.mount_options = vec![name, MountOption::NoAtime];
        let served = Served(self.state.clone());
        self.session = Some(fuser::spawn_mount(served, self.at.path(), &config)?);
        Ok(())
    }

    /// Where it is mounted.
    pub(super) fn path(&self) -> &Path {
        self.at.path()
    }

    /// A directory for a relay that is not there yet.
    pub(super) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The power goes now; whoever waits for a sync is told that it has failed.
    pub(super) fn cut(&self) {
        self.state().set_off();
    }

    /// Whether the power went with a sync.
    pub(super) fn has_cut(&self) -> bool {
        self.state().has_cut
    }

    /// The power goes with a sync that is to come, and ends this process.
    pub(super) fn cut_at(&self, after: u64, edge: Edge, victim: Option<Pid>) {
        self.state().set_cut(after, edge, victim);
    }

    /// The power comes back, and there is what is left. Nobody may use the disk meanwhile.
    pub(super) fn come_back(&mut self, survival: Survival, rng: &mut fastrand::Rng) {
        if let Some(session) = self.session.take() {
            // Seen once in hundreds of times: it ends as a connection that was aborted. Nothing that was
            // acknowledged is lost by that, as the state is here.
            match session.umount_and_join() {
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                ended => ended.expect("nobody uses the disk"),
            }
        }
        self.state().lose(survival, rng);
        self.mount().unwrap();
    }
}

struct Served(Arc<Mutex<State>>);

impl Served {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

fn attributes(state: &State, node: u64) -> Option<FileAttr> {
    let length = state.length(node);
    state.is_there(node).then(|| FileAttr {
        ino: INodeNo(node),
        size: length.unwrap_or(BLOCK),
        blocks: length.unwrap_or(BLOCK).div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: kind(state, node),
        perm: 0o755,
        nlink: 1,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        rdev: 0,
        blksize: BLOCK as u32,
        flags: 0,
    })
}

fn kind(state: &State, node: u64) -> FileType {
    match state.length(node) {
        Some(_) => FileType::RegularFile,
        None => FileType::Directory,
    }
}

/// Answers with what is there, or that it is not.
macro_rules! found {
    ($reply:ident, $value:expr) => {
        match $value {
            Some(value) => value,
            None => return $reply.error(Errno::ENOENT),
        }
    };
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.state();
        let node = found!(reply, state.find(parent.0, name));
        let attributes = found!(reply, attributes(&state, node));
        reply.entry(&FOR_LONG, &attributes, Generation(0));
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let attributes = found!(reply, attributes(&self.state(), node.0));
        reply.attr(&FOR_LONG, &attributes);
    }

    fn setattr(
        &self,
        _: &Request,
        node: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.state();
        if let Some(size) = size {
            found!(reply, state.resize(node.0, size));
        }
        let attributes = found!(reply, attributes(&state, node.0));
        reply.attr(&FOR_LONG, &attributes);
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let mut state = self.state();
        let node = found!(reply, state.make(parent.0, name, true));
        let attributes = found!(reply, attributes(&state, node));
        reply.entry(&FOR_LONG, &attributes, Generation(0));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let mut state = self.state();
        let node = found!(reply, state.make(parent.0, name, false));
        let attributes = found!(reply, attributes(&state, node));
        let handle = FileHandle(0);
        reply.created(
            &FOR_LONG,
            &attributes,
            Generation(0),
            handle,
            FopenFlags::empty(),
        );
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        found!(reply, self.state().remove(parent.0, name));
        reply.ok();
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut state = self.state();
        let node = found!(reply, state.find(parent.0, name));
        if state.names(node).is_some_and(|names| !names.is_empty()) {
            return reply.error(Errno::ENOTEMPTY);
        }
        found!(reply, state.remove(parent.0, name));
        reply.ok();
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to_parent: INodeNo,
        to_name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (from, to) = ((parent.0, name), (to_parent.0, to_name));
        found!(reply, self.state().rename(from, to));
        reply.ok();
    }

    fn read(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        at: u64,
        length: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut state = self.state();
        let bytes = found!(reply, state.read(node.0, at, length as usize));
        reply.data(bytes);
    }

    fn write(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        at: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        found!(reply, self.state().write(node.0, at, bytes));
        reply.written(bytes.len() as u32);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, node: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.state().sync(node.0) {
            true => reply.ok(),
            false => reply.error(Errno::EIO),
        }
    }

    fn fsyncdir(&self, _: &Request, node: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.state().sync(node.0) {
            true => reply.ok(),
            false => reply.error(Errno::EIO),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        after: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut state = self.state();
        let names = found!(reply, state.names(node.0));
        let own = [(".".into(), node.0), ("..".into(), node.0)];
        for (at, (name, node)) in (1..).zip(own.into_iter().chain(names)).skip(after as usize) {
            if reply.add(INodeNo(node), at, kind(&state, node), name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(
            BLOCKS,
            BLOCKS,
            BLOCKS,
            BLOCKS,
            BLOCKS,
            BLOCK as u32,
            255,
            BLOCK as u32,
        );
    }
}
