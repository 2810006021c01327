//! Ops that a server refuses for ever, among thousands of others: the others arrive, in order, and these are set aside
//! with the server's words.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::json;
use testkit::data_dir::{Generation, Profile, RawOp};
use testkit::foreign_drain::ForeignDrain;
use testkit::ops::{Mix, NewOp};
use testkit::server::{Server, Version};

use crate::common::{Stage, assert_delivered};

/// Healthy and sick together.
const OPS: usize = 10_000;
/// A payload that no server takes.
const TOO_LONG: usize = 3 << 20;
/// What the run may take with default settings.
const LIMIT: Duration = Duration::from_secs(60);

/// A queue with sick ops in it, and what is to become of them.
struct Case {
    server: Server,
    stage: Stage,
    profile: Profile,
    healthy: Vec<NewOp>,
    /// By the id as it stands in the row: what the words must hold.
    sick: HashMap<String, &'static str>,
}

/// What is wrong with the op at a place, if anything.
fn sickness(place: usize) -> Option<Sick> {
    match place {
        1_700 | 4_200..=4_202 => Some(Sick::Nul),
        5_000 => Some(Sick::TooLong),
        6_400 => Some(Sick::NoUuid),
        8_123 => Some(Sick::Inapplicable),
        _ => None,
    }
}

#[derive(Clone, Copy)]
enum Sick {
    Nul,
    TooLong,
    NoUuid,
    Inapplicable,
}

impl Sick {
    fn op(self, place: usize) -> NewOp {
        let op = NewOp::new("playlist", &place.to_string(), "set").field("name");
        match self {
            Self::Nul => op.payload_text(r#"{"value":"a\u0000b"}"#),
            Self::TooLong => op.payload(&json!({ "value": "x".repeat(TOO_LONG) })),
            Self::NoUuid => op.payload(&json!({ "value": "no uuid" })),
            Self::Inapplicable => op.payload(&json!({ "value": 7 })),
        }
    }

    /// The server's words.
    fn words(self) -> &'static str {
        match self {
            Self::Nul => "500: insert failed",
            Self::TooLong => "413: Failed to buffer the request body",
            Self::NoUuid => "422: Failed to deserialize",
            Self::Inapplicable => "500: apply failed",
        }
    }
}

impl Case {
    fn new(generation: Generation) -> Self {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::with(generation, &server);
        let profile = stage.profile("Zoë", "alice");
        let (mut healthy, mut sick) = (Vec::new(), HashMap::new());
        let mut mix = Mix::new(4).without_large();
        let db = profile.open().unwrap();
        db.connection().execute_batch("BEGIN IMMEDIATE").unwrap();
        for (place, stamp) in (0..OPS).zip(1..) {
            let Some(illness) = sickness(place) else {
                let op = mix.next().unwrap();
                db.insert_raw(&paired(RawOp::new(&op, stamp), stamp, generation)).unwrap();
                healthy.push(op);
                continue;
            };
            let op = illness.op(place);
            let mut id = op.operation_id.to_string();
            if matches!(illness, Sick::NoUuid) {
                id = format!("not-a-uuid-{place}");
            }
            let row = RawOp::new(&op, stamp).with("operation_id", id.clone());
            db.insert_raw(&paired(row, stamp, generation)).unwrap();
            sick.insert(id, illness.words());
        }
        db.set_clock(i64::try_from(OPS).unwrap()).unwrap();
        db.connection().execute_batch("COMMIT").unwrap();
        drop(db);
        Self { server, stage, profile, healthy, sick }
    }

    /// The seven, and nothing else, are in quarantine with the server's words.
    fn assert_set_aside(&self) {
        let sick: HashSet<String> = self.sick.keys().cloned().collect();
        assert_eq!(self.stage.quarantined(), sick);
        let state = self.stage.state();
        for (id, words) in &self.sick {
            let entry = &state["quarantine"][id];
            assert!(entry["words"].as_str().is_some_and(|told| told.contains(words)), "{words}: {entry}");
            assert_eq!(entry["server"], json!(self.server.url()));
        }
    }

    fn assert_marked(&self) {
        let rows = self.profile.pending().unwrap();
        assert_eq!(rows.len(), self.sick.len());
        for row in rows {
            let words = self.sick[&row.operation_id];
            let told = row.last_error.unwrap_or_default();
            assert!(told.starts_with("quarantined: ") && told.contains(words), "{words}: {told}");
        }
    }
}

