//! The thread of one subscriber: it pulls frames, writes them, and listens to the little that
//! clients say.

use std::{
    collections::VecDeque,
    io::{self, Read},
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{SockRef, TcpKeepalive};

use super::{
    Admission, Answer, Firehose, Frame, Subscription,
    ahead::Ahead,
    client_frames::{ClientFrame, Parser},
    cursor::{Cursor, Start},
    ear::{Ear, READ_BYTES},
    end::End,
    frame,
    large::{Place, Turn},
    outbox::{Aside, Outbox, Written},
    registry::Registration,
};
use crate::{atproto::seq::Seq, limits, metrics::labels::Tier, store::Page, threads::Role};

/// Starts the thread of a subscriber.
pub(super) fn spawn(firehose: &Arc<Firehose>, subscription: Subscription) -> io::Result<()> {
    prepare(&subscription.stream, firehose.settings.timing.silent_max)?;
    let registration = firehose
        .registry
        .register(subscription.peer, subscription.user_agent)?;
    let id = registration.entry.id().to_string();
    let now = Instant::now();
    let mut subscriber = Subscriber {
        firehose: Arc::clone(firehose),
        registration,
        admission: subscription.admission,
        socket: Arc::new(subscription.stream),
        parser: Parser::default(),
        cursor: subscription.cursor,
        position: 0,
        is_fresh: true,
        outbox: Outbox::default(),
        has_room: true,
        large: None,
        page: Vec::new(),
        pages_behind: 0,
        ahead: None,
        moved_at: now,
        sent_at: now,
        has_words: true,
        ear: Ear::new(now),
        heard_at: now,
        asked_at: None,
    };
    let leftover = subscription.leftover;
    let stack = firehose.settings.stack_bytes;
    // The thread ends by itself; the registry knows when all have.
    let body = move || subscriber.serve(&leftover);
    // Who asks for it is a thread of the public port, which is nice.
    let thread = firehose.spawner.spawn(Role::Subscriber, &id, stack, body)?;
    thread.detach();
    Ok(())
}

/// Sets the socket up: never blocking, frames at once, and a peer that vanished is noticed by the
/// kernel also while data waits for it. The kernel's own queue is kept short: it wakes a writer
/// only when a third of it is free, so that megabytes in it hide a slow reader's progress.
fn prepare(socket: &TcpStream, silent_max: Duration) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_nodelay(true)?;
    let options = SockRef::from(socket);
    let probes = TcpKeepalive::new()
        .with_time(limits::SUBSCRIBER_KEEPALIVE)
        .with_interval(limits::SUBSCRIBER_KEEPALIVE);
    options.set_tcp_keepalive(&probes)?;
    options.set_tcp_notsent_lowat(limits::SUBSCRIBER_UNSENT_BYTES_MAX)?;
    options.set_tcp_user_timeout(Some(silent_max))
}

struct Subscriber {
    firehose: Arc<Firehose>,
    registration: Registration,
    admission: Admission,
    socket: Arc<TcpStream>,
    parser: Parser,
    cursor: Cursor,
    /// The last seq taken from the ring or the store.
    position: u64,
    /// Nothing of the stream was taken yet.
    is_fresh: bool,
    outbox: Outbox,
    /// The socket may take something.
    has_room: bool,
    /// What lets it have the large frame of the outbox.
    large: Option<Large>,
    /// Room for a page of the store.
    page: Vec<Frame>,
    /// Pages in a row that came from the store.
    pages_behind: u32,
    /// Reads the store ahead while it is far behind.
    ahead: Option<Ahead>,
    /// When the client last took a byte, or was last offered one after it had taken all.
    moved_at: Instant,
    /// When the client last took a byte.
    sent_at: Instant,
    /// The client has said something that was not read yet.
    has_words: bool,
    /// How much of it is listened to.
    ear: Ear,
    /// When the client was last listened to.
    heard_at: Instant,
    /// When the first ping since the last sign of life was sent.
    asked_at: Option<Instant>,
}

/// What lets a subscriber have a large frame in memory, for as long as this is held.
#[derive(Debug)]
enum Large {
    /// It is kept for all who send it.
    Kept(#[expect(dead_code, reason = "held")] Place),
    /// Only few have theirs at once, and none of those waits for its socket.
    Mine(#[expect(dead_code, reason = "held")] Turn),
}

/// Counts a subscriber for as long as it is served.
struct Counted<'a>(&'a Firehose);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.metrics.subscribers.sub(1);
    }
}

