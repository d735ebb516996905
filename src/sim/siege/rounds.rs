//! Calm and attack in turns, and what is measured meanwhile.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    attack::Attack,
    field::Field,
    report::{Measured, Row},
    traffic::Traffic,
};
use crate::{
    sim::{
        check::Checker,
        expected::Differences,
        process::{self, Usage},
        relay::Relay,
    },
    threads::{self, Role, Stop},
};

/// Between two looks at the relay's memory.
const LOOK: Duration = Duration::from_millis(50);
/// Before the first round: caches are warm and threads there.
const WARM_UP: Duration = Duration::from_secs(5);
/// Between an attack and the round of calm that it is compared with.
const REST: Duration = Duration::from_secs(2);
/// No progress for this long, and what has not come is lost.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// The stack of the thread that attacks, in bytes: trees are followed recursively.
const STACK_BYTES: usize = 8 << 20;

/// A running siege.
pub(super) struct Rounds {
    traffic: Option<Traffic>,
    checker: Checker,
    field: Arc<Field>,
    relay: Relay,
}

impl Rounds {
    /// Starts the traffic of those who behave, and the subscriber that measures its delay.
    pub(super) fn start(
        field: Arc<Field>,
        relay: Relay,
        accounts: usize,
        rate: f64,
        stop: &Stop,
    ) -> io::Result<Rounds> {
        let expected = field.network.expected().clone();
        let (started, _) = threads::run_first(|| {
            let checker = Checker::start(field.client.address(), expected)?;
            let traffic = Traffic::start(field.clone(), accounts, rate, 1)?;
            io::Result::Ok((checker, traffic))
        });
        let (checker, traffic) = started?;
        stop.wait(WARM_UP);
        let mut rounds = Rounds {
            traffic: Some(traffic),
            checker,
            field,
            relay,
        };
        rounds.catch_up(stop)?;
        Ok(rounds)
    }

    /// Tries one attack: calm, attack, calm, attack, and so on, with calm in the end.
    pub(super) fn try_attack(
        &mut self,
        mut attack: Box<dyn Attack>,
        rounds: usize,
        span: Duration,
        stop: &Stop,
    ) -> io::Result<Row> {
        let (name, about) = (attack.name(), attack.about());
        attack.prepare(&self.field)?;
        // What this has left to be written would come in the way of the round's own writes.
        rustix::fs::sync();
        stop.wait(REST);
        let attack = Arc::new(Mutex::new(attack));
        let (mut calm, mut attacked) = (Measured::default(), Measured::default());
        let mut rss_before = None;
        for _ in 0..rounds {
            self.measure(span, &mut calm, stop)?;
            // What an attack has left behind is not what there was before it.
            rss_before.get_or_insert(calm.rss_max());
            self.attack(&attack, span, &mut attacked, stop)?;
            stop.wait(REST);
        }
        self.measure(span, &mut calm, stop)?;
        let mut attack = attack.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = attack.seen(&self.field)?;
        if let Some(panics) = self
            .field
            .metric("relay_panics_total")?
            .filter(|n| *n > 0.0)
        {
            seen.amiss = Some(format!("the relay has panicked {panics} times so far"));
        }
        let rss_before = rss_before.unwrap_or_default();
        Ok(Row::new(name, about, [&calm, &attacked], rss_before, seen))
    }

    /// One round of attack.
    fn attack(
        &mut self,
        attack: &Arc<Mutex<Box<dyn Attack>>>,
        span: Duration,
        into: &mut Measured,
        stop: &Stop,
    ) -> io::Result<()> {
        let (stopper, over) = threads::stop_pair();
        let (attack, field) = (attack.clone(), self.field.clone());
        let result = Arc::new(Mutex::new(Ok(())));
        let tell = result.clone();
        let thread = threads::spawn(Role::Simulator, "attack", STACK_BYTES, move || {
            let mut attack = attack.lock().unwrap_or_else(PoisonError::into_inner);
            let ended = attack.run(&field, &over);
            *tell.lock().unwrap_or_else(PoisonError::into_inner) = ended;
        })?;
        let measured = self.measure(span, into, stop);
        drop(stopper);
        drop(thread);
        let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *result, Ok(())).and(measured)
    }

    /// Measures for so long, and until everything sent in this time has come: what an attack holds
    /// up is its delay, also where it comes later.
    fn measure(&mut self, span: Duration, into: &mut Measured, stop: &Stop) -> io::Result<()> {
        self.checker.stats.take_all_delays();
        let (before, began) = (Usage::of(self.field.pid)?, Instant::now());
        let stolen_before = process::stolen()?;
        while began.elapsed() < span && !stop.wait(LOOK) {
            into.look(Usage::of(self.field.pid)?.rss);
        }
        let used = Usage::of(self.field.pid)?.cpu - before.cpu;
        let stolen = process::stolen()?.saturating_sub(stolen_before);
        into.add_time(used, stolen, began.elapsed());
        self.catch_up(stop)?;
        into.look(Usage::of(self.field.pid)?.rss);
        into.add_delays(self.checker.stats.take_all_delays());
        Ok(())
    }

    /// Waits until as many events have come as were sent by now.
    fn catch_up(&mut self, stop: &Stop) -> io::Result<()> {
        let expected = self.field.network.expected();
        let (sent, mut come) = expected.progress();
        let mut progress = Instant::now();
        while come < sent && progress.elapsed() < DRAIN_TIMEOUT && !stop.wait(LOOK) {
            let now = expected.progress().1;
            if now != come {
                (come, progress) = (now, Instant::now());
            }
            if let Some(status) = self.relay.ended() {
                return Err(io::Error::other(format!("the relay ended: {status}")));
            }
        }
        if self.traffic.as_ref().is_some_and(Traffic::has_ended) {
            return Err(io::Error::other("those who behave have fallen silent"));
        }
        Ok(())
    }

    /// Ends the traffic, then the relay; how what came compares with what was sent.
    pub(super) fn finish(mut self) -> io::Result<Differences> {
        self.traffic = None;
        let (_stopper, stop) = threads::stop_pair();
        self.catch_up(&stop)?;
        // For what must not come.
        stop.wait(REST);
        let differences = self.field.network.expected().verdict();
        drop(self.checker);
        let status = self.relay.stop()?;
        if !status.success() {
            return Err(io::Error::other(format!("the relay stopped with {status}")));
        }
        Ok(differences)
    }
}
