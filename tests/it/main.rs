//! All integration tests in one binary, because linking RocksDB is slow.
//!
//! Worlds and the oracle first, then what is compared with them, then what must survive.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on fails by panicking"
)]

mod engines;
mod caveats;
mod oracle;
mod zed;
mod worlds;

mod agrees;
mod order_of_writing;
mod language;
mod acting;
mod lists;
mod contextual;
mod explain;
mod expand;
mod conformance;
mod consistency;
mod writes;
mod reads;
mod resident;
mod laid_over;
mod filters;
mod durability;
mod crash;
mod walk_shapes;
mod conditions;
mod floors;
mod grpc;
mod watch;
mod bulk_io;
mod hierarchy;
mod cli;
mod cli_says;
mod readme;
mod validation_files;
mod lists_wire;
mod acting_wire;
mod trees_wire;
mod hierarchy_wire;
mod delegations;
mod bench;
