//! What may go wrong between the agent and its server, as a plan that a test writes down.
//!
//! What must always hold: the first rule that matches a request decides it, and a rule with a number is gone when its
//! number is used up; without a rule the server behaves.

use std::time::Duration;

use crate::http;

/// An answer that is not the server's own: a proxy's, a captive portal's, or one the server gives when it is unwell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Without `Content-Length`, which is added.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Reply {
    /// No headers, no body.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// With this header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With so many lines of header more.
    pub(crate) fn many_headers(self, count: usize) -> Self {
        (0..count).fold(self, |reply, n| reply.header(&format!("X-More-{n}"), "and more"))
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("Content-Type", content_type)
    }

    /// A sentence, as the server itself would say it.
    pub fn text(status: u16, sentence: &str) -> Self {
        Self::new(status).body("text/plain; charset=utf-8", sentence)
    }

    /// JSON.
    pub fn json(status: u16, document: &serde_json::Value) -> Self {
        Self::new(status).body("application/json", document.to_string())
    }

    /// A proxy's page: 502, 503, 504, 413, …
    pub fn proxy(status: u16) -> Self {
        Self::new(status).body("text/html", format!("<html><body><h1>{status}</h1><hr>nginx</body></html>"))
    }

    /// 429, with a `Retry-After` of seconds or a date.
    pub fn too_many_requests(retry_after: &str) -> Self {
        Self::proxy(429).header("Retry-After", retry_after)
    }

    /// A hotel's network: 200 and a page.
    pub fn captive_portal() -> Self {
        Self::new(200).body("text/html; charset=utf-8", "<!doctype html><title>Welcome</title>Please log in")
    }

    /// Another hotel's network.
    pub fn login_redirect() -> Self {
        Self::new(302).header("Location", "http://login.example/?from=here")
    }

    /// As it goes over the wire.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut headers = self.headers.clone();
        headers.push(("Content-Length".to_owned(), self.body.len().to_string()));
        http::message(&format!("HTTP/1.1 {} -", self.status), &headers, &self.body)
    }

    /// The server's database is down, or was deadlocked.
    pub fn insert_failed() -> Self {
        Self::text(500, "insert failed")
    }
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: for a script's sake, or to let requests through before a later rule.
    Pass,
    /// The connection is closed as soon as it is accepted. Rules with this one see no request.
    CutAtAccept,
    /// The connection is closed when the head was read.
    CutBeforeBody,
    /// The connection is closed in the middle of the request's body.
    CutMidRequest,
    /// The answer comes before the body was read. After a body that goes on for long the connection is closed.
    AnswerEarly(Reply),
    /// A body over `bytes` gets `reply` before it was read; smaller ones pass.
    RefuseOver {
        /// The largest body that passes.
        bytes: usize,
        /// What the larger ones get.
        reply: Reply,
    },
    /// The request is read whole and the connection is closed; nothing is stored.
    CutBeforeStoring,
    /// This is answered instead, nothing is stored.
    Answer(Reply),
    /// No answer and nothing stored, until [`super::Server::release`]; then the connection is closed.
    Silence,
    /// Waits, then goes on as usual.
    DelayBefore(Duration),
    /// Waits for [`super::Server::release`], then goes on as usual.
    HoldBeforeStore,
    /// Stores, then the connection is closed without an answer.
    CutAfterStoring,
    /// Stores, then answers this.
    AnswerAfterStoring(Reply),
    /// Stores, waits, then answers.
    DelayAfter(Duration),
    /// Stores, waits for [`super::Server::release`], then answers.
    HoldAfterStore,
    /// Stores and sends half of the answer under its whole length, then the connection is closed.
    CutMidReply,
    /// Stores and sends half of the answer, waits for [`super::Server::release`], then sends the rest.
    StallMidReply,
    /// Stores and answers as if the connection stayed open, then closes it.
    CloseAfterReply,
    /// Stores and answers 200 with a body that does not end.
    EndlessBody,
    /// Stores and answers 200 with headers that do not end.
    EndlessHeaders,
    /// Stores and answers as usual, with so many header lines more.
    ManyHeaders(usize),
    /// Stores and answers as usual, a byte at a time with this much time in between.
    Trickle(Duration),
    /// Reads the body at so many bytes a second (a slow uplink), then goes on as usual.
    ReadSlowly(usize),
}

/// When a fault can act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// A connection was accepted.
    Accept,
    /// A head was read.
    Head,
    /// Everything was read that will be.
    Whole,
}

impl Fault {
    fn stage(&self) -> Stage {
        match self {
            Self::CutAtAccept => Stage::Accept,
            Self::CutBeforeBody
            | Self::CutMidRequest
            | Self::AnswerEarly(_)
            | Self::RefuseOver { .. }
            | Self::ReadSlowly(_) => Stage::Head,
            _ => Stage::Whole,
        }
    }
}

