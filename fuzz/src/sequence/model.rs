//! What a relay has to do with events, written down once more, from the rules of the protocol and not from
//! the sequencer: slow, small numbers, everything counted anew each time.
//!
//! <https://atproto.com/specs/sync>, <https://atproto.com/specs/account>

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, VecDeque},
};

use super::input::{ACTIVE, Content, HOSTS, Said, Told, What, Word};

/// A host is asked about its accounts so often, at the most, in the time that a case takes.
const QUESTIONS_PER_HOST: u32 = 30;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Account {
    pub(super) ordinal: u64,
    /// None: nobody has spoken for it yet.
    pub(super) host: Option<usize>,
    pub(super) authority: u64,
    pub(super) word: Word,
    /// Whether the stream of its host has shown that, and not only a list.
    pub(super) heard: bool,
    pub(super) down: bool,
    pub(super) throttled: bool,
    /// Revision and tree.
    pub(super) head: Option<(u64, u64)>,
    pub(super) listed: Option<u64>,
    pub(super) seen: (u32, u64),
    pub(super) collections: BTreeSet<usize>,
}

impl Account {
    fn is_deleted(&self) -> bool {
        self.word == (false, Some("deleted"))
    }

    /// Whether it counts at its host.
    pub(super) fn is_live(&self) -> bool {
        self.host.is_some() && !self.throttled && !self.is_deleted()
    }

    pub(super) fn waits(&self) -> bool {
        self.throttled && !self.is_deleted()
    }

    /// What subscribers are told.
    pub(super) fn effective(&self) -> Word {
        match (self.down, self.throttled) {
            (true, _) => (false, Some("takendown")),
            (false, true) => (false, Some("throttled")),
            (false, false) => self.word,
        }
    }

    fn own_word(&self) -> Option<Word> {
        (self.down || self.throttled).then(|| self.effective())
    }
}

/// What is published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Published {
    /// An event of a host; if it is of a status, the one that is told.
    Event(u64, Option<Word>),
    /// What the relay itself says of an account.
    Own(usize, Word),
    /// Nothing: the relay has heard that an account is active again, which what follows shows.
    Shown(usize),
}

/// Where a host's stream is read.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Stream {
    pub(super) epoch: u32,
    /// Up to where it would be read if nothing were held.
    pub(super) offered: u64,
    /// Up to where it counts as read.
    pub(super) read: u64,
}

#[derive(Default, Debug)]
pub(super) struct Model {
    pub(super) accounts: BTreeMap<usize, Account>,
    /// Taken down by the operator, known or not.
    pub(super) down: BTreeSet<usize>,
    pub(super) streams: [Stream; HOSTS],
    /// Whether hosts are asked about inactive accounts.
    pub(super) asks: bool,
    /// What is forgotten with the process.
    pub(super) memory: Memory,
    /// What was published and was not looked at yet.
    pub(super) published: Vec<Published>,
}

#[derive(Default, Debug)]
pub(super) struct Memory {
    pub(super) limits: BTreeMap<usize, u64>,
    pub(super) banned: BTreeSet<usize>,
    /// Hosts at which somebody may be let in, in turn.
    turns: VecDeque<usize>,
    pub(super) held: BTreeMap<usize, Vec<Said>>,
    /// Up to where a stream, in an epoch, counts as read once something that is held is let go.
    owed: BTreeMap<usize, (u32, u64)>,
    asked: BTreeSet<usize>,
    asking: BTreeMap<usize, usize>,
    questions: [u32; HOSTS],
    /// What each host has said of identities in this epoch, by its seq and the account.
    said: [BTreeSet<(u64, usize)>; HOSTS],
}

impl Memory {
    fn queue(&mut self, host: usize) {
        if !self.turns.contains(&host) {
            self.turns.push_back(host);
        }
    }
}

