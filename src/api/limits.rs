//! What the transport would leave unlimited. Limits a caller can see or an operator may set are in the table in
//! `model/limits.rs`; these are the fixed ones of the connection and of its queues.

use std::time::Duration;

/// Reset streams not yet handled on one connection before it is told to go away ("rapid reset").
pub(super) const PENDING_RESETS_MAX: usize = 64;
/// Streams this side resets for the peer's errors on one connection before it is told to go away.
pub(super) const LOCAL_ERROR_RESETS_MAX: usize = 256;
/// A peer silent for so long is asked whether it is there.
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// A peer that does not answer in this time is gone.
pub(super) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// A connection is asked to leave after so long, so that clients find servers that were added. It ends when its last
/// request does. The library's grace would cut it off without asking first, so none is set: the deadlines bound it.
pub(super) const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60 * 60);
/// A connection says its first word in this time or is closed.
pub(super) const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections the kernel holds until they are accepted.
pub(super) const BACKLOG: u32 = 1_024;
/// A pause after a failed accept: when file handles run out, trying again at once would only burn a core.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Rows fetched from the engine at once for a stream.
pub(super) const PAGE_ROWS: usize = 512;
/// Rows of a stream ready for a slow reader.
pub(super) const STREAM_ROWS: usize = 64;
/// Tuples of an export in one message at most.
pub(super) const EXPORT_ROWS: usize = 1_000;
/// Bytes of the message limit set aside for each of them: the longest ids there are take 2 to 3 KiB.
pub(super) const EXPORT_ROW_BYTES: usize = 4 << 10;
/// Messages ready for a slow reader of an export or a Watch: each may be 1 MiB and more.
pub(super) const STREAM_BATCHES: usize = 2;
/// Acknowledgements ready for an importer that does not read them.
pub(super) const IMPORT_ACKS: usize = 16;
/// How long an import may stay silent, or take no acknowledgement.
pub(super) const IMPORT_IDLE_MAX: Duration = Duration::from_secs(300);

/// How long requests in flight may take once the server drains.
pub(super) const DRAIN_MAX: Duration = Duration::from_secs(10);
/// How long health still answers NOT_SERVING while draining before its watches are ended.
pub(super) const DRAIN_NOTICE: Duration = Duration::from_millis(250);
/// How often a drain looks whether requests are still in flight.
pub(super) const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// When none is, how long connections may take to send what they hold and close. A peer that does not listen at all
/// would otherwise hold up the drain to its end.
pub(super) const DRAIN_FLUSH: Duration = Duration::from_secs(1);
/// How long work that nobody waits for any more may take to notice.
pub(super) const STOP_MAX: Duration = Duration::from_secs(2);
