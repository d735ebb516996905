//! Record keys and the paths of records in a repository
//! (<https://atproto.com/specs/record-key>, <https://atproto.com/specs/repository>).

use std::fmt;

use super::nsid::Nsid;

/// The longest record key, in bytes.
pub const LEN_MAX: usize = 512;

/// Why text is not a record key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordKeyError;

impl fmt::Display for RecordKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a record key")
    }
}

impl std::error::Error for RecordKeyError {}

/// Whether `text` is a record key: 1 to 512 letters, digits and `_~.:-`, but not `.` or `..`.
pub fn check(text: &str) -> Result<(), RecordKeyError> {
    let ok = (1..=LEN_MAX).contains(&text.len())
        && text != "."
        && text != ".."
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'~' | b'.' | b':' | b'-'));
    if ok { Ok(()) } else { Err(RecordKeyError) }
}

/// The path of a record: `collection/rkey`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RepoPath;

/// Why text is not the path of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RepoPathError {
    /// Not exactly two segments.
    Segments,
    /// The first segment is not an NSID.
    Collection,
    /// The second segment is not a record key.
    RecordKey,
}

impl fmt::Display for RepoPathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RepoPathError::Segments => "not a collection and a record key",
            RepoPathError::Collection => "the collection is not an NSID",
            RepoPathError::RecordKey => "not a record key",
        })
    }
}

impl std::error::Error for RepoPathError {}

impl RepoPath {
    /// Splits a path into its collection and its record key, both valid.
    pub fn split(path: &str) -> Result<(&str, &str), RepoPathError> {
        let (collection, rkey) = path.split_once('/').ok_or(RepoPathError::Segments)?;
        if rkey.contains('/') {
            return Err(RepoPathError::Segments);
        }
        Nsid::check(collection).map_err(|_| RepoPathError::Collection)?;
        check(rkey).map_err(|_| RepoPathError::RecordKey)?;
        Ok((collection, rkey))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_collection_and_a_key() {
        assert_eq!(
            RepoPath::split("app.bsky.feed.post/a:b~_.-"),
            Ok(("app.bsky.feed.post", "a:b~_.-"))
        );
        for (path, error) in [
            ("app.bsky.feed.post", RepoPathError::Segments),
            ("app.bsky.feed.post/a/b", RepoPathError::Segments),
            ("/app.bsky.feed.post/a", RepoPathError::Segments),
            ("/a", RepoPathError::Collection),
            ("post/a", RepoPathError::Collection),
            ("app.bsky.feed.post/", RepoPathError::RecordKey),
            ("app.bsky.feed.post/.", RepoPathError::RecordKey),
            ("app.bsky.feed.post/..", RepoPathError::RecordKey),
            ("app.bsky.feed.post/\u{e9}", RepoPathError::RecordKey),
        ] {
            assert_eq!(RepoPath::split(path), Err(error), "{path}");
        }
        let long = "k".repeat(512);
        assert_eq!(check(&long), Ok(()));
        assert_eq!(check(&format!("{long}k")), Err(RecordKeyError));
    }
}
