//! The end of a life: nothing new goes wrong, and everything has to arrive.
//!
//! What must always hold: an op that servers take is stored in the end, once; what is held goes when its owner signs in,
//! or when a person lets it go; a commit in fine weather is on its way at once; and then there is silence.

use waveflow_sync_agent::op::OperationId;
use waveflow_sync_agent::trigger::slot::Wake;

use super::acts::make_ready;
use super::agenda::{MS, Micros, SECOND};
use super::app;
use super::life::{Event, Life, TIMER};
use super::net::Weather;
use super::plan::WatchMode;
use super::world::lock;

/// A stranger in the server's place is asked once an hour after a day; nothing waits longer.
const PATIENCE: Micros = 2 * 3600 * SECOND;
/// Commits whose way is timed.
const TIMED: usize = 3;
/// Nothing may be sent for so long.
const SILENCE: Micros = 1800 * SECOND;

impl Life {
    pub(super) fn come_to_rest(&mut self) {
        self.put_in_order();
        // What was begun before is still to come.
        self.pass_time(self.frozen_until.saturating_sub(self.now()) + 2 * SECOND);
        if !self.drive(|life| life.agent.is_some(), 60 * SECOND) {
            return;
        }
        if self.exhausted()
            || self.deliver("what its owner queued") && self.hand_over() && self.time_commits() && self.time_paste()
        {
            self.keep_silent();
        }
    }

    /// A clock that is at its end stays there: nothing can be promised.
    fn exhausted(&self) -> bool {
        lock(&self.world).seen.get("files: no stamps left").is_some_and(|count| *count > 0) || self.plan.near_the_end
    }

    fn put_in_order(&mut self) {
        self.net.weather.set(Weather::Fine);
        self.mend();
        {
            let world = &mut *lock(&self.world);
            world.tell(|| "from here on nothing new goes wrong".to_owned());
            world.disk.url = Some(world.disk.url.unwrap_or(0));
            app::write_registry(world);
            for profile in 0..self.plan.profiles {
                let canonical = world.operation_id().to_string();
                world.disk.profiles[profile].canonical_id.get_or_insert(canonical);
                app::write_log(world, profile);
                let Some(file) = world.disk.data(profile) else { continue };
                make_ready(file);
                let (login, serial) = (file.login, world.rng.u64(..));
                if let (Some(login), Some(file)) = (login, world.disk.data(profile)) {
                    // Whoever is signed in gets a good token.
                    file.login = Some(super::disk::Login { serial, ..login });
                }
            }
        }
        match &self.agent {
            Some(agent) => {
                // Somebody asks, or nobody does: then it goes on by itself when its time has come.
                if agent.keeper.look(|record| record.paused) || lock(&self.world).rng.bool() {
                    agent.keeper.change(|record| record.paused = false);
                    agent.wake(None, Wake::Ask, true);
                }
            }
            None => self.record.paused = false,
        }
        (0..self.plan.profiles).for_each(|profile| self.put(50, Event::Watch(Some(profile))));
        self.put(60, Event::Watch(None));
        self.put(MS, Event::Start);
    }

    /// Healthy rows that should go under the account that is signed in.
    fn waiting(&self) -> usize {
        let world = &mut *lock(&self.world);
        let mut waiting = 0;
        for profile in world.disk.profiles.iter().filter(|profile| profile.listed) {
            let Some(file) = &profile.file else { continue };
            let Some(login) = file.login else { continue };
            let goes = |row: &&super::disk::Row| {
                let known = world.oracle.ops.get(&row.operation_id);
                // What was passed over once may be held, and what is nobody's is.
                row.nature.is_healthy()
                    && known.is_some_and(|known| !known.late && known.owner == Some(login.user) && !known.free)
            };
            waiting += file.rows.values().filter(goes).count();
        }
        waiting
    }

    fn deliver(&mut self, what: &str) -> bool {
        let done = self.drive(|life| life.waiting() == 0, PATIENCE);
        if !done {
            let waiting = self.waiting();
            lock(&self.world).oracle.breach(|| format!("{waiting} ops never arrive: {what}"));
        }
        done
    }

    /// Healthy rows, whoever's they are.
    fn left(&self) -> usize {
        let world = lock(&self.world);
        let files = world.disk.profiles.iter().filter(|profile| profile.listed).filter_map(|dir| dir.file.as_ref());
        files.map(|file| file.rows.values().filter(|row| row.nature.is_healthy()).count()).sum()
    }

    /// Each account signs in once more, and then a person lets go of what is left.
    fn hand_over(&mut self) -> bool {
        for user in 0..self.plan.users {
            if self.left() == 0 {
                return true;
            }
            {
                let world = &mut *lock(&self.world);
                for profile in 0..self.plan.profiles {
                    app::sign_in(world, profile, user, false);
                    app::write_log(world, profile);
                    self.put(50, Event::Watch(Some(profile)));
                }
            }
            self.drive(|life| life.left() == 0, 2 * TIMER);
        }
        self.let_go();
        let done = self.drive(|life| life.left() == 0, PATIENCE);
        if !done && !self.is_broken() {
            let left = self.left();
            lock(&self.world).oracle.breach(|| format!("{left} ops never arrive, though a person let them go"));
        }
        done
    }

