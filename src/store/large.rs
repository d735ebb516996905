//! Events that are too large to be written at once without keeping all others waiting. Their bytes are written
//! in pieces, in batches with other events, before they have a seq. Where such an event then is in the log
//! there is only what its seq has made of it, and where its pieces are.
//!
//! Nothing of this is deleted by key. Large events are numbered as they begin to be written, which is nearly the
//! order of their seqs, and files that have none in them that is or may become one of the window are dropped whole.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    Batch, Db, Family, Store, StoreError, decoded,
    family::{END_OF_PIECES, IN_PIECES, large_key, large_key_parts},
    options,
};
use crate::{
    atproto::seq::Seq,
    crash::{self, Point},
    limits::{FRAME_BYTES_MAX, WS_HEADER_BYTES_MAX},
};

/// A large event of which pieces are written. When it is dropped without having become an event, what is
/// written of it counts as nothing.
#[derive(Debug)]
pub struct Large {
    number: u64,
    pieces: u32,
    begun: Arc<Begun>,
}

impl Drop for Large {
    fn drop(&mut self) {
        self.begun.lock().numbers.remove(&self.number);
    }
}

/// The large events that were begun, and are no events yet.
#[derive(Debug)]
pub(super) struct Begun(Mutex<State>);

#[derive(Debug)]
struct State {
    next: u64,
    numbers: BTreeSet<u64>,
}

impl Begun {
    pub(super) fn new(next: u64) -> Begun {
        Begun(Mutex::new(State {
            next,
            numbers: BTreeSet::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The frame of a large event, as its pieces are not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outline<'a> {
    /// Bytes of the whole frame.
    pub len: usize,
    /// What comes before the first piece.
    pub head: &'a [u8],
    /// What is put in behind so many bytes of pieces, where a piece ends.
    pub at: usize,
    /// And what that is.
    pub insert: &'a [u8],
}

/// What stands in the log for a large event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct InPieces<'a> {
    number: u64,
    pub(super) outline: Outline<'a>,
}

/// What is kept of the frame of an event in its place in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kept<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// The rest is in pieces.
    InPieces(InPieces<'a>),
}

impl<'a> Kept<'a> {
    /// What the bytes behind the time of an event say; none where they are damaged.
    pub(super) fn decode(bytes: &'a [u8], in_pieces: bool) -> Option<Kept<'a>> {
        if !in_pieces {
            return (!bytes.is_empty()).then_some(Kept::Whole(bytes));
        }
        let (number, row) = bytes.split_first_chunk()?;
        let (len, row) = row.split_first_chunk()?;
        let (at, row) = row.split_first_chunk()?;
        let (head_len, row) = row.split_first()?;
        let (head, insert) = row.split_at_checked(usize::from(*head_len))?;
        let outline = Outline {
            len: u32::from_be_bytes(*len) as usize,
            head,
            at: u32::from_be_bytes(*at) as usize,
            insert,
        };
        let sound = head.len() + outline.at + insert.len() <= outline.len
            && outline.len <= WS_HEADER_BYTES_MAX + FRAME_BYTES_MAX;
        let number = u64::from_be_bytes(*number);
        sound.then_some(Kept::InPieces(InPieces { number, outline }))
    }

    /// How many bytes the frame has.
    pub(super) fn len(&self) -> usize {
        match self {
            Kept::Whole(frame) => frame.len(),
            Kept::InPieces(large) => large.outline.len,
        }
    }
}

impl InPieces<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        let Outline {
            len,
            head,
            at,
            insert,
        } = self.outline;
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&(len as u32).to_be_bytes());
        out.extend_from_slice(&(at as u32).to_be_bytes());
        out.push(head.len() as u8);
        out.extend_from_slice(head);
        out.extend_from_slice(insert);
    }
}

impl Batch {
    /// Adds the next piece of a large event. Pieces may be spread over batches as one likes.
    pub fn put_piece(&mut self, large: &mut Large, piece: &[u8]) {
        let family = self.db.family(Family::Large);
        let key = large_key(large.number, large.pieces);
        self.batch.put_cf(&family, key, piece);
        large.pieces += 1;
        self.has_piece = true;
    }

    /// Adds an event of which all pieces are in batches that are written, or in this one: as
    /// [`Batch::put_event`], but for what is in the pieces.
    pub fn put_large_event(&mut self, seq: Seq, time_ms: u64, large: Large, outline: Outline<'_>) {
        let row = InPieces {
            number: large.number,
            outline,
        };
        self.put_log_entry(seq, time_ms | IN_PIECES, |value| row.encode(value));
        let family = self.db.family(Family::Large);
        let key = large_key(large.number, END_OF_PIECES);
        self.batch.put_cf(&family, key, seq.get().to_be_bytes());
        // It counts as begun until this is written.
        self.large.push(large);
    }
}

/// The number that the next large event of a database gets.
pub(super) fn next_number(db: &Db) -> Result<u64, StoreError> {
    let family = db.family(Family::Large);
    let mut pieces = db.rocks.raw_iterator_cf(&family);
    pieces.seek_to_last();
    pieces.status()?;
    let last = pieces.key().map(large_key_parts).transpose()?;
    Ok(last.map_or(1, |(number, _)| number + 1))
}

impl Store {
    /// Begins to write a large event. The sequencer's alone.
    pub fn begin_large(&self) -> Large {
        let begun = Arc::clone(&self.begun);
        let mut state = begun.lock();
        let number = state.next;
        state.next += 1;
        state.numbers.insert(number);
        drop(state);
        Large {
            number,
            pieces: 0,
            begun,
        }
    }

