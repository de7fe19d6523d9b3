//! Many calls in flight over several connections: what a load is made with.
//!
//! What always holds: the time of a call runs from the instant at which it was due. In a closed loop that is when it is
//! made. By the clock it is its place in the schedule, whether or not those before it are still waited for: a server that
//! stalls is seen to stall, in every call that was due meanwhile.

use super::{
    Ask, ClientError, FilterOf, ListPage, ResourcesOf, STREAM_TIME, Under, check_bulk_request, check_request, endpoint,
    filter, lists, reply_bytes_max,
};
use crate::api::wire::permission_service_client::PermissionServiceClient;
use crate::api::wire::tuple_service_client::TupleServiceClient;
use crate::api::{convert, wire};
use crate::model::{Decision, ObjectId, ObjectRef, Question, TupleUpdate};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Channel;

/// A check, made ready to be asked any number of times.
#[derive(Clone, Debug)]
pub struct CheckCall(Arc<wire::CheckRequest>);

/// Many checks in one call.
#[derive(Clone, Debug)]
pub struct BulkCall(Arc<wire::CheckBulkRequest>);

/// Of many ids, which of them a subject may.
#[derive(Clone, Debug)]
pub struct FilterCall(Arc<wire::FilterResourcesRequest>);

/// A list of objects, read to its end.
#[derive(Clone, Debug)]
pub struct ListCall(Arc<wire::ListResourcesRequest>);

/// A write of tuples.
#[derive(Clone, Debug)]
pub struct WriteCall(wire::WriteTuplesRequest);

/// What can be asked.
#[derive(Clone, Debug)]
pub enum Call {
    Check(CheckCall),
    Bulk(BulkCall),
    Filter(FilterCall),
    List(ListCall),
    /// When it is acknowledged, the check is asked over another connection. The time is the write's alone.
    Write(WriteCall, CheckCall),
}

/// What was answered.
#[derive(Debug)]
pub enum Heard {
    Decision(Decision),
    /// In the order of the questions, or of the ids.
    Decisions(Vec<Result<Decision, ClientError>>),
    /// All rows, in their order.
    Objects(Vec<(ObjectRef, Decision)>),
    /// What the check after the write was answered.
    Written(Decision),
}

impl CheckCall {
    /// A question under its circumstances.
    #[must_use]
    pub fn new(question: &Question, ask: &Ask) -> CheckCall {
        CheckCall(Arc::new(check_request(question, ask)))
    }
}

impl BulkCall {
    /// Questions under the same circumstances.
    #[must_use]
    pub fn new(questions: &[Question], ask: &Ask) -> BulkCall {
        BulkCall(Arc::new(check_bulk_request(questions, ask)))
    }
}

impl FilterCall {
    /// The subject and the permission once, and the ids.
    #[must_use]
    pub fn new(asked: &FilterOf, ids: &[ObjectId], under: &Under) -> FilterCall {
        FilterCall(Arc::new(filter::filter_request(asked, ids, under)))
    }
}

impl ListCall {
    /// All that is listed, or one page of it.
    ///
    /// # Errors
    /// INVALID_ARGUMENT where the limit is beyond what the wire has room for.
    pub fn new(asked: &ResourcesOf, page: ListPage) -> Result<ListCall, ClientError> {
        Ok(ListCall(Arc::new(lists::resources_request(asked, page)?.into_inner())))
    }
}

impl WriteCall {
    /// All updates, or none.
    #[must_use]
    pub fn new(updates: &[TupleUpdate]) -> WriteCall {
        let updates = updates.iter().map(Into::into).collect();
        WriteCall(wire::WriteTuplesRequest { updates, preconditions: Vec::new(), metadata: None })
    }
}

/// Says what is asked, and hears what is answered. Many threads call it at once. In a closed loop a worker is a number
/// below the concurrency, which makes no two calls at the same time; by the clock it is the place in the schedule.
pub trait Asker: Send + Sync + 'static {
    /// What goes with a call, from `next` to `heard`.
    type Mark: Send;

    /// The next call; `None` ends all of it.
    fn next(&self, worker: usize) -> Option<(Call, Self::Mark)>;

    /// What came of it. Says whether to go on.
    fn heard(&self, worker: usize, mark: Self::Mark, took: Duration, heard: Result<Heard, ClientError>) -> bool;
}

/// When a call is due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As soon as one of so many before it is answered.
    Closed(usize),
    /// So many a second, whatever becomes of those before.
    Open(f64),
}

/// When no more calls are due; whichever comes first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Until {
    pub time: Option<Duration>,
    pub calls: Option<u64>,
}

/// Several connections to one server.
pub struct Driver {
    lines: Arc<Lines>,
    runtime: Runtime,
}