    fn let_go(&mut self) {
        let Some(agent) = &self.agent else { return };
        let world = &mut *lock(&self.world);
        for profile in 0..self.plan.profiles {
            let Some(file) = world.disk.data(profile) else { continue };
            let ids: Vec<_> = file.rows.values().map(|row| (row.operation_id, row.nature.is_healthy())).collect();
            for (id, healthy) in ids {
                if let Some(known) = world.oracle.ops.get_mut(&id) {
                    (known.free, known.late) = (true, true);
                }
                // An op may be set aside and held: it is listed under both, and let go from each.
                for _ in 0..if healthy { 2 } else { 0 } {
                    agent.keeper.change(|record| record.retry(Some(&OperationId::Canonical(id))));
                }
            }
        }
        world.count("act: let go");
        drop_guard(world);
        agent.wake(None, Wake::Ask, true);
    }

    /// Commits in fine weather, each timed.
    fn time_commits(&mut self) -> bool {
        // What a server refuses for ever, without proof, makes the profile wait; that is no fine weather.
        let rows: usize = {
            let world = lock(&self.world);
            let files = world.disk.profiles.iter().filter_map(|dir| dir.file.as_ref());
            files.map(|file| file.rows.len()).sum()
        };
        // Nor is a clock that was set back: whatever is older than the sign-in is held.
        if rows > 0 || self.is_put_off() || self.plan.narrow.is_some() || self.plan.jumps {
            return true;
        }
        // Nor what still waits for an answer, or for a server that failed and has nothing to get any more.
        if let Some(agent) = &self.agent {
            agent.wake(None, Wake::Ask, true);
        }
        self.drive(Self::is_idle, PATIENCE);
        for _ in 0..TIMED {
            let (pause, profile) = {
                let world = &mut *lock(&self.world);
                (world.rng.u64(MS..8 * SECOND), world.rng.usize(0..self.plan.profiles))
            };
            self.pass_time(pause);
            let signed_in = lock(&self.world).disk.data(profile).is_some_and(|file| file.login.is_some());
            if !signed_in {
                continue;
            }
            self.plan.sick = 0;
            self.commit(profile, 2);
            self.pass_time(130 * MS);
            // A stamp that is taken needs its round trips, and after three a wait.
            let shared = self.plan.strangers || self.plan.foreign || self.plan.rewinds || self.plan.profiles > 1;
            let limit = self.promptness() + if shared { 3 * SECOND } else { 0 };
            if !self.drive(|life| life.left() == 0, limit) && !self.is_broken() {
                lock(&self.world).oracle.breach(|| format!("a commit in profile {profile} is not noticed"));
                return false;
            }
        }
        true
    }

    /// Whether a server asked to be left alone until later.
    fn is_put_off(&self) -> bool {
        self.net.named.get().iter().any(|(_, until)| *until > self.now())
    }

    fn is_idle(&self) -> bool {
        self.agent.as_ref().is_none_or(|agent| !agent.is_busy())
    }

    /// A token is refused, and another one is pasted: used at once, also where that happens while the refusal is on its
    /// way.
    fn time_paste(&mut self) -> bool {
        let profile = lock(&self.world).rng.usize(0..self.plan.profiles);
        let login = lock(&self.world).disk.data(profile).and_then(|file| file.login);
        let (Some(login), WatchMode::Auto) = (login, self.plan.watch) else { return true };
        if self.left() > 0 || self.is_put_off() || self.plan.narrow.is_some() || self.plan.jumps || !self.is_idle() {
            return true;
        }
        self.plan.sick = 0;
        let pause = {
            let world = &mut *lock(&self.world);
            for server in &mut world.servers {
                server.revoked.insert((login.user, login.serial));
            }
            world.rng.u64(0..30 * MS)
        };
        self.commit(profile, 2);
        self.pass_time(pause);
        {
            let world = &mut *lock(&self.world);
            app::sign_in(world, profile, login.user, true);
            app::write_log(world, profile);
        }
        self.put(50, Event::Watch(Some(profile)));
        self.pass_time(130 * MS);
        let done = self.drive(|life| life.left() == 0, 5 * SECOND);
        if !done && !self.is_broken() {
            lock(&self.world).oracle.breach(|| format!("a token pasted in profile {profile} is not noticed"));
        }
        done
    }

    fn pass_time(&mut self, time: Micros) {
        let end = self.now() + time;
        self.put(time, Event::Mend);
        self.drive(|life| life.now() >= end, time);
    }

    /// Nothing is to do, so nothing is sent.
    fn keep_silent(&mut self) {
        let rows: usize = {
            let world = lock(&self.world);
            let files = world.disk.profiles.iter().filter_map(|dir| dir.file.as_ref());
            files.map(|file| file.rows.len()).sum()
        };
        if rows > 0 || self.is_broken() {
            return;
        }
        let sent = |life: &Self| {
            let world = lock(&life.world);
            let of = |name: &str| world.seen.get(name).copied().unwrap_or(0);
            of("action: send") + of("action: send an empty batch")
        };
        let before = sent(self);
        self.pass_time(SILENCE);
        if sent(self) != before {
            lock(&self.world).oracle.breach(|| "something is sent, and nothing was to be sent".to_owned());
        }
    }
}

fn drop_guard(world: &mut super::world::World) {
    world.oracle.guarded = false;
}
