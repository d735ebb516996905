//! Hosts that move: all accounts of one leave for another, which takes its place.

use crossbeam_channel::{Receiver, Sender};

use super::traffic::{Plan, Traffic};

/// A host that moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    /// The index of the host that its accounts leave.
    pub from: usize,
    /// The index of the one where they go.
    pub to: usize,
}

/// Moves that are under way.
#[derive(Debug)]
pub struct Moves {
    orders: Receiver<Move>,
    /// Hosts that nobody is left at.
    left: Sender<usize>,
    under_way: Vec<Move>,
}

impl Moves {
    /// Moves as they are ordered; where a host has been left by everybody, its index is told.
    pub fn new(orders: Receiver<Move>, left: Sender<usize>) -> Moves {
        Moves {
            orders,
            left,
            under_way: Vec::new(),
        }
    }
}

impl Traffic {
    /// From now on hosts move as they are told to.
    pub fn set_moves(&mut self, moves: Moves) {
        self.moves = Some(moves);
    }

    /// Begins moves that were ordered, and goes on with those that are under way. An account goes as
    /// soon as it is in the middle of nothing else.
    pub(super) fn look_at_moves(&mut self) {
        let Some(mut moves) = self.moves.take() else {
            return;
        };
        while let Ok(order) = moves.orders.try_recv() {
            if let Some(place) = self.places.iter_mut().find(|host| **host == order.from) {
                *place = order.to;
                moves.under_way.push(order);
            }
        }
        moves.under_way.retain(|order| {
            let still = self.send_off(*order);
            if !still {
                // Whoever ordered it may have stopped meanwhile.
                let _ = moves.left.send(order.from);
            }
            still
        });
        self.moves = Some(moves);
    }

    /// Whether anybody who can still go is at the host.
    fn send_off(&mut self, order: Move) -> bool {
        let mut anybody = false;
        for slot in self.by_host[order.from].clone() {
            let of_it = &self.slots[slot];
            if of_it.gone {
                // It stays, and is only waited for.
                let did = of_it.account.did();
                anybody |= self.mix.checked && !self.network.expected().is_settled(did);
                continue;
            }
            anybody = true;
            if of_it.plan.is_none() && of_it.account.status.is_none() {
                self.plan(slot, Plan::MoveTo(order.to));
            }
        }
        anybody
    }
}
