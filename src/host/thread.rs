//! The thread of one host: connect, read until the connection ends, wait, for ever.

use std::{
    fmt, io,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, at, bounded, select};

use super::{
    Shared,
    backoff::{End, Retries},
    crawler::{News, Report},
    dial::{self, Connection, DialError, Plug, Timed},
    lane::{Frame, Lane, Position},
    now_ms,
    quota::{self, Limits, Quota, Throttled},
    rush::Rush,
    server_frames::Violation,
    state::State,
    stream::{Message, ReadError},
    terms::Terms,
};
use crate::{
    atproto::hostname::Endpoint,
    limits::{
        HOST_CONTROL_FRAMES_AN_HOUR_MAX, HOST_MESSAGE_TIMEOUT, HOST_PING_INTERVAL,
        HOST_POISON_DROPS_MAX, HOST_SILENT_INTERVALS_MAX, HOST_THROTTLED_CALM,
    },
    memory::stacks::Shedding,
    metrics::labels::{Connect, Disconnect, FrameType, Wait},
    sequencer::event::Input,
    store::account::HostId,
    threads::{self, Stop},
};

/// Where the stream of a host is read from when nothing of it was read before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Start {
    /// From the oldest event that the host still has: for a host that has just announced itself.
    Oldest,
    /// From now on: for the many hosts of an existing network, whose past others have served.
    Live,
    /// From now on, also where something was read before: for this reason.
    PassOver(Arc<str>),
}

/// Everything that the thread of a host owns.
pub(super) struct HostThread {
    pub(super) shared: Arc<Shared>,
    pub(super) id: HostId,
    pub(super) endpoint: Endpoint,
    pub(super) start: Start,
    pub(super) terms: Arc<Terms>,
    pub(super) lane: Arc<Lane>,
    pub(super) plug: Arc<Plug>,
    /// Ends a wait: the host is to be tried now, or its limits are others.
    pub(super) retry: Receiver<()>,
    pub(super) reports: crossbeam_channel::Sender<Report>,
    /// What the host has sent, over all connections.
    pub(super) quota: Quota,
    /// Pings and pongs among it.
    pub(super) chatter: Quota,
    pub(super) rush: Rush,
    pub(super) throttled: Throttled,
    /// When the connection was made, in milliseconds since 1970.
    pub(super) connected_ms: u64,
    /// The last attempt led to no connection.
    pub(super) could_not_connect: bool,
    pub(super) shedding: Shedding,
}

/// One attempt at listening.
struct Attempt {
    ended: Ended,
    /// How long there was a connection.
    lasted: Duration,
}

/// Why a connection ended, or was none.
#[derive(Debug)]
enum Ended {
    NotConnected(DialError),
    Closed(Option<u16>),
    Io(io::Error),
    /// Neither data nor answers to pings.
    Silent,
    Protocol(String),
    /// The connection ended without a word.
    Abrupt,
    /// Pings without end.
    Chatter,
    Malformed,
    Text,
    TooLarge,
    /// An error frame of this name.
    Error(String),
    /// The relay stops, or lets the host go.
    Stopped,
    /// A fault of the relay's own.
    Panicked,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::NotConnected(error) => error.fmt(f),
            Ended::Closed(Some(code)) => write!(f, "the host closed the connection (code {code})"),
            Ended::Closed(None) => f.write_str("the host closed the connection"),
            Ended::Io(error) => write!(f, "the connection broke: {error}"),
            Ended::Silent => f.write_str("the host went silent"),
            Ended::Protocol(error) => write!(f, "websocket: {error}"),
            Ended::Abrupt => write!(f, "websocket: {}", ReadError::Ended),
            Ended::Chatter => write!(
                f,
                "websocket: more than {HOST_CONTROL_FRAMES_AN_HOUR_MAX} pings and pongs in an hour"
            ),
            Ended::Malformed => f.write_str("a frame is not two canonical DRISL-CBOR items"),
            Ended::Text => f.write_str("a text frame, where only binary ones are allowed"),
            Ended::TooLarge => f.write_str("a message is over 5,000,000 bytes"),
            Ended::Error(name) => write!(f, "the host sent the error {name}"),
            Ended::Stopped => f.write_str("the relay stops, or lets the host go"),
            Ended::Panicked => f.write_str("a fault in the relay; its log says more"),
        }
    }
}

