//! Reading the event log, and freeing what has left the window.

use super::{
    Family, Meta, Store, StoreError, event_key,
    family::{event_parts, event_seq},
    large::Kept,
    options,
};
use crate::{
    atproto::seq::Seq,
    crash::{self, Point},
    firehose::{Frame, Packer},
};

/// What a read of the log found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Page {
    /// The frames that follow, gap-free; none when the reader has seen everything.
    Frames,
    /// The frame that follows has this seq and is larger than was asked for.
    Large(u64),
    /// The reader is behind the window: what follows its position is no longer (all) there.
    Pruned,
}

/// What a run of retention did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pruned {
    /// The highest seq that is no longer in the window; 0: none.
    pub through: u64,
    /// Bytes of events before.
    pub bytes_before: u64,
    /// Bytes of events after.
    pub bytes_after: u64,
}

impl Store {
    /// When the oldest event that can be replayed was published, in milliseconds since 1970; none:
    /// there is none.
    pub fn oldest_ms(&self) -> Result<Option<u64>, StoreError> {
        let Some(seq) = self.window().oldest.and_then(Seq::new) else {
            return Ok(None);
        };
        let family = self.db.family(Family::Events);
        match self.db.rocks.get_pinned_cf(&family, event_key(seq.get()))? {
            Some(value) => event_parts(seq, &value).map(|(time_ms, _)| Some(time_ms)),
            // It has left the window meanwhile.
            None => Ok(None),
        }
    }

