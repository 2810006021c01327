//! The terminal: its size, a screen of its own for a picture that changes, and a line that is drawn again and again.
//!
//! What must always hold: however it ends (an error, a panic that unwinds, a signal that is waited for), the terminal is as
//! it was before: its text, its cursor, its echo.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::config::Environment;

/// Where nobody says otherwise.
const COLUMNS: usize = 80;
const ROWS: usize = 24;

/// Its own screen, without a cursor, and no line broken into two.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l";
/// The same back again.
const LEAVE: &str = "\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l";
/// What is between the two is shown at once, where a terminal knows of it.
const HOLD: &str = "\u{1b}[?2026h";
const SHOW: &str = "\u{1b}[?2026l";
const HOME: &str = "\u{1b}[H";
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";

/// How large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
}

/// The size of what is behind it; `None` where that is no terminal.
pub fn size(terminal: impl AsFd) -> Option<Size> {
    let found = tcgetwinsize(terminal).ok()?;
    let or = |found: u16, usual| if found == 0 { usual } else { usize::from(found) };
    Some(Size { columns: or(found.ws_col, COLUMNS), rows: or(found.ws_row, ROWS) })
}

/// The width to write for: the terminal's, else the usual one.
pub fn columns(size: Option<Size>) -> usize {
    size.map_or(COLUMNS, |size| size.columns)
}

/// Whether a cursor can be moved there.
pub fn moves_cursor(output: &impl IsTerminal, env: &Environment) -> bool {
    output.is_terminal() && env.get("TERM").is_none_or(|term| term != "dumb")
}

/// Whether whoever read there is gone: of a pipe into which nothing is written nobody else tells.
pub fn is_deserted(output: impl AsFd) -> bool {
    let mut looked = [PollFd::new(&output, PollFlags::empty())];
    poll(&mut looked, Some(&Timespec::default())).is_ok()
        && looked.iter().any(|output| output.revents().intersects(PollFlags::ERR | PollFlags::HUP))
}

/// A screen of its own.
pub struct Screen<W: Write> {
    out: W,
    shown: Option<String>,
    before: Option<Termios>,
}

impl<W: Write> Screen<W> {
    /// Goes to it. What is typed is not shown meanwhile.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn enter(out: W) -> io::Result<Self> {
        // The keys first: whoever is not in the foreground is stopped there, before the terminal shows anything of it.
        let mut screen = Self { out, shown: None, before: quieten() };
        screen.out.write_all(ENTER.as_bytes())?;
        screen.out.flush()?;
        Ok(screen)
    }

    /// Shows these lines. Nothing is written where they are there already.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let frame = frame(lines);
        if self.shown.as_ref() != Some(&frame) {
            self.out.write_all(frame.as_bytes())?;
            self.out.flush()?;
            self.shown = Some(frame);
        }
        Ok(())
    }

    /// Everything is drawn again next time: the size is another, so nobody knows what is there.
    pub fn forget(&mut self) {
        self.shown = None;
    }
}

impl<W: Write> Drop for Screen<W> {
    fn drop(&mut self) {
        // Whoever cannot be written to has no screen any more.
        let _ = self.out.write_all(LEAVE.as_bytes()).and_then(|()| self.out.flush());
        if let Some(before) = &self.before {
            // What was typed was for the screen, and not for the shell.
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, before);
        }
    }
}

/// Keys would write into the picture. They still end and stop us.
fn quieten() -> Option<Termios> {
    let before = tcgetattr(io::stdin()).ok()?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    tcsetattr(io::stdin(), OptionalActions::Now, &quiet).ok()?;
    Some(before)
}

/// All that is written for a picture: over the old one, so that nothing flickers, and cleared behind each line. The last
/// column stays free: in it the cursor would stand on the last letter, and that would be cleared.
fn frame(lines: &[String]) -> String {
    let mut frame = format!("{HOLD}{HOME}");
    for (at, line) in lines.iter().enumerate() {
        frame.push_str(if at > 0 { "\r\n" } else { "" });
        frame.push_str(line);
        frame.push_str(CLEAR_LINE);
    }
    frame.push_str(CLEAR_BELOW);
    frame.push_str(SHOW);
    frame
}

/// A line at the bottom, drawn over itself.
pub struct Footer<W: Write> {
    out: W,
    shown: String,
}

impl<W: Write> Footer<W> {
    /// Nothing is there yet.
    pub fn new(out: W) -> Self {
        Self { out, shown: String::new() }
    }

    /// Shows this instead. A terminal that is gone is not written to in vain for ever: it is no reason to end.
    pub fn draw(&mut self, line: String) {
        if self.shown != line {
            let _ = write!(self.out, "\r{line}{CLEAR_LINE}").and_then(|()| self.out.flush());
            self.shown = line;
        }
    }
}

impl<W: Write> Drop for Footer<W> {
    fn drop(&mut self) {
        if !self.shown.is_empty() {
            let _ = write!(self.out, "\r{CLEAR_LINE}").and_then(|()| self.out.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_written_over_the_last_one_once_and_the_terminal_is_given_back() {
        let mut written = Vec::new();
        let mut screen = Screen::enter(&mut written).unwrap();
        let lines = ["one".to_owned(), "two".to_owned()];
        for _ in 0..3 {
            screen.draw(&lines).unwrap();
        }
        screen.forget();
        screen.draw(&[]).unwrap();
        drop(screen);
        let picture = "\u{1b}[?2026h\u{1b}[Hone\u{1b}[K\r\ntwo\u{1b}[K\u{1b}[J\u{1b}[?2026l";
        let nothing = "\u{1b}[?2026h\u{1b}[H\u{1b}[J\u{1b}[?2026l";
        assert_eq!(String::from_utf8(written).unwrap(), [ENTER, picture, nothing, LEAVE].concat());
    }

    #[test]
    fn a_pipe_is_deserted_when_its_reader_has_left_it_and_a_file_never_is() {
        let (reader, writer) = io::pipe().unwrap();
        assert!(!is_deserted(&writer));
        drop(reader);
        assert!(is_deserted(&writer));
        assert!(!is_deserted(tempfile::tempfile().unwrap()));
    }

    #[test]
    fn a_line_at_the_bottom_is_wiped_and_one_that_never_was_is_not() {
        let mut written = Vec::new();
        let mut footer = Footer::new(&mut written);
        for line in ["a", "a", "b"] {
            footer.draw(line.to_owned());
        }
        drop(footer);
        assert_eq!(String::from_utf8(written).unwrap(), "\ra\u{1b}[K\rb\u{1b}[K\r\u{1b}[K");
        let mut written = Vec::new();
        drop(Footer::new(&mut written));
        assert!(written.is_empty());
    }
}
