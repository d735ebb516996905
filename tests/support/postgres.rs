//! A database server of a test's own: made in a moment, without care for power losses, and gone with
//! the test.

use std::{
    ffi::OsStr,
    fs,
    net::TcpListener,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use postgres::{Client, NoTls};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

/// A server in which tests may have databases of their own; unset: each test has a server.
const SERVER_VARIABLE: &str = "ZLAY_TEST_DATABASE_URL";
/// Nothing here takes this long unless the test fails.
const TIMEOUT: Duration = Duration::from_secs(30);
const USER: &str = "relay";

/// A server. Dropping it stops it and removes what it has kept.
pub(crate) struct Cluster {
    directory: TempDir,
    port: u16,
    password: Option<String>,
    ca: Option<PathBuf>,
    server: Option<Child>,
}

/// An empty database.
pub(crate) struct Database {
    url: String,
    /// Where to remove it; none where it goes with its server.
    within: Option<(String, String)>,
    _cluster: Option<Cluster>,
}

impl Cluster {
    /// On a socket of this machine; it believes whoever comes.
    pub(crate) fn start() -> Cluster {
        Cluster::make(Path::new("/tmp"), None, false)
    }

    /// The same with all that it keeps below this directory.
    pub(crate) fn start_in(directory: &Path) -> Cluster {
        Cluster::make(directory, None, false)
    }

    /// It wants a password.
    pub(crate) fn with_password(password: &str) -> Cluster {
        Cluster::make(Path::new("/tmp"), Some(password), false)
    }

    /// On 127.0.0.1, with a certificate for `localhost` of an authority of its own.
    pub(crate) fn with_tls() -> Cluster {
        Cluster::make(Path::new("/tmp"), None, true)
    }

    fn make(within: &Path, password: Option<&str>, tls: bool) -> Cluster {
        // The path of a socket has a hundred bytes.
        let directory = TempDir::with_prefix_in("zlay-pg-", within).unwrap();
        let mut cluster = Cluster {
            directory,
            port: 5432,
            password: password.map(str::to_owned),
            ca: None,
            server: None,
        };
        if let Some((user, group)) = other_user() {
            chown(cluster.directory.path(), Some(user), Some(group)).unwrap();
        }
        let secret = cluster.file("password", password.unwrap_or("none"));
        let authentication = if password.is_some() {
            "scram-sha-256"
        } else {
            "trust"
        };
        let made = cluster
            .program("initdb")
            .args(["--username", USER, "--auth", authentication])
            .args(["--encoding", "UTF8", "--locale", "C", "--no-sync"])
            .args([OsStr::new("--pwfile"), secret.as_os_str()])
            .args([OsStr::new("--pgdata"), cluster.data().as_os_str()])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "initdb: {said}");
        if tls {
            cluster.port = TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| listener.local_addr())
                .unwrap()
                .port();
            cluster.certify();
        }
        cluster.run();
        cluster
    }

    /// Where it is, as `DATABASE_URL` has it.
    pub(crate) fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Where another database of it would be.
    pub(crate) fn url_of(&self, database: &str) -> String {
        let password = self.password.as_ref().map(|p| format!(":{p}"));
        let user = format!("{USER}{}", password.unwrap_or_default());
        match &self.ca {
            Some(_) => format!(
                "postgres://{user}@localhost:{}/{database}?sslmode=require",
                self.port
            ),
            None => format!(
                "postgres://{user}@/{database}?host={}&port={}",
                self.directory.path().display(),
                self.port
            ),
        }
    }

    /// The file with the authority of its certificate.
    pub(crate) fn ca_file(&self) -> &Path {
        self.ca.as_deref().expect("the server speaks TLS")
    }

    /// Whoever looks in from beside: a connection without TLS.
    pub(crate) fn client(&self) -> Client {
        let url = format!(
            "postgres://{USER}:{}@/postgres?host={}&port={}",
            self.password.as_deref().unwrap_or("none"),
            self.directory.path().display(),
            self.port
        );
        Client::connect(&url, NoTls).unwrap()
    }

    /// The first column of every row, as text.
    pub(crate) fn query(&self, sql: &str) -> Vec<String> {
        query(&mut self.client(), sql)
    }

    /// Kills it, as a power loss would.
    pub(crate) fn stop(&mut self) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        let pid = Pid::from_child(&server);
        let _ = kill_process(pid, Signal::QUIT);
        let deadline = Instant::now() + TIMEOUT;
        while server.try_wait().is_ok_and(|status| status.is_none()) {
            if Instant::now() > deadline {
                let _ = server.kill();
                let _ = server.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts it again.
    pub(crate) fn run(&mut self) {
        assert!(self.server.is_none(), "it runs");
        let listen = if self.ca.is_some() { "127.0.0.1" } else { "" };
        let log = fs::File::create(self.log()).unwrap();
        let mut command = self.program("postgres");
        command
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.directory.path())
            .args(["-p", &self.port.to_string()])
            .args(["-c", &format!("listen_addresses={listen}")])
            // Enough for the end of a process, which is all that happens to it.
            .args(["-c", "fsync=off", "-c", "full_page_writes=off"])
            .args(["-c", "shared_buffers=16MB"])
            .args(["-c", "restart_after_crash=off", "-c", "autovacuum=off"])
            .stderr(log);
        if self.ca.is_some() {
            command.args(["-c", "ssl=on"]);
        }
        self.server = Some(command.spawn().unwrap());
        let deadline = Instant::now() + TIMEOUT;
        while !self.answers() {
            let ended = self.server.as_mut().unwrap().try_wait().unwrap();
            let late = Instant::now() > deadline;
            if ended.is_some() || late {
                let log = fs::read_to_string(self.log()).unwrap_or_default();
                panic!("the database server does not come up: {ended:?}\n{log}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether it runs, or would if it were not paused.
    pub(crate) fn is_running(&self) -> bool {
        self.server.is_some()
    }

    /// Kills every process of it, which none of them hears.
    pub(crate) fn kill(&mut self) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        let pid = Pid::from_child(&server);
        let processes = children(pid);
        for process in std::iter::once(pid).chain(processes.iter().copied()) {
            let _ = kill_process(process, Signal::KILL);
        }
        let _ = server.wait();
        // They are nobody's children now; the next server does not start beside one of them.
        let deadline = Instant::now() + TIMEOUT;
        let is_there = |process: &Pid| test_kill_process(*process).is_ok();
        while processes.iter().any(is_there) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it has ended by itself; then it can be started again.
    pub(crate) fn has_ended(&mut self) -> bool {
        let server = self.server.as_mut().expect("it was started");
        let ended = server.try_wait().unwrap().is_some();
        if ended {
            self.server = None;
        }
        ended
    }

    /// Stops every process of it where it is: connections stay, nobody answers.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let server = Pid::from_child(self.server.as_ref().expect("it runs"));
        kill_process(server, signal).unwrap();
        for child in children(server) {
            // It may have ended meanwhile.
            let _ = kill_process(child, signal);
        }
    }

    fn answers(&self) -> bool {
        let url = format!(
            "postgres://{USER}:{}@/postgres?host={}&port={}&connect_timeout=5",
            self.password.as_deref().unwrap_or("none"),
            self.directory.path().display(),
            self.port
        );
        Client::connect(&url, NoTls).is_ok()
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// A program of the server, as the user that it may run as.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(binaries().join(name));
        command
            .current_dir(self.directory.path())
            .env_clear()
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if let Some((user, group)) = other_user() {
            command.uid(user).gid(group);
        }
        command
    }

    /// A file that only the server's user can read.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((user, group)) = other_user() {
            chown(&path, Some(user), Some(group)).unwrap();
        }
        path
    }

    fn certify(&mut self) {
        let authority = authority();
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned()];
        let params = rcgen::CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        self.file("data/server.crt", &certificate.pem());
        self.file("data/server.key", &key.serialize_pem());
        self.ca = Some(self.file("ca.pem", &authority.pem()));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            // A paused process does not hear that it is to end.
            let server = Pid::from_child(server);
            for pid in std::iter::once(server).chain(children(server)) {
                let _ = kill_process(pid, Signal::CONT);
            }
        }
        self.stop();
    }
}

