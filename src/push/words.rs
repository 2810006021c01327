//! What may be shown to people of a text that came from outside: one short line, without secrets.
//!
//! What must always hold: nothing made here holds the token, a part of it worth having, or what the user wrote; and
//! nothing that steers a terminal. A server's sentence is untrusted text, and some servers quote the request in it.

use std::collections::HashSet;

/// Characters shown of a sentence.
const MAX_SENTENCE: usize = 160;

/// Characters shown of a page's title.
const MAX_TITLE: usize = 80;

/// Bytes looked at. A server's sentences and pages' heads are shorter, and cleaning costs time.
const MAX_LOOK: usize = 8 * 1024;

/// As many characters of the token in a row are taken for a piece of it. Fewer could be chance, and are no use to a
/// thief.
const TOKEN_PIECE: usize = 16;

/// As many bytes of the request in a row are taken for a quotation of it.
const QUOTATION: usize = 24;

/// Said instead of a text that quotes the request.
const QUOTES_REQUEST: &str = "(text repeats the request, not shown)";

/// Said of what nobody could read.
const NOT_TEXT: &str = "an answer that is not text";

/// What must not come out again.
#[derive(Clone, Copy)]
pub(super) struct Secrets<'a> {
    /// The bearer token.
    pub(super) token: &'a str,
    /// The request's body.
    pub(super) request: &'a [u8],
}

/// What kind of answer this was: its sentence, or its kind where it has none.
pub(super) fn describe(body: &[u8], secrets: &Secrets<'_>) -> String {
    let text = String::from_utf8_lossy(body.get(..MAX_LOOK).unwrap_or(body));
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return "an empty answer".to_owned();
    }
    if text.starts_with('<') {
        return match title(text).map(|title| sentence(title, secrets)) {
            Some(title) if !title.is_empty() && title.chars().count() <= MAX_TITLE => {
                format!("an HTML page, “{title}”")
            }
            _ => "an HTML page".to_owned(),
        };
    }
    if text.contains('\u{fffd}') && text.chars().filter(|c| c.is_control() || *c == '\u{fffd}').count() > text.len() / 8
    {
        return NOT_TEXT.to_owned();
    }
    let sentence = sentence(text.lines().next().unwrap_or_default(), secrets);
    // Nothing but what steers a terminal.
    if sentence.is_empty() { NOT_TEXT.to_owned() } else { sentence }
}

/// A location to be redirected to: without user name, query and fragment, which may hold secrets.
pub(super) fn location(text: &str, secrets: &Secrets<'_>) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let bare = match text.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => text.to_owned(),
    };
    sentence(&bare, secrets)
}

/// One short line of `text` that may be shown.
pub(super) fn sentence(text: &str, secrets: &Secrets<'_>) -> String {
    let clean: Vec<char> = text.chars().filter(|c| is_harmless(*c)).collect();
    let clean = without_token(&clean, secrets.token);
    let clean = clean.trim();
    let shown = match clean.char_indices().nth(MAX_SENTENCE) {
        Some((end, _)) => format!("{}…", clean.get(..end).unwrap_or_default()),
        None => clean.to_owned(),
    };
    if quotes(shown.as_bytes(), secrets.request) { QUOTES_REQUEST.to_owned() } else { shown }
}

