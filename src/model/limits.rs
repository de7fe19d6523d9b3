//! A limit on everything, in one table: name, default, unit and reason.
//!
//! `Limits` holds the values in force of those that may be set; the others are constants, because stored data or the
//! language hangs on them. Help, documentation and `ServerInfo` print both.

macro_rules! limits {
    ($($name:ident: $ty:ty = $default:expr, $unit:literal, $reason:literal;)*) => {
        /// The limits in force. Each field's unit and reason stand in [`LIMITS`].
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits {
            $(#[doc = $reason] pub $name: $ty,)*
        }

        impl Default for Limits {
            fn default() -> Limits {
                Limits { $($name: $default,)* }
            }
        }

        impl Limits {
            /// Every limit with the value in force, in the table's order, and behind them those that are fixed.
            pub fn entries(&self) -> Vec<(&'static Limit, u64)> {
                let values = [$(self.$name as u64,)*];
                let fixed = FIXED_LIMITS.iter().map(|limit| (limit, limit.default));
                LIMITS.iter().zip(values).chain(fixed).collect()
            }
        }

        /// The limits that may be set.
        pub const LIMITS: &[Limit] = &[
            $(Limit { name: stringify!($name), default: $default as u64, unit: $unit, reason: $reason },)*
        ];
    };
}

macro_rules! fixed_limits {
    ($($name:ident $shown:literal: $ty:ty = $value:expr, $unit:literal, $reason:literal;)*) => {
        $(#[doc = $reason] pub const $name: $ty = $value;)*

        /// The limits that nobody sets.
        pub const FIXED_LIMITS: &[Limit] = &[
            $(Limit { name: $shown, default: $value as u64, unit: $unit, reason: $reason },)*
        ];
    };
}

/// One row of the table of limits.
#[derive(Debug, PartialEq, Eq)]
pub struct Limit {
    pub name: &'static str,
    pub default: u64,
    pub unit: &'static str,
    pub reason: &'static str,
}

limits! {
    message_bytes_max: usize = 16 << 20, "bytes", "one request or reply message: a write of 10,000 updates fits";
    updates_max: usize = 10_000, "updates", "one WriteTuples: bounds the time one commit holds the committer";
    preconditions_max: usize = 1_000, "preconditions", "one write: each may scan";
    bulk_items_max: usize = 10_000, "questions", "one CheckBulk: all are answered at one revision";
    filter_ids_max: usize = 100_000, "ids", "one FilterResources: all are answered at one revision, and travel in one message";
    contextual_tuples_max: usize = 100, "tuples", "laid over the state for one request: each is looked through by every scan";
    delete_tuples_max: usize = 1_000_000, "tuples", "one DeleteTuples or DeleteSubtree: it is one commit, so it is held in memory";
    schema_bytes_max: usize = 1 << 20, "bytes", "the text of a schema";
    definitions_max: usize = 10_000, "definitions", "one schema: compiling stays well below a second";
    imports_max: usize = 256, "files", "imported by one schema: each is opened and read";
    schema_type_steps_max: usize = 5_000_000, "steps", "checking the types that permissions are annotated with: well below a second";
    expression_depth_max: usize = 64, "levels", "nesting of one permission's expression: the parser's stack is bounded";
    page_tuples_max: usize = 10_000, "tuples", "one page of ReadTuples";
    exclusions_max: usize = 10_000, "subjects", "excluded from one `type:*` of ListSubjects: they travel in one message";
    deadline_default_ms: u64 = 10_000, "ms", "a request that names no deadline";
    deadline_max_ms: u64 = 60_000, "ms", "the longest deadline a caller may set";
    edges_max: u64 = 10_000_000, "edges", "work of one question: tuples and memberships visited; beyond is an error, never a decision";
    expand_steps_max: usize = 10_000, "steps", "one Expand: it travels in one message, and is read by a person or a program that draws it";
    explain_steps_max: usize = 500, "steps", "what one Explain shows of what was tried: more than a person reads";
    proof_steps_max: usize = 10_000, "steps", "the proof of one Explain that allows: it travels in one message";
    explain_rows_max: usize = 10, "tuples", "of one relation that Explain shows; the others are counted";
    near_misses_max: usize = 10, "tuples", "that one Explain names, each of which alone would allow";
    near_misses_tried_max: usize = 100, "tuples", "that one Explain tries: each asks the whole question again";
    walk_stack_bytes_max: usize = 512 << 20, "bytes", "memory for the nesting of one question, some 250,000 levels: questions under way share the machine";
    precondition_rows_max: usize = 1_000_000, "tuples", "looked through by the preconditions of one write: the committer waits meanwhile";
    ancestors_max: usize = 1_000_000, "objects", "climbed from by one write, each once: the committer waits meanwhile";
    subtree_objects_max: usize = 1_000_000, "objects", "of one subtree that a deletion or precondition goes down to: the committer may wait meanwhile";
    metadata_bytes_max: usize = 16 << 10, "bytes", "metadata of one write: it travels in every log entry";
    streams_max: u32 = 256, "streams", "concurrent requests on one connection";
    connections_max: usize = 10_000, "connections", "open at once: each holds buffers";
    header_bytes_max: u32 = 16 << 10, "bytes", "headers of one request";
    snapshots_max: usize = 4_096, "snapshots", "recent revisions kept exact for at_exact_snapshot";
    snapshot_age_max_s: u64 = 30, "s", "how long an older revision is kept exact: a held snapshot delays compaction";
    commit_requests_max: usize = 1_024, "requests", "one commit group: bounds how long the first waits for the last";
    commit_bytes_max: usize = 8 << 20, "bytes", "one commit group: sync time grows with it";
    watches_max: usize = 1_024, "streams", "open Watch streams: each is woken by every commit";
    watch_lag_max: u64 = 100_000, "revisions", "how far a Watch that was up to date may fall behind before it is ended";
    watch_stall_max_ms: u64 = 60_000, "ms", "how long a Watch waits for a reader that takes nothing before it is ended";
    heartbeat_max_s: u64 = 300, "s", "the longest silence a Watch may ask for";
    export_time_max_s: u64 = 3_600, "s", "one ExportTuples: a held snapshot delays compaction";
    delegation_depth_max: u32 = 5, "delegations", "in a chain: each is another actor that is asked of every question";
    delegation_lifetime_max_s: u64 = 30 * 24 * 60 * 60, "s", "from a delegation's creation to its end: what is forgotten ends by itself";
    delegation_items_max: usize = 100, "items", "of one scope given at once: each is looked through by every use";
    delegation_permissions_max: usize = 1_000, "names", "of one item of a scope";
    delegation_anchors_max: usize = 1_000, "objects", "that one item of a scope is within";
    delegation_bytes_max: usize = 256 << 10, "bytes", "one delegation as JSON, its narrowings too: a chain of them travels in one message";
    delegations_revoked_max: usize = 100_000, "delegations", "one RevokeAllFor: it is one commit, so it is held in memory";
    delegations_looked_at_max: usize = 10_000, "delegations", "for one page of ListDelegations, which may so be short and says where to go on";
    page_delegations_max: usize = 1_000, "rows", "one page of ListDelegations or ListSuspended";
    purpose_bytes_max: usize = 4 << 10, "bytes", "the purpose of a delegation, or the reason of a revocation or suspension";
    idempotency_key_bytes_max: usize = 256, "bytes", "an idempotency key";
    over_broad_edges_max: u64 = 1_000_000, "edges", "looked through to warn of a scope wider than what the delegator has; beyond, it warns that it cannot tell";
    commit_queue_max: usize = 4_096, "requests", "writes waiting for the committer; beyond, UNAVAILABLE";
}

fixed_limits! {
    OBJECT_ID_BYTES_MAX "object_id_bytes_max": usize = 1_024, "bytes", "one object id";
    NAME_SEGMENT_BYTES_MAX "name_segment_bytes_max": usize = 64, "bytes", "one relation or permission name, or segment of a type name";
    TYPE_NAME_BYTES_MAX "type_name_bytes_max": usize = 128, "bytes", "one type name, with its prefixes";
    CAVEAT_NAME_BYTES_MAX "caveat_name_bytes_max": usize = 128, "bytes", "one caveat name, with its prefixes";
    REQUEST_CONTEXT_BYTES_MAX "context_bytes_max": usize = 64 << 10, "bytes", "the context of one request, as JSON";
    STORED_CONTEXT_BYTES_MAX "stored_context_bytes_max": usize = 32 << 10, "bytes", "the context stored on one tuple, as JSON";
    CONTEXT_DEPTH_MAX "context_depth_max": usize = 16, "levels", "nesting of a context, of metadata and of a parameter's type; the outermost object is the first";
    CAVEAT_BYTES_MAX "caveat_bytes_max": usize = 4 << 10, "bytes", "the expression of one caveat: what a person can review";
    CAVEAT_PARAMETERS_MAX "caveat_parameters_max": usize = 20, "parameters", "of one caveat: enough for any real condition, and they fit one set of bits";
    CAVEAT_DEPTH_MAX "caveat_depth_max": usize = 12, "levels", "nesting of brackets in one caveat: bounds the stack of everything that walks it";
    CAVEAT_COMPREHENSION_DEPTH_MAX "caveat_comprehension_depth_max": usize = 2, "levels", "nesting of `all`, `exists`, `exists_one`, `map`, `filter`: each level multiplies the work";
    CAVEAT_STEPS_MAX "caveat_steps_max": u32 = 100_000, "steps", "one evaluation of a caveat: a node evaluated, an element visited, or 32 bytes of text read";
    ITEM_ID_BYTES_MAX "item_id_bytes_max": usize = 256, "bytes", "the mark of one item of CheckBulk: it comes back with the answer";
    WATCH_NAMES_MAX "watch_names_max": usize = 100, "names", "in one filter of a Watch: each is compared with every change";
    READS_PER_CORE "reads_per_core": usize = 8, "requests", "questions and reads worked on at once, for each core: more would only switch between them";
    WRITES_MAX "writes_max": usize = 256, "requests", "writes handed to the committer at once: they wait for one sync together";
    WAITING_MAX "waiting_max": usize = 16_384, "requests", "waiting for a place to be worked on; beyond, UNAVAILABLE";
    SUSPENDED_IN_MEMORY_MAX "suspended_in_memory_max": usize = 10_000, "principals", "suspended that are kept in memory, copied when one is added; of more, each question reads the store";
    DELEGATIONS_IN_MEMORY_BYTES_MAX "delegations_in_memory_bytes_max": u64 = 64 << 20, "bytes", "delegations that are kept decoded; of more, those used least are read again";
    ACTING_CHAINS_MAX "acting_chains_max": usize = 32, "delegations", "of one principal that cover one question asked on its behalf: each is a chain to judge";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_names_every_limit_and_no_name_stands_twice() {
        let readme = include_str!("../../README.md");
        let entries = Limits::default().entries();
        let mut names: Vec<&str> = entries.iter().map(|(limit, _)| limit.name).collect();
        for name in &names {
            assert!(readme.contains(&format!("`{name}`")), "`{name}` is not in README.md");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), entries.len());
    }
}
