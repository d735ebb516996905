//! Reads recorded `subscribeRepos` frames and says of each what `jacquard-repo` thinks of it.
//!
//! `zlay-oracle FRAMES KEYS`: FRAMES holds frames, each behind its length as a big-endian u32; KEYS
//! is JSON, `{did: [multibase keys, oldest first]}`. One JSON line a frame goes to standard output:
//! `seq`, `type`, and for a `#commit` either `key` (the place in the account's list of the key that
//! it verifies with), or `skipped` (no `prevData`, so nothing to invert), or `error`.

use std::{collections::HashMap, env, error::Error, fs, io::Write};

use jacquard_api::com_atproto::sync::subscribe_repos::{Commit, SubscribeReposMessage};
use jacquard_common::types::crypto::PublicKey;
use jacquard_repo::commit::firehose::validate_v1_1;
use serde_json::{Value, json};
use smol_str::SmolStr;

type Keys = HashMap<String, Vec<PublicKey<'static>>>;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (Some(frames), Some(keys)) = (args.next(), args.next()) else {
        return Err("usage: zlay-oracle FRAMES KEYS".into());
    };
    let keys = read_keys(&keys)?;
    let frames = fs::read(frames)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut out = std::io::stdout().lock();
    let mut rest = frames.as_slice();
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let (frame, tail) = tail
            .split_at_checked(length)
            .ok_or("FRAMES ends within a frame")?;
        rest = tail;
        writeln!(out, "{}", runtime.block_on(judge(frame, &keys)))?;
    }
    Ok(())
}

fn read_keys(path: &str) -> Result<Keys, Box<dyn Error>> {
    let listed: HashMap<String, Vec<String>> = serde_json::from_slice(&fs::read(path)?)?;
    let mut keys = Keys::new();
    for (did, list) in listed {
        let parsed: Result<_, _> = list.iter().map(|key| PublicKey::decode(key)).collect();
        keys.insert(did, parsed?);
    }
    Ok(keys)
}

async fn judge(frame: &[u8], keys: &Keys) -> Value {
    match SubscribeReposMessage::<SmolStr>::decode_framed(frame) {
        Ok(SubscribeReposMessage::Commit(commit)) => judge_commit(&commit, keys).await,
        Ok(SubscribeReposMessage::Sync(m)) => json!({ "seq": m.seq, "type": "#sync" }),
        Ok(SubscribeReposMessage::Identity(m)) => json!({ "seq": m.seq, "type": "#identity" }),
        Ok(SubscribeReposMessage::Account(m)) => json!({ "seq": m.seq, "type": "#account" }),
        Ok(_) => json!({ "error": "a type of message that no relay sends in a recording" }),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

async fn judge_commit(commit: &Commit<SmolStr>, keys: &Keys) -> Value {
    let mut line = json!({ "seq": commit.seq, "type": "#commit" });
    if commit.prev_data.is_none() {
        line["skipped"] = json!("no prevData");
        return line;
    }
    let mut error = "no key is known for the account".to_owned();
    let listed = keys
        .get(commit.repo.as_str())
        .map_or(&[][..], Vec::as_slice);
    for (place, key) in listed.iter().enumerate() {
        match validate_v1_1(commit, key).await {
            Ok(_) => {
                line["key"] = json!(place);
                return line;
            }
            Err(e) => error = e.to_string(),
        }
    }
    line["error"] = json!(error);
    line
}