impl Ended {
    /// What it is counted as, where there was a connection.
    fn reason(&self) -> Disconnect {
        match self {
            Ended::Closed(_) => Disconnect::Closed,
            Ended::Io(_) | Ended::NotConnected(_) => Disconnect::Broken,
            Ended::Silent => Disconnect::Silent,
            Ended::Protocol(_)
            | Ended::Abrupt
            | Ended::Chatter
            | Ended::Malformed
            | Ended::Text
            | Ended::TooLarge => Disconnect::Protocol,
            Ended::Error(_) => Disconnect::Error,
            Ended::Stopped => Disconnect::Stopped,
            Ended::Panicked => Disconnect::Internal,
        }
    }

    /// Whether it was for what the host had sent.
    fn is_violation(&self) -> bool {
        self.reason() == Disconnect::Protocol && !matches!(self, Ended::Abrupt)
    }
}

/// Connections lost at the same place of the stream.
#[derive(Default)]
struct Poison {
    at: u64,
    drops: u32,
}

impl Poison {
    /// Counts one more at `at`; true when it is time to pass it over.
    fn strikes(&mut self, at: u64) -> bool {
        if self.at != at {
            *self = Poison { at, drops: 0 };
        }
        self.drops = self.drops.saturating_add(1);
        self.drops >= HOST_POISON_DROPS_MAX
    }

    /// How loud to be about passing over something: the log is told once of each place, as what
    /// follows there may be thousands of frames of the same kind.
    fn level(&self) -> log::Level {
        if self.drops > HOST_POISON_DROPS_MAX {
            log::Level::Debug
        } else {
            log::Level::Warn
        }
    }
}

impl HostThread {
    /// Listens until the relay stops or the host is let go.
    pub(super) fn run(mut self) {
        self.listen_for_ever();
        self.tell(News::Ended(std::thread::current().id()));
    }

    fn listen_for_ever(&mut self) {
        let mut retries = Retries::default();
        let mut poison = Poison::default();
        if let Start::PassOver(why) = &self.start {
            let why = why.to_string();
            if self.lane.read() > 0 {
                self.report(State::Idle { why });
                if !self.restart() {
                    return;
                }
            }
            self.start = Start::Live;
        }
        while !self.is_over() {
            let before = self.lane.read();
            let attempt = threads::survive(|| self.connect_and_listen(&mut poison));
            let Attempt { ended, lasted } = attempt.unwrap_or_else(|| self.panicked(&mut poison));
            self.lane.report();
            let progressed = self.lane.read() != before;
            if matches!(ended, Ended::Stopped) || self.is_over() {
                return;
            }
            let why = ended.to_string();
            let future = matches!(&ended, Ended::Error(name) if name == "FutureCursor");
            let end = End {
                progressed,
                lasted,
                violated: ended.is_violation(),
            };
            self.could_not_connect = matches!(ended, Ended::NotConnected(_));
            let retry = retries.ended(end, fastrand::f64());
            let (failures, delay) = (retry.failures, retry.delay);
            log::debug!(
                host:% = self.endpoint.host, failures = failures, error = why,
                next_attempt_ms = delay.as_millis() as u64;
                "not connected"
            );
            self.report(match (future, retry.is_offline) {
                (true, _) => State::Idle { why },
                (false, true) => State::Offline {
                    why,
                    failures,
                    next_ms: in_ms(delay),
                },
                (false, false) => State::BackingOff {
                    why,
                    failures,
                    next_ms: in_ms(delay),
                },
            });
            if future && !self.restart() {
                return;
            }
            self.shedding.shed(Instant::now());
            if !self.wait(delay) {
                return;
            }
        }
    }