struct Lines {
    server: String,
    channels: Vec<Channel>,
}

impl Driver {
    /// Calls by the clock that may be in flight; when there are more, those that are due wait, and that counts as their
    /// time.
    pub const IN_FLIGHT_MAX: u32 = 16_384;

    /// Connects so many times. A check that follows a write goes over another connection where there are two.
    ///
    /// # Errors
    /// As [`super::Client::connect`].
    pub fn connect(server: &str, connections: usize) -> Result<Driver, ClientError> {
        let endpoint = endpoint(server)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads(cores.min(connections.max(1)))
            .enable_all()
            .build()
            .map_err(|error| ClientError::local("NO_RUNTIME", error.to_string()))?;
        let channels = runtime.block_on(async {
            let mut channels = Vec::new();
            for _ in 0..connections.max(1) {
                let connected = endpoint.connect().await;
                channels.push(connected.map_err(|error| ClientError::unreachable(server, &error))?);
            }
            Ok::<_, ClientError>(channels)
        })?;
        Ok(Driver { lines: Arc::new(Lines { server: server.to_owned(), channels }), runtime })
    }

    /// Makes calls until it is time, then waits for those in flight. Returns how long all of it took.
    ///
    /// # Errors
    /// Only where the load itself broke down: a failed call is heard by the asker.
    pub fn drive<A: Asker>(&self, asker: &Arc<A>, pace: Pace, until: Until) -> Result<Duration, ClientError> {
        let begun = Instant::now();
        let shared = Shared { lines: self.lines.clone(), asker: asker.clone(), stopped: Arc::default() };
        match pace {
            Pace::Closed(concurrency) => self.runtime.block_on(closed(&shared, concurrency, begun, until))?,
            Pace::Open(rate) => self.by_the_clock(&shared, rate, begun, until)?,
        }
        Ok(begun.elapsed())
    }

