//! One data directory, and relays that are killed on it, one after the other.

use std::{
    os::unix::process::ExitStatusExt,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use zlay::{
    crash::{AT, Point},
    threads::stop_pair,
};

use super::{
    Options, Tally, checks,
    disk::{Edge, Survival},
    ledger::Ledger,
    load::World,
    mount::Disk,
    operator::Operator,
    witness::{Beacon, Record, Witnesses},
};
use crate::{
    postgres::Database,
    site::{Relay, Site, wait_until},
};

/// How many hosts are crawled from the beginning.
const HOSTS: usize = 4;
/// How many more are added, one by one.
const SPARE_HOSTS: usize = 24;
/// How long a point may take to be reached.
const POINT_TIMEOUT: Duration = Duration::from_secs(40);
/// How long what a relay has sent before its end may be on its way.
const FOLLOWS_TIMEOUT: Duration = Duration::from_secs(5);
/// Frames that are replayed after each death; all of them are in the end.
const REPLAYED: u64 = 300;
/// What the events may take on disk: a few thousand of them, so that the window moves.
const RETENTION_BYTES: usize = 6_000_000;

/// How a process is to end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Death {
    /// While events pass, so many of them after it was looked whether all is well.
    UnderLoad(usize),
    /// So long after it was started, wherever it is by then.
    Early(Duration),
    /// When it passes a point for the so-manieth time.
    At(Point, u64),
    /// When it syncs something for the so-manieth time, and the power goes.
    AtSync(u64, Edge),
}

/// The points that every start, every event and every decision come to: those that one life has over and
/// over. The others are of beginnings ([`super::births`]).
pub(super) fn everyday(point: &Point) -> bool {
    let name = point.name();
    let once = [
        "takedowns.",
        "recount.",
        "seed.",
        "control_id.",
        "raise.",
        "migration.",
    ];
    // The last ones: files of level 0 alone are moved before they are deleted, and not every window has something
    // large in it that leaves it.
    let made = [
        "control.made",
        "control.formatted",
        "control.numbered",
        "retention.freed_some",
        "retention.before_free_large",
        "retention.freed_large",
    ];
    !once.iter().any(|family| name.starts_with(family)) && !made.contains(&name)
}

/// The deaths of one life: every point in turn, in any order, and between them deaths at random.
fn deaths(kills: usize, rng: &mut fastrand::Rng, points: &[Point]) -> Vec<Death> {
    let mut deaths = Vec::new();
    let mut left: Vec<Point> = Vec::new();
    while deaths.len() < kills {
        if left.is_empty() {
            left = points.to_vec();
            rng.shuffle(&mut left);
        }
        if let Some(point) = left.pop() {
            deaths.push(Death::At(point, passes(point, rng)));
        }
        deaths.push(match rng.u8(..4) {
            0 => Death::Early(Duration::from_millis(rng.u64(1..400))),
            _ => Death::UnderLoad(rng.usize(1..80)),
        });
    }
    deaths
}

fn is_of_retention(point: Point) -> bool {
    point.name().starts_with("retention.")
}

/// At which pass it is killed there: some are passed all the time.
fn passes(point: Point, rng: &mut fastrand::Rng) -> u64 {
    let name = point.name();
    if ["batch.", "publish."]
        .iter()
        .any(|often| name.starts_with(often))
    {
        rng.u64(1..60)
    } else if name.starts_with("control.set_note") || name.starts_with("import.") {
        rng.u64(1..3)
    } else {
        1
    }
}

/// Where a life takes place.
#[derive(Default)]
pub(super) struct Place<'a> {
    /// Where the control store is, if not in the data directory.
    pub(super) database: Option<&'a Database>,
    /// Where the data directory is, if each death is to be a loss of power.
    pub(super) disk: Option<Disk>,
    /// Nothing is synced.
    pub(super) forgets: bool,
}

/// A life, which is checked after every death.
pub(super) struct Life {
    site: Site,
    beacon: Beacon,
    pub(super) record: Arc<Record>,
    world: World,
    operator: Operator,
    disk: Option<Mutex<Disk>>,
    /// How many frames were seen and are gone, where that may be.
    lost: AtomicUsize,
}

impl Life {
    pub(super) fn new(seed: u64, place: Place<'_>) -> Life {
        let mut site = Site::new(HOSTS + SPARE_HOSTS);
        let retention = RETENTION_BYTES.to_string();
        site.variables.push(("RELAY_RETENTION_BYTES", retention));
        let many = "100000".to_owned();
        site.variables.push(("RELAY_DEFAULT_ACCOUNT_LIMIT", many));
        if let Some(database) = place.database {
            let url = database.url().to_owned();
            site.variables.push(("DATABASE_URL", url));
        }
        if let Some(disk) = &place.disk {
            let data = disk.data().to_str().unwrap().to_owned();
            site.variables.push(("RELAY_DATA_DIR", data));
        }
        if place.forgets {
            site.variables.push(("RELAY_FSYNC", "off".to_owned()));
        }
        let beacon = Beacon::default();
        let ledger = Arc::new(Ledger::new(&site.network));
        let record = Record::new(&ledger, place.forgets);
        let world = World::new(&site.network, seed);
        let operator = Operator::new(&ledger, &beacon, HOSTS, seed);
        Life {
            site,
            beacon,
            record,
            world,
            operator,
            disk: place.disk.map(Mutex::new),
            lost: AtomicUsize::new(0),
        }
    }

