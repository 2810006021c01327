//! Letters and the columns they take. Pure.
//!
//! What must always hold: what comes out is no wider than was asked for, on any terminal: where terminals differ about a
//! letter, it counts for the most that one of them gives it.

use unicode_width::UnicodeWidthChar as _;

/// Makes an emoji of the letter before it, which is twice as wide then.
const EMOJI: char = '\u{fe0f}';
/// Marks that stand above one another take no columns. This many are no name any more.
const MARKS_MAX: usize = 8;

/// What comes from outside, without anything that moves the cursor, hides, or turns around what stands beside it.
pub fn quiet(text: &str) -> String {
    let moves = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if moves(c) { '\u{fffd}' } else { c }).collect()
}

/// With a capital letter and a full stop. A name (data.db, a path, an address) keeps its letters.
pub fn sentence(text: &str) -> String {
    let word = text.split_whitespace().next().unwrap_or_default();
    let is_plain = word.trim_end_matches([',', ':']).chars().all(char::is_alphabetic);
    let mut letters = text.chars();
    let mut sentence: String = match letters.next() {
        Some(first) if is_plain => first.to_uppercase().chain(letters).collect(),
        _ => text.to_owned(),
    };
    if !sentence.ends_with(['.', '!', '?', '…']) {
        sentence.push('.');
    }
    sentence
}

fn columns(c: char) -> usize {
    if c == EMOJI { 1 } else { c.width().unwrap_or(0) }
}

/// The columns it takes at the most.
pub fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// The beginning that fits, in bytes.
fn fitting(text: &str, limit: usize) -> usize {
    let (mut taken, mut marks) = (0, 0);
    for (at, c) in text.char_indices() {
        let wide = columns(c);
        taken += wide;
        marks = if wide == 0 { marks + 1 } else { 0 };
        if taken > limit || marks > MARKS_MAX {
            return at;
        }
    }
    text.len()
}

/// All of it, or its beginning with `…`.
pub fn cut(text: &str, limit: usize) -> String {
    if fitting(text, limit) == text.len() {
        return text.to_owned();
    }
    let kept = text.get(..fitting(text, limit.saturating_sub(1))).unwrap_or_default();
    format!("{}{}", kept.trim_end(), if limit > 0 { "…" } else { "" })
}

/// Its words in lines of at most `limit` columns, all but the first set in by `indent`. A word that is too long for a line
/// is broken.
pub fn wrap(text: &str, limit: usize, indent: usize) -> Vec<String> {
    let indent = indent.min(limit / 2);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut empty = true;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut rest = word;
        loop {
            let gap = usize::from(!empty);
            let room = limit.saturating_sub(width(&line) + gap);
            if fitting(rest, room) == rest.len() {
                line.push_str(if empty { "" } else { " " });
                line.push_str(rest);
                empty = false;
                break;
            }
            if empty {
                // Even one letter may be wider than all there is.
                let some = rest.chars().next().map_or(0, char::len_utf8);
                let (piece, left) = rest.split_at_checked(fitting(rest, room).max(some)).unwrap_or((rest, ""));
                line.push_str(piece);
                rest = left;
            }
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            empty = true;
            if rest.is_empty() {
                break;
            }
        }
    }
    if !empty {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_the_cursor_or_turns_the_text_around_is_shown_as_unreadable() {
        assert_eq!(quiet("a\u{1b}[2J\u{202e}b\n"), "a\u{fffd}[2J\u{fffd}b\u{fffd}");
        assert_eq!(quiet("Zoë שלום 音楽"), "Zoë שלום 音楽");
    }

    #[test]
    fn a_letter_counts_for_as_many_columns_as_it_takes() {
        for (text, expected) in [("abc", 3), ("音楽", 4), ("Zoe\u{308}", 3), ("שלום", 4), ("👩‍👩‍👧", 6), ("❤\u{fe0f}", 2)]
        {
            assert_eq!(width(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_cut_says_so_and_fits() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 5), "abcd…");
        assert_eq!(cut("音楽の部屋", 6), "音楽…", "half a letter is none");
        assert_eq!(cut("ab cd", 4), "ab…");
        assert_eq!(cut("abc", 1), "…");
        assert_eq!(cut("abc", 0), "");
        let stacked = format!("a{}b", "\u{301}".repeat(10_000));
        assert!(cut(&stacked, 40).len() < 100);
    }

    #[test]
    fn words_are_wrapped_and_long_ones_broken() {
        assert_eq!(wrap("the quick brown fox", 11, 2), ["the quick", "  brown fox"]);
        assert_eq!(wrap("see https://music.example/a", 12, 2), ["see", "  https://mu", "  sic.exampl", "  e/a"]);
        assert_eq!(wrap("音楽 音楽", 1, 0).concat(), "音楽音楽", "it ends even where nothing fits");
        assert!(wrap("", 10, 0).is_empty());
    }

    #[test]
    fn no_line_is_wider_than_asked_for() {
        let text = "Zoë’s 音楽の部屋 שלום 👩‍👩‍👧 and_a_very_long_word_without_a_break_in_it_anywhere";
        for limit in 4..60 {
            assert!(width(&cut(text, limit)) <= limit, "{limit}");
            for line in wrap(text, limit, 2) {
                assert!(width(&line) <= limit, "{limit}: {line}");
            }
        }
    }
}