/// What a rule may look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// `POST`, …
    pub method: String,
    /// With the prefix.
    pub path: String,
    /// Whom the token names.
    pub user: Option<String>,
    /// `User-Agent`; the app's own drain sends none.
    pub user_agent: Option<String>,
    /// `Content-Length`.
    pub body_bytes: usize,
    /// The ids as sent. Empty before the body was read, and where it is not a batch.
    pub operation_ids: Vec<String>,
    /// `device_id` as sent.
    pub device_id: Option<String>,
    /// `profile_canonical_id` of the first op.
    pub profile: Option<String>,
}

impl Seen {
    /// How many ops are in it.
    pub fn ops(&self) -> usize {
        self.operation_ids.len()
    }
}

type Predicate = Box<dyn Fn(&Seen) -> bool + Send>;
type Script = Box<dyn FnMut(&Seen) -> Option<Fault> + Send>;

enum Rule {
    Fixed { fault: Fault, when: Predicate, left: Option<u32> },
    Script(Script),
}

/// The rules in force, first come first.
#[derive(Default)]
pub(super) struct Plan {
    rules: Vec<Rule>,
}

impl Plan {
    pub(super) fn add(&mut self, fault: Fault, times: Option<u32>, when: Predicate) {
        self.rules.push(Rule::Fixed { fault, when, left: times });
    }

    pub(super) fn script(&mut self, script: Script) {
        self.rules.push(Rule::Script(script));
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    /// What the plan has for this request at this stage.
    pub(super) fn pick(&mut self, stage: Stage, seen: &Seen) -> Fault {
        let mut picked = None;
        for (place, rule) in self.rules.iter_mut().enumerate() {
            picked = match rule {
                Rule::Fixed { fault, when, left } if acts(fault, stage, seen) && when(seen) => {
                    *left = left.map(|left| left.saturating_sub(1));
                    Some((place, fault.clone(), *left == Some(0)))
                }
                Rule::Script(script) if stage == Stage::Whole => script(seen).map(|fault| (place, fault, false)),
                _ => None,
            };
            if picked.is_some() {
                break;
            }
        }
        let Some((place, fault, used_up)) = picked else { return Fault::Pass };
        if used_up {
            self.rules.remove(place);
        }
        fault
    }
}

/// Whether a fixed rule's fault is for this stage; one that refuses by size does not count where it lets pass.
fn acts(fault: &Fault, stage: Stage, seen: &Seen) -> bool {
    fault.stage() == stage && !matches!(fault, Fault::RefuseOver { bytes, .. } if seen.body_bytes <= *bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn always() -> Predicate {
        Box::new(|_| true)
    }

    #[test]
    fn the_first_matching_rule_decides_and_is_used_up() {
        let mut plan = Plan::default();
        plan.add(Fault::Silence, Some(1), Box::new(|seen| seen.ops() > 1));
        plan.add(Fault::CutAfterStoring, Some(2), always());
        plan.add(Fault::CutMidReply, None, always());
        let one = Seen::default();
        let two = Seen { operation_ids: vec!["a".into(), "b".into()], ..Seen::default() };
        let picked: Vec<_> = [&one, &two, &two, &one, &two].iter().map(|seen| plan.pick(Stage::Whole, seen)).collect();
        let cut = Fault::CutAfterStoring;
        assert_eq!(picked, [cut.clone(), Fault::Silence, cut, Fault::CutMidReply, Fault::CutMidReply]);
        plan.clear();
        assert_eq!(plan.pick(Stage::Whole, &one), Fault::Pass);
    }

    #[test]
    fn a_rule_waits_for_its_stage_and_size() {
        let mut plan = Plan::default();
        plan.add(Fault::CutAtAccept, Some(1), always());
        plan.add(Fault::RefuseOver { bytes: 100, reply: Reply::proxy(413) }, Some(1), always());
        let (small, large) = (Seen::default(), Seen { body_bytes: 101, ..Seen::default() });
        assert_eq!(plan.pick(Stage::Whole, &large), Fault::Pass);
        assert_eq!(plan.pick(Stage::Head, &small), Fault::Pass);
        assert!(matches!(plan.pick(Stage::Head, &large), Fault::RefuseOver { .. }));
        assert_eq!(plan.pick(Stage::Head, &large), Fault::Pass);
        assert_eq!(plan.pick(Stage::Accept, &small), Fault::CutAtAccept);
    }

    #[test]
    fn a_script_decides_request_by_request() {
        let mut plan = Plan::default();
        let mut count = 0;
        plan.script(Box::new(move |_| {
            count += 1;
            (count % 2 == 0).then_some(Fault::Silence)
        }));
        let picked: Vec<_> = (0..3).map(|_| plan.pick(Stage::Whole, &Seen::default())).collect();
        assert_eq!(picked, [Fault::Pass, Fault::Silence, Fault::Pass]);
    }
}