/// Neither steers a terminal nor hides or turns around what stands beside it.
fn is_harmless(c: char) -> bool {
    !(c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'))
}

/// Puts `(token)` where the token or a piece of it stands.
fn without_token(text: &[char], token: &str) -> String {
    let piece = TOKEN_PIECE.min(token.chars().count()).max(1);
    let mut secret = vec![false; text.len()];
    let mut window = String::with_capacity(piece * 4);
    for (at, chars) in text.windows(piece).enumerate() {
        window.clear();
        window.extend(chars);
        if token.contains(window.as_str()) {
            secret.iter_mut().skip(at).take(piece).for_each(|mark| *mark = true);
        }
    }
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for (c, secret) in text.iter().zip(secret) {
        match (secret, inside) {
            (true, false) => out.push_str("(token)"),
            (true, true) => {}
            (false, _) => out.push(*c),
        }
        inside = secret;
    }
    out
}

/// Whether a piece of `request` stands in `text`. Linear in the request, which may have megabytes: a table of first
/// bytes spares nearly all of its places the look-up.
fn quotes(text: &[u8], request: &[u8]) -> bool {
    let pieces: HashSet<&[u8]> = text.windows(QUOTATION).collect();
    if pieces.is_empty() {
        return false;
    }
    let pair = |piece: &[u8]| match piece {
        [first, second, ..] => usize::from(*first) << 8 | usize::from(*second),
        _ => 0,
    };
    let mut begins = vec![false; 1 << 16];
    for piece in &pieces {
        if let Some(mark) = begins.get_mut(pair(piece)) {
            *mark = true;
        }
    }
    request.windows(QUOTATION).any(|piece| begins.get(pair(piece)) == Some(&true) && pieces.contains(piece))
}

/// What stands between `<title>` and `</title>`.
fn title(page: &str) -> Option<&str> {
    // Lower-casing ASCII moves no byte, so places found in one are places in the other.
    let lower = page.to_ascii_lowercase();
    let open = lower.find("<title")?;
    let start = open + lower.get(open..)?.find('>')? + 1;
    let end = start + lower.get(start..)?.find("</title")?;
    page.get(start..end).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl";

    fn said(body: &str) -> String {
        describe(
            body.as_bytes(),
            &Secrets { token: TOKEN, request: b"{\"payload\":{\"value\":\"Dear diary, today I\"}}" },
        )
    }

    #[test]
    fn a_server_s_sentence_is_shown_as_one_short_line() {
        assert_eq!(said("insert failed"), "insert failed");
        assert_eq!(said("\u{feff} first line \r\nsecond"), "first line");
        assert_eq!(said("a\u{1b}[31mred\0\u{202e}x"), "a[31mredx");
        assert_eq!(said(" \n"), "an empty answer");
        let long = said(&"é".repeat(200));
        assert_eq!(long, format!("{}…", "é".repeat(160)));
    }

    #[test]
    fn a_page_is_named_by_its_title() {
        assert_eq!(said("<html><body>Dear"), "an HTML page");
        assert_eq!(said("<!DOCTYPE html>\n<HTML><Title lang=fr>\n Sign\n in </TITLE>"), "an HTML page, “Sign in”");
        assert_eq!(said(&format!("<title>{}</title>", "x".repeat(81))), "an HTML page");
        assert_eq!(said("<title></title>"), "an HTML page");
        assert_eq!(said(&format!("<title>{TOKEN}</title>")), "an HTML page, “(token)”");
    }

    #[test]
    fn what_is_no_text_is_not_shown() {
        let secrets = Secrets { token: TOKEN, request: b"" };
        assert_eq!(describe(&[0x1f, 0x8b, 8, 0, 0xff, 0xfe, 0x80, 3], &secrets), NOT_TEXT);
        assert_eq!(describe("\0\u{1b}\u{202e}\nsecond".as_bytes(), &secrets), NOT_TEXT);
        assert_eq!(
            describe(b"d\xe9sol\xe9, le service est indisponible", &secrets),
            "d\u{fffd}sol\u{fffd}, le service est indisponible"
        );
    }

    #[test]
    fn the_token_never_comes_out() {
        assert_eq!(said(&format!("bad token {TOKEN}!")), "bad token (token)!");
        assert_eq!(said(&format!("bad token {}!", &TOKEN[5..30])), "bad token (token)!");
        assert_eq!(said(&format!("bad token {}\0{}!", &TOKEN[..12], &TOKEN[12..])), "bad token (token)!");
        assert_eq!(said(&format!("bad {}", &TOKEN[..15])), format!("bad {}", &TOKEN[..15]));
        // Cut by the length limit, it is still a piece of the token.
        let cut = said(&format!("{}{TOKEN}", "x".repeat(140)));
        assert!(!cut.contains("eyJ"), "{cut}");
        let short = Secrets { token: "pässword", request: b"" };
        assert_eq!(describe("is pässword wrong?".as_bytes(), &short), "is (token) wrong?");
        assert_eq!(
            location(&format!("https://x/{TOKEN}/y"), &Secrets { token: TOKEN, request: b"" }),
            "https://x/(token)/y"
        );
    }

    #[test]
    fn what_the_user_wrote_never_comes_out() {
        assert_eq!(said("cannot read \"Dear diary, today I\""), "cannot read \"Dear diary, today I\"");
        assert_eq!(said("cannot read {\"value\":\"Dear diary, today I\"}"), QUOTES_REQUEST);
        assert_eq!(said("cannot read {\"value\":\0\"Dear diary, today I\"}"), QUOTES_REQUEST);
        // Only what would be shown counts.
        assert_eq!(said("insert failed\n{\"value\":\"Dear diary, today I\"}"), "insert failed");
    }

    #[test]
    fn a_location_is_shown_without_what_may_be_secret() {
        let secrets = Secrets { token: TOKEN, request: b"" };
        assert_eq!(location("https://me:pw@portal/login?session=1#x", &secrets), "https://portal/login");
        assert_eq!(location("/lo\u{7}gin?next=/", &secrets), "/login");
        assert_eq!(location("https://host?x=//@y", &secrets), "https://host");
    }
}