    /// Lives through these deaths; how often it died of what.
    pub(super) fn live(mut self, deaths: &[Death]) -> (Tally, usize) {
        let mut tally = Tally::default();
        let mut rng = fastrand::Rng::with_seed(deaths.len() as u64);
        let first = self.site.start();
        for host in &self.site.network.hosts()[..HOSTS] {
            assert_eq!(first.request_crawl(host.name()).0, 200);
        }
        let _witnesses = Witnesses::start(&self.beacon, &self.record);
        let (stopper, stop) = stop_pair();
        let mut world = std::mem::replace(&mut self.world, World::new(&self.site.network, 0));
        let (ledger, operator) = (&self.record.ledger, &self.operator);
        let relay = std::thread::scope(|scope| {
            // Whatever fails here, traffic and decisions end, and with them the scope.
            let stopper = stopper;
            scope.spawn(|| world.drive(ledger, &operator.hosts, &stop));
            if !self.record.forgets {
                scope.spawn(|| operator.run(&stop));
            }
            self.turn_to(&first);
            self.passes(100);
            self.kill(first);
            tally.add(&self.come_back("random, under load", &mut rng));
            for (n, death) in deaths.iter().enumerate() {
                let how = self.die(*death);
                let how = self.come_back(&how, &mut rng);
                tally.add(&how);
                if std::env::var_os("ZLAY_CRASHES").is_some() {
                    println!("{n}: {how}, seq {}", self.record.last());
                }
            }
            let relay = self.site.start();
            self.check(&relay);
            drop(stopper);
            relay
        });
        self.world = world;
        let replayed = checks::end(&relay, &self.record, &self.world, &self.operator);
        // A clean end, and once more.
        *self.beacon.lock().unwrap() = None;
        relay.terminate();
        let (status, _) = relay.ended();
        assert_eq!(status.code(), Some(0));
        let relay = self.site.start();
        let (pruned, last) = checks::window(&relay);
        checks::replay(&relay, &self.record, pruned + 1, "after a clean end");
        assert!(last == self.record.last() || self.record.forgets);
        println!(
            "{} kills, {last} events, {pruned} of them left the window, {replayed} replayed in the end",
            tally.total()
        );
        (tally, self.lost.load(Ordering::Relaxed))
    }

    /// The relay is dead. Where its disk forgets, that was a loss of power.
    fn come_back(&self, how: &str, rng: &mut fastrand::Rng) -> String {
        *self.beacon.lock().unwrap() = None;
        let Some(disk) = &self.disk else {
            return how.to_owned();
        };
        let survival = match rng.u8(..10) {
            0..4 => Survival::Nothing,
            4..8 => Survival::Prefix,
            // A kill like any other, which can be where nothing else kills.
            _ if !self.record.forgets => Survival::Everything,
            _ => Survival::Nothing,
        };
        disk.lock().unwrap().come_back(survival, rng);
        format!("{how}; of what was not synced survives: {survival:?}")
    }

    /// Where the disk forgets, the power goes now.
    fn cut(&self) {
        if let Some(disk) = &self.disk {
            disk.lock().unwrap().cut();
        }
    }

    fn turn_to(&self, relay: &Relay) {
        *self.beacon.lock().unwrap() = Some(relay.public);
    }

    fn kill(&self, mut relay: Relay) {
        self.cut();
        relay.kill();
        *self.beacon.lock().unwrap() = None;
    }

    /// Waits until so many more events have come.
    fn passes(&self, count: usize) {
        let before = self.record.count();
        wait_until("events pass", || {
            self.record.check();
            self.record.count() >= before + count
        });
    }

    /// One death, and how it came.
    fn die(&self, death: Death) -> String {
        match death {
            Death::Early(after) => {
                let mut command = self.site.command();
                let mut child = command.stderr(Stdio::null()).spawn().unwrap();
                std::thread::sleep(after);
                self.cut();
                child.kill().unwrap();
                child.wait().unwrap();
                "random, while it started".to_owned()
            }
            Death::UnderLoad(events) => {
                let relay = self.site.start();
                self.check(&relay);
                self.passes(events);
                self.kill(relay);
                "random, under load".to_owned()
            }
            Death::At(point, pass) => {
                self.die_at(point, pass);
                point.name().to_owned()
            }
            Death::AtSync(count, edge) => {
                let relay = self.site.start();
                self.check(&relay);
                let disk = self.disk.as_ref().unwrap();
                disk.lock().unwrap().cut_at(count, edge, Some(relay.pid()));
                self.ends(relay, "a sync");
                format!("{edge:?} a sync")
            }
        }
    }