impl Subscriber {
    /// Serves the client to the end.
    fn serve(&mut self, leftover: &[u8]) {
        let firehose = Arc::clone(&self.firehose);
        firehose.metrics.subscribers.add(1);
        firehose.metrics.subscribers_accepted.inc();
        let _counted = Counted(&firehose);
        let began = Instant::now();
        let end = match self.stream(leftover) {
            Ok(never) => match never {},
            Err(end) => end,
        };
        self.report(&end);
        let has_gone_at_once = || began.elapsed() < limits::SUBSCRIBER_STAY_MIN;
        match end {
            End::Violation => self.admission.forfeit(),
            End::Vanished if has_gone_at_once() => self.admission.forfeit(),
            _ => {}
        }
        // Whether the client hears the last words is its own affair.
        let _ = self.finish(end);
    }

    /// Counts and logs the end.
    fn report(&self, end: &End) {
        let metrics = &self.firehose.metrics;
        let entry = &self.registration.entry;
        let level = end.level();
        metrics.subscribers_left.inc(end.reason());
        let position = entry.position.load(Ordering::Relaxed);
        log::log!(
            level,
            id = entry.id, client:% = entry.peer, agent:% = entry.user_agent, seq = position,
            error:% = end;
            "a subscriber ends"
        );
    }

    /// Streams until there is a reason to end.
    fn stream(&mut self, leftover: &[u8]) -> Result<std::convert::Infallible, End> {
        self.begin()?;
        self.hear(leftover)?;
        loop {
            if self.firehose.stop.requested() {
                self.take_the_rest()?;
                return Err(End::Stopping);
            }
            if self.registration.entry.is_dismissed() {
                return Err(End::Dismissed);
            }
            let now = Instant::now();
            let is_due = now >= self.heard_at + limits::SUBSCRIBER_LISTEN_INTERVAL;
            if (self.has_words || is_due) && self.ear.is_open(now) {
                self.heard_at = now;
                self.listen()?;
            }
            if self.outbox.is_empty() {
                self.moved_at = now;
            }
            if self
                .outbox
                .wants_frames(self.firehose.settings.page_bytes_max)
            {
                self.large = None;
                self.fill()?;
            }
            if let Some(aside) = self.outbox.awaits()
                && self.has_room
            {
                self.bring_back(aside, now)?;
            }
            self.keep_alive(now)?;
            let has_all = !self.outbox.is_empty() && self.outbox.awaits().is_none();
            if !has_all || !self.send(now)? {
                self.settle();
                self.sleep(now)?;
            }
        }
    }

    /// Writes what is left of the stream at its end, as much of it as the socket takes at once: whoever keeps up has
    /// everything that was published then.
    fn take_the_rest(&mut self) -> Result<(), End> {
        while self.pages_behind == 0 && self.outbox.awaits().is_none() {
            if self.outbox.is_empty() {
                if self.position >= self.firehose.ring.head() {
                    break;
                }
                self.fill()?;
            } else if !self.send(Instant::now())? {
                break;
            }
        }
        Ok(())
    }

    /// Decides where the stream begins.
    fn begin(&mut self) -> Result<(), End> {
        let window = self.firehose.store.window();
        self.position = match self.cursor.start(window, self.admission.last_seq) {
            Start::After(seq) => seq,
            Start::OutdatedAfter(seq) => {
                self.outbox.push_urgent(frame::outdated_cursor());
                // Said once; if the window moves on before the first page, there is no more to
                // say.
                self.cursor = Cursor::From(0);
                seq
            }
            Start::Future => return Err(End::Future),
        };
        let entry = &self.registration.entry;
        entry.position.store(self.position, Ordering::Relaxed);
        Ok(())
    }

    /// Takes what follows from the ring, or from the store.
    fn fill(&mut self) -> Result<(), End> {
        let answer = self.firehose.ring.read_after(
            self.position,
            limits::SUBSCRIBER_WRITE_FRAMES_MAX,
            self.firehose.settings.page_bytes_max,
            &mut self.outbox.frames,
        );
        if answer == Answer::Behind {
            self.fill_from_store()?;
        } else {
            if answer == Answer::Frames {
                self.firehose.metrics.replay_reads.inc(Tier::Ring);
            }
            self.pages_behind = 0;
            self.ahead = None;
        }
        // Whatever it came from: also what was read ahead is covered by what holds now.
        self.firehose.hidden.cover(&mut self.outbox.frames);
        if let Some(last) = self.outbox.frames.back() {
            self.position = last.seq.get();
            self.is_fresh = false;
        }
        Ok(())
    }

