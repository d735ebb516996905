//! What the soak can be asked for.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::sim::{
    bursts::Bursts,
    cli::{NetworkArgs, RelayArgs, duration},
    faults::Faults,
};

/// `zlay-sim soak`.
#[derive(Args, Debug)]
pub(crate) struct SoakArgs {
    #[command(flatten)]
    pub(super) network: NetworkArgs,
    #[command(flatten)]
    pub(super) relay: RelayArgs,
    /// PDS hosts that are there at any time.
    #[arg(long, default_value_t = 2_750)]
    pub(super) hosts: usize,
    /// Accounts of each host at the start.
    #[arg(long, default_value_t = 5)]
    pub(super) accounts: usize,
    /// The share of new accounts, of those that the mix of `run` would make: with all of them the relay
    /// knows thrice as many accounts after an hour, and nothing could be flat.
    #[arg(long, default_value_t = 0.02, value_name = "SHARE")]
    pub(super) newcomers: f64,
    /// Events a second, over all hosts.
    #[arg(long, default_value_t = 600.0)]
    pub(super) rate: f64,
    /// Events a second in a burst.
    #[arg(long, default_value_t = 2_000.0, value_name = "RATE")]
    pub(super) burst_rate: f64,
    /// From one burst to the next; 0 for none.
    #[arg(long, default_value = "2m", value_parser = duration, value_name = "TIME")]
    pub(super) burst_every: Duration,
    /// How long a burst lasts.
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "TIME")]
    pub(super) burst_length: Duration,
    /// How long events are sent: 90s, 10m, 2h.
    #[arg(long, default_value = "60m", value_parser = duration, value_name = "TIME")]
    pub(super) duration: Duration,
    /// How much goes wrong with events, connections and the directory.
    #[arg(long, value_enum, default_value_t = Faults::Some)]
    pub(super) faults: Faults,

    /// RELAY_RETENTION_BYTES of the relay: how much can be replayed, so that the window turns over.
    #[arg(long, default_value_t = 256 << 20, value_name = "BYTES")]
    pub(super) retention_bytes: u64,
    /// RELAY_IDENTITY_CACHE_SIZE of the relay: fewer than there are accounts, so that the cache is full
    /// soon and some are looked up again and again.
    #[arg(long, default_value_t = 10_000, value_name = "IDENTITIES")]
    pub(super) identity_cache: u32,

    /// Hosts a minute that vanish, come back under the same name, and say so with requestCrawl.
    #[arg(long, default_value_t = 20.0, value_name = "PER_MINUTE")]
    pub(super) vanish: f64,
    /// How long they are away, at most.
    #[arg(long, default_value = "45s", value_parser = duration, value_name = "TIME")]
    pub(super) away: Duration,
    /// Hosts a minute that move: another one, new to the relay, is announced with requestCrawl, all
    /// accounts go there, and the old one vanishes for good and is banned by the operator.
    #[arg(long, default_value_t = 1.0, value_name = "PER_MINUTE")]
    pub(super) moves: f64,
    /// Hosts a minute that the operator bans for a while.
    #[arg(long, default_value_t = 4.0, value_name = "PER_MINUTE")]
    pub(super) bans: f64,
    /// How long such a ban lasts, at most.
    #[arg(long, default_value = "20s", value_parser = duration, value_name = "TIME")]
    pub(super) ban: Duration,
    /// Hosts a minute that the operator disconnects.
    #[arg(long, default_value_t = 6.0, value_name = "PER_MINUTE")]
    pub(super) disconnects: f64,

    /// Subscribers that take everything, from the beginning to the end.
    #[arg(long, default_value_t = 8, value_name = "SUBSCRIBERS")]
    pub(super) live: usize,
    /// Subscribers that come with old cursors, one below the window now and then, read up to now,
    /// compare every frame with what came under its seq before, leave and come again.
    #[arg(long, default_value_t = 2, value_name = "SUBSCRIBERS")]
    pub(super) replayers: usize,
    /// How long they stay away, at most.
    #[arg(long, default_value = "20s", value_parser = duration, value_name = "TIME")]
    pub(super) rest: Duration,
    /// Subscribers that are too slow: they fall behind until the window has passed them.
    #[arg(long, default_value_t = 2, value_name = "SUBSCRIBERS")]
    pub(super) slow: usize,
    /// Bytes a second that they take.
    #[arg(long, default_value_t = 200_000, value_name = "BYTES")]
    pub(super) slow_rate: u64,
    /// Subscribers that stop reading as soon as they are there.
    #[arg(long, default_value_t = 3, value_name = "SUBSCRIBERS")]
    pub(super) stopped: usize,
    /// After this time they come anew; a relay cuts them before.
    #[arg(long, default_value = "100s", value_parser = duration, value_name = "TIME")]
    pub(super) stopped_for: Duration,

    /// Between two samples of the relay's process and data directory.
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "TIME")]
    pub(super) sample: Duration,
    /// The share of the run after which it is steady. With the load of the defaults the store's cache of blocks takes
    /// twenty minutes to fill, and what lies between blocks of the heap ten more to find its measure.
    #[arg(long, default_value_t = 0.5, value_name = "SHARE")]
    pub(super) warm_up: f64,
    /// How much memory, threads, open files and disk may grow in an hour, as a share of their median:
    /// more is not flat.
    #[arg(long, default_value_t = 0.05, value_name = "SHARE")]
    pub(super) flat: f64,
    /// A steady part that is shorter is shown, but nothing is said of whether it is flat.
    #[arg(long, default_value = "10m", value_parser = duration, value_name = "TIME")]
    pub(super) flat_after: Duration,
    /// Where samples, plot and results go, and the relay's log unless --relay-log says otherwise.
    #[arg(long, default_value = "soak-results", value_name = "DIR")]
    pub(super) out: PathBuf,
}

impl SoakArgs {
    pub(super) fn bursts(&self) -> Option<Bursts> {
        let wanted = !self.burst_every.is_zero() && !self.burst_length.is_zero();
        wanted.then_some(Bursts {
            rate: self.burst_rate,
            every: self.burst_every,
            length: self.burst_length,
        })
    }

    /// Hosts that others will move to.
    pub(super) fn spares(&self) -> usize {
        let moves = self.moves.max(0.0) * self.duration.as_secs_f64() / 60.0;
        // Half of the hosts is enough, however long it takes.
        (moves.ceil() as usize).min(self.hosts.div_ceil(2))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: SoakArgs,
    }

    fn args(words: &[&str]) -> SoakArgs {
        Cli::parse_from(["soak"].iter().chain(words)).args
    }

    #[test]
    fn the_whole_thing_is_what_is_asked_for_by_saying_nothing() {
        let args = args(&[]);
        assert_eq!((args.hosts, args.rate), (2_750, 600.0));
        assert_eq!(args.duration, Duration::from_secs(3_600));
        assert_eq!(args.bursts().map(|bursts| bursts.rate), Some(2_000.0));
        assert_eq!(args.spares(), 60);
    }

    #[test]
    fn bursts_and_moves_may_be_left_out() {
        assert_eq!(args(&["--burst-every", "0"]).bursts(), None);
        assert_eq!(args(&["--moves", "0"]).spares(), 0);
        assert_eq!(args(&["--hosts", "3", "--moves", "9"]).spares(), 2);
    }
}
