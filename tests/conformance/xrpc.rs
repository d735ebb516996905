//! The queries, and requestCrawl.