/// Generation 3 has pairs.
fn paired(row: RawOp, stamp: i64, generation: Generation) -> RawOp {
    let wall = testkit::time::now_ms();
    if generation.has_hlc() { row.with("hlc_wall", wall).with("hlc_logical", stamp) } else { row }
}

fn seven_are_set_aside(case: &Case) {
    assert_eq!(case.sick.len(), 7);
    let run = case.stage.once("60s").ended_with(0);
    assert!(run.took < LIMIT, "{:?}", run.took);
    assert_delivered(&case.server, &case.healthy);
    assert_eq!(case.server.stored().len(), case.healthy.len());
    case.assert_set_aside();
    case.assert_marked();
    let line = run.profile(case.profile.id);
    assert_eq!((&line["quarantined"], &line["remaining"]), (&json!(7), &json!(0)));
    let text = format!("{}{}", run.stdout, run.stderr);
    assert!(!text.contains("u0000") && !text.contains("xxxxxxxx"), "a payload was printed");
    // Nothing more is tried, let alone sent.
    let requests = case.server.stats().requests;
    case.stage.once("5s").ended_with(0);
    assert_eq!(case.server.stats().requests, requests);
}

#[test]
fn seven_of_ten_thousand_are_set_aside_and_the_others_arrive_in_order() {
    for generation in [Generation::Two, Generation::Three] {
        seven_are_set_aside(&Case::new(generation));
    }
}

#[test]
fn seven_of_ten_thousand_are_set_aside_within_a_minute_with_default_settings() {
    let case = Case::new(Generation::Three);
    case.stage.configure_nothing();
    seven_are_set_aside(&case);
}

#[test]
fn the_apps_own_drain_beside_it_loses_nothing_and_makes_nothing_healthy_sick() {
    let case = Case::new(Generation::Three);
    let foreign = ForeignDrain::start(case.profile.clone(), Duration::from_millis(1));
    assert!(foreign.wait_for(|totals| totals.batches > 0, Duration::from_secs(20)));
    let run = case.stage.once("60s").ended_with(0);
    let totals = foreign.stop();
    assert!(totals.deleted > 0 && totals.marked > 0 && run.json["sent"] != json!(0), "both took part: {totals:?}");
    // Which of the two sent what, and in which order the two interleave, is nobody's to say.
    let stored: HashSet<_> = case.server.stored().iter().map(|row| row.operation_id).collect();
    assert_eq!(case.server.stored().len(), stored.len(), "stored twice");
    assert!(case.healthy.iter().all(|op| stored.contains(&op.operation_id)), "a healthy op is lost");
    assert_eq!(stored.len(), case.healthy.len());
    case.assert_set_aside();
    let left: HashSet<_> = case.profile.pending().unwrap().into_iter().map(|row| row.operation_id).collect();
    assert_eq!(left, case.sick.keys().cloned().collect::<HashSet<_>>());
}

#[test]
fn a_lone_sick_op_is_not_condemned_without_proof_that_the_server_stores() {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    let profile = stage.profile("Zoë", "alice");
    profile.enqueue(&[Sick::Nul.op(1)]).unwrap();
    let run = stage.once("1s").ended_with(75);
    assert_eq!((run.kind(), stage.quarantined().len()), ("server", 0));
    let ops = NewOp::renames(3);
    profile.enqueue(&ops).unwrap();
    stage.once("10s").ended_with(0);
    assert_delivered(&server, &ops);
    assert_eq!(stage.quarantined().len(), 1);
}

#[test]
fn a_quarantined_op_is_tried_again_at_another_server() {
    let first = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &first);
    let profile = stage.profile("Zoë", "alice");
    let sick = Sick::Inapplicable.op(1);
    let healthy = NewOp::renames(2);
    profile.enqueue(std::slice::from_ref(&sick)).unwrap();
    profile.enqueue(&healthy).unwrap();
    stage.once("20s").ended_with(0);
    assert_eq!(stage.quarantined(), HashSet::from([sick.operation_id.to_string()]));
    // The first server applies nothing, and so has nothing against it.
    let second = Server::start(Version::First).unwrap();
    stage.dir.set_server_url(Some(&second.url())).unwrap();
    stage.once("20s").ended_with(0);
    assert_delivered(&second, &[sick]);
    assert_eq!((stage.quarantined().len(), profile.pending_count().unwrap()), (0, 0));
}
