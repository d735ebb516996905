//! `zlay top`: a relay live in a terminal, or as plain text, for people on ssh.
//!
//! `source` asks the relay, on a thread of its own; `snapshot` is what it said; `state` what was
//! chosen; `view` makes lines of them, `terminal` shows those and says which keys were pressed.

mod cells;
mod keys;
mod snapshot;
mod source;
mod state;
mod terminal;
mod view;

use std::{
    fmt,
    io::{self, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

pub use self::source::SourceError;
use self::{
    cells::Charset,
    snapshot::Snapshot,
    source::Source,
    state::{State, Wish},
    terminal::Terminal,
    view::{Frame, View, draw},
};
use crate::{
    config::Secret,
    limits::SERVICE_STACK_BYTES,
    outbound::Outbound,
    threads::{self, Role},
};

/// Columns where nobody says how many there are.
const COLUMNS_PLAIN: usize = 160;
/// The longest wait for a key; nothing depends on it.
const WAIT: Duration = Duration::from_secs(60);

/// What to show, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The URL of the relay.
    pub relay: String,
    /// Between two snapshots.
    pub interval: Duration,
    /// Prints one snapshot and ends.
    pub once: bool,
    /// How many hosts plain text has; none is all of them.
    pub hosts: Option<usize>,
}

/// Why it ends, but for its user.
#[derive(Debug)]
pub enum TopError {
    /// There is nothing to show.
    Source(SourceError),
    /// The terminal can not be used.
    Terminal(io::Error),
}

impl fmt::Display for TopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopError::Source(error) => write!(f, "{error}"),
            TopError::Terminal(error) => write!(f, "the terminal can not be used: {error}"),
        }
    }
}

impl std::error::Error for TopError {}

/// Shows the relay until its user has seen enough.
pub fn run(
    options: &Options,
    outbound: &Outbound,
    password: Option<&Secret>,
) -> Result<(), TopError> {
    let source = Source::new(outbound, &options.relay, password).map_err(TopError::Source)?;
    if options.once {
        let wish = plain_wish(options);
        let mut snapshot = source.snapshot(wish).map_err(TopError::Source)?;
        let mut state = State::default();
        state.see(Duration::ZERO, &mut snapshot);
        return finish(print(&source, Some(&snapshot), None, &state, options));
    }
    let shown = match terminal::is_there() {
        true => live(&source, options),
        false => plainly(&source, options),
    };
    // Ends a request that is under way, which a thread may still wait for.
    outbound.abort_requests();
    finish(shown)
}

/// Whoever has read enough of a pipe closes it: no error.
fn finish(shown: io::Result<()>) -> Result<(), TopError> {
    match shown {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        shown => shown.map_err(TopError::Terminal),
    }
}

fn plain_wish(options: &Options) -> Wish {
    Wish {
        hosts: options.hosts,
        ..State::default().wish(0)
    }
}

/// Prints a snapshot in each interval.
fn plainly(source: &Source, options: &Options) -> io::Result<()> {
    let started = Instant::now();
    let mut state = State::default();
    loop {
        let asked = Instant::now();
        match source.snapshot(plain_wish(options)) {
            Ok(mut snapshot) => {
                state.see(started.elapsed(), &mut snapshot);
                print(source, Some(&snapshot), None, &state, options)?;
            }
            Err(error) => print(source, None, Some(&error.to_string()), &state, options)?,
        }
        std::thread::sleep(options.interval.saturating_sub(asked.elapsed()));
    }
}

fn print(
    source: &Source,
    snapshot: Option<&Snapshot>,
    error: Option<&str>,
    state: &State,
    options: &Options,
) -> io::Result<()> {
    let mut few = snapshot.cloned();
    if let (Some(snapshot), Some(most)) = (&mut few, options.hosts) {
        let hosts = state.arrange(&snapshot.hosts).into_iter().take(most);
        snapshot.hosts = hosts.cloned().collect();
    }
    let view = draw(&Frame {
        relay: source.url(),
        snapshot: few.as_ref(),
        error,
        state,
        charset: terminal::charset(),
        columns: COLUMNS_PLAIN,
        rows: None,
    });
    let mut text: String = view
        .lines
        .iter()
        .map(|line| line.text.clone() + "\n")
        .collect();
    text.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Shows the relay until a key ends it.
fn live(source: &Source, options: &Options) -> io::Result<()> {
    let (told, news) = UnixStream::pair()?;
    news.set_nonblocking(true)?;
    told.set_nonblocking(true)?;
    let (tell, answers) = bounded(1);
    let (wish, wishes) = unbounded();
    let (source_there, interval) = (source.clone(), options.interval);
    let body = move || {
        ask(&source_there, interval, &wishes, |answer| {
            // Where it is full, nobody has looked since: the next one is as good.
            let _ = tell.try_send(answer);
            let _ = (&told).write(&[1]);
        });
    };
    let thread = threads::spawn(Role::Client, "top", SERVICE_STACK_BYTES, body)?;
    // It may wait for an answer that nobody wants any more. It ends with the wishes.
    thread.detach();
    watch(source.url(), &answers, &news, &wish)
}

/// Asks in each interval, and at once where something else is wished for, until nobody wishes anything.
fn ask(
    source: &Source,
    interval: Duration,
    wishes: &Receiver<Wish>,
    tell: impl Fn(Result<Snapshot, SourceError>),
) {
    let Ok(mut wish) = wishes.recv() else {
        return;
    };
    loop {
        let asked = Instant::now();
        tell(source.snapshot(wish));
        match wishes.recv_timeout(interval.saturating_sub(asked.elapsed())) {
            Ok(next) => wish = wishes.try_iter().last().unwrap_or(next),
            Err(RecvTimeoutError::Timeout) => (),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn watch(
    relay: &str,
    answers: &Receiver<Result<Snapshot, SourceError>>,
    news: &UnixStream,
    wish: &Sender<Wish>,
) -> io::Result<()> {
    let charset: Charset = terminal::charset();
    let mut terminal = Terminal::open()?;
    let started = Instant::now();
    let (mut state, mut pending) = (State::default(), Vec::new());
    let (mut snapshot, mut error): (Option<Snapshot>, _) = (None, Some("asking …".to_owned()));
    let mut wished = None;
    loop {
        let (columns, rows) = terminal.size();
        let View { lines, page, total } = draw(&Frame {
            relay,
            snapshot: snapshot.as_ref(),
            error: error.as_deref(),
            state: &state,
            charset,
            columns,
            rows: Some(rows),
        });
        terminal.show(&lines)?;
        let wanted = state.wish(page);
        if wished.replace(wanted) != Some(wanted) {
            let _ = wish.send(wanted);
        }
        let woken = terminal.wait(news, WAIT)?;
        let pressed = keys::keys(&mut pending, &woken.typed);
        let goes_on = pressed.into_iter().all(|key| state.press(key, page, total));
        if woken.end || !goes_on {
            return Ok(());
        }
        match answers.try_recv() {
            Ok(Ok(mut new)) => {
                state.see(started.elapsed(), &mut new);
                (snapshot, error) = (Some(new), None);
            }
            Ok(Err(why)) => error = Some(why.to_string()),
            Err(_) => (),
        }
    }
}
