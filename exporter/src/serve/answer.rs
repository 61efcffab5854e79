//! The body of an answer, which reports when hyper drops it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::Response;
use hyper::body::{Body, Frame, SizeHint};

use super::activity::Exchange;
use super::connections::Connections;

/// A body in one piece.
#[derive(Debug)]
pub(super) struct Answer(Option<Piece>);

/// The body while hyper holds it.
#[derive(Debug)]
pub(super) struct Piece {
    bytes: Bytes,
    _exchange: Exchange,
}

/// Marks an answer as being sent.
pub(super) fn sent(response: Response<Bytes>, mut exchange: Exchange, among: &Arc<Connections>) -> Response<Answer> {
    among.sending(&mut exchange, response.body());
    response.map(|bytes| Answer(Some(Piece { bytes, _exchange: exchange })))
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

impl Body for Answer {
    type Data = Piece;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, Infallible>>> {
        Poll::Ready(self.0.take().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|piece| piece.bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |piece| piece.bytes.len() as u64))
    }
}