    /// Appends the frames that follow `after` to `frames`, in the order of their seq: about
    /// `bytes_max` bytes of them, and at least one if there is one, but none of more than `frame_bytes_max`. Every page
    /// has its own iterator, because one that lives for minutes keeps deleted files on disk.
    pub fn read_after(
        &self,
        after: u64,
        bytes_max: usize,
        frame_bytes_max: usize,
        frames: &mut Vec<Frame>,
    ) -> Result<Page, StoreError> {
        let last = self.last_seq();
        let start = frames.len();
        let mut large = None;
        let family = self.db.family(Family::Events);
        // Below what glibc maps anew for every read (limits::MMAP_THRESHOLD_BYTES).
        let readahead = options::scan(bytes_max.min(192 << 10));
        let mut events = self.db.rocks.raw_iterator_cf_opt(&family, readahead);
        events.seek(event_key(after.saturating_add(1)));
        let mut packer = Packer::default();
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some((key, value)) = events.item() else {
                match events.status() {
                    // What comes before the damage is whole; the next page says what is wrong.
                    Err(_) if frames.len() > start => break,
                    status => status?,
                }
                break;
            };
            let seq = event_seq(key)?;
            if seq.get() > last {
                break;
            }
            let (_, kept) = event_parts(seq, value)?;
            if kept.len() > frame_bytes_max {
                large = (frames.len() == start).then_some(seq.get());
                break;
            }
            let mut read = Ok(());
            let frame = packer.pack(kept.len(), |out| match kept {
                Kept::Whole(frame) => out.copy_from_slice(frame),
                Kept::InPieces(large) => read = self.read_large(seq, &large, out),
            });
            match read {
                // It has left the window, which is told below.
                Err(_) if self.window.pruned() > after => break,
                // As above.
                Err(_) if frames.len() > start => break,
                read => read?,
            }
            bytes += frame.len();
            frames.push(Frame { seq, bytes: frame });
            events.next();
        }
        // The window moves before anything is deleted: what was read is whole if the window still
        // begins at or before the reader's position.
        if self.window.pruned() > after {
            frames.truncate(start);
            return Ok(Page::Pruned);
        }
        Ok(large.map_or(Page::Frames, Page::Large))
    }

    /// When the first event at or above `seq` was written, in milliseconds since 1970; none where there
    /// is none. What has left the window counts as not there.
    pub fn written_ms(&self, seq: u64) -> Result<Option<u64>, StoreError> {
        let seq = seq.max(self.window.pruned().saturating_add(1));
        Ok(self.event_at(seq)?.map(|(_, time)| time))
    }

    /// Moves the window past everything older than `keep_after_ms` (milliseconds since 1970), and
    /// as far as needed to keep at most `bytes_max` bytes of events on disk; then frees the disk
    /// in whole files. Only the retention thread calls this.
    ///
    /// Nothing is deleted by key: a range tombstone would make a freshly written file overlap
    /// every older one, and the whole log would be rewritten. Readers are kept out of what is
    /// still in a partly expired file by the window.
    pub fn prune(&self, keep_after_ms: u64, bytes_max: Option<u64>) -> Result<Pruned, StoreError> {
        let bytes_before = self.events_bytes();
        let before = self.window();
        let by_time = self.last_older_than(keep_after_ms);
        let by_bytes = match bytes_max {
            Some(max) => self.last_beyond_bytes(max)?,
            None => 0,
        };
        let mut through = by_time.max(by_bytes).min(before.last);
        if through > before.pruned {
            through = self.last_readable(through)?;
        }
        if through > before.pruned {
            crash::point(Point::RetentionBefore);
            self.db.set_meta(&[(Meta::Pruned, through)])?;
            crash::point(Point::RetentionMarked);
            self.window.prune(through, || self.first_after(through))?;
        }
        let through = through.max(before.pruned);
        if through > 0 {
            self.free(through)?;
        }
        Ok(Pruned {
            through,
            bytes_before,
            bytes_after: self.events_bytes(),
        })
    }

    /// Bytes of events: files, and what is still in memory.
    pub fn events_bytes(&self) -> u64 {
        let names = ["rocksdb.live-sst-files-size", "rocksdb.size-all-mem-tables"];
        let bytes = [Family::Events, Family::Large].map(|family| {
            let family = self.db.family(family);
            names.map(|name| {
                let value = self.db.rocks.property_int_value_cf(&family, name);
                value.ok().flatten().unwrap_or(0)
            })
        });
        bytes.as_flattened().iter().sum()
    }

    /// The first seq above `seq` that is there.
    fn first_after(&self, seq: u64) -> Result<Option<u64>, StoreError> {
        Ok(self.event_at(seq.saturating_add(1))?.map(|(seq, _)| seq))
    }

    /// The seq and the time of the first event at or above `seq`.
    pub(super) fn event_at(&self, seq: u64) -> Result<Option<(u64, u64)>, StoreError> {
        let family = self.db.family(Family::Events);
        let mut events = self.db.rocks.raw_iterator_cf_opt(&family, options::scan(0));
        events.seek(event_key(seq));
        events.status()?;
        let Some((key, value)) = events.item() else {
            return Ok(None);
        };
        let seq = event_seq(key)?;
        let (time, _) = event_parts(seq, value)?;
        Ok(Some((seq.get(), time)))
    }

    /// The highest seq of an event older than `time_ms`; 0: none. Times grow with the seq, as far
    /// as the clock does, so that halving finds it.
    fn last_older_than(&self, time_ms: u64) -> u64 {
        let window = self.window();
        self.last_older_within(window.pruned, window.last, time_ms)
    }

    /// The same of what is above `low` and not above `high`. What can not be read has no age: the search
    /// goes on behind it, and before it if there is nothing.
    fn last_older_within(&self, mut low: u64, mut high: u64, time_ms: u64) -> u64 {
        let mut found = 0;
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            match self.event_at(middle) {
                Ok(Some((seq, time))) if time < time_ms => {
                    found = seq;
                    low = seq.max(middle);
                }
                Ok(_) => high = middle - 1,
                Err(error) => {
                    log::error!(seq = middle, error:% = error; "the age of an event can not be read");
                    // A few events, or a whole file of tens of thousands.
                    let (mut first, mut last) = self.file_at(middle);
                    if self.event_at(last).is_ok() {
                        (first, last) = (middle, middle);
                    }
                    let behind = self.last_older_within(last, high, time_ms);
                    return match behind {
                        0 => found.max(self.last_older_within(low, first - 1, time_ms)),
                        behind => behind,
                    };
                }
            }
        }
        found
    }

    /// First and last seq of the file in which the first event at or above `seq` is; `seq` alone where
    /// none has it.
    fn file_at(&self, seq: u64) -> (u64, u64) {
        let files = self.event_files().unwrap_or_default();
        let file = files.iter().find(|(_, end, _)| *end >= seq);
        file.map_or((seq, seq), |(start, end, _)| ((*start).min(seq), *end))
    }

    /// Where a window may begin that shall begin behind `through`: there, or where the file begins in
    /// which what would be its first event can not be read. The next start has to read it.
    fn last_readable(&self, through: u64) -> Result<u64, StoreError> {
        let Err(error) = self.first_after(through) else {
            return Ok(through);
        };
        log::error!(seq = through + 1, error:% = error; "the window can not begin at an event");
        let files = self.event_files()?.into_iter();
        let whole = files.map(|(_, end, _)| end).filter(|end| *end <= through);
        let through = whole.max().unwrap_or(0);
        self.first_after(through)?;
        Ok(through)
    }

    /// The last seq of the oldest files that are too much where only `bytes_max` may be used; 0:
    /// none is.
    fn last_beyond_bytes(&self, bytes_max: u64) -> Result<u64, StoreError> {
        let mut excess = self.events_bytes().saturating_sub(bytes_max);
        let mut through = 0;
        let mut files = self.large_files_by_seq()?;
        let events = self.event_files()?.into_iter();
        files.extend(events.map(|(_, end, size)| (end, size)));
        files.sort_unstable();
        for (end, size) in files {
            if excess == 0 {
                break;
            }
            through = end;
            excess = excess.saturating_sub(size);
        }
        Ok(through)
    }

    /// The files of the log, oldest first: first seq, last seq, bytes.
    pub(super) fn event_files(&self) -> Result<Vec<(u64, u64, u64)>, StoreError> {
        let mut files = Vec::new();
        for file in self.db.rocks.live_files()? {
            if file.column_family_name != Family::Events.name() {
                continue;
            }
            if let (Some(start), Some(end)) = (&file.start_key, &file.end_key) {
                let (start, end) = (event_seq(start)?, event_seq(end)?);
                files.push((start.get(), end.get(), file.size as u64));
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    /// Deletes the files that hold nothing above `through`.
    fn free(&self, through: u64) -> Result<(), StoreError> {
        let family = self.db.family(Family::Events);
        let range = (event_key(0), event_key(through));
        crash::point(Point::FreeBefore);
        self.db
            .rocks
            .delete_file_in_range_cf(&family, range.0, range.1)?;
        // Files of level 0 are passed over; moving them down first costs nothing, because they do
        // not overlap.
        if self
            .event_files()?
            .iter()
            .any(|(_, end, _)| *end <= through)
        {
            crash::point(Point::FreeSome);
            self.db
                .rocks
                .compact_range_cf(&family, Some(range.0), Some(range.1));
            self.db
                .rocks
                .delete_file_in_range_cf(&family, range.0, range.1)?;
        }
        crash::point(Point::FreeAfter);
        self.free_large(through)
    }
}

const _: () = assert!(Seq::MAX.get() < u64::MAX);
