//! The relay as a whole: its parts, started in order and stopped in order.

mod accounts;
mod health;
mod ports;
mod restore;
mod watch;

use std::{
    error::Error,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use crossbeam_channel::Sender;

use self::{
    accounts::AccountsPort,
    health::{RelayHealth, State},
    ports::{BackfillPort, CatalogPort, CrawlPort, HostsPort, MemoryPort, OfficePort},
    watch::Watch,
};
use crate::{
    atproto::did::Did,
    backfill::{self, Backfill},
    config::{Config, Fsync},
    control::{
        self, Control, Source,
        keeper::{Keeper, Keeping},
        measured::Measured,
        settings::Settings,
    },
    crash::{self, Point},
    firehose::{self, Firehose},
    host::{
        self, Shared,
        admission::Admission,
        crawler::{CrawlAnswer, Crawler, CrawlerHandle},
        discovery::{self, Offered},
        policy::Policy,
        status,
        thread::Start,
    },
    http::{
        app::{App, Health, Parts},
        front_door::{self, Bounds, FrontDoor},
        internal::Internal,
        siblings::Siblings,
        status::StatusBoard,
    },
    identity::Directory,
    limits::{RETENTION_INTERVAL, SERVICE_STACK_BYTES},
    logging,
    memory::{Memory, trim},
    metrics::{Metrics, labels::Backend},
    outbound::Outbound,
    sequencer::{Inbox, Publication, Sequencer},
    store::{
        Options, Reserve, Store,
        retention::{self, Retention},
    },
    threads::{self, Role, Stop, Stopper, Thread, stop_pair},
};

/// What can go wrong at the start; the text is for the operator.
pub type StartError = Box<dyn Error + Send + Sync>;

/// The exit code after the sequencer has failed.
pub const EXIT_STORE: i32 = 71;

/// A running relay.
///
/// [`Relay::stop`] ends the parts in the order of the way of an event, so that each drains what
/// the one before it has handed on. Only the directory, for which others wait, is told first.
pub struct Relay {
    front_door: FrontDoor,
    internal: Internal,
    hosts: Part,
    backfill: Backfill,
    directory: Part,
    sequencer: Part,
    firehose: Part,
    retention: Part,
    keeper: Part,
    state: Arc<State>,
    store: Arc<Store>,
    health: Arc<RelayHealth>,
    board: Arc<StatusBoard>,
}

/// Threads that are told to stop together.
struct Part {
    stopper: Stopper,
    threads: Vec<Thread>,
}

impl Part {
    fn stop(self) {
        drop(self.stopper);
        drop(self.threads);
    }
}

impl Relay {
    /// Opens the stores and starts every thread.
    pub fn start(config: &Config) -> Result<Relay, StartError> {
        let metrics = Arc::new(Metrics::default());
        let store = Arc::new(Store::open(
            &config.data_dir,
            Options {
                fsync: config.fsync == Fsync::Batch,
                initial_seq: config.initial_seq_number,
                ..Options::default()
            },
        )?);
        let outbound = Outbound::new(config)?;
        metrics
            .window_promised
            .set(u64::try_from(config.retention().as_millis()).ok());
        let control = control::open(config)?;
        let backend = match config.database_url {
            Some(_) => Backend::Postgres,
            None => Backend::Embedded,
        };
        metrics.control_backend.at(backend).set(1);
        let control: Arc<dyn Control> = Arc::new(Measured::new(control, metrics.clone()));
        let settings = Settings::read(&control.settings()?)?;
        let policy = Arc::new(Policy::new(config, settings));
        // What the two stores say of each other, before anything is read or written.
        let missed = restore::agree(&*control, &store)?;
        let state = Arc::new(State::default());

        let (stopper, stop) = stop_pair();
        let settings = firehose::Settings::new(config.connection_stack_bytes());
        let (firehose, ticker) = Firehose::start(store.clone(), metrics.clone(), settings, stop)?;
        let firehose_part = Part {
            stopper,
            threads: vec![ticker],
        };

        let (ask, questions) = status::questions();
        let reserve = Reserve::new(&config.data_dir, config.disk_reserve);
        // The stop of all who send to the sequencer.
        let (hosts_stopper, hosts_stop) = stop_pair();
        let (sequencer, inbox) = start_sequencer(
            &store,
            &firehose,
            &metrics,
            &state,
            ask,
            (reserve.clone(), hosts_stop.clone()),
        )?;

        let (stopper, stop) = stop_pair();
        let (directory, resolvers) =
            Directory::start(config, outbound.clone(), metrics.clone(), stop)?;
        let directory_part = Part {
            stopper,
            threads: resolvers,
        };

        let (stopper, stop) = (hosts_stopper, hosts_stop);
        let asker = status::Asker {
            directory: directory.clone(),
            outbound: outbound.clone(),
            inbox: inbox.clone(),
            stop: stop.clone(),
        };
        // From here on an error ends these threads: their stop is told before they are waited for.
        let mut hosts = Part {
            stopper,
            threads: asker.start(&questions)?,
        };
        directory.set_rates(policy.identity_rates());
        // Without them the directory is believed until it has known somebody.
        match restore::witnesses(&store) {
            Ok(witnesses) => directory.add_witnesses(&witnesses),
            Err(error) => log::error!(
                error:% = error;
                "the accounts that the directory has known can not be read"
            ),
        }
        restore::rule(&*control, &store, &inbox)?;
        let keeping = Keeping {
            control: control.clone(),
            keeper: Arc::new(Keeper::default()),
        };
        let shared = Shared::new(
            inbox.clone(),
            directory.clone(),
            outbound.clone(),
            metrics.clone(),
            stop.clone(),
            policy.clone(),
        );
        let memory = MemoryPort {
            metrics: metrics.clone(),
            store: store.clone(),
            control: control.clone(),
            shared: shared.clone(),
        };
        let (mut crawler, handle) = Crawler::new(shared, keeping.clone(), store.clone())?;
        if let Some(why) = restore::too_long(missed, &policy, host::now_ms()) {
            log::warn!("hosts are read from now on, not from where they were left: {why}");
            crawler.pass_over(why);
        }
        let keeper = start_keeper(keeping, &store)?;
        let body = move || crawler.run();
        let crawler = threads::spawn(Role::Crawler, "", SERVICE_STACK_BYTES, body)?;
        // The first to be waited for, as it was started last.
        hosts.threads.insert(0, crawler);

        let (siblings, telling) =
            Siblings::start(&config.sibling_relays, &outbound, &metrics, &stop)?;
        hosts.threads.extend(telling);
        let backfill = Backfill::start(backfill::Parts {
            outbound: outbound.clone(),
            control: control.clone(),
            store: store.clone(),
            inbox: inbox.clone(),
            directory,
            hosts: handle.table().clone(),
            policy: policy.clone(),
            metrics: metrics.clone(),
        });
        let health = Arc::new(RelayHealth::new(
            state.clone(),
            metrics.clone(),
            control.clone(),
        ));
        let watch = Watch {
            metrics: metrics.clone(),
            store: store.clone(),
            control: control.clone(),
            firehose: firehose.clone(),
            hosts: handle.table().clone(),
            reserve,
            oldest: Default::default(),
        };
        let watching = stop.clone();
        let body = move || watch.run(&watching);
        let watch = threads::spawn(Role::Metrics, "watch", SERVICE_STACK_BYTES, body)?;
        hosts.threads.push(watch);
        let parts = Parts {
            metrics: metrics.clone(),
            memory: Arc::new(Memory::new(Arc::new(memory))),
            health: health.clone(),
            firehose,
            catalog: Arc::new(CatalogPort {
                store: store.clone(),
                hosts: handle.table().clone(),
            }),
            crawl: Arc::new(CrawlPort(handle.clone())),
            hosts: Arc::new(HostsPort {
                inbox: inbox.clone(),
                crawler: handle.clone(),
                store: store.clone(),
                metrics: metrics.clone(),
                started_ms: host::now_ms(),
            }),
            admission: Admission::new(config, outbound.clone()),
            accounts: Arc::new(AccountsPort {
                inbox,
                store: store.clone(),
                control: control.clone(),
                hosts: handle.table().clone(),
                ruling: Mutex::default(),
            }),
            office: Arc::new(OfficePort {
                control: control.clone(),
                noting: Mutex::default(),
            }),
            policy,
            siblings,
            backfill: Arc::new(BackfillPort(backfill.clone())),
        };
        let app = Arc::new(App::new(config, parts));
        let board = app.status.clone();
        let internal_at = SocketAddr::new(config.metrics_bind, config.metrics_port);
        let internal = Internal::start(internal_at, app.clone())
            .map_err(|error| format!("can not listen on {internal_at} (internal): {error}"))?;
        let public_at = SocketAddr::new(config.bind, config.port);
        let front_door = front_door::listen(public_at)
            .and_then(|listener| FrontDoor::start(listener, app, Bounds::default()))
            .map_err(|error| format!("can not listen on {public_at} (public): {error}"))?;

        hosts
            .threads
            .extend(start_discovery(config, &outbound, &handle, control, stop)?);
        let retention = start_retention(config, &store, &metrics, board.clone())?;
        state.set_listening();
        Ok(Relay {
            front_door,
            internal,
            hosts,
            backfill,
            directory: directory_part,
            sequencer,
            firehose: firehose_part,
            retention,
            keeper,
            state,
            store,
            health,
            board,
        })
    }

    /// Where the public port listens.
    pub fn public_address(&self) -> SocketAddr {
        self.front_door.address()
    }

    /// Where the internal port listens.
    pub fn internal_address(&self) -> SocketAddr {
        self.internal.address()
    }

    /// How it does.
    pub fn health(&self) -> Arc<dyn Health> {
        self.health.clone()
    }

    /// What it shows of itself.
    pub fn board(&self) -> Arc<StatusBoard> {
        self.board.clone()
    }

    /// Ends everything: no new clients, no new events, what is under way is written, subscribers
    /// get their last frames and close code 1001, the store is closed.
    pub fn stop(self) -> Result<(), StartError> {
        self.state.set_stopping();
        // A host's thread may wait for room among the lookups, which a directory that does not
        // answer never makes. So the directory is told before a host is waited for; an event whose
        // lookup is given up is not before the host's cursor, and is asked for again.
        drop(self.directory.stopper);
        log::info!("stopping: no new clients");
        drop(self.front_door);
        log::info!("stopping: hosts");
        self.hosts.stop();
        self.backfill.stop();
        drop(self.directory.threads);
        log::info!("stopping: sequencer");
        self.sequencer.stop();
        log::info!("stopping: subscribers");
        self.firehose.stop();
        // Last seqs and cursors, once more.
        self.keeper.stop();
        drop(self.internal);
        self.retention.stop();
        self.store.close()?;
        // The last line is the last word.
        logging::flush();
        log::info!(seq = self.store.last_seq(); "stopped");
        Ok(())
    }
}

fn start_sequencer(
    store: &Arc<Store>,
    firehose: &Arc<Firehose>,
    metrics: &Arc<Metrics>,
    state: &Arc<State>,
    questions: Sender<Did>,
    (reserve, leaving): (Reserve, Stop),
) -> Result<(Part, Inbox), StartError> {
    let (stopper, stop) = stop_pair();
    let publisher = firehose.clone();
    let publish = Box::new(move |new: Publication| {
        publisher.hide(new.takedowns);
        crash::point(Point::PublishHidden);
        publisher.publish(new.frames);
    });
    let (mut sequencer, inbox) = Sequencer::new(store.clone(), publish, metrics.clone())?;
    sequencer.ask_through(questions);
    sequencer.keep_free(reserve, leaving);
    let state = state.clone();
    let body = move || {
        if let Err(error) = sequencer.run(&stop) {
            // The store is the truth, and it fails: nothing may be published any more.
            state.set_broken();
            log::error!(
                error:% = error, code = EXIT_STORE;
                "the sequencer ends, and the relay with it: the store can not be read or written"
            );
            logging::flush();
            std::process::exit(EXIT_STORE);
        }
    };
    let thread = threads::spawn(Role::Sequencer, "", SERVICE_STACK_BYTES, body)?;
    Ok((
        Part {
            stopper,
            threads: vec![thread],
        },
        inbox,
    ))
}

/// Asks the upstream relay for its hosts, in the background.
fn start_discovery(
    config: &Config,
    outbound: &Outbound,
    crawler: &CrawlerHandle,
    control: Arc<dyn Control>,
    stop: Stop,
) -> Result<Option<Thread>, StartError> {
    let Some(upstream) = config.upstream() else {
        return Ok(None);
    };
    let admission = Admission::new(config, outbound.clone());
    let crawler = crawler.clone();
    let offer = move |name: &str| -> Offered {
        let Ok(endpoint) = admission.check(name) else {
            return Offered::Refused;
        };
        let table = crawler.table();
        if table.is_banned(&endpoint.host) || table.get(&endpoint.host).is_some() {
            return Offered::Known;
        }
        if let Err(refused) = admission.probe(&endpoint) {
            log::debug!(host = name, error:% = refused; "a host of the upstream relay is not added");
            return Offered::Refused;
        }
        match crawler.crawl(&endpoint, Start::Live, Source::Discovery) {
            CrawlAnswer::Started => Offered::Added,
            CrawlAnswer::Unavailable(_) => Offered::Later,
            _ => Offered::Refused,
        }
    };
    Ok(Some(discovery::start(
        upstream,
        outbound.clone(),
        control,
        stop,
        offer,
    )?))
}

fn start_keeper(keeping: Keeping, store: &Arc<Store>) -> Result<Part, StartError> {
    let (stopper, stop) = stop_pair();
    let store = store.clone();
    let thread = threads::spawn(Role::Control, "keeper", SERVICE_STACK_BYTES, move || {
        keeping.keeper.run(&*keeping.control, &store, &stop);
    })?;
    Ok(Part {
        stopper,
        threads: vec![thread],
    })
}

fn start_retention(
    config: &Config,
    store: &Arc<Store>,
    metrics: &Arc<Metrics>,
    board: Arc<StatusBoard>,
) -> Result<Part, StartError> {
    let (stopper, stop) = stop_pair();
    let retention = Retention {
        age_max: config.retention(),
        bytes_max: config.retention_bytes,
        interval: RETENTION_INTERVAL,
    };
    let samples_of = store.clone();
    let (store, metrics, until) = (store.clone(), metrics.clone(), stop.clone());
    let body = move || retention::run(&store, retention, &metrics, &stop);
    let retaining = threads::spawn(Role::Retention, "", SERVICE_STACK_BYTES, body)?;
    let told = until.clone();
    let trimming = threads::spawn(Role::Memory, "", SERVICE_STACK_BYTES, move || {
        trim::run(&told);
    })?;
    let events = samples_of.clone();
    let oldest_ms = move || events.oldest_ms().unwrap_or_default();
    let sampling = threads::spawn(Role::Metrics, "sampler", SERVICE_STACK_BYTES, move || {
        board.run(oldest_ms, &until);
    })?;
    Ok(Part {
        stopper,
        threads: vec![retaining, trimming, sampling],
    })
}
