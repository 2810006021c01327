//! Two profiles of one install, and the daemon that serves them: what goes wrong with one is not to stop the other.

use testkit::data_dir::{Generation, Profile};
use testkit::ops::NewOp;
use testkit::server::{Server, Version};

use super::daemon::{Daemon, PROMPT, SOON, eventually, holds_within};
use super::{Stage, applied, assert_delivered};

pub(crate) struct Pair {
    pub(crate) server: Server,
    pub(crate) stage: Stage,
    pub(crate) one: Profile,
    pub(crate) other: Profile,
    pub(crate) daemon: Daemon,
}

impl Pair {
    /// Two profiles, and a timer so slow that only the file watch wakes.
    pub(crate) fn new() -> Self {
        Self::with("[drain]\ninterval = \"1h\"\n")
    }

    /// Two profiles, and these settings besides quick retries.
    pub(crate) fn with(settings: &str) -> Self {
        Self::started(settings, Daemon::start)
    }

    /// Two profiles, and the daemon as `start` starts it.
    pub(crate) fn started(settings: &str, start: impl FnOnce(&Stage) -> Daemon) -> Self {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::with(Generation::Three, &server);
        stage.configure_more(settings);
        let one = stage.profile("Zoë", "alice");
        // Another account: else the two draw the same stamps, and conflicts are not what is looked at.
        let other = stage.profile("Ночь", "bob");
        let daemon = start(&stage);
        for profile in [&one, &other] {
            eventually("both have passed", || daemon.profile(profile.id)["last_success"].is_string());
        }
        Self { server, stage, one, other, daemon }
    }

    /// A commit of `profile` arrives promptly.
    #[track_caller]
    pub(crate) fn flows(&self, profile: &Profile) {
        let ops = NewOp::renames(2);
        profile.enqueue(&ops).unwrap();
        let arrived = holds_within(PROMPT, || applied(&self.server, &ops).len() == 2);
        assert!(arrived, "nothing of profile {} arrives\n{}", profile.id, self.daemon.log());
        assert_delivered(&self.server, &ops);
    }

    /// Waits until `profile`'s queue is empty.
    #[track_caller]
    pub(crate) fn drained(&self, profile: &Profile) {
        let empty = holds_within(SOON, || profile.pending_count().is_ok_and(|count| count == 0));
        assert!(empty, "profile {} keeps {:?}\n{}", profile.id, profile.pending_count(), self.daemon.log());
    }

    /// Waits until `status` says of `profile` that its files are the trouble, with this word among the others.
    #[track_caller]
    pub(crate) fn complains(&self, profile: &Profile, word: &str) {
        eventually(&format!("status says {word:?}"), || {
            let error = &self.daemon.profile(profile.id)["last_error"];
            error["kind"] == "database" && error["message"].as_str().is_some_and(|message| message.contains(word))
        });
    }
}
