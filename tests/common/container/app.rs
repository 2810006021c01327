//! The made-up app of somebody in a container: its files are made and written by a thread of that very user.

use std::time::Duration;

use testkit::data_dir::{DataDir, Generation, Profile};
use testkit::ops::NewOp;
use testkit::server::Server;
use testkit::token;

use super::{Container, User};
use crate::common::daemon::{SOON, holds_within};
use crate::common::users::as_user;
use crate::common::{DEVICE, applied, assert_delivered};

/// Where the app keeps its data, below the home directory.
pub(crate) const USUAL: &str = ".local/share/app.waveflow/waveflow";
/// The same, from Flathub.
pub(crate) const FLATPAK: &str = ".var/app/app.waveflow.WaveFlow/data/app.waveflow/waveflow";

pub(crate) struct App {
    user: &'static User,
    dir: DataDir,
    profile: Profile,
}

impl App {
    /// Makes an install with one profile, signed in.
    pub(crate) fn new(container: &Container, user: &'static User, server: &Server) -> Self {
        Self::at(USUAL, container, user, server)
    }

    /// [`Self::new`] in this place below the home directory.
    pub(crate) fn at(place: &str, container: &Container, user: &'static User, server: &Server) -> Self {
        let path = container.home(user).join(place);
        as_user(user.id, || {
            let dir = DataDir::new(path, Generation::Three).unwrap();
            dir.set_device_id(Some(DEVICE)).unwrap();
            dir.set_server_url(Some(&server.url())).unwrap();
            let profile = dir.add_profile("Zoë").unwrap();
            profile.sign_in(&token::for_user(user.name)).unwrap();
            Self { user, dir, profile }
        })
    }

    /// Its user enters another address for the server.
    pub(crate) fn set_server(&self, url: &str) {
        as_user(self.user.id, || self.dir.set_server_url(Some(url)).unwrap());
    }

    /// Its user does something, so many times.
    pub(crate) fn commit(&self, count: u64) -> Vec<NewOp> {
        let ops = NewOp::renames(count);
        as_user(self.user.id, || self.profile.enqueue(&ops).unwrap());
        ops
    }

    /// How many ops are in its queue.
    pub(crate) fn pending(&self) -> usize {
        as_user(self.user.id, || self.profile.pending_count().unwrap())
    }

    /// The whole directory goes.
    pub(crate) fn reset(self) {
        as_user(self.user.id, || self.dir.reset().unwrap());
    }

    /// Waits until these are at the server, once each and in order, and off the queue.
    #[track_caller]
    pub(crate) fn delivered(&self, server: &Server, ops: &[NewOp]) {
        self.delivered_within(SOON, server, ops);
    }

    /// The same, for what may take longer.
    #[track_caller]
    pub(crate) fn delivered_within(&self, limit: Duration, server: &Server, ops: &[NewOp]) {
        // Asked at the server, because a look into the queue is a look at the agent's files, and wakes it.
        holds_within(limit, || applied(server, ops).len() == ops.len());
        assert_delivered(server, ops);
        assert!(holds_within(SOON, || self.pending() == 0), "{} ops stay in the queue", self.pending());
    }
}
