//! An operator who never rests. What was answered holds, whatever happens to the relay; what was not
//! answered is asked for again until it is.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use zlay::{
    sim::{Network, account::Account},
    threads::Stop,
};

use super::{ledger::Ledger, load::writes, witness::Beacon};
use crate::site::{PASSWORD, Relay, agent};

/// Between two things that are tried.
const PACE: Duration = Duration::from_millis(8);
/// The host that is banned, and not, in turns.
pub(super) const BANNED: usize = 1;
/// The host of the accounts that are taken down, and not, in turns.
const OPERATED: usize = 0;
/// How many of them there are.
const OPERATED_ACCOUNTS: usize = 3;

/// The operator.
pub(super) struct Operator {
    network: Arc<Network>,
    ledger: Arc<Ledger>,
    beacon: Beacon,
    /// How many hosts the relay was asked to crawl.
    pub(super) hosts: AtomicUsize,
    /// Whether more of them are added.
    pub(super) adds: AtomicBool,
    decided: Mutex<Decided>,
    accounts: Mutex<Vec<Account>>,
    /// Accounts that their hosts list, and that say nothing.
    sleepers: Mutex<Vec<Account>>,
    rng: Mutex<fastrand::Rng>,
}

/// What was decided: where it is shown, and what is shown there.
#[derive(Default)]
struct Decided {
    settled: BTreeMap<Shown, Value>,
    /// What was asked for, and not answered.
    pending: Option<(Shown, Value)>,
}

/// Where something is shown that was decided.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Shown {
    Setting,
    Limit,
    Ban,
    Domains,
    TakenDown(String),
}

impl Operator {
    pub(super) fn new(ledger: &Arc<Ledger>, beacon: &Beacon, hosts: usize, seed: u64) -> Operator {
        let network = ledger.network().clone();
        // Others than those of the traffic, which come of the same seed.
        let mut rng = fastrand::Rng::with_seed(!seed);
        let accounts: Vec<Account> = (0..OPERATED_ACCOUNTS)
            .map(|_| Account::random(&mut rng, OPERATED))
            .collect();
        for account in &accounts {
            network.register(account);
            ledger.operate(account.did());
        }
        Operator {
            network,
            ledger: ledger.clone(),
            beacon: beacon.clone(),
            hosts: AtomicUsize::new(hosts),
            adds: AtomicBool::new(false),
            decided: Mutex::default(),
            accounts: Mutex::new(accounts),
            sleepers: Mutex::default(),
            rng: Mutex::new(rng),
        }
    }

    /// Decides one thing after the other until the stop.
    pub(super) fn run(&self, stop: &Stop) {
        for round in 0.. {
            if self.round(round, stop).is_none() {
                return;
            }
        }
    }

    /// Everything once; none where the stop came before.
    fn round(&self, round: usize, stop: &Stop) -> Option<()> {
        let number = 1_000 + round as u64;
        let (name, banned) = (
            self.network.host(0).name().to_owned(),
            self.network.host(BANNED).name().to_owned(),
        );
        let did = self.speaks(round, stop)?;
        let who = json!({ "did": did }).to_string();
        let down = Shown::TakenDown(did.clone());
        let rulings = self.ledger.rulings(&did).len();
        self.insist(
            "repo/takeDown",
            &who,
            Some((down.clone(), json!(true))),
            stop,
        )?;
        let body = json!({ "new_hosts_per_day": number });
        let shown = (Shown::Setting, json!(number));
        self.insist("settings/change", &body.to_string(), Some(shown), stop)?;
        let shown = (Shown::Ban, json!(true));
        self.insist(&format!("pds/block?host={banned}"), "", Some(shown), stop)?;
        let example = r#"{"domain":"example.com"}"#;
        let shown = (Shown::Domains, json!(true));
        self.insist("subs/banDomain", example, Some(shown), stop)?;
        let body = json!({ "host": name, "repo_limit": number });
        let shown = (Shown::Limit, json!(number));
        self.insist("pds/changeLimits", &body.to_string(), Some(shown), stop)?;
        let shown = (Shown::Ban, json!(false));
        self.insist(&format!("pds/unblock?host={banned}"), "", Some(shown), stop)?;
        self.wait(stop, || self.ledger.rulings(&did).len() > rulings)?;
        self.insist(
            "repo/reverseTakedown",
            &who,
            Some((down, json!(false))),
            stop,
        )?;
        self.wait(stop, || self.ledger.rulings(&did).len() > rulings + 1)?;
        let shown = (Shown::Domains, json!(false));
        self.insist("subs/unbanDomain", example, Some(shown), stop)?;
        let next = self.hosts.load(Ordering::Relaxed);
        if next < self.network.len() && self.adds.load(Ordering::Relaxed) {
            let body = json!({ "hostname": self.network.host(next).name() });
            self.insist("pds/requestCrawl", &body.to_string(), None, stop)?;
            self.hosts.store(next + 1, Ordering::Relaxed);
        }
        let host = self.sleeper(round);
        let path = format!("backfill-accounts?host={}", self.network.host(host).name());
        self.insist(&path, "", None, stop)
    }