    /// Writes the frame of a large event over all of `out`, which is as long as its outline says. None of its
    /// pieces is there any more once it has left the window: that is for the caller to see.
    pub(super) fn read_large(
        &self,
        seq: Seq,
        large: &InPieces<'_>,
        out: &mut [u8],
    ) -> Result<(), StoreError> {
        let Outline {
            head, at, insert, ..
        } = large.outline;
        let damaged = || StoreError::damaged(Family::Large.name(), seq);
        let (start, rest) = out.split_at_mut(head.len());
        start.copy_from_slice(head);
        let (before, rest) = rest.split_at_mut(at);
        let (middle, behind) = rest.split_at_mut(insert.len());
        middle.copy_from_slice(insert);
        let family = self.db.family(Family::Large);
        let mut pieces = self.db.rocks.raw_iterator_cf_opt(&family, options::scan(0));
        pieces.seek(large_key(large.number, 0));
        let mut next = 0;
        for mut part in [before, behind] {
            while !part.is_empty() {
                pieces.status()?;
                let (key, piece) = pieces.item().ok_or_else(damaged)?;
                if key != large_key(large.number, next) || piece.is_empty() {
                    return Err(damaged());
                }
                let (place, left) = part.split_at_mut_checked(piece.len()).ok_or_else(damaged)?;
                place.copy_from_slice(piece);
                part = left;
                next += 1;
                pieces.next();
            }
        }
        Ok(())
    }

    /// The seq that a large event has got; none where it has none.
    fn seq_of_large(&self, number: u64) -> Result<Option<u64>, StoreError> {
        let family = self.db.family(Family::Large);
        let key = large_key(number, END_OF_PIECES);
        let Some(value) = self.db.rocks.get_pinned_cf(&family, key)? else {
            return Ok(None);
        };
        let seq = <[u8; 8]>::try_from(&*value).ok().map(u64::from_be_bytes);
        decoded(seq, Family::Large, number).map(Some)
    }

    /// The highest number of which neither it nor one below it is, or may become, a large event above `through`;
    /// 0: there is none.
    fn large_dead_to(&self, through: u64) -> Result<u64, StoreError> {
        let family = self.db.family(Family::Large);
        let mut pieces = self.db.rocks.raw_iterator_cf_opt(&family, options::scan(0));
        pieces.seek_to_first();
        let mut dead = 0;
        loop {
            pieces.status()?;
            let Some(key) = pieces.key() else { break };
            let (number, _) = large_key_parts(key)?;
            // In this order: who has become an event meanwhile has its seq by now.
            let begun = self.begun.lock().numbers.contains(&number);
            if begun || self.seq_of_large(number)?.is_some_and(|seq| seq > through) {
                break;
            }
            dead = number;
            pieces.seek(large_key(number + 1, 0));
        }
        Ok(dead)
    }

    /// The files with pieces: first number, last number, bytes.
    fn large_files(&self) -> Result<Vec<(u64, u64, u64)>, StoreError> {
        let mut files = Vec::new();
        for file in self.db.rocks.live_files()? {
            if file.column_family_name != Family::Large.name() {
                continue;
            }
            if let (Some(start), Some(end)) = (&file.start_key, &file.end_key) {
                let (start, end) = (large_key_parts(start)?.0, large_key_parts(end)?.0);
                files.push((start, end, file.size as u64));
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    /// The files with pieces, as those of the log: up to which seq they are needed, and bytes.
    pub(super) fn large_files_by_seq(&self) -> Result<Vec<(u64, u64)>, StoreError> {
        let mut files = Vec::new();
        for (start, end, bytes) in self.large_files()? {
            let mut seq = None;
            for number in (start..=end).rev() {
                seq = self.seq_of_large(number)?;
                if seq.is_some() {
                    break;
                }
            }
            files.push((seq.unwrap_or(0), bytes));
        }
        Ok(files)
    }

    /// Deletes the files with pieces that nothing above `through` needs.
    pub(super) fn free_large(&self, through: u64) -> Result<(), StoreError> {
        let dead = self.large_dead_to(through)?;
        if dead == 0 {
            return Ok(());
        }
        crash::point(Point::FreeLargeBefore);
        let family = self.db.family(Family::Large);
        let (first, last) = (large_key(0, 0), large_key(dead, END_OF_PIECES));
        self.db
            .rocks
            .delete_file_in_range_cf(&family, first, last)?;
        // As with the log, those of level 0 are to be moved first.
        if self.large_files()?.iter().any(|(_, end, _)| *end <= dead) {
            self.db
                .rocks
                .compact_range_cf(&family, Some(first), Some(last));
            self.db
                .rocks
                .delete_file_in_range_cf(&family, first, last)?;
        }
        crash::point(Point::FreeLargeAfter);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
