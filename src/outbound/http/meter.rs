//! How much one request may make us read: heads and bodies have limits of their own, but a server can
//! also send interim answers, or empty chunks, without an end.

use std::cell::Cell;

use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

use crate::limits;

thread_local! {
    /// What the request that this thread is making may still read, in bytes.
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// The request that this thread makes next has a body of at most so many bytes. Twice as much is allowed
/// for what is around them, and what a handshake takes.
pub(super) fn begin(body_bytes_max: usize) {
    let heads = 8 * limits::OUTBOUND_HEAD_BYTES_MAX;
    let most = body_bytes_max.saturating_mul(2).saturating_add(heads);
    LEFT.set(most as u64);
}

/// Counts what every connection receives.
#[derive(Default, Debug)]
pub(super) struct MeterConnector;

impl<In: Transport> Connector<In> for MeterConnector {
    type Out = Metered<In>;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        Ok(chained.map(Metered))
    }
}

/// A connection whose bytes are counted.
#[derive(Debug)]
pub(super) struct Metered<T>(T);

impl<T: Transport> Transport for Metered<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let before = self.0.buffers().input().len();
        let more = self.0.await_input(timeout)?;
        let came = self.0.buffers().input().len().saturating_sub(before) as u64;
        let left = LEFT.get();
        if came > left {
            return Err(ureq::Error::BodyExceedsLimit(left));
        }
        LEFT.set(left - came);
        Ok(more)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}