    fn fill_from_store(&mut self) -> Result<(), End> {
        self.firehose.metrics.replay_reads.inc(Tier::Store);
        self.pages_behind += 1;
        if self.ahead.is_none() && self.pages_behind >= limits::READ_AHEAD_AFTER_PAGES {
            self.ahead = self.start_ahead();
        }
        match self.ahead.as_ref().and_then(Ahead::next).transpose()? {
            Some((Page::Frames, frames)) if !frames.is_empty() => {
                self.outbox.frames.extend(frames);
                return Ok(());
            }
            Some((Page::Large(seq), _)) => {
                self.ahead = None;
                self.expect_large(seq);
                return Ok(());
            }
            _ => {}
        }
        // At its end there is nothing, and what that means shows here.
        self.ahead = None;
        self.read_store()
    }

    fn start_ahead(&self) -> Option<Ahead> {
        let Firehose { store, turns, .. } = &*self.firehose;
        let large = self.firehose.settings.page_bytes_max;
        let started = Ahead::start(Arc::clone(store), turns, self.position, large);
        // Without a thread it takes longer.
        started.unwrap_or_else(|error| {
            log::warn!(error:% = error; "no thread to read ahead for a subscriber");
            None
        })
    }

    fn read_store(&mut self) -> Result<(), End> {
        let store = &self.firehose.store;
        let last = store.last_seq();
        let bytes = self.firehose.settings.page_bytes_max;
        let page = self.read_page(self.position, bytes, bytes)?;
        match page {
            Page::Large(seq) => self.expect_large(seq),
            Page::Frames if self.page.is_empty() => {
                // Nothing lies between here and the last seq: the ring begins beyond a jump.
                self.position = self.position.max(last);
            }
            Page::Frames => self.outbox.frames.extend(self.page.drain(..)),
            // The window moved between the decision where to begin and the first read.
            Page::Pruned if self.is_fresh => self.begin()?,
            Page::Pruned => return Err(End::TooSlow),
        }
        Ok(())
    }

    /// Has a page of the store read.
    fn read_page(&mut self, after: u64, bytes: usize, frame_bytes: usize) -> Result<Page, End> {
        let store = Arc::clone(&self.firehose.store);
        let mut frames = std::mem::take(&mut self.page);
        let read = self.firehose.crew.run(move || {
            let page = store.read_after(after, bytes, frame_bytes, &mut frames);
            page.map(|page| (page, frames))
        });
        // A panic was counted and logged where it happened.
        let (page, frames) = read.ok_or(End::Vanished)??;
        self.page = frames;
        Ok(page)
    }

    /// The frame that follows in the store is a large one.
    fn expect_large(&mut self, seq: u64) {
        // What was read ahead has ended here; what comes behind this may be worth it.
        self.pages_behind = 1;
        self.outbox.push_aside(seq);
        self.position = seq;
        self.is_fresh = false;
    }

    /// Gets the large frame that is to be written next, if it can be had now.
    fn bring_back(&mut self, aside: Aside, now: Instant) -> Result<(), End> {
        let Some(frame) = self.large_frame(aside.seq)? else {
            // The client could take more: the time that passes is not its own.
            self.moved_at = now;
            return Ok(());
        };
        self.outbox.bring_back(frame);
        if aside.offset == 0 {
            // Before its first byte it can still be hidden.
            self.firehose.hidden.cover(&mut self.outbox.frames);
        }
        Ok(())
    }

    fn large_frame(&mut self, number: u64) -> Result<Option<Frame>, End> {
        let firehose = Arc::clone(&self.firehose);
        let Some(seq) = Seq::new(number) else {
            return Ok(None);
        };
        let kept = |large: &mut Option<Large>, (place, bytes)| {
            *large = Some(Large::Kept(place));
            Ok(Some(Frame { seq, bytes }))
        };
        if let Some(taken) = firehose.large.take(number) {
            return kept(&mut self.large, taken);
        }
        let (before, mut found) = (number - 1, VecDeque::new());
        if firehose.ring.read_after(before, 1, 1, &mut found) == Answer::Frames {
            // The ring has it in memory anyway.
            return Ok(found.pop_front().filter(|frame| frame.seq == seq));
        }
        let Some(turn) = firehose.large.turn(limits::LARGE_FRAME_PATIENCE) else {
            return Ok(None);
        };
        if let Some(taken) = firehose.large.take(number) {
            return kept(&mut self.large, taken);
        }
        let page = self.read_page(before, 1, usize::MAX)?;
        let found = self.page.pop().filter(|frame| frame.seq == seq);
        let Some(frame) = found.filter(|_| page == Page::Frames) else {
            // It has left the window.
            return Err(End::TooSlow);
        };
        if let Some(taken) = firehose.large.keep(number, &frame.bytes) {
            return kept(&mut self.large, taken);
        }
        self.large = Some(Large::Mine(turn));
        Ok(Some(frame))
    }

