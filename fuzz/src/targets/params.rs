//! The parameters of queries.

use super::params::Params;

/// Every parameter that any query has.
pub(crate) fn parameters(query: &str) {
    let Ok(params) = Params::parse(query) else {
        return;
    };
    assert_eq!(params.raw(), query);
    let _ = (
        params.did(),
        params.hostname(),
        params.collection(),
        params.rev("since"),
    );
    if let Ok(limit) = params.limit(1..=1_000, 500) {
        assert!((1..=1_000).contains(&limit));
    }
    if let Ok(Some(cursor)) = params.cursor() {
        assert!(cursor > 0);
    }
}
