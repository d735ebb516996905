//! Bounds of both ports, and of who asks there.

use std::time::Duration;

use super::DESCRIPTORS_KEPT;

/// The backlog of every listener.
pub const LISTEN_BACKLOG: i32 = 4_096;
/// Connections of the public port that are not (yet) subscribers.
pub const HTTP_CONNECTIONS_MAX: usize = 512;
/// The same, of one address (an IPv6 /64 counts as one).
pub const HTTP_CONNECTIONS_PER_ADDRESS_MAX: usize = 64;
/// A request head, from the first byte to the last.
pub const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A request head, in bytes; a larger one is answered 431.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 << 10;
/// Header lines of a request; more are answered 431.
pub const HTTP_HEADERS_MAX: usize = 64;
/// A request body, in bytes; a larger one is answered 413.
pub const HTTP_BODY_BYTES_MAX: usize = 8 << 10;
/// Writing an answer, or all those that were asked for at once, to a client that reads slowly.
pub const HTTP_WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// What the kernel holds of answers that a client has not read, beyond what is on its way, in bytes.
pub const HTTP_UNSENT_BYTES_MAX: u32 = 256 << 10;
/// An idle connection between two requests.
pub const HTTP_IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the end of a connection is softened: what the client still sends is read and thrown
/// away, because a socket closed over unread bytes takes the last answer with it.
pub const HTTP_LINGER: Duration = Duration::from_secs(1);
/// Bytes thrown away so.
pub const HTTP_LINGER_BYTES_MAX: usize = 256 << 10;
/// Connections over a cap that wait to be told so; more are closed without a word.
pub const HTTP_REFUSALS_MAX: usize = 64;
/// How long a connection over a cap may take to be told so.
pub const HTTP_REFUSAL_TIMEOUT: Duration = Duration::from_millis(250);
/// Above this share of the connections there may be, in percent, none is kept open between two requests:
/// who holds connections without need must not leave none for others.
pub const HTTP_CROWDED_PERCENT: usize = 50;
/// Requests that one connection may make at once; what comes faster than [`HTTP_REQUESTS_A_SECOND`] beyond
/// that waits in its socket.
pub const HTTP_REQUESTS_BURST: u32 = 400;
/// See [`HTTP_REQUESTS_BURST`]. Who has more to ask has more connections, of which he may have only some.
pub const HTTP_REQUESTS_A_SECOND: u32 = 200;
/// What a client over a cap is asked to wait before it tries again.
pub const HTTP_RETRY_AFTER: Duration = Duration::from_secs(10);
/// How long the listener rests after an error, such as running out of file descriptors.
pub const HTTP_ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How long connections may take to end at a stop.
pub const HTTP_STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a thread that has served a connection waits for the next one.
pub const HTTP_THREAD_IDLE: Duration = Duration::from_secs(2);
/// The stack of a connection of the public port: TLS to a host that asks to be crawled included.
pub const HTTP_STACK_BYTES: usize = 512 << 10;

/// requestCrawl of one address (an IPv6 /64 counts as one) in [`CRAWL_REQUESTS_WINDOW`]; one more
/// is answered 429.
pub const CRAWL_REQUESTS_MAX: u32 = 10;
/// The time in which [`CRAWL_REQUESTS_MAX`] are counted.
pub const CRAWL_REQUESTS_WINDOW: Duration = Duration::from_secs(60);
/// Addresses whose requests are counted; when there are more, the counting begins anew.
pub const RATE_ADDRESSES_MAX: usize = 16_384;
/// Requests that wait to be passed on to one sibling relay; one more is lost, and counted.
pub const SIBLING_QUEUE_MAX: usize = 1_024;
/// One attempt at passing a request on: the sibling checks a new host meanwhile.
pub const SIBLING_TIMEOUT: Duration = Duration::from_secs(20);
/// Attempts at passing one request on.
pub const SIBLING_ATTEMPTS: u32 = 4;
/// The delay after the first that failed; each further one is four times as long.
pub const SIBLING_RETRY: Duration = Duration::from_secs(1);
/// What a sibling relay may answer, in bytes.
pub const SIBLING_ANSWER_BYTES_MAX: usize = 64 << 10;

/// Threads that serve the internal port.
pub const INTERNAL_WORKERS: usize = 2;
/// A write to a client of the internal port that does not read.
pub const INTERNAL_WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests of the internal port that wait for something and so have a thread each; one more is
/// answered 429.
pub const INTERNAL_SLOW_MAX: usize = 4;
/// How often a thread of the internal port that has nothing to do looks whether connections wait.
pub const INTERNAL_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// After so many looks in a row at which one waited, and no request came, nobody accepts any more.
pub const INTERNAL_DEAF_LOOKS: u32 = 5;
/// A body that the internal port may read into memory only to drop it; one that is said to be longer costs
/// its connection.
pub const INTERNAL_BODY_BYTES_DROPPED_MAX: usize = 1 << 20;
/// How long the internal port rests before it is set up again after an error.
pub const INTERNAL_RETRY: Duration = Duration::from_millis(500);

const _: () = assert!(HTTP_REFUSALS_MAX as u64 * 2 < DESCRIPTORS_KEPT);