    /// Waits for the end of a relay that is killed.
    fn ends(&self, mut relay: Relay, of: &str) {
        let deadline = Instant::now() + POINT_TIMEOUT;
        let status = loop {
            if let Some(status) = relay.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "{of} is not reached");
            std::thread::sleep(Duration::from_millis(2));
        };
        assert_eq!(status.signal(), Some(9), "{of}: {status}");
    }

    /// A relay that ends as it should, and has sent everything to the one who follows. A stop does not wait
    /// for ever for those who listen: then it is tried again.
    fn end_orderly(&self) {
        wait_until("who follows has everything after an orderly end", || {
            let relay = self.site.start();
            self.turn_to(&relay);
            self.passes(20);
            relay.terminate();
            let (status, log) = relay.ended();
            assert_eq!(status.code(), Some(0), "{log:#?}");
            *self.beacon.lock().unwrap() = None;
            let said = log.last().and_then(|line| line.split_once(" stopped seq="));
            let last = said.and_then(|(_, last)| last.trim().parse::<u64>().ok());
            let last = last.unwrap_or_else(|| panic!("{:?}", log.last()));
            let deadline = Instant::now() + FOLLOWS_TIMEOUT;
            while self.record.followed() != last && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            self.record.check();
            self.record.followed() == last
        });
    }

    /// The relay is started, and ends at a point.
    fn die_at(&self, point: Point, pass: u64) {
        let trap = format!("{}:{pass}", point.name());
        let mut command = self.site.command();
        command.env(AT, &trap);
        if is_of_retention(point) {
            // There is room for nothing, and nobody who follows has missed anything.
            self.end_orderly();
            command.env("RELAY_RETENTION_BYTES", "1");
        }
        let adds = point.name().starts_with("control.add_host.");
        self.operator.adds.store(adds, Ordering::Relaxed);
        match Relay::launch(command) {
            Err((status, log)) => {
                assert_eq!(status.signal(), Some(9), "{trap}: {status} {log:#?}");
            }
            Ok(relay) => {
                self.turn_to(&relay);
                if point.name().starts_with("close.") {
                    self.passes(30);
                    relay.terminate();
                }
                self.ends(relay, &trap);
            }
        }
        self.operator.adds.store(false, Ordering::Relaxed);
    }

    /// What must hold after each death, on the relay that comes after it.
    fn check(&self, relay: &Relay) {
        self.operator.check(relay);
        let hosts = self.site.network.hosts();
        let stored = relay.metric("relay_seq");
        let seen = self.record.last();
        assert!(stored >= seen, "{seen} was seen, and {stored} is the last");
        if self.record.forgets {
            let lost = checks::lost(relay, &self.record, seen).len();
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
        self.turn_to(relay);
        let asked = checks::asked(hosts);
        let stored = relay.metric("relay_seq");
        wait_until("who follows has what is stored", || {
            self.record.check();
            self.record.followed() >= stored || self.record.forgets
        });
        if self.record.forgets {
            return;
        }
        checks::cursors(&self.record, &asked);
        let (pruned, last) = checks::window(relay);
        let first = (pruned + 1).max(last.saturating_sub(REPLAYED));
        checks::replay(relay, &self.record, first, "after a death");
    }
}

/// The everyday points, and a few deaths at random.
#[test]
fn kills_at_points_and_at_random_lose_and_repeat_nothing() {
    let mut rng = fastrand::Rng::new();
    let often = [
        Point::BatchBefore,
        Point::BatchWritten,
        Point::PublishHidden,
        Point::TakeDownAfter,
    ];
    let deaths = deaths(8, &mut rng, &often);
    Life::new(rng.u64(..), Place::default()).live(&deaths);
}

/// `just crashes`: as many kills as are asked for in one life, at every point that is passed in it.
#[test]
#[ignore = "takes minutes: just crashes"]
fn crashes_of_one_data_directory() {
    let options = Options::read();
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let points: Vec<Point> = Point::ALL.iter().copied().filter(everyday).collect();
    let deaths = deaths(options.kills, &mut rng, &points);
    let (tally, _) = Life::new(options.seed, Place::default()).live(&deaths);
    tally.print("one data directory");
    if options.kills >= 2 * points.len() {
        assert_eq!(tally.lacks(&points), [""; 0]);
    }
}

/// `just crashes`: the same with the control store in a database, at the points at which it is written.
#[test]
#[ignore = "takes minutes: just crashes"]
fn crashes_beside_a_database() {
    let options = Options::read();
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let points = Point::ALL.iter().copied();
    let points: Vec<Point> = points
        .filter(|point| {
            let name = point.name();
            name.starts_with("migration.") || (name.starts_with("control.") && everyday(point))
        })
        .collect();
    let deaths = deaths(options.kills.min(2 * points.len()), &mut rng, &points);
    let database = Database::new();
    let place = Place {
        database: Some(&database),
        ..Place::default()
    };
    let (tally, _) = Life::new(options.seed, place).live(&deaths);
    tally.print("a control store in a database");
}

const _: () = assert!(HOSTS > super::operator::BANNED);