impl Model {
    /// A batch begins: who waits and finds room is let in, those first that were there first.
    pub(super) fn let_in(&mut self) {
        while let Some(host) = self.memory.turns.pop_front() {
            loop {
                let waits = |account: &Account| account.waits() && account.host == Some(host);
                let waiting = self.accounts.iter().filter(|(_, account)| waits(account));
                let first = waiting.min_by_key(|(_, account)| account.ordinal);
                let Some((who, account)) = first.filter(|_| self.has_room(host)) else {
                    break;
                };
                let (who, mut account) = (*who, account.clone());
                account.throttled = false;
                if !account.down {
                    self.published
                        .push(Published::Own(who, account.effective()));
                }
                self.keep(who, account);
            }
        }
    }

    pub(super) fn live_at(&self, host: usize) -> u64 {
        let live = |account: &&Account| account.is_live() && account.host == Some(host);
        self.accounts.values().filter(live).count() as u64
    }

    fn has_room(&self, host: usize) -> bool {
        let limit = self.memory.limits.get(&host);
        limit.is_none_or(|limit| self.live_at(host) < *limit)
    }

    fn keep(&mut self, who: usize, mut account: Account) {
        let before = self.accounts.get(&who);
        let place = |account: &Account| account.host.filter(|_| account.is_live());
        let left = before.and_then(place);
        if account.is_deleted() && before.is_some_and(|before| !before.is_deleted()) {
            account.collections.clear();
        }
        let now = place(&account);
        self.accounts.insert(who, account);
        if let Some(host) = left.filter(|_| now != left)
            && self.memory.limits.contains_key(&host)
        {
            self.memory.queue(host);
        }
    }

    fn new_account(&self, who: usize, host: Option<usize>) -> Account {
        Account {
            ordinal: self.accounts.len() as u64 + 1,
            host,
            authority: 0,
            word: ACTIVE,
            heard: false,
            down: self.down.contains(&who),
            throttled: false,
            head: None,
            listed: None,
            seen: (0, 0),
            collections: BTreeSet::new(),
        }
    }

    /// Takes one message. Whether a ruling holds, if it was one.
    pub(super) fn take(&mut self, told: &Told) -> Option<bool> {
        match told {
            Told::Event(said) => self.event(said.clone()),
            Told::Progress(host, epoch, cursor) => self.advance(*host, *epoch, *cursor),
            Told::Status(who, word) => {
                self.memory.asking.retain(|_, asked| asked != who);
                self.release(*who, *word);
            }
            Told::Limit(host, limit) => {
                match limit {
                    Some(limit) => self.memory.limits.insert(*host, *limit),
                    None => self.memory.limits.remove(host),
                };
                self.memory.queue(*host);
            }
            Told::Ban(host, true) => {
                self.memory.banned.insert(*host);
                self.memory.owed.remove(host);
            }
            Told::Ban(host, false) => drop(self.memory.banned.remove(host)),
            Told::Restart(host) => self.begin_epoch(*host, 0),
            Told::Reset(host, cursor) => self.begin_epoch(*host, cursor.unwrap_or(0)),
            Told::Rule(who, down) => return Some(self.rule(*who, *down)),
            Told::Pairs(name, who) => {
                for who in who {
                    let unknown = !self.accounts.contains_key(who);
                    if unknown {
                        self.keep(*who, self.new_account(*who, None));
                    }
                    if let Some(account) = self.accounts.get_mut(who)
                        && !account.is_deleted()
                    {
                        account.collections.insert(*name);
                    }
                }
            }
            Told::Listed {
                host,
                did,
                authority,
                word,
                rev,
            } => self.listed(*host, *did, *authority, *word, *rev),
        }
        None
    }

    fn begin_epoch(&mut self, host: usize, offered: u64) {
        self.memory.said[host].clear();
        self.streams[host] = Stream {
            epoch: self.streams[host].epoch + 1,
            offered,
            read: offered,
        };
    }

    fn advance(&mut self, host: usize, epoch: u32, cursor: u64) {
        if self.memory.banned.contains(&host) {
            return;
        }
        let held = self.memory.held.values().flatten();
        let held = held.filter(|said| said.host == host && said.epoch == epoch);
        let read = match held.map(|said| said.seq - 1).min() {
            Some(limit) if limit < cursor => {
                let owed = self.memory.owed.entry(host).or_default();
                *owed = match owed.0.cmp(&epoch) {
                    Ordering::Less => (epoch, cursor),
                    Ordering::Equal => (epoch, cursor.max(owed.1)),
                    Ordering::Greater => *owed,
                };
                limit
            }
            _ => cursor,
        };
        let stream = &mut self.streams[host];
        if stream.epoch == epoch {
            stream.offered = stream.offered.max(cursor);
            stream.read = stream.read.max(read);
        }
    }