    /// One connection, from dialing to its end.
    fn connect_and_listen(&mut self, poison: &mut Poison) -> Attempt {
        let metrics = &self.shared.metrics;
        let dials = match self.could_not_connect {
            false => &self.shared.dials,
            true => &self.shared.redials,
        };
        let turn = dials.turn(&self.shared.stop);
        let Some(turn) = turn.filter(|_| !self.is_over()) else {
            return Attempt::without_connection(Ended::Stopped);
        };
        let cursor = match (self.lane.read(), &self.start) {
            (0, Start::Oldest) => Some(0),
            (0, _) => None,
            (cursor, _) => Some(cursor),
        };
        let connection = dial::dial(
            &self.shared.outbound,
            &self.endpoint,
            cursor,
            &self.plug,
            &self.shared.tls_rooms,
        );
        drop(turn);
        let connection = match connection {
            Ok(connection) => connection,
            Err(error) => {
                self.plug.clear();
                metrics.connects.inc(error.kind());
                return Attempt::without_connection(Ended::NotConnected(error));
            }
        };
        metrics.connects.inc(Connect::Connected);
        let mut connected = Connected::count(&self.shared);
        log::debug!(host:% = self.endpoint.host, seq = cursor; "connected");
        self.throttled = Throttled::default();
        self.connected_ms = now_ms();
        self.report_connected();
        let since = Instant::now();
        let ended = self.listen(connection, Position { cursor, last: None }, poison);
        connected.reason = ended.reason();
        drop(connected);
        self.plug.clear();
        log::debug!(host:% = self.endpoint.host, error:% = ended; "disconnected");
        let lasted = since.elapsed();
        Attempt { ended, lasted }
    }

    /// After a panic: the connection is gone, and what may have caused it is passed over when it
    /// has done so a few times.
    fn panicked(&mut self, poison: &mut Poison) -> Attempt {
        self.plug.clear();
        log::error!(
            host:% = self.endpoint.host;
            "the thread of a host has panicked: a fault of this relay; the host is tried again"
        );
        if poison.strikes(self.lane.read()) && self.lane.read() > 0 {
            self.shared.metrics.frames_skipped.inc();
            self.lane.skip_one();
        }
        Attempt::without_connection(Ended::Panicked)
    }

    /// Reads until the connection ends.
    fn listen(
        &mut self,
        mut connection: Connection,
        mut position: Position,
        poison: &mut Poison,
    ) -> Ended {
        let mut silent = 0;
        // The handshake took more of the stack than what comes.
        self.shedding.shed(Instant::now());
        loop {
            self.shedding.when_due(Instant::now());
            // Pings between its pieces give a message no further time.
            if !connection.is_within_message() {
                let timed = connection.socket().timed();
                timed.expect_within(HOST_MESSAGE_TIMEOUT);
            }
            let read = connection.read();
            if self.is_over() {
                return Ended::Stopped;
            }
            match read {
                Ok(message) => {
                    silent = 0;
                    if let Some(is_on) = self.rush.count(Instant::now()) {
                        threads::run_patiently(is_on);
                        self.lane.rush(is_on);
                    }
                    let bytes = connection.payload().len();
                    let timed = connection.socket().timed();
                    match message {
                        // Text is no event, and may be skipped like one that can not be read.
                        Message::Binary | Message::Text if !self.keep_to_limits(timed, bytes) => {
                            return Ended::Stopped;
                        }
                        Message::Ping | Message::Pong if self.is_chatter() => {
                            return Ended::Chatter;
                        }
                        _ => {}
                    }
                    let payload = connection.payload();
                    if let Some(ended) = self.take(message, payload, &mut position, poison) {
                        return ended;
                    }
                }
                Err(ReadError::Quiet) if self.throttled.is_shown() => {
                    self.calm_down(connection.socket().timed());
                }
                Err(ReadError::Quiet) => {
                    silent += 1;
                    if silent >= HOST_SILENT_INTERVALS_MAX {
                        return Ended::Silent;
                    }
                    self.shared.metrics.host_pings.inc();
                    self.lane.report();
                    if let Err(error) = connection.send_ping() {
                        return Ended::Io(error);
                    }
                }
                Err(error) => return self.broken(error, poison),
            }
        }
    }

