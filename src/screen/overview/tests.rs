use serde_json::json;

use super::*;
use crate::screen::text::width;

/// 2026-01-01T12:00:00Z
const NOW: i64 = 1_767_268_800_000;
const ABSENT: &str = "no agent is running; start it with `waveflow-sync-agent run`";

fn view(columns: usize) -> View<'static> {
    View { columns, rows: None, colour: false, now: NOW, elapsed: Duration::ZERO, absent: ABSENT, gone: None }
}

fn document(profiles: &[Value]) -> Value {
    json!({"version": "0.1.0", "pid": 42, "uptime_s": 7300, "paused": false, "profiles": profiles})
}

/// A profile about which there is nothing to say, but for `more`.
fn profile(number: i64, name: &str, state: &str, more: &Value) -> Value {
    let mut profile = json!({"profile": number, "name": name, "state": state, "pending": 0, "quarantined": 0, "held": 0,
        "oldest_pending_s": null, "sent_total": 0, "last_success": null, "last_error": null, "next_attempt_in_s": null,
        "server": null, "guarded": true});
    for (key, value) in more.as_object().into_iter().flatten() {
        profile[key] = value.clone();
    }
    profile
}

fn in_trouble() -> Value {
    let error = json!({"kind": "network", "message": "music.example:443: connection refused"});
    profile(
        1,
        "Zoë",
        "backing_off",
        &json!({"pending": 1203, "quarantined": 1, "held": 2, "oldest_pending_s": 11_000,
        "sent_total": 77, "last_success": "2026-01-01T09:00:00Z", "last_error": error, "next_attempt_in_s": 4,
        "server": "https://music.example"}),
    )
}

fn shown(document: &Value, view: &View<'_>) -> String {
    text(document, view)
}

#[test]
fn the_answer_comes_first_then_the_cause_then_the_profile() {
    let expected = "\
Not everything is on the server: 1,203 waiting, 2 held back, 1 refused.
music.example:443: connection refused.
What the server refused, and why: `waveflow-sync-agent queue list`.
Held back: queued under another account, or before this one signed in; see
  `queue list`.
Profile 1 “Zoë”: trying again, next try in 4 s
  1,203 waiting, the oldest for 3 hours; 2 held back; 1 refused
  77 sent since the agent started; last success 3 hours ago;
    https://music.example
Agent 0.1.0, process 42, running for 2 hours.
";
    assert_eq!(shown(&document(&[in_trouble()]), &view(80)), expected);
}

#[test]
fn a_narrow_terminal_gets_the_same_words() {
    let expected = "\
Not everything is on the server: 1,203
  waiting, 2 held back, 1 refused.
music.example:443: connection refused.
What the server refused, and why:
  `waveflow-sync-agent queue list`.
Held back: queued under another account,
  or before this one signed in; see
  `queue list`.
Profile 1 “Zoë”: trying again
  Next try in 4 s.
  1,203 waiting, the oldest for 3 hours;
    2 held back; 1 refused
  77 sent since the agent started; last
    success 3 hours ago;
    https://music.example
Agent 0.1.0, process 42, running for 2
  hours.
";
    let text = shown(&document(&[in_trouble()]), &view(40));
    assert_eq!(text, expected);
}

#[test]
fn where_all_is_well_it_is_said_in_a_line_and_each_profile_has_little_to_say() {
    let well = profile(1, "Zoë", "idle", &json!({"last_success": "2026-01-01T11:59:30Z", "server": "http://m"}));
    let expected = "\
Everything is on the server.
Profile 1 “Zoë”: up to date
  Last success 30 seconds ago; http://m
Agent 0.1.0, process 42, running for 2 hours.
";
    assert_eq!(shown(&document(&[well]), &view(80)), expected);
}

#[test]
fn without_a_daemon_that_is_the_cause_and_the_files_are_told() {
    let waiting = profile(1, "Zoë", "idle", &json!({"pending": 4, "oldest_pending_s": 90}));
    let mut document = document(&[waiting]);
    document["pid"] = Value::Null;
    let expected = "\
Not everything is on the server: 4 waiting.
No agent is running; start it with `waveflow-sync-agent run`.
Profile 1 “Zoë”: waiting
  4 waiting, the oldest for 90 seconds
";
    assert_eq!(shown(&document, &view(80)), expected);
}

/// The first three lines.
fn head(document: &Value) -> String {
    lines(document, &view(80)).into_iter().take(3).collect::<Vec<_>>().join("\n")
}

