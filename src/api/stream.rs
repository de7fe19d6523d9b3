//! Streams whose messages a task makes.
//!
//! INVARIANT: a stream ends well only when its task says so: one that was cut off is never taken for a whole one. The end
//! needs no place in the queue, so that a reader who takes nothing can still be told why it was ended.

use super::status::Failure;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::Status;

/// What a task tells.
pub(super) struct Told<M> {
    messages: mpsc::Receiver<M>,
    end: oneshot::Receiver<Result<(), Failure>>,
    ended: bool,
}

/// Starts the task, with at most `queue_max` messages waiting for the reader. Whether the reader is gone, the task finds
/// out by sending.
pub(super) fn told<M: Send + 'static, F>(queue_max: usize, task: impl FnOnce(mpsc::Sender<M>) -> F) -> Told<M>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let (sender, messages) = mpsc::channel(queue_max);
    let (end, ended) = oneshot::channel();
    let working = task(sender.clone());
    tokio::spawn(async move {
        // Nobody hears it when the caller is gone. It stands before the queue closes.
        let _ = end.send(working.await);
        drop(sender);
    });
    Told { messages, end: ended, ended: false }
}

/// The task's outcome, or that its time is over. `None` is no deadline.
pub(super) async fn within(
    deadline: Option<Instant>,
    working: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, working).await.unwrap_or_else(|_| Err(Failure::deadline())),
        None => working.await,
    }
}

impl<M> Stream for Told<M> {
    type Item = Result<M, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(message) = ready!(self.messages.poll_recv(cx)) {
            return Poll::Ready(Some(Ok(message)));
        }
        let end = ready!(Pin::new(&mut self.end).poll(cx));
        self.ended = true;
        let end = end.unwrap_or_else(|_| Err(Failure::internal("a stream was cut off")));
        Poll::Ready(end.err().map(|failure| Err(failure.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio_stream::StreamExt;
    use tonic::Code;

    async fn codes(stream: Told<u8>) -> Vec<Code> {
        stream.map(|item| item.err().map_or(Code::Ok, |status| status.code())).collect().await
    }

    #[tokio::test]
    async fn a_stream_that_was_cut_off_is_never_taken_for_a_whole_one() {
        let well = told(1, |messages| async move {
            let _ = messages.send(1).await;
            Ok(())
        });
        assert_eq!(codes(well).await, [Code::Ok]);
        // The queue is full when the task fails: what was queued comes first, then the end.
        let failing = told(1, |messages| async move {
            let _ = messages.send(1).await;
            Err(Failure::draining())
        });
        tokio::time::sleep(Duration::ZERO).await;
        assert_eq!(codes(failing).await, [Code::Ok, Code::Unavailable]);
        let panicking = told(1, |messages| async move {
            if messages.send(1).await.is_ok() {
                panic!("odd");
            }
            Ok(())
        });
        assert_eq!(codes(panicking).await, [Code::Ok, Code::Internal]);
        let late = told(1, |_| within(Some(Instant::now()), std::future::pending()));
        assert_eq!(codes(late).await, [Code::DeadlineExceeded]);
    }
}
