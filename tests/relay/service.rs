//! The relay under a service manager and in a container: what it says of itself, how it is asked how it
//! does, and secrets that are files.

use std::{
    fs,
    net::TcpListener,
    os::{linux::net::SocketAddrExt, unix::net},
    path::Path,
    process::Command,
};

use tempfile::TempDir;

use crate::{
    postgres::Cluster,
    process::run,
    site::{Site, TIMEOUT, agent, bare_command, wait_until},
};

/// The service manager's end of the conversation.
struct Manager {
    socket: net::UnixDatagram,
    /// What `NOTIFY_SOCKET` has to be.
    name: String,
    _directory: TempDir,
}

impl Manager {
    fn listen(address: impl FnOnce(&Path) -> (net::SocketAddr, String)) -> Manager {
        let directory = TempDir::new().unwrap();
        let (address, name) = address(directory.path());
        let socket = net::UnixDatagram::bind_addr(&address).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        Manager {
            socket,
            name,
            _directory: directory,
        }
    }

    /// A socket in the file system, as a system's manager has it.
    fn at_path() -> Manager {
        Manager::listen(|directory| {
            let path = directory.join("notify");
            let address = net::SocketAddr::from_pathname(&path).unwrap();
            (address, path.to_str().unwrap().to_owned())
        })
    }

    /// An abstract one, as containers get it.
    fn abstractly() -> Manager {
        Manager::listen(|directory| {
            let name = format!("zlay{}", directory.display());
            let address = net::SocketAddr::from_abstract_name(&name).unwrap();
            (address, format!("@{name}"))
        })
    }

    /// The next message, line by line.
    fn next(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).unwrap();
        let text = std::str::from_utf8(&bytes[..length]).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// The messages before one with this line.
    fn until(&self, line: &str) -> Vec<Vec<String>> {
        let mut before = Vec::new();
        loop {
            let message = self.next();
            if message.iter().any(|said| said == line) {
                return before;
            }
            before.push(message);
        }
    }
}

fn begins(message: &[String], name: &str) -> bool {
    message.iter().any(|line| line.starts_with(name))
}

fn is_told_everything(manager: &Manager) {
    let mut site = Site::new(1);
    site.variables.push(("NOTIFY_SOCKET", manager.name.clone()));
    site.variables.push(("WATCHDOG_USEC", "2000000".to_owned()));
    let relay = site.start();
    // More time is asked for at once, because nobody knows yet how long the start will take.
    let starting = manager.until("READY=1");
    assert!(begins(&starting[0], "EXTEND_TIMEOUT_USEC="), "{starting:?}");
    assert!(begins(&starting[0], "STATUS=starting"), "{starting:?}");
    for (address, path) in [(relay.public, "/_health"), (relay.internal, "/healthz")] {
        let url = format!("http://{address}{path}");
        assert_eq!(agent().get(url).call().unwrap().status(), 200);
    }
    // Fed again and again, not only once.
    manager.until("WATCHDOG=1");
    let between = manager.until("WATCHDOG=1");
    let figures = "STATUS=seq 0, 0 hosts connected, 0 subscribers, 0 events a second";
    assert!(begins(&between[0], figures), "{between:?}");
    relay.terminate();
    manager.until("STOPPING=1");
    assert!(relay.ended().0.success());
}

#[test]
fn a_service_manager_is_told_of_the_start_the_life_and_the_stop() {
    is_told_everything(&Manager::at_path());
}

#[test]
fn a_service_manager_with_an_abstract_socket_is_told_the_same() {
    is_told_everything(&Manager::abstractly());
}

