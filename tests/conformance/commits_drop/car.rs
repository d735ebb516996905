//! The file in `blocks`: its header, the hash and the length of every block, and its size.

use zlay::{
    reject::Reject,
    sim::{
        account::{self, Account},
        feed::Once,
        repo::Write,
        tree,
    },
};

use super::forgery::{
    Block, Case, DAG_CBOR, Fields, File, HEADER, RAW, Spoil, array, cid_of, drops_all, forge,
    forge_draft, head, in_car, in_file, in_message, item, link, null, one_of_each, sha512_cid_of,
    varint, writer,
};
use crate::{
    site::{next_commit, wait_until},
    stage::Stage,
};

/// Replaces the header.
fn header(change: impl Fn(&File) -> Vec<u8> + 'static) -> Spoil {
    in_file(move |file| file.header = change(file))
}

/// Rule 96: <https://dasl.ing/car.html>
#[test]
fn a_header_that_is_none() {
    let with = |field: &'static str, value: Vec<u8>| {
        header(move |file| {
            let mut header = File::header(&[&file.commit]);
            header.set(field, value.clone());
            header.encode()
        })
    };
    let without = |field: &'static str| {
        header(move |file| {
            let mut header = File::header(&[&file.commit]);
            header.remove(field);
            header.encode()
        })
    };
    let mut cases = Vec::new();
    let mut add = |name: &str, spoil| cases.push(Case::new(name, spoil, Reject::CarInvalid));
    for (name, value) in [
        ("version 0", item(0)),
        ("version 2", item(2)),
        ("version -1", item(-1)),
        ("a version that is text", item("1")),
        ("a version that is null", null()),
        ("a version that is a float", b"\xf9\x3c\x00".to_vec()),
    ] {
        add(name, with("version", value));
    }
    for (name, value) in [
        ("no root", array(&[])),
        ("roots that are null", null()),
        ("a root that is null", array(&[null()])),
        (
            "a root that is text",
            array(&[item(
                "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm",
            )]),
        ),
        (
            "a root that is bytes",
            array(&[item(cid_of(DAG_CBOR, b"x"))]),
        ),
        (
            "a root of another hash",
            array(&[link(&sha512_cid_of(b"x"))]),
        ),
        ("2^40 roots", b"\x9b\0\0\x01\0\0\0\0\0".to_vec()),
    ] {
        add(name, with("roots", value));
    }
    let one_link = header(|file| {
        let mut header = File::header(&[]);
        header.set("roots", link(&file.commit));
        header.encode()
    });
    add("roots that are a link", one_link);
    let second_none = header(|file| {
        let mut header = File::header(&[]);
        header.set("roots", array(&[link(&file.commit), null()]));
        header.encode()
    });
    add("a second root that is null", second_none);
    add("no version", without("version"));
    add("no roots", without("roots"));
    add("no header", header(|_| Vec::new()));
    add("a header that is null", header(|_| null()));
    add(
        "a header that is an array",
        header(|file| array(&[link(&file.commit)])),
    );
    add("an empty header", header(|_| Fields(Vec::new()).encode()));
    add(
        "the header of version 2",
        header(|_| b"\xa1\x67version\x02".to_vec()),
    );
    let longer = header(|file| [File::header(&[&file.commit]).encode(), null()].concat());
    add("a header of two items", longer);
    let unsorted = header(|file| {
        let mut header = File::header(&[&file.commit]);
        header.0.reverse();
        header.encode()
    });
    add("unsorted keys", unsorted);
    let endless =
        header(|file| [b"\xbf", &File::header(&[&file.commit]).pairs()[..], b"\xff"].concat());
    add("a map without a length", endless);
    let long = header(|file| {
        let header = File::header(&[&file.commit]).encode();
        [&header[..header.len() - 1], b"\x18\x01"].concat()
    });
    add("a long integer", long);

    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    drops_all(&mut stage, &mut account, &cases);
}

/// Rule 96: <https://atproto.com/specs/repository#car-file-serialization>
#[test]
fn a_file_without_its_root() {
    let cases = [
        Case::new(
            "no commit",
            in_file(|file| {
                let at = file.commit_at();
                file.blocks.remove(at);
            }),
            Reject::CommitBlock,
        ),
        Case::new(
            "no block",
            in_file(|file| file.blocks.clear()),
            Reject::CommitBlock,
        ),
        Case::new("no file", in_car(Vec::clear), Reject::BlocksSize),
    ];
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    drops_all(&mut stage, &mut account, &cases);
}