    /// Whoever has to wait has no large frame in memory that is not kept for all.
    fn settle(&mut self) {
        if matches!(self.large, Some(Large::Kept(_))) {
            return;
        }
        let large = self.firehose.settings.page_bytes_max;
        if let Some((seq, bytes)) = self.outbox.large(large) {
            if let Some((place, shared)) = self.firehose.large.keep(seq, bytes) {
                *bytes = shared;
                self.large = Some(Large::Kept(place));
                return;
            }
            self.outbox.put_aside(large);
        }
        self.large = None;
    }

    /// Reads what the client says, a little at a time, so that pings are answered between two
    /// writes.
    fn listen(&mut self) -> Result<(), End> {
        let mut bytes = [0; READ_BYTES];
        let read = (&*self.socket).read(&mut bytes);
        // There may be more where it was as much as was asked for.
        self.has_words = matches!(&read, Ok(n) if *n == bytes.len());
        match read {
            Ok(0) => Err(End::Vanished),
            Ok(n) => {
                let frames = self.hear(&bytes[..n])?;
                self.ear.heard(n, frames);
                Ok(())
            }
            Err(error) if is_later(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes in what the client has said; how many frames end in it.
    fn hear(&mut self, bytes: &[u8]) -> Result<usize, End> {
        if !bytes.is_empty() {
            self.asked_at = None;
        }
        let mut found = Vec::new();
        let frames = self.parser.feed(bytes, &mut found)?;
        for frame in found {
            match frame {
                ClientFrame::Ping(payload) => self.outbox.push_urgent(frame::pong(&payload)),
                ClientFrame::Pong => {}
                ClientFrame::Close(payload) => return Err(End::Closed(payload)),
            }
        }
        Ok(frames)
    }

    /// Notices who takes nothing and who does not answer, and asks who was sent nothing.
    fn keep_alive(&mut self, now: Instant) -> Result<(), End> {
        let timing = &self.firehose.settings.timing;
        if !self.outbox.is_empty() {
            return if now >= self.moved_at + timing.stall_max {
                Err(End::TooSlow)
            } else {
                Ok(())
            };
        }
        if self
            .asked_at
            .is_some_and(|at| now >= at + timing.silent_max)
        {
            return Err(End::Vanished);
        }
        if now >= self.sent_at + timing.ping_interval {
            self.outbox.push_urgent(frame::ping());
            self.asked_at.get_or_insert(now);
        }
        Ok(())
    }

    /// Writes what the socket takes at once; false when it takes nothing now.
    fn send(&mut self, now: Instant) -> Result<bool, End> {
        let written = match self.write()? {
            Ok(written) => written,
            Err(error) if is_later(&error) => {
                self.has_room = false;
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        self.moved_at = now;
        self.sent_at = now;
        let metrics = &self.firehose.metrics;
        metrics.bytes_sent.add(written.bytes as u64);
        let entry = &self.registration.entry;
        entry
            .bytes
            .fetch_add(written.bytes as u64, Ordering::Relaxed);
        if let Some(seq) = written.seq {
            // Who takes frames is alive: pings are for those who get none.
            self.asked_at = None;
            metrics.frames_sent.add(written.frames);
            entry.frames.fetch_add(written.frames, Ordering::Relaxed);
            entry.position.store(seq, Ordering::Relaxed);
        }
        Ok(true)
    }

    /// One call to the socket. While this is behind the ring, the call is made by those who read the store for it:
    /// what a replay costs is mostly the sending, and comes behind what happens now.
    fn write(&mut self) -> Result<io::Result<Written>, End> {
        if self.pages_behind == 0 {
            return Ok(self.outbox.write(&mut &*self.socket));
        }
        let (socket, mut outbox) = (Arc::clone(&self.socket), std::mem::take(&mut self.outbox));
        let done = self.firehose.crew.run(move || {
            let written = outbox.write(&mut &*socket);
            (outbox, written)
        });
        // A panic was counted and logged where it happened.
        let (outbox, written) = done.ok_or(End::Vanished)?;
        self.outbox = outbox;
        Ok(written)
    }

    /// Waits until there is something to do: news, room in the socket, words of the client, a
    /// deadline, the stop.
    fn sleep(&mut self, now: Instant) -> Result<(), End> {
        let timing = &self.firehose.settings.timing;
        let entry = &self.registration.entry;
        let (mut interest, mut deadline) = if self.outbox.is_empty() {
            let ring = &self.firehose.ring;
            let has_own_pace = self.ear.is_tired();
            if !has_own_pace && !entry.falls_asleep(|| ring.head() > self.position) {
                return Ok(());
            }
            let look_at = has_own_pace.then(|| now + own_pace(entry.id()));
            let ping_at = self.sent_at + timing.ping_interval;
            let silent_at = self.asked_at.map(|at| at + timing.silent_max);
            let deadlines = [silent_at, look_at].into_iter().flatten();
            let deadline = deadlines.fold(ping_at, Instant::min);
            (PollFlags::IN, deadline)
        } else {
            let deadline = self.moved_at + timing.stall_max;
            (PollFlags::IN | PollFlags::OUT, deadline)
        };
        if !self.ear.is_open(now) {
            interest -= PollFlags::IN;
            deadline = deadline.min(self.ear.opens_at());
            self.has_words = true;
        }
        let timeout = deadline.saturating_duration_since(now);
        let ready = wait(
            &[(&*self.socket, interest), (&entry.bell, PollFlags::IN)],
            timeout,
        )?;
        entry.wake_up();
        // A socket that is ready for more than frames has words, or is broken.
        self.has_words |= !(ready & !PollFlags::OUT).is_empty();
        self.has_room |= ready.intersects(PollFlags::OUT | PollFlags::ERR | PollFlags::HUP);
        if ready.intersects(PollFlags::ERR | PollFlags::HUP) {
            self.ear.hear_out();
        }
        Ok(())
    }

    /// Says why, closes, and waits a moment for the client to have read it.
    fn finish(&mut self, end: End) -> io::Result<()> {
        self.outbox.clear();
        if self.outbox.is_torn() {
            // No word can be said in the middle of a frame.
            return Ok(());
        }
        let words = end.last_words();
        if words.is_empty() {
            return Ok(());
        }
        for word in words {
            self.outbox.push_urgent(word);
        }
        self.drain()
    }

    /// Writes what is left, then reads until the client has closed too: a socket that is closed
    /// with something unread in it takes back what was written last.
    fn drain(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + self.firehose.settings.timing.close_timeout;
        let (mut is_open, mut thrown_away) = (true, 0);
        while thrown_away < limits::HTTP_LINGER_BYTES_MAX {
            if is_open && self.outbox.is_empty() {
                self.socket.shutdown(Shutdown::Write)?;
                is_open = false;
            }
            let interest = if is_open {
                PollFlags::IN | PollFlags::OUT
            } else {
                PollFlags::IN
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            wait(&[(&*self.socket, interest)], left)?;
            if is_open {
                match self.outbox.write(&mut &*self.socket) {
                    Ok(_) => {}
                    Err(error) if is_later(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            match (&*self.socket).read(&mut [0; READ_BYTES]) {
                Ok(0) => return Ok(()),
                Ok(n) => thrown_away += n,
                Err(error) if is_later(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// How often the subscriber of this number looks for frames when it says too much.
fn own_pace(id: u64) -> Duration {
    let spread = limits::SUBSCRIBER_OWN_PACE_SPREAD;
    limits::SUBSCRIBER_OWN_PACE + spread / 64 * (id % 64) as u32
}

/// Whether a call only has to be made again.
fn is_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Waits until one of `sources` is ready, or `timeout` has passed; what the first one is ready for.
fn wait(sources: &[(&dyn AsFd, PollFlags)], timeout: Duration) -> io::Result<PollFlags> {
    let mut fds: Vec<PollFd<'_>> = sources
        .iter()
        .map(|(source, interest)| PollFd::from_borrowed_fd(source.as_fd(), *interest))
        .collect();
    let timeout = Timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {
            let first = fds.first().map(PollFd::revents);
            Ok(first.unwrap_or(PollFlags::empty()))
        }
        Err(error) => Err(error.into()),
    }
}
