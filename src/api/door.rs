//! What every request passes: it gets a deadline, a panic becomes an error status, and what the library answers by
//! itself is put in the terms of our contract.

use super::status::{self, Failure};
use crate::model::Limits;
use http::{HeaderMap, Request, Response};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

/// Where the paths of our own methods start.
const OURS: &str = "/procura.v1.";

/// When a request must be done; streams look at it themselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(pub(super) Instant);

/// When a request must be done by its caller's own word, if it gave any: for streams that have no end of their own.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallersDeadline(pub(super) Option<Instant>);

/// The layer in front of all services.
#[derive(Clone, Debug)]
pub(super) struct Door {
    default: Duration,
    max: Duration,
    message_bytes_max: usize,
    in_flight: InFlight,
}

/// Counts requests from their headers until the last byte of the reply is handed to the connection.
#[derive(Clone, Debug, Default)]
pub(super) struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    /// Whether there is none.
    pub(super) fn is_none(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    fn enter(&self) -> Entered {
        self.0.fetch_add(1, Ordering::Relaxed);
        Entered(Arc::clone(&self.0))
    }
}

/// One request in flight.
struct Entered(Arc<AtomicUsize>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A reply's body that counts as in flight until it is sent or given up.
struct Counted {
    body: Body,
    _entered: Entered,
}

impl http_body::Body for Counted {
    type Data = <Body as http_body::Body>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

impl Door {
    pub(super) fn new(limits: &Limits, in_flight: InFlight) -> Door {
        Door {
            in_flight,
            default: Duration::from_millis(limits.deadline_default_ms),
            max: Duration::from_millis(limits.deadline_max_ms),
            message_bytes_max: limits.message_bytes_max,
        }
    }

    /// The time a request has: what its caller says, else the default, and never more than the maximum.
    fn time_for(&self, headers: &HeaderMap) -> Result<Duration, Failure> {
        let Some(given) = headers.get("grpc-timeout") else {
            return Ok(self.default.min(self.max));
        };
        let text = given.to_str().unwrap_or_default();
        let Some(time) = timeout(text) else {
            let message = "`grpc-timeout` is not one to eight digits and one of H, M, S, m, u, n";
            return Err(Failure::new(Code::InvalidArgument, "INVALID_ARGUMENT", message)
                .with_fact("field", "grpc-timeout")
                .with_fact("value", text));
        };
        Ok(time.min(self.max))
    }
}

/// The time a `grpc-timeout` header names: one to eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let digits = text.strip_suffix(unit)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(count * 3600)),
        'M' => Some(Duration::from_secs(count * 60)),
        'S' => Some(Duration::from_secs(count)),
        'm' => Some(Duration::from_millis(count)),
        'u' => Some(Duration::from_micros(count)),
        'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

impl<S> Layer<S> for Door {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, door: self.clone() }
    }
}

/// The services behind the door.
#[derive(Clone, Debug)]
pub(super) struct Guarded<S> {
    inner: S,
    door: Door,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Answering {
        let time = match self.door.time_for(request.headers()) {
            Ok(time) => time,
            Err(failure) => return Box::pin(async { Ok(response(failure)) }),
        };
        let deadline = Instant::now() + time;
        request.extensions_mut().insert(Deadline(deadline));
        let named = request.headers().get("grpc-timeout").and_then(|given| timeout(given.to_str().ok()?));
        // So far away that the clock cannot say it is no deadline.
        let named = named.and_then(|time| Instant::now().checked_add(time));
        request.extensions_mut().insert(CallersDeadline(named));
        let method = request.uri().path().to_owned();
        let message_bytes_max = self.door.message_bytes_max;
        // Streams of health and reflection end when their caller likes; a drain does not wait for them.
        let entered = method.starts_with(OURS).then(|| self.door.in_flight.enter());
        let answering = self.inner.call(request);
        Box::pin(async move {
            let started = std::time::Instant::now();
            let answer = match tokio::time::timeout_at(deadline, caught(answering)).await {
                Ok(Ok(Ok(answer))) => in_our_terms(answer, &method, message_bytes_max),
                Ok(Err(panicked)) => response(Failure::internal(&panicked)),
                // Dropping what was asked cancels it: see `desk`.
                Err(_) => response(Failure::deadline()),
            };
            tracing::debug!(%method, status = ?answer.headers().get(Status::GRPC_STATUS), elapsed = ?started.elapsed(), "answered");
            Ok(match entered {
                Some(entered) => answer.map(|body| Body::new(Counted { body, _entered: entered })),
                None => answer,
            })
        })
    }
}

/// The future's output, or what it said when it panicked. It is not polled again after that.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panicked) => Poll::Ready(Err(panic_text(panicked.as_ref()))),
    })
    .await
}

/// What a panic said.
pub(super) fn panic_text(panicked: &(dyn std::any::Any + Send)) -> String {
    let text = panicked.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panicked.downcast_ref::<String>().cloned());
    format!("panic: {}", text.unwrap_or_default())
}

fn response(failure: Failure) -> Response<Body> {
    Status::from(failure).into_http()
}

/// An error without details is the library's own.
fn in_our_terms(answer: Response<Body>, method: &str, message_bytes_max: usize) -> Response<Body> {
    let headers = answer.headers();
    if !headers.contains_key(Status::GRPC_STATUS) || headers.contains_key(Status::GRPC_STATUS_DETAILS) {
        return answer;
    }
    match Status::from_header_map(headers) {
        Some(said) if said.code() != Code::Ok => {
            response(status::of_library(said.code(), said.message(), method, message_bytes_max))
        }
        Some(_) | None => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_read_as_the_protocol_says() {
        assert_eq!(timeout("10S"), Some(Duration::from_secs(10)));
        assert_eq!(timeout("0n"), Some(Duration::ZERO));
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "S", "10", "+1S", "1s", "123456789S", "1é", "1.5S", " 1S"] {
            assert_eq!(timeout(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_deadline_is_given_and_clamped() {
        let door = Door::new(&Limits::default(), InFlight::default());
        let time = |value: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert("grpc-timeout", value.parse().unwrap());
            }
            door.time_for(&headers)
        };
        assert_eq!(time(None), Ok(Duration::from_secs(10)));
        assert_eq!(time(Some("2S")), Ok(Duration::from_secs(2)));
        assert_eq!(time(Some("1H")), Ok(Duration::from_secs(60)));
        assert!(time(Some("soon")).is_err());
    }

    #[tokio::test]
    async fn a_panic_is_caught() {
        let said = caught(async {
            if Instant::now().elapsed() >= Duration::ZERO {
                panic!("odd {}", 1)
            }
        })
        .await;
        assert_eq!(said, Err("panic: odd 1".to_owned()));
    }
}
