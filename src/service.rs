//! What the service manager is told: the protocol of sd_notify(3)
//! (<https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>).
//!
//! One thread talks to it, so that a manager that does not read delays nothing else. Where
//! `NOTIFY_SOCKET` is not set there is no thread, and all calls do nothing.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use crate::{
    http::{
        app::Health,
        status::{Snapshot, StatusBoard},
    },
    limits::{
        SERVICE_EXTENSION, SERVICE_REPORT_INTERVAL, SERVICE_STACK_BYTES, SERVICE_START_MAX,
        SERVICE_WRITE_TIMEOUT,
    },
    threads::{self, Role, Thread},
};

/// The service manager, if there is one; dropping it ends the conversation.
#[derive(Debug)]
pub struct Service {
    news: Option<Sender<News>>,
    /// Waited for after `news` is gone.
    _thread: Option<Thread>,
}

/// A relay that runs, as far as it is told of.
struct Alive {
    health: Arc<dyn Health>,
    board: Arc<StatusBoard>,
}

enum News {
    Ready(Alive),
    Stopping,
}

impl Service {
    /// Says that the start has begun, and goes on saying so until [`Service::ready`]. A socket that
    /// can not be reached is logged, and is no reason not to run.
    pub fn from_environment() -> Service {
        let none = Service {
            news: None,
            _thread: None,
        };
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return none;
        };
        let socket = match connect(name.as_bytes()) {
            Ok(socket) => socket,
            Err(error) => {
                log::warn!(socket:% = name.display(), error:% = error; "service manager: NOTIFY_SOCKET can not be used");
                return none;
            }
        };
        let variable = |name| env::var(name).ok();
        let watchdog = watchdog(
            variable("WATCHDOG_USEC").as_deref(),
            variable("WATCHDOG_PID").as_deref(),
            std::process::id(),
        );
        let (news, told) = unbounded();
        let mut manager = Manager::new(socket, watchdog, Instant::now());
        match threads::spawn(Role::Signals, "service", SERVICE_STACK_BYTES, move || {
            manager.run(&told);
        }) {
            Ok(thread) => Service {
                news: Some(news),
                _thread: Some(thread),
            },
            Err(error) => {
                log::warn!(error:% = error; "service manager: it is told nothing");
                none
            }
        }
    }

    /// The relay listens, and its stores are open.
    pub fn ready(&self, health: Arc<dyn Health>, board: Arc<StatusBoard>) {
        self.say(News::Ready(Alive { health, board }));
    }

    /// The relay has begun to stop.
    pub fn stopping(&self) {
        self.say(News::Stopping);
    }

    fn say(&self, news: News) {
        if let Some(sender) = &self.news {
            // The thread ends with this sender only.
            let _ = sender.send(news);
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.news.take();
    }
}

