//! One byte of a commit, of a node or of a record is another: as it is, and with the CIDs made to
//! fit, so that the hashes do not give it away.

use std::collections::BTreeMap;

use super::{
    random::{self, KINDS},
    *,
};

/// A block of a frame's CAR slice.
pub(super) struct Place {
    cid: usize,
    pub(super) data: Range<usize>,
    /// Every place of the frame where its CID is written, also that in the CAR slice.
    links: Vec<usize>,
}

/// Where the blocks of a commit frame are, read without the relay's own code.
pub(super) fn places(frame: &[u8], blocks: &Range<usize>) -> Vec<Place> {
    let mut at = blocks.start;
    let mut places = Vec::new();
    for n in 0.. {
        let mut len = 0;
        for shift in (0..).step_by(7) {
            len |= usize::from(frame[at] & 0x7f) << shift;
            at += 1;
            if frame[at - 1] < 0x80 {
                break;
            }
        }
        // The first one is the header.
        if n > 0 {
            places.push(Place {
                cid: at,
                data: at + Cid::LEN..at + len,
                links: Vec::new(),
            });
        }
        at += len;
        if at == blocks.end {
            break;
        }
    }
    let cids: BTreeMap<_, _> = (0..)
        .zip(&places)
        .map(|(i, p)| (p.cid_in(frame), i))
        .collect();
    let mut links = vec![Vec::new(); places.len()];
    for (at, window) in frame.windows(Cid::LEN).enumerate() {
        if let Some(i) = cids.get(window) {
            let list: &mut Vec<usize> = &mut links[*i];
            list.push(at);
        }
    }
    for (place, links) in places.iter_mut().zip(links) {
        place.links = links;
    }
    places
}

impl Place {
    pub(super) fn cid_in<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        &frame[self.cid..self.cid + Cid::LEN]
    }
}

/// Gives block `changed` the CID that it has now, wherever that is written, and so on upwards; only
/// what lies in `fixed` stays as it is.
fn relink(frame: &mut [u8], places: &[Place], changed: usize, fixed: &Range<usize>) {
    let mut queue = vec![changed];
    while let Some(i) = queue.pop() {
        let cid = *Cid::of_cbor(&frame[places[i].data.clone()]).as_bytes();
        for at in &places[i].links {
            if fixed.contains(at) {
                continue;
            }
            frame[*at..at + Cid::LEN].copy_from_slice(&cid);
            queue.extend(places.iter().position(|place| place.data.contains(at)));
        }
    }
}

/// A commit of an account whose every byte is to be doubted.
pub(super) struct Subject<'a> {
    pub(super) frame: &'a [u8],
    places: Vec<Place>,
    commit: usize,
    /// Whether the blocks hold nothing that the commit does not need: a block that nobody looks at
    /// may be any block.
    needs_tree: bool,
}

impl<'a> Subject<'a> {
    pub(super) fn new(frame: &'a [u8]) -> Subject<'a> {
        let Body::Commit(message) = parse(frame).body else {
            panic!("not a commit");
        };
        let places = places(frame, &message.blocks);
        let root = message.commit.as_bytes();
        let commit = places.iter().position(|p| p.cid_in(frame) == root);
        Subject {
            frame,
            commit: commit.unwrap(),
            places,
            needs_tree: envelope::count_ops(frame, &message.ops).unwrap() > 0,
        }
    }

    /// Every place of a byte that is part of a block.
    pub(super) fn bytes(&self) -> Vec<usize> {
        self.places.iter().flat_map(|p| p.data.clone()).collect()
    }

    /// `judge` refuses the frame with the byte at `at` changed, in each of three ways.
    pub(super) fn doubt(
        &self,
        at: usize,
        change: u8,
        judge: &dyn Fn(&[u8]) -> Result<Proven, Reject>,
    ) {
        let i = self.places.iter().position(|p| p.data.contains(&at));
        let i = i.unwrap();
        let is_commit = i == self.commit;
        let mut damaged = self.frame.to_vec();
        damaged[at] ^= change;
        assert_eq!(judge(&damaged), Err(Reject::BlockHash), "byte {at}");
        // With the CIDs made to fit, up to the commit object, which is signed.
        let mut fits = damaged.clone();
        relink(&mut fits, &self.places, i, &self.places[self.commit].data);
        if is_commit || self.needs_tree {
            let reject = judge(&fits).unwrap_err();
            let reasons: &[Reject] = match is_commit {
                true => &[
                    Reject::CommitInvalid,
                    Reject::CommitMismatch,
                    Reject::SignatureInvalid,
                ],
                // The root that was signed is not there any more.
                false => &[Reject::TreeMissingBlock],
            };
            assert!(
                reasons.contains(&reject),
                "byte {at} of block {i}: {reject:?}"
            );
        }
        // And in the commit object too.
        if !is_commit {
            relink(&mut damaged, &self.places, i, &(0..0));
            assert_eq!(judge(&damaged), Err(Reject::SignatureInvalid), "byte {at}");
        }
    }
}

#[test]
fn any_byte_of_a_commit_counts() {
    let mut rng = fastrand::Rng::with_seed(3);
    for curve in [keys::Curve::K256, keys::Curve::P256] {
        let mut account = Account::with_curve(&mut rng, 0, curve);
        let posts: Vec<Write> = (0..40)
            .map(|n| {
                let Write::Put(_, record) = account.post("x") else {
                    panic!("a post");
                };
                Write::Put(format!("app.bsky.feed.post/{n}"), record)
            })
            .collect();
        account.commit(&posts);
        let writes = [
            account.post("new"),
            Write::Delete("app.bsky.feed.post/7".into()),
        ];
        let frame = account.commit(&writes).frame(1);
        let subject = Subject::new(&frame);
        assert!(judge(&frame, &account, false).is_ok());
        for at in subject.bytes() {
            for change in [1, 0x80, rng.u8(1..)] {
                subject.doubt(at, change, &|frame| judge(frame, &account, false));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn some_byte_of_any_commit_counts(seed in any::<u64>()) {
        let rng = &mut fastrand::Rng::with_seed(seed);
        for kind in KINDS {
            let (mut account, draft) = random::commit(kind, rng);
            let frame = account.seal(draft).message.event().frame(1);
            let subject = Subject::new(&frame);
            let bytes = subject.bytes();
            for _ in 0..20 {
                let at = bytes[rng.usize(..bytes.len())];
                subject.doubt(at, rng.u8(1..), &|frame| judge(frame, &account, false));
            }
        }
    }
}
