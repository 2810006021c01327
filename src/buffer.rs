//! Memory for bodies, which are megabytes while a queue is drained and nothing at all while there is none.
//!
//! Taken from the system page by page and given back to it: what an allocator is given back it keeps, and an agent at rest
//! would hold on to half of what its busiest minute took.
//!
//! What must always hold: a buffer that is dropped is used again, or its memory is the system's; no more than [`KEPT_MAX`]
//! are kept, none after [`Buffers::release`], and none that one huge op made huge.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use memmap2::MmapMut;

/// One is filled, one waits, one is on the wire, and one takes the answer.
const KEPT_MAX: usize = 4;
/// A longer one is not kept: the longest body the server takes fits, and so does its answer.
const KEPT_BYTES: usize = 4 << 20;
/// What a buffer begins with, in bytes: a few ops. Memory nobody writes to costs nothing.
const FIRST: usize = 64 << 10;

/// Where buffers come from and go to; all clones are the same place.
#[derive(Debug, Clone, Default)]
pub struct Buffers(Arc<Mutex<Vec<MmapMut>>>);

impl Buffers {
    /// An empty one.
    pub fn take(&self) -> Buffer {
        Buffer { memory: self.kept().pop().map_or(Memory::None, Memory::Pages), len: 0, home: self.clone() }
    }

    /// Gives what is kept back to the system. What is in use is kept again when it is dropped.
    pub fn release(&self) {
        self.kept().clear();
    }

    fn kept(&self) -> MutexGuard<'_, Vec<MmapMut>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Memory {
    /// None yet.
    None,
    /// The system's.
    Pages(MmapMut),
    /// The allocator's, where the system gave no pages.
    Heap(Vec<u8>),
}

impl Memory {
    fn of(bytes: usize) -> Self {
        MmapMut::map_anon(bytes).map_or_else(|_| Self::Heap(vec![0; bytes]), Self::Pages)
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Pages(pages) => pages,
            Self::Heap(bytes) => bytes,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::None => &mut [],
            Self::Pages(pages) => pages,
            Self::Heap(bytes) => bytes,
        }
    }
}

/// Bytes in the making. It has no `Debug` that shows them.
pub struct Buffer {
    memory: Memory,
    len: usize,
    home: Buffers,
}

impl Buffer {
    /// Adds `bytes` at the end.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        if end > self.memory.bytes().len() {
            self.grow(end);
        }
        if let Some(room) = self.memory.bytes_mut().get_mut(self.len..end) {
            room.copy_from_slice(bytes);
            self.len = end;
        }
    }

    /// Adds one byte at the end.
    pub fn push(&mut self, byte: u8) {
        self.extend_from_slice(&[byte]);
    }

    /// No bytes any more; the memory is used again.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// No more than the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// What was written, shared without a copy.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }

    fn grow(&mut self, least: usize) {
        let mut larger = Memory::of(least.max(self.memory.bytes().len().saturating_mul(2)).max(FIRST));
        if let Some(room) = larger.bytes_mut().get_mut(..self.len) {
            room.copy_from_slice(self);
        }
        self.memory = larger;
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.bytes().get(..self.len).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("bytes", &self.len).finish_non_exhaustive()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Memory::Pages(pages) = std::mem::replace(&mut self.memory, Memory::None)
            && pages.len() <= KEPT_BYTES
        {
            let mut kept = self.home.kept();
            if kept.len() < KEPT_MAX {
                kept.push(pages);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn kept(buffers: &Buffers) -> Vec<usize> {
        buffers.kept().iter().map(|pages| pages.len()).collect()
    }

    #[test]
    fn what_is_written_is_there_however_it_grows() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        assert_eq!(&*buffer, b"");
        let mut expected = Vec::new();
        for round in 0..2 {
            for at in 0..9_000_u32 {
                let piece = [u8::try_from(at % 251).unwrap(); 33];
                buffer.extend_from_slice(&piece);
                expected.extend_from_slice(&piece);
            }
            buffer.push(7);
            buffer.write_all(b"end").unwrap();
            expected.extend_from_slice(b"\x07end");
            assert!(&*buffer == expected.as_slice(), "round {round}");
            if round == 0 {
                buffer.clear();
                expected.clear();
            }
        }
        assert!(buffer.freeze() == expected);
        assert_eq!(kept(&buffers), [512 << 10], "dropped, so used again");
    }

    #[test]
    fn a_few_are_kept_and_no_huge_one_and_none_once_released() {
        let buffers = Buffers::default();
        let some: Vec<Buffer> = (0..KEPT_MAX + 3)
            .map(|_| {
                let mut buffer = buffers.take();
                buffer.push(1);
                buffer
            })
            .collect();
        drop(some);
        assert_eq!(kept(&buffers), [FIRST; KEPT_MAX]);
        let mut huge = buffers.take();
        assert_eq!((huge.len(), kept(&buffers).len()), (0, KEPT_MAX - 1), "taken from those, and empty");
        huge.extend_from_slice(&vec![1; KEPT_BYTES + 1]);
        drop(huge);
        assert_eq!(kept(&buffers).len(), KEPT_MAX - 1);
        let mut used = buffers.take();
        used.push(2);
        buffers.release();
        assert!(kept(&buffers).is_empty());
        assert_eq!(&*used, [2], "what is in use stays");
    }

    #[test]
    fn without_pages_the_heap_will_do() {
        let mut buffer = Buffer { memory: Memory::Heap(Vec::new()), len: 0, home: Buffers::default() };
        buffer.extend_from_slice(b"abc");
        assert_eq!(&*buffer, b"abc");
    }
}
