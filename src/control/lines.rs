//! What a client has written, cut into lines. Pure.
//!
//! What must always hold: how the bytes came in pieces makes no difference; no more is kept than one line of
//! [`LINE_MAX`] bytes and what came with its end.

use super::command::LINE_MAX;

/// A line is longer than [`LINE_MAX`]: where the next one begins is not worth waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// Lines in the making.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: Vec<u8>,
    ended: bool,
}

impl Lines {
    /// More bytes came. To be called only where [`Self::next`] had none, so that they do not heap up.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// No more will come; what is there is the last line.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Whether no more will come.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The next line, without its end; `None`: it is not all there, or all lines were given.
    #[expect(clippy::should_implement_trait, reason = "an iterator that goes on after `None` surprises")]
    pub fn next(&mut self) -> Option<Result<String, TooLong>> {
        let at = self.buffer.iter().position(|byte| *byte == b'\n');
        if at.unwrap_or(self.buffer.len()) > LINE_MAX {
            return Some(Err(TooLong));
        }
        if let Some(at) = at {
            let line: Vec<u8> = self.buffer.drain(..=at).collect();
            return Some(Ok(text(line.get(..at).unwrap_or_default())));
        }
        if !self.ended || self.buffer.is_empty() {
            return None;
        }
        Some(Ok(text(&std::mem::take(&mut self.buffer))))
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Result<String, TooLong>> {
        let mut lines = Lines::default();
        lines.feed(text.as_bytes());
        lines.end();
        std::iter::from_fn(|| lines.next()).take(5).collect()
    }

    #[test]
    fn lines_end_where_they_end_and_the_last_one_needs_no_end() {
        assert_eq!(all("a\n\nb"), [Ok("a".to_owned()), Ok(String::new()), Ok("b".to_owned())]);
        assert_eq!(all(""), []);
    }

    #[test]
    fn a_line_of_the_longest_is_one_and_a_longer_is_none() {
        let longest = "x".repeat(LINE_MAX);
        assert_eq!(all(&format!("{longest}\n{longest}")), [Ok(longest.clone()), Ok(longest.clone())]);
        assert_eq!(all(&format!("{longest}y\n")).first(), Some(&Err(TooLong)));
        assert_eq!(all(&format!("{longest}y")).first(), Some(&Err(TooLong)));
    }
}
