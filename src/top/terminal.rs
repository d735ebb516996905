//! The terminal: raw, on a screen of its own, and as it was before however the program ends.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    sync::{Mutex, Once, PoisonError},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr},
};
use signal_hook::{
    consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH},
    low_level::pipe,
};

use super::{
    cells::Charset,
    view::{Line, Style},
};

/// Another screen, without cursor, without wrapping
/// (<https://invisible-island.net/xterm/ctlseqs/ctlseqs.html>).
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
/// All of this undone.
const LEAVE: &str = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";
/// What a terminal that does not know its size is taken for.
const SIZE_USUAL: (usize, usize) = (80, 24);

/// How the terminal was, while it is ours.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// A terminal that is ours until this is dropped.
pub(super) struct Terminal {
    stdin: io::Stdin,
    /// Readable when the size has changed.
    resized: UnixStream,
    /// Readable when the process is told to end.
    told_to_end: UnixStream,
    has_colours: bool,
}

/// Why a wait is over; several may be true.
#[derive(Default, Debug)]
pub(super) struct Woken {
    /// What was typed.
    pub(super) typed: Vec<u8>,
    /// The program is to end: a signal, or nobody is at the terminal any more.
    pub(super) end: bool,
}

/// Whether standard input and output are a terminal that moves its cursor.
pub(super) fn is_there() -> bool {
    let term = std::env::var("TERM").unwrap_or_default();
    io::stdin().is_terminal() && io::stdout().is_terminal() && !matches!(term.as_str(), "" | "dumb")
}

/// What the terminal can show, as the environment says.
pub(super) fn charset() -> Charset {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    let set = names.iter().filter_map(|name| std::env::var(name).ok());
    charset_of(set.into_iter().find(|value| !value.is_empty()).as_deref())
}

fn charset_of(locale: Option<&str>) -> Charset {
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    match locale.contains("utf-8") || locale.contains("utf8") {
        true => Charset::Unicode,
        false => Charset::Ascii,
    }
}

impl Terminal {
    /// Takes the terminal. A panic gives it back too, before it is reported.
    pub(super) fn open() -> io::Result<Terminal> {
        static HOOK: Once = Once::new();
        let watch = |signals: &[i32]| -> io::Result<UnixStream> {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            for signal in signals {
                pipe::register(*signal, theirs.try_clone()?)?;
            }
            Ok(ours)
        };
        let told_to_end = watch(&[SIGTERM, SIGINT, SIGHUP, SIGQUIT])?;
        let resized = watch(&[SIGWINCH, SIGCONT])?;
        HOOK.call_once(|| {
            let next = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                next(panic);
            }));
        });
        let terminal = Terminal {
            stdin: io::stdin(),
            resized,
            told_to_end,
            has_colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        let before = tcgetattr(&terminal.stdin)?;
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before.clone());
        let mut raw = before;
        raw.make_raw();
        tcsetattr(&terminal.stdin, OptionalActions::Flush, &raw)?;
        let mut out = io::stdout().lock();
        out.write_all(ENTER.as_bytes())?;
        out.flush()?;
        Ok(terminal)
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> (usize, usize) {
        let size = tcgetwinsize(io::stdout()).ok();
        let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
        size.map_or(SIZE_USUAL, |size| (size.ws_col.into(), size.ws_row.into()))
    }

    /// Shows these lines, from the top, in place of what was there.
    pub(super) fn show(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(painted(lines, self.has_colours).as_bytes())?;
        out.flush()
    }

    /// Waits for keys, signals, a new size, or that `news` is readable; for `timeout` at most.
    pub(super) fn wait(&mut self, news: &UnixStream, timeout: Duration) -> io::Result<Woken> {
        let ready = {
            let mut fds = [
                PollFd::from_borrowed_fd(self.stdin.as_fd(), PollFlags::IN),
                PollFd::new(&self.resized, PollFlags::IN),
                PollFd::new(&self.told_to_end, PollFlags::IN),
                PollFd::new(news, PollFlags::IN),
            ];
            let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
            match poll(&mut fds, Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => (),
                Err(error) => return Err(error.into()),
            }
            fds.map(|fd| !fd.revents().is_empty())
        };
        let mut woken = Woken::default();
        if ready[0] {
            let mut buffer = [0; 256];
            match rustix::io::read(&self.stdin, &mut buffer) {
                Ok(0) => woken.end = true,
                Ok(length) => woken.typed.extend_from_slice(&buffer[..length]),
                Err(Errno::INTR | Errno::AGAIN) => (),
                Err(_) => woken.end = true,
            }
        }
        drain(&self.resized);
        drain(news);
        woken.end |= drain(&self.told_to_end);
        Ok(woken)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back as it was; nothing where it is not ours.
fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // Where there is no terminal any more, there is nothing to restore.
        let mut out = io::stdout().lock();
        let _ = out.write_all(LEAVE.as_bytes());
        let _ = out.flush();
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &before);
    }
}

/// Reads whatever there is; whether there was anything.
fn drain(mut stream: &UnixStream) -> bool {
    let mut any = false;
    let mut buffer = [0; 64];
    while matches!(stream.read(&mut buffer), Ok(length) if length > 0) {
        any = true;
    }
    any
}

/// The lines with what makes a terminal show them in place of others, without flicker: nothing is
/// cleared before it is written over.
fn painted(lines: &[Line], has_colours: bool) -> String {
    let mut out = String::from("\x1b[H");
    for (n, line) in lines.iter().enumerate() {
        if n > 0 {
            out.push_str("\r\n");
        }
        let style = match (line.style, has_colours) {
            (Style::Plain, _) => "",
            (Style::Head, _) => "\x1b[7m",
            (Style::Faint, _) => "\x1b[2m",
            (Style::Failing, true) => "\x1b[33m",
            (Style::Failing, false) => "",
            (Style::Alarm, true) => "\x1b[1;31m",
            (Style::Alarm, false) => "\x1b[1m",
        };
        // What is left of the line is cleared in its style: the head is a bar.
        let _ = write!(out, "{style}{}\x1b[K\x1b[0m", line.text);
    }
    out.push_str("\x1b[J");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(style: Style, text: &str) -> Line {
        Line {
            style,
            text: text.to_owned(),
        }
    }

    #[test]
    fn lines_are_painted_over_the_old_ones() {
        let lines = [line(Style::Plain, "a"), line(Style::Alarm, "b")];
        let coloured = "\x1b[Ha\x1b[K\x1b[0m\r\n\x1b[1;31mb\x1b[K\x1b[0m\x1b[J";
        assert_eq!(painted(&lines, true), coloured);
        assert!(!painted(&lines, false).contains("[1;31m"));
        assert!(
            !painted(&lines, true).ends_with("\r\n"),
            "the last row would scroll"
        );
    }

    #[test]
    fn the_character_set_is_that_of_the_locale() {
        for utf8 in ["en_US.UTF-8", "C.utf8", "de_DE.utf-8"] {
            assert_eq!(charset_of(Some(utf8)), Charset::Unicode);
        }
        for other in [None, Some("C"), Some("POSIX"), Some("de_DE.ISO-8859-1")] {
            assert_eq!(charset_of(other), Charset::Ascii);
        }
    }
}