impl Database {
    /// In a server of its own, or in the one of `ZLAY_TEST_DATABASE_URL`.
    pub(crate) fn new() -> Database {
        let Ok(server) = std::env::var(SERVER_VARIABLE) else {
            let cluster = Cluster::start();
            return Database {
                url: cluster.url(),
                within: None,
                _cluster: Some(cluster),
            };
        };
        let name = format!("zlay_test_{:016x}", fastrand::u64(..));
        let mut client = Client::connect(&server, NoTls)
            .unwrap_or_else(|error| panic!("{SERVER_VARIABLE}: {error:?}"));
        client
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .unwrap();
        Database {
            url: renamed(&server, &name),
            within: Some((server, name)),
            _cluster: None,
        }
    }

    /// Where it is, as `DATABASE_URL` has it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A connection from beside.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.url, NoTls).unwrap()
    }

    /// The first column of every row, as text.
    pub(crate) fn query(&self, sql: &str) -> Vec<String> {
        query(&mut self.client(), sql)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some((server, name)) = &self.within
            && let Ok(mut client) = Client::connect(server, NoTls)
        {
            let _ = client.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)"));
        }
    }
}

/// A URL with another database in it.
fn renamed(url: &str, database: &str) -> String {
    let (address, options) = match url.split_once('?') {
        Some((address, options)) => (address, format!("?{options}")),
        None => (url, String::new()),
    };
    let (scheme, rest) = address
        .split_once("://")
        .unwrap_or_else(|| panic!("{SERVER_VARIABLE} is no URL"));
    let server = rest.split('/').next().unwrap_or(rest);
    format!("{scheme}://{server}/{database}{options}")
}

