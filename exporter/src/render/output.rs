//! Where the text goes: into one buffer, or through gzip in pieces, so that the whole text never has to be held.

use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

/// The text is compressed whenever this much of it has gathered.
const PIECE_BYTES: usize = 128 * 1024;
/// Fast, and within a few percent of the best ratio: label sets repeat farther apart than deflate can look back.
const LEVEL: u32 = 1;
/// Buffers kept for the next scrapes.
const POOLED: usize = 2;

/// Buffers of answered scrapes, for the next ones. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut buffers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < POOLED {
            buffers.push(buffer);
        }
    }
}

/// A body that goes back to the pool once the last client has it.
struct Pooled {
    buffer: Vec<u8>,
    pool: Pool,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.buffer));
    }
}

/// A text on its way.
#[derive(Debug)]
pub(super) struct Output {
    /// What has been written and not yet been passed on.
    pub(super) text: Vec<u8>,
    gzip: Option<GzEncoder<Vec<u8>>>,
    pool: Pool,
}

impl Output {
    pub(super) fn new(gzip: bool, pool: &Pool) -> Self {
        let gzip = gzip.then(|| GzEncoder::new(pool.take(), Compression::new(LEVEL)));
        Self { text: pool.take(), gzip, pool: pool.clone() }
    }

    /// Compresses what has gathered, where that is wanted and enough.
    pub(super) fn pass_on(&mut self) -> io::Result<()> {
        if self.text.len() >= PIECE_BYTES {
            self.compress()?;
        }
        Ok(())
    }

    fn compress(&mut self) -> io::Result<()> {
        if let Some(gzip) = &mut self.gzip {
            gzip.write_all(&self.text)?;
            self.text.clear();
        }
        Ok(())
    }

    /// The body.
    pub(super) fn finish(mut self) -> io::Result<Bytes> {
        self.compress()?;
        let buffer = match self.gzip {
            None => self.text,
            Some(gzip) => {
                self.pool.give(self.text);
                gzip.finish()?
            }
        };
        Ok(Bytes::from_owner(Pooled { buffer, pool: self.pool }))
    }
}