    /// One of the accounts that will be taken down says something, and is heard.
    fn speaks(&self, round: usize, stop: &Stop) -> Option<String> {
        let did = {
            let mut accounts = self.accounts.lock().unwrap();
            let at = round % accounts.len();
            let account = &mut accounts[at];
            let writes = writes(account, &mut self.rng.lock().unwrap());
            let commit = account.commit(&writes);
            self.ledger.publish(OPERATED, &commit);
            account.did().to_string()
        };
        self.wait(stop, || self.network.expected().is_settled(&did))?;
        Some(did)
    }

    /// A new account, which its host lists and which says nothing; its host.
    fn sleeper(&self, round: usize) -> usize {
        let host = round % self.hosts.load(Ordering::Relaxed);
        let mut rng = self.rng.lock().unwrap();
        let mut account = Account::random(&mut rng, host);
        let writes = writes(&account, &mut rng);
        account.commit(&writes);
        self.network.register(&account);
        self.sleepers.lock().unwrap().push(account);
        host
    }

    /// Asks until it is answered; none where the stop came before.
    fn insist(
        &self,
        path: &str,
        body: &str,
        shown: Option<(Shown, Value)>,
        stop: &Stop,
    ) -> Option<()> {
        self.decided.lock().unwrap().pending = shown.clone();
        self.wait(stop, || {
            let relay = *self.beacon.lock().unwrap();
            // Another backfill runs: that is as good.
            let done = |status| status == 200 || (status == 409 && path.starts_with("backfill"));
            relay
                .and_then(|relay| ask(relay, path, body))
                .is_some_and(|(status, answer)| {
                    let busy = status == 503 || status == 429;
                    assert!(done(status) || busy, "{path}: {status} {answer}");
                    done(status)
                })
        })?;
        let mut decided = self.decided.lock().unwrap();
        decided.pending = None;
        decided.settled.extend(shown);
        Some(())
    }

    fn wait(&self, stop: &Stop, mut done: impl FnMut() -> bool) -> Option<()> {
        while !done() {
            if stop.wait(PACE) {
                return None;
            }
        }
        Some(())
    }

    /// What was decided is in force: of what was not answered either may be.
    #[track_caller]
    pub(super) fn check(&self, relay: &Relay) {
        let decided = self.decided.lock().unwrap();
        for (shown, settled) in &decided.settled {
            let is = self.look(relay, shown);
            let pending = decided.pending.as_ref().filter(|(at, _)| at == shown);
            let pending = pending.map(|(_, value)| value);
            assert!(
                is == *settled || Some(&is) == pending,
                "{shown:?} is {is}, was decided to be {settled}, and asked to be {pending:?}"
            );
        }
        for account in self.accounts.lock().unwrap().iter() {
            let rulings = self.ledger.rulings(account.did());
            let in_turns = rulings
                .iter()
                .enumerate()
                .all(|(n, up)| *up == (n % 2 == 1));
            assert!(in_turns, "{}: {rulings:?}", account.did());
        }
    }

    fn look(&self, relay: &Relay, shown: &Shown) -> Value {
        match shown {
            Shown::Setting => relay.setting("new_hosts_per_day"),
            Shown::Limit => relay.of_host(self.network.host(0).name(), "/account_limit"),
            Shown::Ban => {
                let status = relay.of_host(self.network.host(BANNED).name(), "/status");
                json!(status == "banned")
            }
            Shown::Domains => {
                let bans = relay.look("/admin/subs/listDomainBans").to_string();
                json!(bans.contains("example.com"))
            }
            Shown::TakenDown(did) => {
                let down = relay.look("/admin/repo/takedowns").to_string();
                json!(down.contains(did))
            }
        }
    }

    /// The accounts of which the operator alone says what they are.
    pub(super) fn accounts(&self) -> Vec<Account> {
        self.accounts.lock().unwrap().clone()
    }

    /// The accounts that have never said anything.
    pub(super) fn sleepers(&self) -> Vec<Account> {
        self.sleepers.lock().unwrap().clone()
    }

    /// Takes back what is in force.
    pub(super) fn take_back(&self, relay: &Relay) {
        let banned = self.network.host(BANNED).name();
        relay.ban(banned, false);
        for account in self.accounts() {
            let did = account.did();
            let down = Shown::TakenDown(did.to_string());
            if self.look(relay, &down) == json!(true) {
                let body = json!({ "did": **did }).to_string();
                relay.decide("/admin/repo/reverseTakedown", &body);
            }
        }
        // What else was asked for and not answered may be in force, or not.
        let mut decided = self.decided.lock().unwrap();
        decided.settled.insert(Shown::Ban, json!(false));
        for (shown, value) in &mut decided.settled {
            if matches!(shown, Shown::TakenDown(_)) {
                *value = json!(false);
            }
        }
    }
}

/// Asks a relay that may end meanwhile; none where it has.
fn ask(relay: SocketAddr, path: &str, body: &str) -> Option<(u16, String)> {
    let url = format!("http://{relay}/admin/{path}");
    let request = agent()
        .post(url)
        .header("Authorization", format!("Bearer {PASSWORD}"));
    let mut response = request.send(body).ok()?;
    let text = response.body_mut().read_to_string().ok()?;
    Some((response.status().as_u16(), text))
}