#[test]
fn each_cause_is_in_the_first_three_lines() {
    let failed = |state: &str, kind: &str, message: &str| {
        let error = json!({"kind": kind, "message": message});
        head(&document(&[profile(1, "A", state, &json!({"pending": 1, "last_error": error}))]))
    };
    let waits = |state: &str| head(&document(&[profile(1, "A", state, &json!({"pending": 1}))]));
    assert!(failed("backing_off", "tls", "m.example: unknown issuer").contains("m.example: unknown issuer"));
    let told = failed("unauthorized", "unauthorized", "m.example: the server refuses the token (401)");
    assert!(told.contains("refuses the token (401): sign in again from WaveFlow's\n  settings."), "{told}");
    let told = failed("backing_off", "not_the_server", "answered 200 with an HTML page, “Welcome to Hotel Miramar”");
    let told = told.replace("\n  ", " ");
    assert!(told.contains("Hotel Miramar”; see that the address in WaveFlow's settings"), "{told}");
    for (state, word) in [
        ("signed_out", "Signed out: sign in"),
        ("local", "Kept local"),
        ("not_configured", "No server: enter its address"),
        ("profile_not_ready", "start WaveFlow once"),
        ("paused", "go on with `waveflow-sync-agent resume`"),
        ("held", "Held back"),
        ("unavailable", "cannot be used"),
        ("something newer", "cannot be used"),
    ] {
        assert!(waits(state).contains(word), "{}", waits(state));
    }
    let mut nowhere = document(&[]);
    nowhere["problem"] = json!("the desktop app's data is not there; looked for app.db in /home/zoe/.local/share/x");
    let told = head(&nowhere);
    assert!(told.starts_with("Whether everything is on the server is not known.\nThe desktop app's data is"), "{told}");
    let mut paused = document(&[profile(1, "A", "paused", &json!({"pending": 1}))]);
    paused["paused"] = true.into();
    let text = shown(&paused, &view(80));
    assert_eq!(text.matches("go on with").count(), 1, "{text}");
    let unreadable =
        document(&[profile(1, "A", "unavailable", &json!({"last_error": {"message": "data.db is locked"}}))]);
    let told = head(&unreadable);
    assert!(told.starts_with("Not every profile's files can be read") && told.contains("data.db is locked"), "{told}");
}

#[test]
fn a_cause_that_several_share_is_told_once_with_their_numbers() {
    let error = json!({"last_error": {"message": "m.example: connection refused"}, "pending": 1});
    let down = |number| profile(number, "A", "backing_off", &error);
    let signed_out = profile(9, "B", "signed_out", &json!({"pending": 1}));
    let text = shown(&document(&[signed_out, down(2), down(4), down(5)]), &view(80));
    assert!(text.contains("\nm.example: connection refused (profiles 2, 4 and 5)\nSigned out: sign in"), "{text}");
    assert!(text.contains("(profile 9)\nProfile 2 “A”: trying again\n  1 waiting\nProfile 4"), "{text}");
    let all = shown(&document(&[down(1), down(2)]), &view(80));
    assert!(all.contains("refused (all profiles)\n"), "{all}");
}

#[test]
fn what_is_no_reason_for_anything_is_told_with_its_profile() {
    let signed_out = profile(1, "A", "signed_out", &json!({}));
    let unguarded = profile(2, "B", "idle", &json!({"guarded": false}));
    let text = shown(&document(&[signed_out, unguarded]), &view(80));
    assert!(
        text.starts_with("Everything is on the server.\nProfile 1 “A”: signed out\n  Signed out: sign in"),
        "{text}"
    );
    assert!(text.contains("whoever queued them."), "{text}");
}

#[test]
fn ages_and_countdowns_go_on_without_the_daemon() {
    let view = View { elapsed: Duration::from_secs(3), ..view(80) };
    let text = shown(&document(&[in_trouble()]), &view);
    assert!(text.contains("next try in 1 s\n"), "{text}");
    let view = View { elapsed: Duration::from_secs(100), ..view };
    assert!(shown(&document(&[in_trouble()]), &view).contains("next try now\n"));
    let view = View { gone: Some(Duration::from_secs(12)), ..view };
    let text = shown(&document(&[in_trouble()]), &view);
    let begin = "The agent went away 12 seconds ago; waiting for it to come back.\nBefore that:\nNot everything is";
    assert!(text.starts_with(begin) && !text.contains("next try") && !text.contains("process 42"), "{text}");
}

/// Thirty that are well, one that sends, and number 20 in trouble.
fn many() -> Value {
    let well = |number| profile(number, "A", "idle", &json!({"server": "https://music.example"}));
    let mut all: Vec<_> = (1..=31).map(well).collect();
    all[19] = in_trouble();
    all[19]["profile"] = 20.into();
    all[6] = profile(7, "B", "draining", &json!({"pending": 5}));
    document(&all)
}