/// What a block of a commit of [`one_of_each`] is.
fn kind(file: &File, block: &Block) -> &'static str {
    match block.bytes[..] {
        _ if block.cid == file.commit => "the commit",
        // Nodes begin with their key `e`, records of the simulator have four fields.
        [0xa2, 0x61, b'e', ..] => "a node",
        [0xa4, ..] => "a record",
        _ => panic!("{:?}", block.bytes),
    }
}

/// Damages the first block of a kind.
fn in_a(what: &'static str, change: fn(&mut Block)) -> Spoil {
    in_file(move |file| {
        let is_it = |block: &Block| kind(file, block) == what;
        let at = file.blocks.iter().position(is_it).unwrap();
        change(&mut file.blocks[at]);
    })
}

/// What is done to a block, in words.
type Damage = (&'static str, fn(&mut Block));

/// A flipped bit at the beginning, in the middle and at the end of a block and of the hash in its
/// CID; another block's bytes; nothing; and the same in a block that nothing refers to.
///
/// Rule 97: <https://dasl.ing/car.html>
#[test]
fn a_block_that_does_not_hash_to_its_cid() {
    let changes: [Damage; 9] = [
        ("its first bit", |block| block.bytes[0] ^= 0x80),
        ("a bit in its middle", |block| {
            let at = block.bytes.len() / 2;
            block.bytes[at] ^= 4;
        }),
        ("its last bit", |block| {
            *block.bytes.last_mut().unwrap() ^= 1
        }),
        ("the first bit of its hash", |block| block.cid[4] ^= 0x80),
        ("the last bit of its hash", |block| block.cid[35] ^= 1),
        ("a byte less", |block| {
            block.bytes.pop();
        }),
        ("a byte more", |block| block.bytes.push(0)),
        ("nothing in it", |block| block.bytes.clear()),
        ("another map", |block| block.bytes = b"\xa0".to_vec()),
    ];
    let mut cases = Vec::new();
    for what in ["the commit", "a node", "a record"] {
        for (name, change) in changes {
            let name = format!("{what}: {name}");
            cases.push(Case::new(name, in_a(what, change), Reject::BlockHash));
        }
    }
    for codec in [DAG_CBOR, RAW] {
        for at in [0, usize::MAX] {
            let unrelated = in_file(move |file| {
                let mut block = Block::of(codec, b"unrelated".to_vec());
                block.bytes[0] ^= 1;
                file.blocks.insert(at.min(file.blocks.len()), block);
            });
            let name = format!("a block of nobody, codec {codec}");
            cases.push(Case::new(name, unrelated, Reject::BlockHash));
        }
    }
    let twice = in_file(|file| {
        let mut again = file.blocks[0].clone();
        again.bytes[3] ^= 1;
        file.blocks.push(again);
    });
    cases.push(Case::new(
        "once right and once wrong",
        twice,
        Reject::BlockHash,
    ));
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    drops_all(&mut stage, &mut account, &cases);
}

/// Numbers far beyond what is there, as lengths: 2^40, 2^62, the largest of 63 and 64 bits, and
/// more.
fn absurd() -> Vec<Vec<u8>> {
    let mut numbers: Vec<_> = [1 << 32, 1 << 40, 1 << 62, i64::MAX as u64, u64::MAX]
        .into_iter()
        .map(varint)
        .collect();
    numbers.push(vec![0xff; 9]);
    numbers.push(vec![0xff; 40]);
    numbers.push([&[0x80; 9][..], &[0x02]].concat());
    numbers.push([&[0x80; 40][..], &[0x01]].concat());
    numbers
}

/// A figure of the process in KiB.
fn memory(stage: &Stage, name: &str) -> u64 {
    let path = format!("/proc/{}/status", stage.relay.pid().as_raw_nonzero());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let mut words = line.split_ascii_whitespace();
    words.nth(1).unwrap().parse().unwrap()
}

/// Cut off anywhere, and with lengths of blocks, of the header and of items that go beyond the end
/// or beyond all reason. The process takes no memory for what is only said to be there.
///
/// Rules 98, 185: <https://atproto.com/specs/repository#security-considerations>
#[test]
fn lengths_that_do_not_hold() {
    let mut cases = Vec::new();
    let mut add = |name: String, spoil| cases.push(Case::new(name, spoil, Reject::CarInvalid));
    // The header takes 59 bytes with its length; a block begins with two bytes of length.
    for len in [1, 2, 30, 58, 60, 61, 62, 95, 96] {
        add(
            format!("cut to {len}"),
            in_car(move |car| car.truncate(len)),
        );
    }
    for less in [1, 2, 10, 36, 60] {
        let cut = in_car(move |car| car.truncate(car.len() - less));
        add(format!("{less} less at the end"), cut);
    }
    for end in [
        &b"\0"[..],
        b"\x01",
        b"\x01\x01",
        b"\x23",
        &[0x23; 0x24],
        b"\x80",
        b"\xff\xff",
    ] {
        let longer = in_car(move |car| car.extend_from_slice(end));
        add(format!("{end:02x?} at the end"), longer);
    }
    for length in absurd() {
        let name = format!("{length:02x?}");
        let (first, last, cid) = (length.clone(), length.clone(), length.clone());
        let header = in_car(move |car| car.splice(..1, first.clone()).for_each(drop));
        add(format!("the header's length: {name}"), header);
        let end = in_car(move |car| car.extend_from_slice(&last));
        add(format!("a length at the end: {name}"), end);
        let block = in_car(move |car| car.splice(59..61, cid.clone()).for_each(drop));
        add(format!("a block's length: {name}"), block);
    }
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    drops_all(&mut stage, &mut account, &cases[..1]);
    let (resident, address_space) = (memory(&stage, "VmHWM"), memory(&stage, "VmPeak"));
    drops_all(&mut stage, &mut account, &cases);
    // The same in items: of the frame itself, which costs the connection, and of a node.
    for value in [
        &b"\x5b\0\0\x01\0\0\0\0\0"[..],
        b"\x9b\0\0\x01\0\0\0\0\0",
        b"\xbb\x40\0\0\0\0\0\0\0",
    ] {
        let before = stage.refused(Reject::FrameMalformed);
        let frame = [HEADER, b"\xa1\x63ops", value].concat();
        stage
            .site
            .network
            .host(0)
            .inject(Once::Binary(frame.into()));
        stage.pass(&[&next_commit(&mut account)]);
        wait_until("the frame is counted", || {
            stage.refused(Reject::FrameMalformed) == before + 1
        });
    }
    let grown = memory(&stage, "VmHWM") - resident;
    assert!(grown < 64 << 10, "{grown} KiB more resident");
    let grown = memory(&stage, "VmPeak") - address_space;
    assert!(grown < 4 << 20, "{grown} KiB more of address space");
}

/// A record block of exactly this size.
fn record_of(len: usize) -> Write {
    let overhead = head(2, len).len();
    let bytes = item(vec![7u8; len - overhead]);
    assert_eq!(bytes.len(), len);
    Write::Put(
        "com.example.large/self".to_owned(),
        tree::Block::of_cbor(bytes),
    )
}

/// Commits of the largest size that there may be, of which there is one too many, or not.
fn large(account: &Account, one_more: usize) -> Vec<(Vec<Write>, Spoil, Reject)> {
    let fill = in_file(move |file| {
        let missing = 2_000_000 + one_more - file.pack().len();
        file.blocks.push(Block::filler(missing));
    });
    let post = |n: usize| {
        let record = account::record("app.bsky.feed.post", "many", n as u64);
        Write::Put(format!("com.example.many/{n}"), record)
    };
    let posts = (0..200 + one_more).map(post).collect();
    let record = vec![record_of(1_000_000 + one_more)];
    vec![
        (one_of_each(account), fill, Reject::BlocksSize),
        (posts, Spoil::Nothing, Reject::TooManyOps),
        (record, Spoil::Nothing, Reject::RecordSize),
    ]
}

/// One byte or one operation more than what passes.
///
/// Rules 64, 99: <https://atproto.com/specs/sync#limits>
#[test]
fn one_more_than_there_may_be() {
    let mut stage = Stage::set_up();
    for n in 0..3 {
        let mut account = writer(&mut stage);
        let (writes, spoil, _) = large(&account, 0).swap_remove(n);
        let draft = account.draft(&writes);
        stage.pass(&[&forge_draft(&account, draft, &spoil)]);
        let mut account = writer(&mut stage);
        let (writes, spoil, reject) = large(&account, 1).swap_remove(n);
        let forged = forge(&account, &writes, &spoil);
        stage.drops(&mut account, &forged, reject);
    }
}

/// `blocks` that are said to be longer than the frame are no frame.
///
/// Rule 98: <https://atproto.com/specs/event-stream>
#[test]
fn blocks_longer_than_the_frame() {
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    let host = stage.site.network.host(0).clone();
    let spoil = in_message(|m| m.set("blocks", b"\x5b\0\0\x01\0\0\0\0\0\0".to_vec()));
    let forged = forge(&account, &one_of_each(&account), &spoil);
    let frame = forged.frame(host.seq() + 1);
    host.inject(Once::Binary(frame));
    stage.pass(&[&next_commit(&mut account)]);
    assert_eq!(stage.refused(Reject::FrameMalformed), 1);
    assert_eq!(host.connections(), 2);
}
