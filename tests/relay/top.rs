//! `zlay top` as its user meets it: once, through a pipe, and in a terminal.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    process::run,
    site::{Relay, Site, bare_command, wait_until},
    subscriber::Subscriber,
};

/// What a terminal is told when the program takes it, and when it gives it back.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

/// A relay with a host that has sent something.
fn relay() -> (Site, Relay) {
    let mut site = Site::new(1);
    let relay = site.start_crawling();
    let mut account = site.account(0);
    let event = site.publish_post(&mut account);
    Subscriber::from_the_beginning(&relay).expect(&[&event]);
    (site, relay)
}

fn top(relay: &str, arguments: &[&str]) -> Command {
    let mut command = bare_command();
    command.args(["top", "--relay", relay]).args(arguments);
    command
}

#[test]
fn a_look_at_a_relay_with_a_host() {
    let (site, relay) = relay();
    let url = format!("http://{}", relay.public);
    let (code, said) = run(top(&url, &["--once"]));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("zlay "), "{said}");
    let name = site.network.host(0).url().replace("http://", "");
    let line = said.lines().find(|line| line.starts_with(&name));
    let cells: Vec<&str> = line
        .unwrap_or_else(|| panic!("{said}"))
        .split_whitespace()
        .collect();
    assert_ne!(cells[1], "-", "{said}");
    assert!(cells[2].starts_with('1'), "one account: {said}");
    assert!(!said.contains('\x1b'), "{said}");
    let (code, said) = run(top(&url, &["--once", "--hosts", "0"]));
    assert_eq!((code, said.contains(&name)), (Some(0), false), "{said}");
}

#[test]
fn what_is_no_relay_is_said_in_words() {
    // A port that was free a moment ago.
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (code, said) = run(top(&format!("http://{closed}"), &["--once"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&closed.to_string()), "{said}");
    assert!(said.to_lowercase().contains("connection refused"), "{said}");

    // A host of the network answers, and is no relay.
    let site = Site::new(1);
    let (code, said) = run(top(&site.network.host(0).url(), &["--once"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is not a zlay relay"), "{said}");

    let (code, said) = run(top("ftp://relay", &["--once"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is not the URL of a relay"), "{said}");
    let (code, _) = run(top("http://127.0.0.1:1", &["--interval", "0s"]));
    assert_eq!(code, Some(2));
}

/// A program whose output is collected.
struct Running {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Running {
    fn start(mut command: Command) -> Running {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let all = said.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = out.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                all.lock().unwrap().push_str(&text);
            }
        });
        Running { child, said }
    }

    /// `zlay top` in a terminal, between two words on how that is set.
    fn in_terminal(relay: &str) -> Running {
        let program = env!("CARGO_BIN_EXE_zlay");
        // The shell has the number that the program then has.
        let inner = format!("echo pid=$$; exec {program} top --relay {relay} --interval 100ms");
        let outer = format!(
            "stty rows 30 cols 100; echo before=$(stty -g); sh -c '{inner}'; \
                             echo code=$?; echo after=$(stty -g)"
        );
        let mut command = Command::new("script");
        command.args(["-q", "-e", "-c", &outer, "/dev/null"]);
        command
            .env("TERM", "xterm")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("RELAY_ADMIN_PASSWORD");
        Running::start(command)
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    fn wait_for(&self, text: &str) {
        wait_until(text, || self.said().contains(text));
    }

    fn press(&mut self, keys: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(keys.as_bytes()).unwrap();
        input.flush().unwrap();
    }

    /// The word behind the last `name=`.
    fn value(&self, name: &str) -> String {
        let said = self.said();
        let (_, rest) = said.rsplit_once(&format!("{name}=")).unwrap();
        rest.split_whitespace().next().unwrap().to_owned()
    }

    /// Waits for the end, and sees that the terminal is as it was.
    fn assert_restored(&mut self) {
        self.wait_for("after=");
        self.child.wait().unwrap();
        wait_until("all of it is read", || {
            self.said().trim_end().ends_with(&self.value("before"))
        });
        let said = self.said();
        assert!(
            said.rfind(LEAVE).unwrap() > said.rfind(ENTER).unwrap(),
            "{said:?}"
        );
        assert!(said.rfind("\x1b[?25h").unwrap() > said.rfind("\x1b[?25l").unwrap());
        assert_eq!(self.value("before"), self.value("after"));
        assert_eq!(self.value("code"), "0", "{said:?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn keys_are_heard_and_the_terminal_is_given_back() {
    let (site, relay) = relay();
    let mut running = Running::in_terminal(&format!("http://{}", relay.public));
    running.wait_for(ENTER);
    running.wait_for(&site.network.host(0).url().replace("http://", ""));
    running.press("s");
    running.wait_for("s sort (by rejected/s)");
    running.press("f");
    running.wait_for("f all hosts");
    running.wait_for("no hosts");
    running.press("q");
    running.assert_restored();
}

#[test]
fn a_signal_ends_it_in_order() {
    let mut running = Running::in_terminal("http://127.0.0.1:1");
    running.wait_for("can not reach http://127.0.0.1:1");
    let pid = running.value("pid").parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    running.assert_restored();
}

#[test]
fn a_pipe_gets_plain_text_in_every_interval() {
    let (_site, relay) = relay();
    let mut command = top(
        &format!("http://{}", relay.public),
        &["--interval", "100ms"],
    );
    command.env("TERM", "xterm");
    let running = Running::start(command);
    wait_until("it has printed three times", || {
        running.said().matches("HOST").count() >= 3
    });
    assert!(!running.said().contains('\x1b'));
}
