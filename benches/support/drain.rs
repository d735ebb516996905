//! Connections over loopback whose other ends are read by one thread, which throws everything away
//! in the kernel: what is measured is the sender.

use std::{
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{RecvFlags, recv},
};
use zlay::threads::{self, Role, Thread};

/// Bytes thrown away at once.
const CHUNK_BYTES: usize = 1 << 20;

/// The reading ends.
pub(crate) struct Drain {
    sockets: Vec<TcpStream>,
    /// Bytes of all connections together after which `reached` is told.
    target: Arc<AtomicU64>,
    reached: Receiver<()>,
    thread: Option<Thread>,
}

impl Drain {
    /// So many connections: their reading ends, and those to be written to.
    pub(crate) fn connect(count: usize) -> (Drain, Vec<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sockets, streams): (Vec<_>, Vec<_>) = (0..count)
            .map(|_| {
                let socket = TcpStream::connect(address).unwrap();
                (socket, listener.accept().unwrap().0)
            })
            .unzip();
        let (tell, reached) = bounded(1);
        let target = Arc::new(AtomicU64::new(u64::MAX));
        let open = sockets.iter().map(|s| s.try_clone().unwrap()).collect();
        let aim = Arc::clone(&target);
        let body = move || run(open, &aim, &tell);
        let drain = Drain {
            sockets,
            target,
            reached,
            thread: Some(threads::spawn(Role::Simulator, "drain", 256 << 10, body).unwrap()),
        };
        (drain, streams)
    }

    /// Says before anything is sent after how many more bytes [`Drain::wait`] is to return.
    pub(crate) fn aim(&self, bytes: usize) {
        let last = self.target.load(Ordering::SeqCst);
        let last = if last == u64::MAX { 0 } else { last };
        self.target.store(last + bytes as u64, Ordering::SeqCst);
    }

    /// Waits until what was aimed at has arrived.
    pub(crate) fn wait(&self) {
        self.reached.recv().unwrap();
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        for socket in &self.sockets {
            // The other side may have ended it.
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.thread.take();
    }
}

/// Reads until every connection has ended.
fn run(mut open: Vec<TcpStream>, target: &AtomicU64, tell: &Sender<()>) {
    let mut scratch = vec![0; CHUNK_BYTES];
    let (mut seen, mut told) = (0, 0);
    while !open.is_empty() {
        let mut fds: Vec<PollFd<'_>> = open
            .iter()
            .map(|socket| PollFd::new(socket, PollFlags::IN))
            .collect();
        poll(&mut fds, None).unwrap();
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        open.retain(|socket| {
            if ready.next() != Some(true) {
                return true;
            }
            let flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
            match recv(socket, &mut scratch[..], flags) {
                Ok((_, 0)) => false,
                Ok((_, len)) => {
                    seen += len as u64;
                    true
                }
                Err(rustix::io::Errno::AGAIN) => true,
                Err(_) => false,
            }
        });
        let target = target.load(Ordering::SeqCst);
        if seen >= target && told != target {
            told = target;
            tell.send(()).unwrap();
        }
    }
}
