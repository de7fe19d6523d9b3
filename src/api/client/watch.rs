//! Watch: every change, in order, for as long as the caller listens.

use super::{Client, ClientError, reply_bytes_max};
use crate::api::wire::watch_service_client::WatchServiceClient;
use crate::api::{convert, wire};
use crate::engine::{WatchKind, WatchWrite};
use crate::model::{RelationName, TypeName};

/// What to watch, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchOptions {
    pub from: WatchStart,
    /// Tuples of these object types only; of all when empty. Other kinds of change are told in any case.
    pub object_types: Vec<TypeName>,
    /// Tuples of these relations only; of all when empty.
    pub relations: Vec<RelationName>,
    /// Changes of these kinds only; of all when empty.
    pub kinds: Vec<WatchKind>,
    /// Something is said at least this often, 1 to 300 s; the server's default otherwise.
    pub heartbeat_s: Option<u32>,
}

/// Where a Watch begins; a token is the text that a reply gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WatchStart {
    #[default]
    Now,
    /// With the first change there ever was.
    Start,
    /// Right after the token's revision.
    After(String),
}

/// The next changes, or a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    /// In order of commit. None: a checkpoint.
    pub writes: Vec<WatchWrite>,
    /// Watch after this token to go on. `None` when more of the same revision follows.
    pub through: Option<String>,
}

impl Client {
    /// Gives every change to `each`, which says whether to go on. Blocks until it says no, or the Watch ends. Calls do
    /// not nest: `each` must not make another on its thread.
    ///
    /// # Errors
    /// Always the reason when the server ends it; the fact `token` is where to go on. A lost connection has no such fact:
    /// go on after the last `through`.
    pub fn watch(&self, options: &WatchOptions, each: &mut dyn FnMut(Watched) -> bool) -> Result<(), ClientError> {
        use wire::watch_request::Start;
        let WatchOptions { from, object_types, relations, kinds, heartbeat_s } = options;
        let start = match from {
            WatchStart::Now => None,
            WatchStart::Start => Some(Start::FromStart(true)),
            WatchStart::After(token) => Some(Start::After(wire::ConsistencyToken { token: token.clone() })),
        };
        let request = wire::WatchRequest {
            object_types: object_types.iter().map(ToString::to_string).collect(),
            relations: relations.iter().map(ToString::to_string).collect(),
            heartbeat_s: *heartbeat_s,
            start,
            kinds: kinds.iter().map(|kind| wire::WatchKind::from(*kind).into()).collect(),
        };
        let mut service = WatchServiceClient::new(self.channel.clone()).max_decoding_message_size(reply_bytes_max());
        self.block_on(async {
            let messages = service.watch(request).await.map_err(|status| self.failed(&status))?;
            let mut messages = messages.into_inner();
            while let Some(message) = messages.message().await.map_err(|status| self.failed(&status))? {
                let wire::WatchResponse { through, writes } = message;
                let place = convert::field("writes");
                let writes = writes.into_iter().map(|write| convert::watch_write(place, write));
                let writes = writes.collect::<Result<_, _>>()?;
                let through = through.map(|wire::ConsistencyToken { token }| token);
                if !each(Watched { writes, through }) {
                    return Ok(());
                }
            }
            Err(ClientError::reply("the Watch ended without a reason".to_owned()))
        })
    }
}