#[test]
fn with_many_profiles_it_stays_one_screen_and_those_in_trouble_are_on_it() {
    for rows in [12, 16, 23, 24, 30, 40, 50] {
        let view = View { rows: Some(rows), ..view(80) };
        let lines = lines(&many(), &view);
        assert!(lines.len() <= rows, "{rows}");
        assert!(lines.iter().any(|line| line.starts_with("Profile 20 “Zoë”: trying again")), "{rows}: {lines:#?}");
        let footer = lines.last().unwrap().starts_with("Agent 0.1.0");
        assert_eq!(footer, rows >= FOOTER_ROWS, "{rows}: {lines:#?}");
        if rows < 38 {
            let more = lines.iter().find(|line| line.starts_with("… and ")).unwrap();
            assert!(more.ends_with(" up to date"), "{more}");
        }
    }
    let all = lines(&many(), &view(80));
    assert!(all.len() > 60 && !all.iter().any(|line| line.starts_with('…')), "a pipe has no height");
    let tiny = View { rows: Some(1), ..view(80) };
    assert_eq!(lines(&many(), &tiny).len(), 1);
}

#[test]
fn on_a_low_terminal_the_causes_leave_room_for_the_profiles() {
    let view = View { rows: Some(12), ..view(40) };
    let lines = lines(&document(&[in_trouble(), profile(2, "B", "idle", &json!({}))]), &view);
    assert_eq!(lines[2], "music.example:443: connection refused");
    let at = lines.iter().position(|line| line.starts_with("Profile 1 “Zoë”")).unwrap();
    assert!(at <= 6 && lines.len() <= 12, "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("Profile 2 “B”: up to date")), "{lines:#?}");
}

#[test]
fn there_is_room_for_the_details_of_whom_it_concerns() {
    let view = View { rows: Some(24), ..view(80) };
    let lines = lines(&many(), &view);
    let at = lines.iter().position(|line| line.starts_with("Profile 20")).unwrap();
    assert!(lines[at + 1].starts_with("  1,203 waiting, the oldest"), "{lines:#?}");
    let counted = lines.iter().filter(|line| line.starts_with("Profile ")).count();
    let more: usize =
        lines.iter().find_map(|line| line.strip_prefix("… and ")?.split(' ').next()?.parse().ok()).unwrap();
    assert_eq!(counted + more, 31);
}

#[test]
fn names_in_every_script_and_of_every_length_fit_and_move_nothing() {
    let names = [
        "A\u{1b}[2J\u{9b}\u{202e}x\r\n",
        "音楽の部屋と長い長い長い長い長い長い長い長い長い長い長い長い長い名前",
        "המוזיקה של זואי",
        "👩‍👩‍👧❤\u{fe0f}",
        &"long ".repeat(500),
        &"x".repeat(5000),
        &format!("a{}", "\u{301}".repeat(5000)),
        "",
    ];
    for columns in [16, 20, 40, 80, 200] {
        for (state, name) in
            names.iter().zip(["backing_off", "idle", "held", "draining"].iter().cycle()).map(|(n, s)| (s, n))
        {
            let mut one = in_trouble();
            (one["name"], one["state"]) = ((*name).into(), (*state).into());
            one["last_error"]["message"] = json!(format!("{name} said \u{1b}]0;no\u{7}"));
            one["server"] = json!(format!("https://{name}"));
            for rows in [None, Some(4)] {
                let lines =
                    lines(&document(&[one.clone(), many()["profiles"][0].clone()]), &View { rows, ..view(columns) });
                for line in &lines {
                    assert!(width(line) <= columns, "{columns}: {line}");
                    assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
                    assert!(line.len() < 4000, "{} bytes", line.len());
                }
            }
        }
    }
}

#[test]
fn no_number_stands_behind_a_name_that_would_turn_it_around() {
    for state in ["idle", "draining", "backing_off", "unauthorized", "local", "held", "unavailable", "signed_out"] {
        let mut one = in_trouble();
        (one["name"], one["state"]) = ("זואי".into(), state.into());
        let lines = lines(&document(&[one]), &View { rows: Some(9), ..view(80) });
        let title = lines.iter().find(|line| line.contains("זואי")).unwrap();
        let (_, behind) = title.split_once("”: ").unwrap();
        assert!(behind.starts_with(char::is_alphabetic), "{title}");
    }
}

#[test]
fn colour_says_nothing_that_words_do_not() {
    let plain = shown(&many(), &view(80));
    let coloured = shown(&many(), &View { colour: true, ..view(80) });
    assert!(!plain.contains('\u{1b}') && coloured.contains("\u{1b}[31mNot everything"));
    let mut bare = String::new();
    for (at, part) in coloured.split('\u{1b}').enumerate() {
        bare.push_str(if at == 0 { part } else { part.split_once('m').unwrap().1 });
    }
    assert_eq!(bare, plain);
}

#[test]
fn a_password_in_an_address_is_not_shown_and_a_strange_document_is_no_trouble() {
    let told = profile(1, "A", "idle", &json!({"server": "https://zoe:geheim@m/x@y"}));
    let text = shown(&document(&[told]), &view(80));
    assert!(text.contains("https://m/x@y") && !text.contains("geheim"), "{text}");
    for odd in [json!(null), json!([]), json!({"profiles": [null, 3, {"name": 7, "pending": -1}]})] {
        assert!(!shown(&odd, &view(80)).is_empty());
    }
}
