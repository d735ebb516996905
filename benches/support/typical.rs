//! The typical commit: one new post in a repository with many records.

use std::ops::Range;

use zlay::sim::{
    account::{self, Account},
    keys::Curve,
    repo::Write,
};

/// Tree nodes in the typical commit.
pub(crate) const NODES: usize = 8;

/// The bytes of its nodes and its record.
pub(crate) const BYTES: Range<usize> = 4_500..5_000;

/// An account with many records, and the commit of a post among them that has the nodes and the
/// bytes of a typical one.
pub(crate) fn typical(curve: Curve) -> (Account, Vec<u8>) {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut account = Account::with_curve(&mut rng, 0, curve);
    let writes: Vec<Write> = (0..6_000)
        .flat_map(|n| {
            let post = post(&account, 2 * n);
            let like = account::record("app.bsky.feed.like", "", n);
            [
                post,
                Write::Put(format!("app.bsky.feed.like/{}", account.rkey(n)), like),
            ]
        })
        .collect();
    for chunk in writes.chunks(100) {
        account.commit(chunk);
    }
    for n in 0..6_000 {
        let mut next = account.clone();
        let draft = next.draft(&[post(&account, 2 * n + 1)]);
        let bytes: usize = draft.blocks.iter().map(|block| block.bytes.len()).sum();
        if draft.blocks.len() == NODES + 1 && BYTES.contains(&bytes) {
            let frame = next.seal(draft).message.event().frame(1_000_000);
            return (next, frame.to_vec());
        }
    }
    unreachable!("some post is typical")
}

/// The `n`-th post of an account, of the length that people write.
fn post(account: &Account, n: u64) -> Write {
    let text = "a text of the length that people write, more or less, in a post of theirs. ";
    let record = account::record("app.bsky.feed.post", &text.repeat(3), n);
    Write::Put(format!("app.bsky.feed.post/{}", account.rkey(n)), record)
}