/// Connects to the manager's socket: a path, or after `@` a name of the abstract namespace
/// (unix(7)).
fn connect(name: &[u8]) -> io::Result<UnixDatagram> {
    let address = match name {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
        _ => return Err(io::Error::other("neither a path nor an abstract socket")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_write_timeout(Some(SERVICE_WRITE_TIMEOUT))?;
    Ok(socket)
}

/// How long the manager waits for a sign of life before it kills the process (`WATCHDOG_USEC`); none
/// where it does not, or where it waits for another process (`WATCHDOG_PID`).
fn watchdog(microseconds: Option<&str>, process: Option<&str>, own: u32) -> Option<Duration> {
    if process.is_some_and(|process| process.parse() != Ok(own)) {
        return None;
    }
    let microseconds: u64 = microseconds?.parse().ok().filter(|n| *n > 0)?;
    Some(Duration::from_micros(microseconds))
}

enum Phase {
    Starting { since: Instant },
    Running(Alive),
    Stopping,
}

/// The conversation.
struct Manager {
    socket: UnixDatagram,
    watchdog: Option<Duration>,
    phase: Phase,
    /// Why the watchdog is not fed, as the log has it.
    starved: Option<String>,
}

impl Manager {
    fn new(socket: UnixDatagram, watchdog: Option<Duration>, now: Instant) -> Manager {
        Manager {
            socket,
            watchdog,
            phase: Phase::Starting { since: now },
            starved: None,
        }
    }

    /// Talks until there is no news any more.
    fn run(&mut self, news: &Receiver<News>) {
        // A watchdog is fed twice in its time, as sd_watchdog_enabled(3) advises.
        let interval = self.watchdog.map_or(SERVICE_REPORT_INTERVAL, |watchdog| {
            SERVICE_REPORT_INTERVAL.min(watchdog / 2)
        });
        loop {
            self.send(&self.report(Instant::now()));
            self.feed();
            match news.recv_timeout(interval) {
                Ok(News::Ready(relay)) => {
                    self.phase = Phase::Running(relay);
                    self.send("READY=1");
                }
                Ok(News::Stopping) => {
                    self.phase = Phase::Stopping;
                    self.send("STOPPING=1");
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// What there is to say at any time. A start may take long (a store that recovers, one of an
    /// earlier version that is counted anew, a database that is waited for), but not for ever.
    fn report(&self, now: Instant) -> String {
        match &self.phase {
            Phase::Starting { since } => {
                let passed = now.saturating_duration_since(*since);
                let status = format!("STATUS=starting: the stores are opened ({passed:.0?})");
                if passed > SERVICE_START_MAX {
                    return status;
                }
                let more = SERVICE_EXTENSION.as_micros();
                format!("{status}\nEXTEND_TIMEOUT_USEC={more}")
            }
            Phase::Running(relay) => {
                let figures = figures(&relay.board.snapshot(now));
                match (relay.health.live(), relay.health.full_disk()) {
                    (Ok(()), None) => format!("STATUS={figures}"),
                    (Ok(()), Some(full)) => format!("STATUS={figures}; {full}"),
                    (Err(error), _) => format!("STATUS={figures}; {error}"),
                }
            }
            Phase::Stopping => "STATUS=stopping: what is under way is written".to_owned(),
        }
    }

    /// Feeds the watchdog, unless events do not get through. A start and a stop are bounded by
    /// themselves.
    fn feed(&mut self) {
        if self.watchdog.is_none() {
            return;
        }
        let alive = match &self.phase {
            Phase::Running(relay) => relay.health.live(),
            Phase::Starting { .. } | Phase::Stopping => Ok(()),
        };
        match alive {
            Ok(()) => {
                self.send("WATCHDOG=1");
                if self.starved.take().is_some() {
                    log::info!("service manager: the watchdog is fed again");
                }
            }
            Err(error) if self.starved.is_none() => {
                log::error!(error:% = error; "service manager: the watchdog is not fed any more");
                self.starved = Some(error);
            }
            Err(_) => {}
        }
    }

    fn send(&self, message: &str) {
        // Said again soon, but for READY, without which the manager ends the start by itself.
        if let Err(error) = self.socket.send(message.as_bytes()) {
            log::warn!(notice = message, error:% = error; "service manager: a notice is not sent");
        }
    }
}

/// One line about a relay.
fn figures(now: &Snapshot) -> String {
    format!(
        "seq {}, {} hosts connected, {} subscribers, {:.0} events a second",
        now.last_seq, now.hosts_connected, now.subscribers, now.events_per_second
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::http::{app::Check, boundary::Fake, pages::frame::Site, status::FullDisk};

    /// Alive, or what is wrong.
    #[derive(Default)]
    struct Patient(Mutex<Option<&'static str>>);

    impl Health for Patient {
        fn storage(&self) -> Result<(), String> {
            Ok(())
        }

        fn full_disk(&self) -> Option<FullDisk> {
            None
        }

        fn live(&self) -> Result<(), String> {
            self.0.lock().unwrap().map_or(Ok(()), |e| Err(e.to_owned()))
        }

        fn ready(&self) -> Vec<Check> {
            Vec::new()
        }
    }

    /// A manager's own end, and the relay's.
    fn conversation(watchdog: Option<Duration>) -> (UnixDatagram, Manager) {
        let (theirs, ours) = UnixDatagram::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        (theirs, Manager::new(ours, watchdog, Instant::now()))
    }

    /// Everything that was said.
    fn said(manager: &UnixDatagram) -> Vec<String> {
        let mut bytes = [0; 4096];
        let mut messages = Vec::new();
        while let Ok(length) = manager.recv(&mut bytes) {
            messages.push(String::from_utf8(bytes[..length].to_vec()).unwrap());
        }
        messages
    }

    fn running(patient: &Arc<Patient>) -> Phase {
        Phase::Running(Alive {
            health: patient.clone(),
            board: Arc::new(StatusBoard::new(
                Arc::default(),
                Arc::new(Fake::default()),
                Site::default(),
            )),
        })
    }

    #[test]
    fn the_watchdog_is_fed_only_while_events_get_through() {
        let (theirs, mut manager) = conversation(Some(Duration::from_secs(30)));
        let patient = Arc::<Patient>::default();
        manager.phase = running(&patient);
        manager.feed();
        assert_eq!(said(&theirs), ["WATCHDOG=1"]);
        *patient.0.lock().unwrap() = Some("nothing was written");
        manager.feed();
        manager.feed();
        assert!(said(&theirs).is_empty());
        assert!(
            manager
                .report(Instant::now())
                .ends_with("; nothing was written")
        );
        *patient.0.lock().unwrap() = None;
        manager.feed();
        assert_eq!(said(&theirs), ["WATCHDOG=1"]);
        // Before and after, nothing can be said of events.
        *patient.0.lock().unwrap() = Some("nothing was written");
        manager.phase = Phase::Stopping;
        manager.feed();
        assert_eq!(said(&theirs), ["WATCHDOG=1"]);
    }

    #[test]
    fn no_watchdog_is_not_fed() {
        let (theirs, mut manager) = conversation(None);
        manager.phase = running(&Arc::default());
        manager.feed();
        assert!(said(&theirs).is_empty());
    }

    #[test]
    fn a_start_gets_more_time_but_not_for_ever() {
        let (_, manager) = conversation(None);
        let Phase::Starting { since } = manager.phase else {
            panic!("it has not begun to start");
        };
        let extended = |passed| {
            manager
                .report(since + passed)
                .contains("\nEXTEND_TIMEOUT_USEC=")
        };
        assert!(extended(Duration::ZERO));
        assert!(extended(SERVICE_START_MAX));
        assert!(!extended(SERVICE_START_MAX + Duration::from_secs(1)));
    }

    #[test]
    fn who_waits_for_another_process_or_for_none_is_no_watchdog() {
        let thirty = Some(Duration::from_secs(30));
        assert_eq!(watchdog(Some("30000000"), None, 7), thirty);
        assert_eq!(watchdog(Some("30000000"), Some("7"), 7), thirty);
        assert_eq!(watchdog(Some("30000000"), Some("8"), 7), None);
        assert_eq!(watchdog(Some("0"), None, 7), None);
        assert_eq!(watchdog(Some("soon"), None, 7), None);
        assert_eq!(watchdog(None, Some("7"), 7), None);
    }

    #[test]
    fn a_socket_is_a_path_or_abstract() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let listening = UnixDatagram::bind(&path).unwrap();
        let ours = connect(path.as_os_str().as_bytes()).unwrap();
        ours.send(b"READY=1").unwrap();
        listening.set_nonblocking(true).unwrap();
        assert_eq!(said(&listening), ["READY=1"]);

        let name = format!("zlay-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let listening = UnixDatagram::bind_addr(&address).unwrap();
        let ours = connect(format!("@{name}").as_bytes()).unwrap();
        ours.send(b"READY=1").unwrap();
        listening.set_nonblocking(true).unwrap();
        assert_eq!(said(&listening), ["READY=1"]);

        for wrong in [
            "vsock:2:1234",
            "relative",
            "@nobody-listens-here",
            "/nowhere",
        ] {
            assert!(connect(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
