//! The agent's own state file: what is read is written as it was, and nothing in it brings anybody down.

use waveflow_sync_agent::drain::guard::{Account, Credential};
use waveflow_sync_agent::op::OperationId;
use waveflow_sync_agent::record::{QUARANTINE_MAX, Record};
use waveflow_sync_agent::state::{parse, render};

/// Spans a ledger keeps.
const SPANS_MAX: usize = 64;
/// Moments on which an op may be due, none of which may overflow.
const MOMENTS: [i64; 5] = [i64::MIN, -1, 0, 1_750_000_000_000, i64::MAX];

/// See the module.
pub(crate) fn check(input: &[u8]) {
    let record = match parse::<Record>(input) {
        Ok(record) => record,
        Err(words) => {
            assert!(!words.is_empty());
            return;
        }
    };
    if let Ok(tree) = serde_json::from_slice::<serde_json::Value>(input) {
        assert_eq!(tree["version"], 1);
    }
    let written = render(&record).expect("any record can be written");
    assert_eq!(parse::<Record>(&written).as_ref(), Ok(&record));
    check_ledgers(&record);
    for entry in record.quarantine.values() {
        MOMENTS.iter().for_each(|now| assert!(entry.is_due(*now, "another server than that")));
        let due = MOMENTS.iter().filter(|now| entry.is_due(**now, &entry.server)).count();
        assert!(due >= MOMENTS.len() - 2, "a day has two of these moments at the most");
    }
    check_letting_go(record);
}

fn check_ledgers(record: &Record) {
    let account = Account { issuer: "i".into(), subject: "s".into() };
    for (path, book) in &record.books {
        let ledger = record.ledger(path, &book.file, book.canonical_id.as_deref());
        assert_eq!(ledger, book.ledger);
        for moment in MOMENTS {
            let credential = Credential { account: Some(account.clone()), created_at: moment, updated_at: 0 };
            let seen = ledger.seen(&credential, MOMENTS.map(|id| (id, moment)));
            assert!(seen.spans.len() <= SPANS_MAX && seen.account == credential.account);
            assert!(!seen.is_news(&credential));
            MOMENTS.iter().for_each(|id| {
                ledger.owner(&credential, *id, moment);
            });
        }
    }
}

fn check_letting_go(mut record: Record) {
    let ids: Vec<OperationId> = record.quarantine.keys().take(3).map(|key| OperationId::new(key)).collect();
    for id in &ids {
        let entry = record.quarantine.get(&id.to_string()).cloned();
        let entry = entry.expect("an id is printed as it was read");
        assert_eq!(record.retry(Some(id)), 1);
        assert!(!record.quarantine.contains_key(&id.to_string()));
        let room = record.quarantine.len() < QUARANTINE_MAX;
        assert_eq!(record.quarantine(id, entry), room);
        record.forget(id);
    }
    let left = record.quarantine.len();
    assert_eq!(record.retry(None), left);
    assert!(record.quarantine.is_empty());
}