    fn rule(&mut self, who: usize, down: bool) -> bool {
        let Some(account) = self.accounts.get(&who) else {
            return !down && self.down.remove(&who);
        };
        if account.down != down {
            let mut account = account.clone();
            account.down = down;
            match down {
                true => self.down.insert(who),
                false => self.down.remove(&who),
            };
            self.published
                .push(Published::Own(who, account.effective()));
            self.keep(who, account);
        }
        true
    }

    /// A host's list names an account: believed where no host speaks for it, and never published.
    fn listed(&mut self, host: usize, who: usize, authority: u64, word: Word, rev: u64) {
        if self.memory.banned.contains(&host) {
            return;
        }
        let known = self.accounts.get(&who).cloned();
        match known {
            Some(mut account) if account.host == Some(host) => {
                if account.head.is_none() && account.listed.is_none_or(|last| last <= rev) {
                    account.listed = Some(rev);
                    let (was_deleted, had) = (account.is_deleted(), account.is_live());
                    if !account.heard {
                        account.word = word;
                    }
                    if account.is_deleted() != was_deleted {
                        account.throttled = !account.is_deleted() && !had && !self.has_room(host);
                    }
                    self.keep(who, account);
                }
            }
            Some(account) if account.host.is_some() => {}
            known => {
                let mut account = known.unwrap_or_else(|| self.new_account(who, None));
                account.host = Some(host);
                account.authority = authority;
                account.listed = Some(rev);
                (account.word, account.heard) = (word, false);
                account.throttled = !account.is_deleted() && !self.has_room(host);
                self.keep(who, account);
            }
        }
    }

    /// What was held is let go; the host may have said that the account is active again.
    fn release(&mut self, who: usize, word: Option<Word>) {
        let mut events = self.memory.held.remove(&who).unwrap_or_default();
        events.retain(|said| !self.memory.banned.contains(&said.host));
        let says_itself = events
            .iter()
            .any(|said| matches!(said.what, What::Account(_)));
        if let Some(word @ (true, _)) = word
            && !events.is_empty()
            && !says_itself
            && let Some(mut account) = self.accounts.get(&who).cloned()
            && let Some(host) = account.host
        {
            let (own, had) = (account.own_word(), account.is_live());
            if !account.word.0 {
                (account.word, account.heard) = (word, true);
                if account.effective().0 {
                    self.published.push(Published::Shown(who));
                }
            }
            account.throttled = !account.is_deleted() && !had && !self.has_room(host);
            if account.own_word() != own {
                self.published
                    .push(Published::Own(who, account.effective()));
            }
            self.keep(who, account);
        }
        let hosts: Vec<usize> = events.iter().map(|said| said.host).collect();
        for said in events {
            self.event(said);
        }
        for host in hosts {
            if let Some((epoch, cursor)) = self.memory.owed.remove(&host) {
                self.advance(host, epoch, cursor);
            }
        }
    }

    fn event(&mut self, said: Said) {
        if self.memory.banned.contains(&said.host) {
            return;
        }
        let (host, epoch, cursor) = (said.host, said.epoch, said.cursor);
        if let Some(held) = self.memory.held.get_mut(&said.did) {
            held.push(said);
        } else {
            let identity = (said.what == What::Identity).then_some((said.seq, said.did));
            self.judge(said);
            let is_current = self.streams[host].epoch == epoch;
            self.memory.said[host].extend(identity.filter(|_| is_current));
        }
        self.advance(host, epoch, cursor);
    }

