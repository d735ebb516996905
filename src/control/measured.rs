//! A control store of which is counted what it is asked and how long that takes.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use serde_json::Value;

use super::{
    AuditEntry, Ban, Control, ControlError, Dump, HostRow, HostTerms, Mirror, Observed, Source,
    Takedown, domain::Domain,
};
use crate::{
    atproto::{did::Did, hostname::Endpoint},
    crash::{self, Point},
    metrics::{
        Metrics,
        labels::{Done, Operation},
        micros,
    },
    store::{RocksMemory, account::HostId},
};

/// The control store that does the work, counted.
pub struct Measured {
    control: Arc<dyn Control>,
    metrics: Arc<Metrics>,
}

impl Measured {
    /// Counts what `control` is asked.
    pub fn new(control: Arc<dyn Control>, metrics: Arc<Metrics>) -> Measured {
        Measured { control, metrics }
    }

    fn count<T>(
        &self,
        operation: Operation,
        work: impl FnOnce(&dyn Control) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        let began = Instant::now();
        let done = work(&*self.control);
        self.metrics
            .control_duration
            .observe(micros(began.elapsed()));
        let how = if done.is_ok() { Done::Ok } else { Done::Error };
        self.metrics.control_operations.inc((operation, how));
        done
    }

    /// The same for what writes: with a point before it, and one after it.
    fn change<T>(
        &self,
        operation: Operation,
        (before, after): (Point, Point),
        work: impl FnOnce(&dyn Control) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        crash::point(before);
        let done = self.count(operation, work)?;
        crash::point(after);
        Ok(done)
    }
}

impl Control for Measured {
    fn memory(&self) -> Option<RocksMemory> {
        self.control.memory()
    }

    fn available(&self) -> Result<(), String> {
        self.control.available()
    }

    fn id(&self) -> u64 {
        self.control.id()
    }

    fn hosts(&self) -> Result<Vec<HostRow>, ControlError> {
        self.count(Operation::Hosts, |c| c.hosts())
    }

    fn add_host(
        &self,
        endpoint: &Endpoint,
        source: Source,
        now_ms: u64,
    ) -> Result<HostRow, ControlError> {
        let points = (Point::AddHostBefore, Point::AddHostAfter);
        self.change(Operation::AddHost, points, |c| {
            c.add_host(endpoint, source, now_ms)
        })
    }

    fn set_terms(&self, host: HostId, terms: &HostTerms) -> Result<(), ControlError> {
        let points = (Point::SetTermsBefore, Point::SetTermsAfter);
        self.change(Operation::SetTerms, points, |c| c.set_terms(host, terms))
    }

    fn observe(&self, hosts: &[(HostId, Observed)]) -> Result<(), ControlError> {
        let points = (Point::ObserveBefore, Point::ObserveAfter);
        self.change(Operation::Observe, points, |c| c.observe(hosts))
    }

    fn bans(&self) -> Result<Vec<Ban>, ControlError> {
        self.count(Operation::Bans, |c| c.bans())
    }

    fn ban_domain(&self, domain: &Domain, now_ms: u64) -> Result<(), ControlError> {
        let points = (Point::BanDomainBefore, Point::BanDomainAfter);
        self.change(Operation::Bans, points, |c| c.ban_domain(domain, now_ms))
    }

    fn unban_domain(&self, domain: &Domain) -> Result<(), ControlError> {
        let points = (Point::UnbanDomainBefore, Point::UnbanDomainAfter);
        self.change(Operation::Bans, points, |c| c.unban_domain(domain))
    }

    fn takedowns(&self) -> Result<Vec<Takedown>, ControlError> {
        self.count(Operation::Takedowns, |c| c.takedowns())
    }

    fn take_down(&self, did: &Did, now_ms: u64) -> Result<(), ControlError> {
        let points = (Point::TakeDownBefore, Point::TakeDownAfter);
        self.change(Operation::Takedowns, points, |c| c.take_down(did, now_ms))
    }

    fn reverse_takedown(&self, did: &Did) -> Result<(), ControlError> {
        let points = (Point::ReverseBefore, Point::ReverseAfter);
        self.change(Operation::Takedowns, points, |c| c.reverse_takedown(did))
    }

    fn settings(&self) -> Result<BTreeMap<String, Value>, ControlError> {
        self.count(Operation::Settings, |c| c.settings())
    }

    fn set_setting(&self, name: &str, value: Option<&Value>) -> Result<(), ControlError> {
        let points = (Point::SetSettingBefore, Point::SetSettingAfter);
        self.change(Operation::Settings, points, |c| c.set_setting(name, value))
    }

    fn note(&self, name: &str) -> Result<Option<Value>, ControlError> {
        self.count(Operation::Notes, |c| c.note(name))
    }

    fn set_note(&self, name: &str, value: Option<&Value>) -> Result<(), ControlError> {
        let points = (Point::SetNoteBefore, Point::SetNoteAfter);
        self.change(Operation::Notes, points, |c| c.set_note(name, value))
    }

    fn audit(&self, entry: &AuditEntry) -> Result<u64, ControlError> {
        let points = (Point::AuditBefore, Point::AuditAfter);
        self.change(Operation::Audit, points, |c| c.audit(entry))
    }

    fn audit_before(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, AuditEntry)>, ControlError> {
        self.count(Operation::Audit, |c| c.audit_before(before, limit))
    }

    fn mirror(&self, mirror: &Mirror) -> Result<(), ControlError> {
        let points = (Point::MirrorBefore, Point::MirrorAfter);
        self.change(Operation::Mirror, points, |c| c.mirror(mirror))
    }

    fn mirrored(&self) -> Result<Mirror, ControlError> {
        self.count(Operation::Mirror, |c| c.mirrored())
    }

    fn export(&self) -> Result<Dump, ControlError> {
        self.count(Operation::Copy, |c| c.export())
    }

    fn import(&self, dump: &Dump) -> Result<(), ControlError> {
        self.count(Operation::Copy, |c| c.import(dump))
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::control::embedded::Embedded;

    #[test]
    fn what_is_asked_is_done_and_counted() {
        let dir = TempDir::new().unwrap();
        let control = Arc::new(Embedded::open(dir.path()).unwrap());
        let metrics = Arc::new(Metrics::default());
        let measured = Measured::new(control.clone(), metrics.clone());
        measured
            .set_setting("events_per_second", Some(&Value::from(7)))
            .unwrap();
        assert_eq!(measured.settings().unwrap(), control.settings().unwrap());
        assert!(
            measured
                .set_terms(HostId(9), &HostTerms::default())
                .is_err()
        );
        let done = |operation, how| metrics.control_operations.get((operation, how));
        assert_eq!(done(Operation::Settings, Done::Ok), 2);
        assert_eq!(done(Operation::SetTerms, Done::Error), 1);
        assert_eq!(metrics.control_duration.buckets().count(), 3);
    }
}