    /// Counts a ping or pong; true where there were too many.
    fn is_chatter(&mut self) -> bool {
        let limits = Limits::new([None, Some(HOST_CONTROL_FRAMES_AN_HOUR_MAX), None]);
        self.chatter.take(Instant::now(), &limits).is_err()
    }

    /// Counts an event of so many bytes, and lets it wait while the host is over a limit; false when the relay stops,
    /// or lets the host go, meanwhile.
    ///
    /// The connection stays open: a wait is seconds at most, unless the operator has set a very low
    /// limit, and the host notices it only by TCP, as of any reader that is slow.
    fn keep_to_limits(&mut self, timed: &Timed, bytes: usize) -> bool {
        let counts = quota::counts_as(bytes);
        let mut waits = false;
        while let Err(over) = self
            .quota
            .take_many(Instant::now(), &self.terms.limits(), counts)
        {
            if !waits {
                waits = true;
                self.shared.metrics.delayed.inc(over.span);
                self.lane.tally().delayed.inc(over.span);
                self.terms.begin_to_wait();
                continue;
            }
            let now = Instant::now();
            if self.throttled.waits(now, over.until) {
                // A read that brings nothing shows soon that the host is within its limits again.
                let _ = timed.expect_word_within(HOST_THROTTLED_CALM);
                self.report(State::Throttled {
                    at_ms: self.connected_ms,
                    span: over.span,
                    until_ms: in_ms(over.until.saturating_duration_since(now)),
                });
            }
            let _waits = self.shared.metrics.hosts_waiting.during(Wait::Limit);
            if !pause(over.until, &self.shared.stop, &self.retry) {
                self.terms.end_to_wait();
                return false;
            }
        }
        if waits {
            self.terms.end_to_wait();
            self.throttled.passes(Instant::now());
        }
        self.calm_down(timed);
        true
    }

    /// Shows the host as connected again, where nothing has waited for a while.
    fn calm_down(&mut self, timed: &Timed) {
        if self.throttled.is_over(Instant::now()) {
            // A shorter patience only makes for more pings.
            let _ = timed.expect_word_within(HOST_PING_INTERVAL);
            self.report_connected();
        }
    }

    /// Deals with one message; something where it ends the connection.
    fn take(
        &mut self,
        message: Message,
        payload: &[u8],
        position: &mut Position,
        poison: &mut Poison,
    ) -> Option<Ended> {
        let metrics = &self.shared.metrics;
        let (frame, ended) = match message {
            Message::Binary => {
                metrics.last_frame.set(Some(now_ms()));
                metrics.bytes_received.add(payload.len() as u64);
                self.lane.tally().received.inc();
                self.lane.tally().received_at_ms.set(now_ms());
                let mut frame = self.lane.take(payload, position);
                if frame == Frame::WentBack {
                    log::info!(host:% = self.endpoint.host; "the sequence of a host has started anew");
                    if !self.restart() {
                        return Some(Ended::Stopped);
                    }
                    position.cursor = None;
                    frame = self.lane.take(payload, position);
                }
                (frame, Ended::Malformed)
            }
            Message::Text => {
                metrics.frames.inc(FrameType::Invalid);
                self.lane.malformed();
                (Frame::Malformed, Ended::Text)
            }
            Message::Close(code) => return Some(Ended::Closed(code)),
            Message::Ping | Message::Pong => return None,
        };
        match frame {
            Frame::Malformed if poison.strikes(self.lane.read()) => {
                log::log!(
                    poison.level(),
                    host:% = self.endpoint.host, error:% = ended;
                    "a frame is skipped"
                );
                self.shared.metrics.frames_skipped.inc();
                None
            }
            Frame::Malformed => Some(ended),
            Frame::Error(name) => Some(Ended::Error(name)),
            Frame::Event | Frame::Ignored | Frame::WentBack => None,
        }
    }

