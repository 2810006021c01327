//! What a person reads who did not ask: what is wrong, since when, and what to do.
//!
//! What must always hold: of all that comes from outside only a profile's name and numbers are in it; the name says
//! nothing to a program that shows it (no markup, no control characters); it fits on a screen.

use super::concern::Wrong;

/// A notification names so many profiles; the rest is a number.
const NAMED_MAX: usize = 3;
/// So many characters of a name tell it from the others.
const NAME_MAX: usize = 40;

/// What is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// In a few words.
    pub title: &'static str,
    /// A sentence for each profile, each on a line.
    pub body: String,
}

/// About these profiles: name, what is wrong, for how many days. `None` where there are none.
pub fn message(profiles: &[(&str, Wrong, i64)]) -> Option<Message> {
    let anybody_refused = profiles.iter().any(|(_, wrong, _)| wrong.refused);
    let title = if anybody_refused { "WaveFlow is not syncing" } else { "WaveFlow does not sync everything" };
    let mut lines: Vec<String> = profiles.iter().take(NAMED_MAX).map(|about| line(*about)).collect();
    match profiles.len().saturating_sub(NAMED_MAX) {
        0 => {}
        1 => lines.push("And 1 more profile: see `waveflow-sync-agent status`.".to_owned()),
        more => lines.push(format!("And {more} more profiles: see `waveflow-sync-agent status`.")),
    }
    (!lines.is_empty()).then(|| Message { title, body: lines.join("\n") })
}

fn line((name, wrong, days): (&str, Wrong, i64)) -> String {
    let name = harmless(name);
    let since = if days < 2 { "since yesterday".to_owned() } else { format!("for {days} days") };
    if wrong.refused {
        return format!(
            "The server has refused the sign-in of “{name}” {since}: sign in again from WaveFlow's settings."
        );
    }
    let of = |count: u64| if count == 1 { "1 operation".to_owned() } else { format!("{count} operations") };
    let what = match (wrong.held, wrong.quarantined) {
        (held, 0) => format!("{} of “{name}” held back", of(held)),
        (0, refused) => format!("{} of “{name}” refused by the server", of(refused)),
        (held, refused) => format!("{} of “{name}” held back and {refused} refused by the server", of(held)),
    };
    format!("{what} {since}: see `waveflow-sync-agent status`.")
}

/// A name that is only a name, for whoever reads markup (the notification's body may be read so).
fn harmless(name: &str) -> String {
    let mut out = String::new();
    for (place, c) in name.chars().enumerate() {
        match c {
            _ if place == NAME_MAX => {
                out.push('…');
                break;
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            // Those that turn the direction of what follows are no letters either.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push(' '),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(refused: bool, held: u64, quarantined: u64) -> Wrong {
        Wrong { refused, held, quarantined }
    }

    fn body(profiles: &[(&str, Wrong, i64)]) -> String {
        message(profiles).unwrap().body
    }

    #[test]
    fn each_says_what_is_wrong_since_when_and_what_to_do() {
        assert_eq!(
            message(&[("Zoë", wrong(true, 1, 1), 1)]),
            Some(Message {
                title: "WaveFlow is not syncing",
                body: "The server has refused the sign-in of “Zoë” since yesterday: sign in again from WaveFlow's settings."
                    .to_owned(),
            })
        );
        let mend = "see `waveflow-sync-agent status`.";
        assert_eq!(
            body(&[("Zoë", wrong(false, 3, 0), 9)]),
            format!("3 operations of “Zoë” held back for 9 days: {mend}")
        );
        assert_eq!(
            body(&[("Zoë", wrong(false, 0, 1), 1)]),
            format!("1 operation of “Zoë” refused by the server since yesterday: {mend}")
        );
        assert_eq!(
            body(&[("Zoë", wrong(false, 1, 2), 1)]),
            format!("1 operation of “Zoë” held back and 2 refused by the server since yesterday: {mend}")
        );
        assert_eq!(message(&[]), None);
        assert_eq!(message(&[("Zoë", wrong(false, 1, 0), 1)]).unwrap().title, "WaveFlow does not sync everything");
    }

    #[test]
    fn a_name_is_only_a_name() {
        let name = "<a href=\"http://x\">A&amp;\u{1b}[2J\n\u{202e}B";
        let text = body(&[(name, wrong(true, 0, 0), 1)]);
        assert!(text.contains("“&lt;a href=\"http://x\"&gt;A&amp;amp; [2J  B”"), "{text}");
        assert_eq!(text.lines().count(), 1);
        let long = "é".repeat(10_000);
        assert!(body(&[(&long, wrong(true, 0, 0), 1)]).contains(&format!("“{}…”", "é".repeat(NAME_MAX))));
        assert!(body(&[(&"é".repeat(NAME_MAX), wrong(true, 0, 0), 1)]).contains("é”"));
    }

    #[test]
    fn many_profiles_are_a_number() {
        let profiles = vec![("Zoë", wrong(true, 0, 0), 1); 200];
        assert_eq!(body(&profiles[..3]).lines().count(), 3);
        assert!(body(&profiles[..4]).ends_with("\nAnd 1 more profile: see `waveflow-sync-agent status`."));
        let text = body(&profiles);
        assert_eq!((text.lines().count(), text.contains("And 197 more profiles")), (4, true), "{text}");
        assert!(text.len() < 2_000);
    }
}