    fn judge(&mut self, said: Said) {
        let known = self.accounts.get(&said.did).cloned();
        let is_home = |account: &Account| account.host == Some(said.host);
        // It was processed before a crash.
        let is_repeated = |account: &Account| {
            is_home(account) && account.seen.0 == said.epoch && said.seq <= account.seen.1
        };
        if known.as_ref().is_some_and(is_repeated) {
            return;
        }
        // Only the host that the account's newest document names speaks for it.
        let speaks = |at: u64| {
            !known
                .as_ref()
                .is_some_and(|a| !is_home(a) && at < a.authority)
        };
        let Some(at) = said.authority.filter(|at| speaks(*at)) else {
            let stream = &self.streams[said.host];
            let was_said = self.memory.said[said.host].contains(&(said.seq, said.did));
            let is_over = said.seq <= stream.read || was_said;
            if said.what == What::Identity && !(stream.epoch == said.epoch && is_over) {
                self.published.push(Published::Event(said.id, None));
            }
            return;
        };
        let mut account = known
            .clone()
            .unwrap_or_else(|| self.new_account(said.did, None));
        let (own, arrives) = (account.own_word(), !is_home(&account));
        let had = !arrives && account.is_live();
        if arrives {
            account.listed = None;
        }
        account.host = Some(said.host);
        account.authority = account.authority.max(at);
        account.seen = (said.epoch, said.seq);
        let mut shows = false;
        match &said.what {
            What::Account(word) => (account.word, account.heard) = (*word, true),
            // What a list says is in the way of nothing that is older than the list.
            What::Content(content) if !account.heard => {
                let later = account.listed.is_some_and(|listed| listed < content.rev);
                if account.word.0 || !later {
                    shows = !account.word.0;
                    account.heard = true;
                }
                if shows {
                    account.word = ACTIVE;
                }
            }
            What::Content(_) | What::Identity => {}
        }
        account.throttled = !account.is_deleted() && !had && !self.has_room(said.host);
        let was_heard = known.as_ref().is_some_and(|known| known.host.is_some());
        let says_itself = matches!(said.what, What::Account(_));
        let told = account.own_word() != own;
        let announce = told && was_heard && !says_itself;
        if let What::Content(content) = &said.what {
            if !account.effective().0 {
                let by_host = !account.down && !account.throttled;
                if by_host && self.may_ask(&said) {
                    self.memory.held.insert(said.did, vec![said]);
                } else if (account.throttled && !account.down && (arrives || told))
                    || (arrives && known.is_none())
                {
                    self.put(said.did, account, announce);
                }
                return;
            }
            if !follows(account.head, content) {
                return;
            }
            account.head = Some((content.rev, content.data));
            account.listed = None;
        }
        if shows {
            self.published.push(Published::Shown(said.did));
        }
        let word = says_itself.then(|| account.effective());
        self.put(said.did, account, announce);
        if let What::Content(content) = &said.what
            && let Some(account) = self.accounts.get_mut(&said.did)
        {
            for (collection, there) in &content.touched {
                match there {
                    true => account.collections.insert(*collection),
                    false => account.collections.remove(collection),
                };
            }
        }
        self.published.push(match (&said.what, word) {
            // Of what is large only the status is said where that is another one.
            (What::Account(own), Some(word)) if said.is_large && *own != word => {
                Published::Own(said.did, word)
            }
            _ => Published::Event(said.id, word),
        });
    }

    fn put(&mut self, who: usize, account: Account, announce: bool) {
        if announce {
            self.published
                .push(Published::Own(who, account.effective()));
        }
        self.keep(who, account);
    }

    /// A host is asked about one account at a time, and about each once.
    fn may_ask(&mut self, said: &Said) -> bool {
        let memory = &mut self.memory;
        let may = self.asks
            && !memory.asking.contains_key(&said.host)
            && memory.questions[said.host] < QUESTIONS_PER_HOST
            && memory.asked.insert(said.did);
        if may {
            memory.asking.insert(said.host, said.did);
            memory.questions[said.host] += 1;
        }
        may
    }

    /// The process is gone; what is stored is there.
    pub(super) fn crash(&mut self) {
        self.memory = Memory::default();
        self.published.clear();
    }
}

/// Revisions only grow, and a commit says what it follows, unless it is the first that is seen or of a
/// host that need not say it.
fn follows(head: Option<(u64, u64)>, content: &Content) -> bool {
    let Some((rev, _)) = head else {
        return true;
    };
    content.rev > rev && (!content.is_commit || content.prev.is_some() || content.legacy)
}