    /// A read that failed for good.
    fn broken(&mut self, error: ReadError, poison: &mut Poison) -> Ended {
        match error {
            ReadError::Quiet | ReadError::Late => Ended::Silent,
            ReadError::Io(error) => Ended::Io(error),
            ReadError::Violation(Violation::TooLarge) => {
                self.lane.malformed();
                // It was not received, so it can only be passed over by its seq.
                if poison.strikes(self.lane.read()) && self.lane.read() > 0 {
                    log::log!(
                        poison.level(),
                        host:% = self.endpoint.host;
                        "a message is passed over: it is too large"
                    );
                    self.shared.metrics.frames_skipped.inc();
                    self.lane.skip_one();
                }
                Ended::TooLarge
            }
            ReadError::Ended => Ended::Abrupt,
            ReadError::Violation(_) => Ended::Protocol(error.to_string()),
        }
    }

    /// Begins a new epoch of the host's sequence; false when the relay stops.
    fn restart(&mut self) -> bool {
        let (done, epoch) = bounded(1);
        let asked = self.shared.inbox.send(Input::Restart {
            host: self.id,
            done,
        });
        let Some(epoch) = asked.ok().and_then(|()| epoch.recv().ok()) else {
            return false;
        };
        self.lane.restart(epoch);
        self.start = Start::Live;
        true
    }

    /// Waits for the next attempt; false when the relay stops or lets the host go.
    fn wait(&self, delay: Duration) -> bool {
        select! {
            recv(self.retry) -> retry => retry.is_ok(),
            recv(self.shared.stop.channel()) -> _ => false,
            default(delay) => true,
        }
    }

    /// Whether the relay stops, or has let the host go.
    fn is_over(&self) -> bool {
        self.shared.stop.requested() || self.plug.is_pulled()
    }

    fn report_connected(&self) {
        self.report(State::Connected {
            at_ms: self.connected_ms,
        });
    }

    fn report(&self, state: State) {
        self.tell(News::State(state));
    }

    fn tell(&self, news: News) {
        // Without a crawler there is nobody to tell any more.
        let _ = self.reports.send(Report { id: self.id, news });
    }
}

/// Waits until then, or until the limits may be others; false when the relay stops, or lets the host
/// go, meanwhile.
fn pause(until: Instant, stop: &Stop, retry: &Receiver<()>) -> bool {
    select! {
        recv(at(until)) -> _ => true,
        recv(stop.channel()) -> _ => false,
        recv(retry) -> retry => retry.is_ok(),
    }
}

impl Attempt {
    fn without_connection(ended: Ended) -> Attempt {
        Attempt {
            ended,
            lasted: Duration::ZERO,
        }
    }
}

fn in_ms(delay: Duration) -> u64 {
    now_ms().saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
}

/// Counts a connection while it lasts, also if a panic ends it.
struct Connected {
    shared: Arc<Shared>,
    /// Why it ended; a panic says nothing.
    reason: Disconnect,
}

impl Connected {
    fn count(shared: &Arc<Shared>) -> Connected {
        shared.metrics.hosts_connected.add(1);
        Connected {
            shared: shared.clone(),
            reason: Disconnect::Internal,
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.shared.metrics.hosts_connected.sub(1);
        self.shared.metrics.disconnects.inc(self.reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::stop_pair;

    #[test]
    fn a_wait_for_a_limit_ends_with_a_stop_and_when_the_host_is_let_go() {
        let never = Instant::now() + Duration::from_secs(3_600);
        let (stopper, stop) = stop_pair();
        let (retry, retried) = bounded(1);
        assert!(pause(Instant::now(), &stop, &retried));
        retry.try_send(()).unwrap();
        assert!(pause(never, &stop, &retried), "the limits may be others");
        drop(retry);
        assert!(!pause(never, &stop, &retried));
        let (_retry, retried) = bounded(1);
        drop(stopper);
        assert!(!pause(never, &stop, &retried));
    }

    #[test]
    fn the_third_connection_lost_at_one_place_passes_over_it() {
        let mut poison = Poison::default();
        assert!(!poison.strikes(5));
        assert!(!poison.strikes(5));
        assert!(poison.strikes(5));
        assert!(poison.strikes(5), "and so does the next");
        assert!(!poison.strikes(6));
    }
}