    /// This thread keeps the time: it starts each call at its instant, and waits for none.
    fn by_the_clock<A: Asker>(
        &self,
        shared: &Shared<A>,
        rate: f64,
        begun: Instant,
        until: Until,
    ) -> Result<(), ClientError> {
        let places = Arc::new(Semaphore::new(Driver::IN_FLIGHT_MAX as usize));
        let broken = |_| ClientError::reply("the load's own places were closed".to_owned());
        // Ends with the time or the count, one of which is always given.
        for number in 0..until.calls.unwrap_or(u64::MAX) {
            let due = begun + Duration::from_secs_f64(number as f64 / rate);
            if shared.is_stopped() || until.time.is_some_and(|time| due.duration_since(begun) >= time) {
                break;
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let place = self.runtime.block_on(places.clone().acquire_owned()).map_err(broken)?;
            let (shared, worker) = (shared.clone(), usize::try_from(number).unwrap_or(0));
            self.runtime.spawn(async move {
                shared.call(worker, due).await;
                drop(place);
            });
        }
        self.runtime.block_on(places.acquire_many(Driver::IN_FLIGHT_MAX)).map_err(broken).map(drop)
    }
}

struct Shared<A> {
    lines: Arc<Lines>,
    asker: Arc<A>,
    stopped: Arc<AtomicBool>,
}

impl<A> Clone for Shared<A> {
    fn clone(&self) -> Shared<A> {
        Shared { lines: self.lines.clone(), asker: self.asker.clone(), stopped: self.stopped.clone() }
    }
}

impl<A: Asker> Shared<A> {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    async fn call(&self, worker: usize, due: Instant) {
        let goes_on = match self.asker.next(worker) {
            None => false,
            Some((call, mark)) => {
                let (took, heard) = self.lines.call(worker, call, due).await;
                self.asker.heard(worker, mark, took, heard)
            }
        };
        if !goes_on {
            self.stopped.store(true, Ordering::Relaxed);
        }
    }
}

async fn closed<A: Asker>(
    shared: &Shared<A>,
    concurrency: usize,
    begun: Instant,
    until: Until,
) -> Result<(), ClientError> {
    let made = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for worker in 0..concurrency.max(1) {
        let (shared, made) = (shared.clone(), made.clone());
        workers.spawn(async move {
            // Ends with the time or the count, one of which is always given.
            while !shared.is_stopped()
                && until.time.is_none_or(|time| begun.elapsed() < time)
                && until.calls.is_none_or(|calls| made.fetch_add(1, Ordering::Relaxed) < calls)
            {
                shared.call(worker, Instant::now()).await;
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.map_err(|error| ClientError::reply(format!("a worker of the load ended early: {error}")))?;
    }
    Ok(())
}

impl Lines {
    fn channel(&self, number: usize) -> Result<Channel, ClientError> {
        let channel = self.channels.get(number % self.channels.len().max(1));
        channel.cloned().ok_or_else(|| ClientError::reply("there is no connection".to_owned()))
    }

    fn permissions(&self, number: usize) -> Result<PermissionServiceClient<Channel>, ClientError> {
        Ok(PermissionServiceClient::new(self.channel(number)?).max_decoding_message_size(reply_bytes_max()))
    }

    fn failed(&self, status: &Status) -> ClientError {
        ClientError::from_status(&self.server, status)
    }

    /// How long it took since it was due, and what was answered.
    async fn call(&self, worker: usize, call: Call, due: Instant) -> (Duration, Result<Heard, ClientError>) {
        let heard = match call {
            Call::Check(check) => self.check(worker, &check).await.map(Heard::Decision),
            Call::Bulk(bulk) => self.bulk(worker, &bulk).await.map(Heard::Decisions),
            Call::Filter(asked) => self.filter(worker, &asked).await.map(Heard::Decisions),
            Call::List(list) => self.list(worker, &list).await.map(Heard::Objects),
            Call::Write(write, check) => {
                let written = self.write(worker, write).await;
                let took = due.elapsed();
                let heard = match written {
                    Ok(()) => self.check(worker.wrapping_add(1), &check).await.map(Heard::Written),
                    Err(error) => Err(error),
                };
                return (took, heard);
            }
        };
        (due.elapsed(), heard)
    }

    async fn check(&self, number: usize, CheckCall(request): &CheckCall) -> Result<Decision, ClientError> {
        let replied = self.permissions(number)?.check((**request).clone()).await;
        let wire::CheckResponse {
            decision,
            checked_at: _,
            historical: _,
            witness: _,
            missing_context: _,
            valid_until: _,
            reason: _,
            hop: _,
            chain: _,
        } = replied.map_err(|status| self.failed(&status))?.into_inner();
        Ok(convert::decision(convert::field("decision"), decision)?)
    }

    async fn bulk(
        &self,
        number: usize,
        BulkCall(request): &BulkCall,
    ) -> Result<Vec<Result<Decision, ClientError>>, ClientError> {
        let replied = self.permissions(number)?.check_bulk((**request).clone()).await;
        let wire::CheckBulkResponse { checked_at: _, historical: _, results } =
            replied.map_err(|status| self.failed(&status))?.into_inner();
        if results.len() != request.items.len() {
            let message = format!("{} answers came to {} questions", results.len(), request.items.len());
            return Err(ClientError::reply(message));
        }
        Ok(results.into_iter().map(|result| super::bulk_answer(result).map(|said| said.decision)).collect())
    }

    async fn filter(
        &self,
        number: usize,
        FilterCall(request): &FilterCall,
    ) -> Result<Vec<Result<Decision, ClientError>>, ClientError> {
        let replied = self.permissions(number)?.filter_resources((**request).clone()).await;
        let reply = replied.map_err(|status| self.failed(&status))?.into_inner();
        let filtered = filter::filtered(reply, request.ids.len())?;
        // In order, and one for each id without a decision: `filtered` has seen to it.
        let mut errors = filtered.errors.into_iter().map(|(_, error)| error);
        let unsaid = || ClientError::reply("an id came back without a decision and without an error".to_owned());
        let one = |decision: Option<Decision>| decision.ok_or_else(|| errors.next().unwrap_or_else(unsaid));
        Ok(filtered.decisions.into_iter().map(one).collect())
    }

    async fn list(
        &self,
        number: usize,
        ListCall(request): &ListCall,
    ) -> Result<Vec<(ObjectRef, Decision)>, ClientError> {
        let mut request = tonic::Request::new((**request).clone());
        request.set_timeout(STREAM_TIME);
        let opened = self.permissions(number)?.list_resources(request).await;
        let mut rows = opened.map_err(|status| self.failed(&status))?.into_inner();
        let mut objects = Vec::new();
        while let Some(message) = rows.message().await.map_err(|status| self.failed(&status))? {
            let wire::ListResourcesResponse { listed_at: _, historical: _, row } = message;
            if let Some(row) = row {
                let row = lists::resource_row(row)?;
                objects.push((row.object, row.decision));
            }
        }
        Ok(objects)
    }

    async fn write(&self, number: usize, WriteCall(request): WriteCall) -> Result<(), ClientError> {
        let mut service = TupleServiceClient::new(self.channel(number)?);
        let replied = service.write_tuples(request).await.map_err(|status| self.failed(&status))?;
        let wire::WriteTuplesResponse { written_at, created_count: _, replaced_count: _, deleted_count: _ } =
            replied.into_inner();
        convert::token_text(convert::field("written_at"), written_at)?;
        Ok(())
    }
}
