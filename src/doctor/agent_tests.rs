//! The judges of agent, socket and lock, by what they are told.

use serde_json::json;

use super::super::Level;
use super::*;

fn pong(version: &str) -> Answer {
    Answer::Pong { pid: 7, version: version.to_owned() }
}

fn holder(pid: u32) -> Holder {
    Holder { pid, name: Some("waveflow-sync-a".to_owned()) }
}

fn facts(answer: Answer, standing: Standing) -> Facts {
    Facts {
        socket: "/run/s".into(),
        limit: 107,
        refused: None,
        answer,
        troubles: Vec::new(),
        lock: Some(Ok(standing)),
        users: vec![holder(7), holder(8)],
        service: Service::default(),
    }
}

fn lock(answer: Answer, standing: Standing) -> Finding {
    judge_lock(&facts(answer, standing)).unwrap()
}

#[test]
fn the_agent_that_answers_may_have_the_lock_and_nobody_else() {
    assert_eq!(lock(pong(VERSION), Standing::Held(Some(holder(7)))).level, Level::Fine);
    assert_eq!(lock(pong(VERSION), Standing::Held(None)).level, Level::Fine);
    assert_eq!(lock(Answer::Nobody, Standing::Free).level, Level::Fine);
    for answer in [pong(VERSION), Answer::Nobody] {
        let other = lock(answer, Standing::Held(Some(holder(9))));
        assert!(other.level == Level::Wrong && other.words.contains("another agent"), "{other:?}");
        assert!(other.mend.unwrap().contains("kill 9"));
    }
    for answer in [Answer::Silence, Answer::Nobody] {
        assert_eq!(lock(answer, Standing::Held(None)).level, Level::Wrong);
    }
    assert!(lock(pong(VERSION), Standing::Free).words.contains("does not serve this data directory"));
}

#[test]
fn without_an_agent_it_is_wrong_only_where_something_waits() {
    let found = |answer, waiting| judge_answer(&facts(answer, Standing::Free), waiting);
    let (calm, waits) = (found(Answer::Nobody, 0), found(Answer::Nobody, 3));
    assert_eq!((calm.level, waits.level, waits.exit), (Level::Notice, Level::Wrong, Exit::NoDaemon));
    assert!(waits.words.contains("3 ops wait") && waits.mend.unwrap().contains("service install"));
    assert_eq!(found(Answer::Silence, 0).exit, Exit::NoDaemon);
    assert_eq!(found(Answer::Asleep, 3).level, Level::Fine);
    assert_eq!(found(pong(VERSION), 3).level, Level::Fine);
    let old = found(pong("0.0.1"), 0);
    assert!(old.level == Level::Notice && old.words.contains("0.0.1"));
}

#[test]
fn a_socket_somebody_else_could_replace_is_wrong() {
    let fine = facts(Answer::Nobody, Standing::Free);
    assert!(judge_socket(&fine).words.ends_with("6 of at most 107 bytes"));
    let refused = Facts { refused: Some(("it is a link".into(), Exit::NotPermitted)), ..fine };
    assert_eq!(judge_socket(&refused).exit, Exit::NotPermitted);
    let strangers = facts(Answer::Strangers("it belongs to another user".into()), Standing::Free);
    assert_eq!(judge_socket(&strangers).exit, Exit::NotPermitted);
}

#[test]
fn the_app_at_work_is_told_apart_from_the_agent() {
    let found = judge(&facts(pong(VERSION), Standing::Held(Some(holder(7)))), 0);
    assert!(found[2].words.contains("(process 8)") && !found[2].words.contains("(process 7)"), "{found:?}");
    let alone = Facts { users: vec![holder(7)], ..facts(pong(VERSION), Standing::Held(Some(holder(7)))) };
    assert_eq!(judge(&alone, 0).len(), 2);
}

#[test]
fn what_the_agent_met_is_told_of_profiles_with_something_waiting() {
    let profile = |pending: u64, message: Option<&str>| json!({"profile": 1, "name": "Zoë", "pending": pending, "last_error": {"kind": "server", "message": message}});
    assert_eq!(trouble(&profile(0, Some("500: insert failed"))), None);
    assert_eq!(trouble(&profile(1, None)), None);
    let met = trouble(&profile(1, Some("500: insert failed"))).into_iter().collect();
    let facts = Facts { troubles: met, ..facts(pong(VERSION), Standing::Held(Some(holder(7)))) };
    let found = judge_troubles(&facts, &[Finding::fine("tcp", "connects")]);
    assert_eq!((found.len(), found[0].level, found[0].exit), (1, Level::Wrong, Exit::TryLater));
    assert_eq!(found[0].words, "profile 1 “Zoë”: 1 op waits; the last attempt: 500: insert failed");
}

#[test]
fn what_the_agent_met_is_not_explained_by_what_another_profile_has() {
    let met =
        Trouble { profile: 1, label: "profile 1 “Zoë”".into(), waiting: 2, message: "500: insert failed".into() };
    let facts = Facts { troubles: vec![met], ..facts(pong(VERSION), Standing::Held(Some(holder(7)))) };
    let refused = |profile| Finding::wrong("token", "refused", "sign in").of(profile);
    assert_eq!(judge_troubles(&facts, &[refused(2)]).len(), 1);
    assert!(judge_troubles(&facts, &[refused(2), refused(1)]).is_empty());
    assert!(judge_troubles(&facts, &[Finding::wrong("tcp", "no way", "see")]).is_empty());
}
