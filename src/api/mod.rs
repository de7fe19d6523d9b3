//! Floor 5: gRPC, the only floor with protobuf or async.
//!
//! INVARIANT: below this floor nothing knows the wire, and above it nothing does: `client` speaks in model types too.
//! An error is an error status, never a decision; a panic is INTERNAL and the process stays up.

mod wire;
mod convert;
mod convert_acting;
mod convert_delegation;
mod status;
mod limits;
mod incoming;
mod door;
mod desk;
mod stream;
mod permissions;
mod filter;
mod lists;
mod trees;
mod tuples;
mod watch;
mod schema;
mod delegations;
mod server;
pub mod client;

use crate::engine::Engine;
use crate::model::Limits;
use desk::Desk;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use wire::delegation_service_server::{self, DelegationServiceServer};
use wire::permission_service_server::{self, PermissionServiceServer};
use wire::schema_service_server::{self, SchemaServiceServer};
use wire::server_service_server::{self, ServerServiceServer};
use wire::tuple_service_server::{self, TupleServiceServer};
use wire::watch_service_server::{self, WatchServiceServer};

/// Where to listen, and within which limits.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    pub limits: Limits,
}

/// The names that health answers for; the empty one is the server as a whole.
const HEALTH_NAMES: [&str; 7] = [
    "",
    permission_service_server::SERVICE_NAME,
    tuple_service_server::SERVICE_NAME,
    watch_service_server::SERVICE_NAME,
    schema_service_server::SERVICE_NAME,
    delegation_service_server::SERVICE_NAME,
    server_service_server::SERVICE_NAME,
];

/// Binds, calls `ready` with the actual address and serves until SIGTERM or SIGINT. Then requests in flight are
/// finished, for at most 10 seconds, and the engine is closed. Blocks.
///
/// # Errors
/// When the address cannot be bound, or the runtime not be started.
pub fn serve(engine: Arc<Engine>, options: ServeOptions, ready: impl FnOnce(SocketAddr)) -> io::Result<()> {
    let runtime = runtime()?;
    let listener = bind(&runtime, options.listen)?;
    // Heard from here on, so that a signal right after `ready` is not lost.
    let (mut terminate, mut interrupt) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    ready(listener.local_addr()?);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    run(runtime, listener, engine, options.limits, stop)
}

/// The same on a thread of its own, for tests, benches and in-process use: until the handle is dropped.
///
/// # Errors
/// When the address cannot be bound, or the runtime not be started.
pub fn serve_in_background(engine: Arc<Engine>, options: ServeOptions) -> io::Result<Running> {
    let runtime = runtime()?;
    let listener = bind(&runtime, options.listen)?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let stop_asked = async {
        // A dropped handle stops it as well.
        let _ = stopped.await;
    };
    let thread = std::thread::Builder::new()
        .name("procura-serve".to_owned())
        .spawn(move || run(runtime, listener, engine, options.limits, stop_asked))?;
    Ok(Running { address, stop: Some(stop), thread: Some(thread) })
}

/// A server on a thread of this process. Dropping it drains the server, closes the engine and waits for both.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the server ended with an error"),
                Err(_) => tracing::error!("the server's thread panicked"),
            }
        }
    }
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("procura-api")
        .max_blocking_threads(desk::threads_max())
        .build()
}

fn bind(runtime: &Runtime, address: SocketAddr) -> io::Result<TcpListener> {
    let _entered = runtime.enter();
    incoming::bind(address)
}

fn run(
    runtime: Runtime,
    listener: TcpListener,
    engine: Arc<Engine>,
    limits: Limits,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let served = runtime.block_on(serve_until(listener, Arc::clone(&engine), limits, stop));
    // Drops what is still in flight, which cancels its work, and waits a little for that to end.
    runtime.shutdown_timeout(limits::STOP_MAX);
    engine.close();
    served
}

async fn serve_until(
    listener: TcpListener,
    engine: Arc<Engine>,
    limits: Limits,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let (health, health_service) = tonic_health::server::health_reporter();
    set_health(&health, ServingStatus::Serving).await;
    let v1 = descriptors().build_v1().map_err(io::Error::other)?;
    // What older tools ask for.
    let v1alpha = descriptors().build_v1alpha().map_err(io::Error::other)?;
    let connections = incoming::accept(listener, limits.connections_max);
    let bytes_max = limits.message_bytes_max;
    let in_flight = door::InFlight::default();
    let door = door::Door::new(&limits, in_flight.clone());
    let mut server = Server::builder()
        .max_concurrent_streams(limits.streams_max)
        .http2_max_header_list_size(limits.header_bytes_max)
        .http2_max_pending_accept_reset_streams(Some(limits::PENDING_RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(limits::LOCAL_ERROR_RESETS_MAX))
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .max_connection_age(limits::CONNECTION_AGE_MAX)
        .layer(door);
    let desk = Arc::new(Desk::new(engine, limits));
    // One line a service, with its message sizes both ways.
    macro_rules! service {
        ($server:ident, $service:expr) => {
            $server::new($service).max_decoding_message_size(bytes_max).max_encoding_message_size(bytes_max)
        };
    }
    let router = server
        .add_service(service!(PermissionServiceServer, permissions::Permissions(Arc::clone(&desk))))
        .add_service(service!(TupleServiceServer, tuples::Tuples(Arc::clone(&desk))))
        .add_service(service!(WatchServiceServer, watch::Watches(Arc::clone(&desk))))
        .add_service(service!(SchemaServiceServer, schema::Schemas(Arc::clone(&desk))))
        .add_service(service!(DelegationServiceServer, delegations::Delegations(Arc::clone(&desk))))
        .add_service(service!(ServerServiceServer, server::Servers(Arc::clone(&desk))))
        .add_service(health_service)
        .add_service(v1)
        .add_service(v1alpha);

    let (drain, draining) = oneshot::channel::<()>();
    let mut serving = pin!(router.serve_with_incoming_shutdown(connections, async {
        let _ = draining.await;
    }));
    tokio::select! {
        ended = &mut serving => return ended.map_err(io::Error::other),
        () = stop => {}
    }
    tracing::info!("draining");
    set_health(&health, ServingStatus::NotServing).await;
    drop(drain);
    desk.drain();
    let finishing = async {
        tokio::select! {
            ended = &mut serving => ended,
            () = finished(&in_flight, health) => Ok(()),
        }
    };
    match tokio::time::timeout(limits::DRAIN_MAX, finishing).await {
        Ok(ended) => ended.map_err(io::Error::other),
        Err(_) => {
            tracing::warn!("requests in flight were cut off after {} s", limits::DRAIN_MAX.as_secs());
            Ok(())
        }
    }
}

/// Returns when no request is in flight and connections had the time to send what they hold.
async fn finished(in_flight: &door::InFlight, health: HealthReporter) {
    tokio::time::sleep(limits::DRAIN_NOTICE).await;
    // A watch of health has no end of its own; by now it has said NOT_SERVING.
    end_health(health).await;
    // Bounded by the drain's own time.
    while !in_flight.is_none() {
        tokio::time::sleep(limits::DRAIN_LOOK).await;
    }
    tokio::time::sleep(limits::DRAIN_FLUSH).await;
}

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for name in HEALTH_NAMES {
        health.set_service_status(name, status).await;
    }
}

async fn end_health(mut health: HealthReporter) {
    for name in HEALTH_NAMES {
        health.clear_service_status(name).await;
    }
}

fn descriptors() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(wire::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // What the details of an error are: a caller that only has reflection can read them too.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}
