//! Listeners on loopback: one thread accepts for any number of them.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use rustix::{
    buffer::spare_capacity,
    event::{EventfdFlags, Timespec, epoll, eventfd},
};
use socket2::{Domain, Socket, Type};

use crate::{
    limits::LISTEN_BACKLOG,
    threads::{self, Role, Thread},
};

/// The stack of the thread that accepts, in bytes.
const ACCEPT_STACK_BYTES: usize = 256 << 10;
/// How long accepting pauses when the process has run out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Wakes a thread that polls descriptors; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Waker(Arc<OwnedFd>);

impl Waker {
    pub(crate) fn new() -> io::Result<Waker> {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Waker(Arc::new(fd)))
    }

    /// Makes the descriptor readable until it is drained.
    pub(crate) fn wake(&self) {
        // It only fails when the counter is full, and then it is readable anyway.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }

    /// Makes the descriptor wait for the next wake.
    pub(crate) fn drain(&self) {
        let _ = rustix::io::read(&*self.0, &mut [0u8; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A listener on `127.0.0.1`; port 0 is any free one.
pub(crate) fn bind(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// Accepts on all `listeners` until `stop` is woken; `serve` gets the index of the listener and
/// the connection, which does not block.
pub(crate) fn accept_all(
    listeners: Vec<TcpListener>,
    stop: Waker,
    serve: impl Fn(usize, TcpStream) + Send + 'static,
) -> io::Result<Thread> {
    let queue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (i, listener) in listeners.iter().enumerate() {
        let data = epoll::EventData::new_u64(i as u64);
        epoll::add(&queue, listener, data, epoll::EventFlags::IN)?;
    }
    let data = epoll::EventData::new_u64(u64::MAX);
    epoll::add(&queue, &stop, data, epoll::EventFlags::IN)?;
    threads::spawn(Role::Simulator, "accept", ACCEPT_STACK_BYTES, move || {
        let mut ready = Vec::with_capacity(256);
        loop {
            ready.clear();
            match epoll::wait(&queue, spare_capacity(&mut ready), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return log::error!("waiting for connections: {error}"),
            }
            for event in &ready {
                let index = event.data.u64();
                let Some(listener) = listeners.get(index as usize) else {
                    return;
                };
                if !accept_waiting(listener, |stream| serve(index as usize, stream)) {
                    // The connection stays in the queue: let others give descriptors back first.
                    sleep(&stop, ACCEPT_PAUSE);
                }
            }
        }
    })
}

/// Takes every connection that waits; false when the system refused one.
fn accept_waiting(listener: &TcpListener, serve: impl Fn(TcpStream)) -> bool {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                if stream.set_nonblocking(true).is_ok() {
                    serve(stream);
                }
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => return true,
                ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                _ => {
                    log::warn!("accepting a connection: {error}");
                    return false;
                }
            },
        }
    }
}

/// Waits for `duration`; true when a stop was asked for meanwhile.
pub(crate) fn sleep(stop: &Waker, duration: Duration) -> bool {
    let mut fds = [rustix::event::PollFd::new(
        stop,
        rustix::event::PollFlags::IN,
    )];
    let timeout = Timespec::try_from(duration).ok();
    matches!(rustix::event::poll(&mut fds, timeout.as_ref()), Ok(n) if n > 0)
}