/// The database takes connections and says nothing, which the relay's start waits for.
#[test]
fn a_start_that_waits_is_not_ready_and_asks_for_time() {
    let manager = Manager::at_path();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut site = Site::new(0);
    let database = format!("postgres://zlay:x@{}/zlay", silent.local_addr().unwrap());
    site.variables.push(("NOTIFY_SOCKET", manager.name.clone()));
    site.variables.push(("DATABASE_URL", database));
    let mut child = site.command().spawn().unwrap();
    let first = [manager.next(), manager.next()];
    for message in &first {
        assert!(begins(message, "EXTEND_TIMEOUT_USEC="), "{first:?}");
    }
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_manager_that_is_not_there_is_no_reason_not_to_run() {
    let mut site = Site::new(0);
    let nowhere = site.data().join("no-such-socket");
    let nowhere = nowhere.to_str().unwrap().to_owned();
    site.variables.push(("NOTIFY_SOCKET", nowhere.clone()));
    let relay = site.start();
    relay.terminate();
    let (status, log) = relay.ended();
    assert!(status.success());
    assert!(log.iter().any(|line| line.contains(&nowhere)), "{log:#?}");
}

fn health(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = bare_command();
    command.arg("health").args(arguments);
    run(command)
}

#[test]
fn the_health_of_a_relay_is_asked_for_by_the_same_program() {
    let site = Site::new(0);
    let relay = site.start();
    let internal = format!("http://{}", relay.internal);
    assert_eq!(health(&["--url", &internal]), (Some(0), "alive\n".into()));
    let (code, said) = health(&["--ready", "--url", &internal]);
    // The machine's disk may be rather full, which is said too.
    assert_eq!((code, said.starts_with("ready")), (Some(0), true), "{said}");
    // In the environment of the relay itself no address has to be given.
    let mut command = bare_command();
    command.arg("health");
    command.env("RELAY_METRICS_PORT", relay.internal.port().to_string());
    assert_eq!(run(command), (Some(0), "alive\n".into()));

    let public = format!("http://{}", relay.public);
    let (code, said) = health(&["--url", &public]);
    assert_eq!(code, Some(1));
    assert!(said.contains("not an internal port"), "{said}");
    relay.terminate();
    assert!(relay.ended().0.success());
    let (code, said) = health(&["--url", &internal]);
    assert_eq!(code, Some(1));
    assert!(said.starts_with("no answer from "), "{said}");
}

/// A database that is away for a moment is no reason to send subscribers elsewhere, and is said.
#[test]
fn what_is_wrong_and_no_reason_to_stop_is_said() {
    let mut database = Cluster::start();
    let mut site = Site::new(0);
    site.variables.push(("DATABASE_URL", database.url()));
    let relay = site.start();
    let internal = format!("http://{}", relay.internal);
    let asked = || health(&["--ready", "--url", &internal]);
    let missed = |said: &str| said.contains("; the control store is not available");
    let (code, said) = asked();
    assert_eq!((code, missed(&said)), (Some(0), false), "{said}");
    database.stop();
    wait_until("the database is missed", || {
        let (code, said) = asked();
        code == Some(0) && said.starts_with("ready") && missed(&said)
    });
}

fn with_password_file(site: &Site, path: &Path) -> Command {
    let mut command = site.command();
    command.env_remove("RELAY_ADMIN_PASSWORD");
    command.env("RELAY_ADMIN_PASSWORD_FILE", path);
    command
}

#[test]
fn a_secret_can_be_a_file_and_a_bad_one_is_named_and_not_shown() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("admin-password");
    fs::write(&path, "open sesame\n").unwrap();
    let mut site = Site::new(0);
    site.variables.push(("RELAY_ADMIN_PASSWORD", String::new()));
    let file = path.to_str().unwrap().to_owned();
    site.variables.push(("RELAY_ADMIN_PASSWORD_FILE", file));
    let relay = site.start();
    let url = format!("http://{}/admin/pds/list", relay.public);
    let status = |password: &str| {
        let request = agent().get(&url);
        let bearer = format!("Bearer {password}");
        request
            .header("Authorization", bearer)
            .call()
            .unwrap()
            .status()
    };
    assert_eq!(status("open sesame"), 200);
    assert_eq!(status("sesame"), 401);
    drop(relay);

    fs::write(&path, "two\nlines\n").unwrap();
    let (code, said) = run(with_password_file(&site, &path));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("RELAY_ADMIN_PASSWORD_FILE="), "{said}");
    assert!(!said.contains("two"), "{said}");
    let mut both = with_password_file(&site, &path);
    both.env("RELAY_ADMIN_PASSWORD", "x");
    let (code, said) = run(both);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("are both set"), "{said}");
}
