//! The values that labels can have.

use super::family::Label;
use crate::control::HostStatus;

macro_rules! labels {
    ($($(#[doc = $doc:literal])+ $name:ident($label:literal) {
        $($(#[doc = $value_doc:literal])+ $variant:ident = $value:literal,)+
    })+) => { $(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name { $($(#[doc = $value_doc])+ $variant,)+ }

        impl Label for $name {
            fn all() -> Vec<$name> {
                vec![$($name::$variant,)+]
            }

            fn index(self) -> usize {
                self as usize
            }

            fn text(self) -> String {
                let value = match self { $($name::$variant => $value,)+ };
                format!(concat!($label, "=\"{}\""), value)
            }
        }
    )+ };
}

labels! {
    /// What a frame of a host is.
    FrameType("type") {
        /// A `#commit`.
        Commit = "commit",
        /// A `#sync`.
        Sync = "sync",
        /// An `#identity`.
        Identity = "identity",
        /// An `#account`.
        Account = "account",
        /// An `#info`.
        Info = "info",
        /// An error, after which the stream ends.
        Error = "error",
        /// Of a type or an op that this relay does not know.
        Unknown = "unknown",
        /// Not readable, or without a field that it must have.
        Invalid = "invalid",
    }

    /// What came of an attempt to connect to a host.
    Connect("result") {
        /// There is a connection.
        Connected = "connected",
        /// No address, or nobody there who takes connections.
        Unreachable = "unreachable",
        /// TLS failed.
        Tls = "tls",
        /// No answer in time.
        Timeout = "timeout",
        /// An HTTP status other than 101.
        Status = "status",
        /// Not the answer of a websocket.
        Handshake = "handshake",
        /// It is a relay, not a PDS.
        IsRelay = "is_relay",
    }

    /// Why a connection to a host ended.
    Disconnect("reason") {
        /// The host closed it.
        Closed = "closed",
        /// It broke.
        Broken = "broken",
        /// The host went silent.
        Silent = "silent",
        /// The host broke a rule of websockets, frames or their size.
        Protocol = "protocol",
        /// The host sent an error.
        Error = "error",
        /// The relay stops, or the operator has ended it.
        Stopped = "stopped",
        /// A fault of the relay.
        Internal = "internal",
    }

    /// What the thread of a connected host waits for, where that is not its host.
    Wait("for") {
        /// Room for events that wait for identities.
        Identity = "identity",
        /// The end of a limit that the host is over.
        Limit = "limit",
        /// Room in the sequencer's inbox.
        Inbox = "inbox",
    }

    /// What became of a request to crawl.
    CrawlResult("result") {
        /// It was taken.
        Taken = "taken",
        /// It was refused.
        Refused = "refused",
        /// It was over a limit.
        Limited = "limited",
    }

    /// What an event has to wait for.
    Deferral("reason") {
        /// The identity of its account.
        Identity = "identity",
        /// The word of its host on whether the account is active again.
        AccountStatus = "account_status",
    }

    /// Where an identity is looked up.
    DidMethod("method") {
        /// In the PLC directory.
        Plc = "plc",
        /// At the host that the DID names.
        Web = "web",
    }

    /// What a lookup of an identity has brought.
    LookupResult("result") {
        /// A document.
        Found = "found",
        /// The word that there is none, or none of use.
        Missing = "missing",
        /// Something that is no document, or that of another.
        Invalid = "invalid",
        /// The word to ask less.
        Limited = "limited",
        /// No answer.
        Unreachable = "unreachable",
    }

    /// What the disk is used for.
    StoreKind("kind") {
        /// Events that can be replayed.
        Events = "events",
        /// Accounts and hosts.
        Accounts = "accounts",
        /// The index of collections.
        Index = "index",
        /// Anything else.
        Other = "other",
    }

    /// A part of all subscribers, in order of how far they are behind.
    LagStat("stat") {
        /// The middle one: half of them are no further behind.
        Median = "p50",
        /// Nine of ten are no further behind.
        P90 = "p90",
        /// 99 of 100 are no further behind.
        P99 = "p99",
        /// The one that is furthest behind.
        Max = "max",
    }

    /// Why a subscription ended.
    Leave("reason") {
        /// The client closed it.
        Closed = "closed",
        /// The connection is gone, or nobody answers on it.
        Gone = "gone",
        /// The client took nothing for too long, or fell out of the window.
        TooSlow = "too_slow",
        /// Its cursor is beyond the last seq.
        FutureCursor = "future_cursor",
        /// The client broke the protocol.
        Protocol = "protocol",
        /// The relay stops.
        Stopping = "stopping",
        /// The operator has sent it away.
        Dismissed = "dismissed",
        /// The store could not be read.
        Failed = "failed",
    }

    /// Where frames for a subscriber are read.
    Tier("tier") {
        /// From the frames in memory.
        Ring = "ring",
        /// From the disk.
        Store = "store",
    }

    /// What a request to the public port is for.
    Route("route") {
        /// The stream.
        Subscribe = "subscribe",
        /// To have a host crawled.
        Crawl = "crawl",
        /// Any other query.
        Xrpc = "xrpc",
        /// Pages for people, and their data.
        Page = "page",
        /// What only the operator may do.
        Admin = "admin",
        /// Whether the relay works.
        Health = "health",
    }

    /// What is asked of the control store.
    Operation("operation") {
        /// Reading hosts.
        Hosts = "hosts",
        /// Adding a host.
        AddHost = "add_host",
        /// Keeping what the operator says of a host.
        SetTerms = "set_terms",
        /// Keeping what was seen of hosts.
        Observe = "observe",
        /// Reading or changing bans.
        Bans = "bans",
        /// Reading or changing takedowns.
        Takedowns = "takedowns",
        /// Reading or changing settings.
        Settings = "settings",
        /// Reading or changing notes.
        Notes = "notes",
        /// Reading or writing the operator's log.
        Audit = "audit",
        /// Reading or writing the copy of seq and cursors.
        Mirror = "mirror",
        /// Reading or replacing everything.
        Copy = "copy",
    }

    /// Whether something was done.
    Done("result") {
        /// It was.
        Ok = "ok",
        /// It was not.
        Error = "error",
    }
}

impl Route {
    /// What a path is for.
    pub fn of(path: &str) -> Route {
        use crate::http::{admin, crawl, subscribe, xrpc};
        match path {
            subscribe::PATH => Route::Subscribe,
            crawl::PATH | crawl::NOTIFY_PATH => Route::Crawl,
            "/_health" | "/xrpc/_health" => Route::Health,
            path if path.starts_with(xrpc::PREFIX) => Route::Xrpc,
            path if path.starts_with(admin::PREFIX) => Route::Admin,
            _ => Route::Page,
        }
    }
}

/// The HTTP status of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Code(usize);

/// What the relay answers; anything else would be shown as the last one.
const CODES: [&str; 27] = [
    "101", "200", "204", "302", "303", "304", "400", "401", "403", "404", "405", "408", "409",
    "411", "413", "414", "417", "426", "429", "431", "499", "500", "501", "502", "503", "505",
    "other",
];

impl Code {
    /// Of a status.
    pub fn of(status: u16) -> Code {
        let text = status.to_string();
        let place = CODES.iter().position(|code| *code == text);
        Code(place.unwrap_or(CODES.len() - 1))
    }
}

impl Label for Code {
    const SPARSE: bool = true;

    fn all() -> Vec<Code> {
        (0..CODES.len()).map(Code).collect()
    }

    fn index(self) -> usize {
        self.0
    }

    fn text(self) -> String {
        format!("code=\"{}\"", CODES[self.0])
    }
}

impl Label for HostStatus {
    fn all() -> Vec<HostStatus> {
        HostStatus::ALL.to_vec()
    }

    fn index(self) -> usize {
        let place = HostStatus::ALL.iter().position(|status| *status == self);
        place.unwrap_or_default()
    }

    fn text(self) -> String {
        format!("status=\"{}\"", self.name())
    }
}

/// More events than a subscriber of this kind is behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LagOver(usize);

/// From what is in flight to what no longer is in memory, and the distance of days.
const LAG_BOUNDS: [u64; 7] = [0, 10, 100, 1_000, 10_000, 100_000, 1_000_000];

impl LagOver {
    /// How many events.
    pub fn bound(self) -> u64 {
        LAG_BOUNDS[self.0]
    }
}

impl Label for LagOver {
    fn all() -> Vec<LagOver> {
        (0..LAG_BOUNDS.len()).map(LagOver).collect()
    }

    fn index(self) -> usize {
        self.0
    }

    fn text(self) -> String {
        format!("over=\"{}\"", self.bound())
    }
}

/// Where the control store is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    /// In the data directory.
    Embedded,
    /// In a database of its own.
    Postgres,
}

impl Label for Backend {
    const SPARSE: bool = true;

    fn all() -> Vec<Backend> {
        vec![Backend::Embedded, Backend::Postgres]
    }

    fn index(self) -> usize {
        self as usize
    }

    fn text(self) -> String {
        let backend = match self {
            Backend::Embedded => "embedded",
            Backend::Postgres => "postgres",
        };
        format!("backend=\"{backend}\"")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn holds<L: Label>() {
        let all = L::all();
        for (place, label) in all.iter().enumerate() {
            assert_eq!(label.index(), place, "{}", label.text());
        }
        let texts: HashSet<String> = all.iter().map(|label| label.text()).collect();
        assert_eq!(texts.len(), all.len());
    }

    #[test]
    fn every_value_has_its_place_and_its_word() {
        holds::<FrameType>();
        holds::<HostStatus>();
        holds::<LagOver>();
        holds::<Backend>();
        holds::<(Route, Code)>();
        holds::<(DidMethod, LookupResult)>();
        holds::<(Operation, Done)>();
    }

    #[test]
    fn what_is_not_known_has_a_place_too() {
        assert_eq!(Code::of(429).text(), "code=\"429\"");
        assert_eq!(Code::of(299).text(), "code=\"other\"");
        let route = |path| Route::of(path).text();
        assert_eq!(route("/xrpc/_health"), "route=\"health\"");
        assert_eq!(route("/xrpc/com.atproto.sync.listHosts"), "route=\"xrpc\"");
        assert_eq!(route("/what/a/stranger/wants"), "route=\"page\"");
    }
}