fn query(client: &mut Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).unwrap();
    let rows = messages.iter().filter_map(|message| match message {
        postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
        _ => None,
    });
    rows.collect()
}

/// An authority that signs certificates.
fn authority() -> rcgen::CertifiedIssuer<'static, rcgen::KeyPair> {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap()
}

/// The newest of Debian's, or what `PATH` has.
fn binaries() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let debian = versions.filter_map(|entry| {
        let path = entry.ok()?.path();
        let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
        Some((version, path.join("bin")))
    });
    let has = |path: &Path| path.join("initdb").exists() && path.join("postgres").exists();
    let mut found: Vec<_> = debian.filter(|(_, path)| has(path)).collect();
    found.sort();
    if let Some((_, path)) = found.pop() {
        return path;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .find(|path| has(path))
        .unwrap_or_else(|| {
            panic!(
                "this test needs PostgreSQL's initdb and postgres: install them (Debian: apt-get \
             install postgresql), or name a server in {SERVER_VARIABLE}"
            )
        })
}

/// Whom to become: the server does not run as root. None: nobody, this is not root.
fn other_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let entry = |name: &str| {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        let user = fields.next()?.parse().ok()?;
        Some((user, fields.next()?.parse().ok()?))
    };
    let found = entry("postgres").or_else(|| entry("nobody"));
    Some(found.expect("root needs a user `postgres` or `nobody` to run the server as"))
}

/// The processes that a process has started and that still run.
fn children(parent: Pid) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten();
    let child = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(entry.path().join("stat")).ok()?;
        // After the name, which is in parentheses: the state, and who has started it.
        let (_, rest) = status.rsplit_once(')')?;
        let started_by: i32 = rest.split_whitespace().nth(1)?.parse().ok()?;
        (started_by == parent.as_raw_nonzero().get()).then(|| Pid::from_raw(pid))?
    };
    processes.filter_map(|entry| child(entry.ok()?)).collect()
}
