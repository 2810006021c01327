//! Operation ids in a request or an answer, found without reading the JSON around them.
//!
//! What must always hold: on the made-up ops of this bench it finds what a JSON reader finds, in the same order
//! (`tests/benches` holds it against one). Not on any JSON there is: a payload with an object that begins as an op does
//! would be taken for one. No made-up op has such a payload, and inside a string the quotes would be escaped.

use std::ops::Range;

use uuid::Uuid;

/// What an op of a request begins with; an id and a quote follow. All contestants write their ops like this.
static OP: Word<17> = Word::new(b"{\"operation_id\":\"");
/// What stands before an id in an answer.
static ID: Word<16> = Word::new(b"\"operation_id\":\"");
/// Closes the ops and the request.
const TAIL: &[u8] = b"]}";
/// An id's characters.
const ID_LEN: usize = 36;

/// A word to look for, by Horspool's rule: what stands at the word's end tells how far on it can be at the earliest.
struct Word<const N: usize> {
    bytes: &'static [u8; N],
    skips: [u8; 256],
}

impl<const N: usize> Word<N> {
    #[expect(clippy::cast_possible_truncation, reason = "the words here have under 256 letters")]
    const fn new(bytes: &'static [u8; N]) -> Self {
        let mut skips = [N as u8; 256];
        let mut at = 0;
        while at + 1 < N {
            skips[bytes[at] as usize] = (N - 1 - at) as u8;
            at += 1;
        }
        Self { bytes, skips }
    }

    /// Where it begins, at `from` or behind.
    fn find(&self, text: &[u8], from: usize) -> Option<usize> {
        let mut at = from;
        loop {
            let window = text.get(at..at + N)?;
            if window == self.bytes {
                return Some(at);
            }
            at += usize::from(self.skips[usize::from(window[N - 1])]);
        }
    }
}

/// The id that stands at `at`, quote and all behind it.
fn id(text: &[u8], at: usize) -> Option<u128> {
    let id = Uuid::try_parse_ascii(text.get(at..at + ID_LEN)?).ok()?;
    (text.get(at + ID_LEN) == Some(&b'"')).then(|| id.as_u128())
}

/// Where an op stands in a request, from brace to brace, and its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Idempotency key.
    pub(crate) id: u128,
    /// The whole op.
    pub(crate) op: Range<usize>,
    /// Where the op goes on behind its id, at the comma.
    pub(crate) rest: usize,
}

/// Finds the ops of a request, in order; false where it is none that the contestants write.
pub(crate) fn ops(body: &[u8], places: &mut Vec<Place>) -> bool {
    places.clear();
    let Some(inner) = body.trim_ascii_end().strip_suffix(TAIL) else { return false };
    let mut next = OP.find(inner, 0);
    while let Some(begin) = next {
        next = OP.find(inner, begin + OP.bytes.len());
        // The comma between two ops belongs to neither.
        let end = next.map_or(inner.len(), |next| next - 1);
        let Some(id) = id(inner, begin + OP.bytes.len()) else { return false };
        places.push(Place { id, op: begin..end, rest: begin + OP.bytes.len() + ID_LEN + 1 });
    }
    true
}

/// Calls `each` with every id that an answer names.
pub(crate) fn ids(answer: &[u8], mut each: impl FnMut(u128)) {
    let mut next = ID.find(answer, 0);
    while let Some(at) = next {
        let begin = at + ID.bytes.len();
        if let Some(id) = id(answer, begin) {
            each(id);
        }
        next = ID.find(answer, begin);
    }
}
