//! The two tasks of a connection: one writes requests, one reads responses.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::connectors::kafka::wire::connection::in_flight::{InFlightRequests, UnansweredRequest};
use crate::connectors::kafka::wire::error::WireError;

/// A request that waits to be written.
pub(super) struct QueuedRequest {
    pub(super) parts: Vec<Bytes>,
    pub(super) request: UnansweredRequest,
}

/// Writes requests until the connection fails or the queue ends.
pub(super) async fn write_requests(
    mut to: impl AsyncWrite + Send + Unpin,
    mut queue: mpsc::Receiver<QueuedRequest>,
    in_flight: Arc<InFlightRequests>,
) {
    let writing = async {
        while let Some(QueuedRequest { parts, request }) = queue.recv().await {
            in_flight.unmuted().await;
            // From now on the reader watches the deadline, also of the write.
            if in_flight.push(request).is_err() {
                return;
            }
            let mut parts = MessageParts(parts.into());
            let written = async {
                to.write_all_buf(&mut parts).await?;
                to.flush().await
            };
            if let Err(error) = written.await {
                return in_flight.fail(&WireError::io("writing", &error));
            }
        }
    };
    tokio::select! {
        () = writing => {}
        () = in_flight.has_failed() => {}
    }
}

/// Reads responses until the connection fails.
pub(super) async fn read_responses(mut from: impl AsyncRead + Send + Unpin, most_bytes: usize, in_flight: Arc<InFlightRequests>) {
    let reading = async {
        // Its memory serves again as soon as the responses before are gone.
        let mut buffer = BytesMut::new();
        loop {
            match read_response(&mut from, &mut buffer, most_bytes, &in_flight).await {
                Ok((correlation_id, response)) => in_flight.answer(correlation_id, response)?,
                Err(error) => return Err::<(), _>(error),
            }
        }
    };
    let failure = tokio::select! {
        result = reading => result.err().unwrap_or(WireError::Closed),
        overdue = in_flight.overdue() => overdue,
        () = in_flight.has_failed() => return,
    };
    in_flight.fail(&failure);
}

async fn read_response(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    most_bytes: usize,
    in_flight: &InFlightRequests,
) -> Result<(i32, Bytes), WireError> {
    let io = |error: std::io::Error| WireError::io("reading", &error);
    let announced = from.read_i32().await.map_err(io)?;
    let length = usize::try_from(announced).ok().filter(|length| (4..=most_bytes).contains(length));
    let length = length.ok_or(WireError::ResponseTooLarge(announced.into()))?;
    in_flight.extend_oldest();
    buffer.clear();
    buffer.reserve(length);
    let mut limited = from.take(length as u64);
    while buffer.len() < length {
        if limited.read_buf(buffer).await.map_err(io)? == 0 {
            return Err(WireError::Closed);
        }
    }
    let mut response = buffer.split_to(length).freeze();
    Ok((response.get_i32(), response))
}

/// The parts of a request, which leave together.
struct MessageParts(VecDeque<Bytes>);

impl Buf for MessageParts {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.iter().find(|part| !part.is_empty()).map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let parts = self.0.iter().filter(|part| !part.is_empty());
        let filled = slices.iter_mut().zip(parts).map(|(slice, part)| *slice = IoSlice::new(part));
        filled.count()
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let Some(first) = self.0.front_mut() else { return };
            let part = count.min(first.len());
            first.advance(part);
            count -= part;
            if first.is_empty() {
                self.0.pop_front();
            }
        }
        // Parts may be empty from the start.
        while self.0.front().is_some_and(Bytes::is_empty) {
            self.0.pop_front();
        }
    }
}
