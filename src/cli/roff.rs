//! The few letters of roff that a manual page is set in.
//!
//! What must always hold: no text is taken for a command, and what a reader copies out of the page is what was written:
//! a hyphen is a hyphen, a quote a quote, a tilde a tilde.

use std::fmt::Write as _;

/// A page, line by line.
pub(super) struct Page(String);

impl Page {
    /// A page of section 1. It has no date: made again, it is the same.
    pub(super) fn new(name: &str, version: &str) -> Self {
        let mut page = Self(String::new());
        let title = name.to_uppercase();
        page.macro_line("TH", &[title.as_str(), "1", "", &format!("{name} {version}"), "User Commands"]);
        // Ragged and unbroken: a command line or a path is easier to find, and to copy.
        page.0.push_str(".ad l\n.nh\n");
        page
    }

    pub(super) fn section(&mut self, name: &str) {
        self.macro_line("SH", &[name]);
    }

    pub(super) fn subsection(&mut self, name: &str) {
        self.macro_line("SS", &[name]);
    }

    /// A paragraph of its own; below a heading, that is one anyway.
    pub(super) fn paragraph(&mut self, text: &str) {
        let last = self.0.trim_end().rsplit('\n').next().unwrap_or_default();
        if !last.starts_with(".S") {
            self.macro_line("PP", &[]);
        }
        self.text(text);
    }

    /// A word, and indented below it what it is.
    pub(super) fn item(&mut self, word: &str, text: &str) {
        self.macro_line("TP", &[]);
        self.text(word);
        self.text(text);
    }

    /// Another paragraph about the item before.
    pub(super) fn item_goes_on(&mut self, text: &str) {
        self.macro_line("IP", &[]);
        self.text(text);
    }

    /// Lines that are shown as they are.
    pub(super) fn verbatim<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) {
        self.macro_line("PP", &[]);
        self.macro_line("RS", &[]);
        self.macro_line("nf", &[]);
        lines.into_iter().for_each(|line| self.line(&escaped(line)));
        self.macro_line("fi", &[]);
        self.macro_line("RE", &[]);
    }

    /// Text, in which `code` is bold and *a word* is italic, as in README.
    pub(super) fn text(&mut self, text: &str) {
        self.line(&marked(text));
    }

    pub(super) fn render(self) -> String {
        self.0
    }

    fn macro_line(&mut self, name: &str, arguments: &[&str]) {
        let _ = write!(self.0, ".{name}");
        for argument in arguments {
            let _ = write!(self.0, " \"{}\"", escaped(argument).replace('"', "\\(dq"));
        }
        self.0.push('\n');
    }

    fn line(&mut self, line: &str) {
        if line.starts_with(['.', '\'']) {
            self.0.push_str("\\&");
        }
        self.0.push_str(line);
        self.0.push('\n');
    }
}

/// Text with fonts: what is between two marks is bold or italic.
fn marked(text: &str) -> String {
    let mut line = String::new();
    let mut open = None;
    for letter in text.chars() {
        match letter {
            '`' | '*' if open == Some(letter) => {
                line.push_str("\\fR");
                open = None;
            }
            '`' | '*' if open.is_none() => {
                line.push_str(if letter == '`' { "\\fB" } else { "\\fI" });
                open = Some(letter);
            }
            _ => escape(letter, &mut line),
        }
    }
    line
}

fn escaped(text: &str) -> String {
    let mut line = String::new();
    text.chars().for_each(|letter| escape(letter, &mut line));
    line
}

fn escape(letter: char, line: &mut String) {
    match letter {
        '\\' => line.push_str("\\e"),
        // Plain, they are typeset as something that no shell understands.
        '-' => line.push_str("\\-"),
        '\'' => line.push_str("\\(aq"),
        '~' => line.push_str("\\(ti"),
        '`' => line.push_str("\\(ga"),
        '^' => line.push_str("\\(ha"),
        letter if letter.is_ascii() => line.push(letter),
        letter => {
            let _ = write!(line, "\\[u{:04X}]", u32::from(letter));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> String {
        let mut page = Page(String::new());
        page.text(text);
        page.render()
    }

    #[test]
    fn no_text_is_taken_for_a_command() {
        assert_eq!(set(".so /etc/passwd"), "\\&.so /etc/passwd\n");
        assert_eq!(set("'tis"), "\\(aqtis\n");
        assert_eq!(set("C:\\fB"), "C:\\efB\n");
        let mut page = Page(String::new());
        page.section("a \"b\"");
        page.verbatim([".br"]);
        assert_eq!(page.render(), ".SH \"a \\(dqb\\(dq\"\n.PP\n.RS\n.nf\n\\&.br\n.fi\n.RE\n");
    }

    #[test]
    fn what_is_copied_is_what_was_written() {
        assert_eq!(set("--log-level ~/a ^C …"), "\\-\\-log\\-level \\(ti/a \\(haC \\[u2026]\n");
    }

    #[test]
    fn marks_are_fonts() {
        assert_eq!(set("`a-b` and *c*, 2 ` d"), "\\fBa\\-b\\fR and \\fIc\\fR, 2 \\fB d\n");
        assert_eq!(set("`a*b`"), "\\fBa*b\\fR\n");
    }
}
