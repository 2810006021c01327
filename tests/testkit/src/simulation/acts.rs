//! What happens in a life: the app and its user, the network's weather, the disk's faults, kills.
//!
//! What must always hold: two acts are at least two milliseconds apart, for times in the files are milliseconds.

use waveflow_sync_agent::trigger::slot::Wake;

use super::agenda::{MS, Micros, SECOND};
use super::app;
use super::disk::DataFile;
use super::life::{Event, Life};
use super::net::Weather;
use super::plan::WatchMode;
use super::world::{World, lock};

impl Life {
    /// What there is when it begins.
    pub(super) fn furnish(&self) {
        let world = &mut *lock(&self.world);
        let plan = &self.plan;
        world.servers.iter_mut().for_each(|server| server.later = plan.later);
        world.disk.canonical_column = world.rng.bool();
        world.disk.url = world.rng.bool().then_some(0);
        if world.rng.bool() {
            let device = world.operation_id().to_string();
            world.disk.device = Some(device);
        }
        for profile in 0..plan.profiles {
            app::toggle_profile(world, profile, true, plan.pairs);
            let user = world.rng.usize(0..plan.users);
            if world.rng.bool() {
                app::sign_in(world, profile, user, false);
            }
            if plan.near_the_end
                && let Some(file) = world.disk.data(profile)
            {
                file.lamport = Some((1 << 31) - 200);
            }
        }
        self.net.narrow.set(plan.narrow);
    }

    /// One more thing happens, and the next one is put down.
    pub(super) fn act(&mut self) {
        if self.acts_left == 0 {
            return;
        }
        self.acts_left -= 1;
        let (wait, profile, kind) = {
            let rng = &mut lock(&self.world).rng;
            let wait = match rng.u8(0..10) {
                0..=4 => rng.u64(2 * MS..200 * MS),
                5..=7 => rng.u64(200 * MS..5 * SECOND),
                8 => rng.u64(5 * SECOND..90 * SECOND),
                _ => 2 * MS,
            };
            (wait, rng.usize(0..self.plan.profiles), rng.u8(0..100))
        };
        self.put(wait, Event::Act);
        match kind {
            0..=49 => {
                let count = {
                    let rng = &mut lock(&self.world).rng;
                    if rng.u8(0..10) == 0 { rng.usize(10..40) } else { rng.usize(0..4) }
                };
                self.commit(profile, count);
            }
            50..=61 => self.account(profile),
            62..=71 => self.weather(),
            72..=77 => self.people(profile),
            78..=83 => self.settings(profile),
            84..=88 => self.files(profile),
            89..=92 => self.beside(profile),
            _ => self.process(),
        }
    }

    /// The app commits: the log is written, somebody may notice, and then it can be read.
    pub(super) fn commit(&self, profile: usize, count: usize) {
        let world = &mut *lock(&self.world);
        if self.plan.rewinds && world.chance(30) {
            app::back_up(world, profile);
        }
        // An fsync may lie between the two.
        let visible = if world.chance(10) { world.rng.u64(0..120 * MS) } else { world.rng.u64(0..500) };
        let noticed = world.rng.u64(30..300);
        app::write_log(world, profile);
        self.put(noticed, Event::Watch(Some(profile)));
        self.put(visible, Event::Commit(profile, count));
    }

    /// Somebody signs in or out, or pastes a token.
    fn account(&mut self, profile: usize) {
        let plan_users = self.plan.users;
        let world = &mut *lock(&self.world);
        let user = world.rng.usize(0..plan_users);
        let present = world.disk.data(profile).and_then(|file| file.login);
        app::write_log(world, profile);
        match (world.rng.u8(0..10), present) {
            (0, _) => app::sign_out(world, profile),
            (1..=4, Some(login)) => app::sign_in(world, profile, login.user, true),
            (5, Some(login)) => {
                // Not good any more, until another one is pasted.
                for server in &mut world.servers {
                    server.revoked.insert((login.user, login.serial));
                }
            }
            (6..=7, Some(login)) if user != login.user => {
                // Nobody can tell a token that is pasted back from a renewed one, nor whose rows are whom's before the
                // agent looked for the first time.
                let knows = || !self.chain[profile].contains(&user) && self.has_looked(world, profile, login.user);
                if !self.plan.is_guarded() || knows() {
                    self.chain[profile].push(user);
                    app::sign_in(world, profile, user, true);
                }
            }
            (6..=7, Some(_)) => {}
            _ => {
                app::sign_in(world, profile, user, false);
                self.chain[profile] = vec![user];
            }
        }
        self.put(50, Event::Watch(Some(profile)));
    }

    /// Whether the agent wrote down that `user` is signed in.
    fn has_looked(&self, world: &World, profile: usize, user: usize) -> bool {
        let Some(file) = world.disk.profiles.get(profile).and_then(|dir| dir.file.as_ref()) else { return false };
        let (inode, login) = (file.inode, file.login);
        let looked = |record: &waveflow_sync_agent::record::Record| {
            let book = record.books.get(&format!("profiles/{}/data.db", profile + 1));
            book.is_some_and(|book| {
                let account = book.ledger.account.as_ref();
                book.file == inode.to_string()
                    && account.is_some_and(|account| account.subject == user.to_string())
                    && book.ledger.created_at == login.map(|login| login.created_at)
            })
        };
        self.agent.as_ref().map_or_else(|| looked(&self.record), |agent| agent.keeper.look(looked))
    }

    fn weather(&self) {
        let rough = self.plan.rough;
        let world = &mut *lock(&self.world);
        let weather = match world.rng.u8(0..10) {
            0..=3 => Weather::Fine,
            4..=7 => Weather::Rough(rough),
            _ => Weather::Down(world.rng.u8(..)),
        };
        world.tell(|| format!("the weather is {weather:?}"));
        self.net.weather.set(weather);
    }

    /// What a person says to the agent.
    fn people(&mut self, profile: usize) {
        let now = self.now();
        let kind = lock(&self.world).rng.u8(0..10);
        let Some(agent) = &mut self.agent else { return };
        match kind {
            0..=5 => agent.ask(profile, now),
            6 => {
                agent.keeper.change(|record| record.paused = true);
                agent.wake(None, Wake::Ask, true);
            }
            7..=8 => {
                agent.keeper.change(|record| record.paused = false);
                agent.wake(None, Wake::Ask, true);
            }
            _ => {
                agent.keeper.change(|record| record.retry(None));
                agent.wake(None, Wake::Ask, true);
            }
        }
    }

    fn settings(&self, profile: usize) {
        let world = &mut *lock(&self.world);
        match world.rng.u8(0..10) {
            0..=2 => world.disk.url = Some(0),
            3 => world.disk.url = None,
            4 => world.disk.url = Some(1),
            5 => {
                // A migration: a column appears, empty until the app's next start.
                if !std::mem::replace(&mut world.disk.canonical_column, true) {
                    world.disk.profiles.iter_mut().for_each(|profile| profile.canonical_id = None);
                }
            }
            6..=7 => {
                let id = world.operation_id().to_string();
                world.disk.profiles[profile].canonical_id.get_or_insert(id);
            }
            8 => {
                let local = world.rng.bool();
                if let Some(file) = world.disk.data(profile) {
                    file.local = local;
                    file.foreign += 1;
                }
                app::write_log(world, profile);
                return self.put(50, Event::Watch(Some(profile)));
            }
            _ => {
                let queue = world.chance(70);
                if let Some(file) = world.disk.data(profile) {
                    file.queue = queue;
                    file.pairs |= queue;
                    file.foreign += 1;
                }
                app::write_log(world, profile);
                return self.put(50, Event::Watch(Some(profile)));
            }
        }
        app::write_registry(world);
        self.put(50, Event::Watch(None));
    }

    /// Something happens to the files themselves.
    fn files(&mut self, profile: usize) {
        let (moves, rewinds, pairs) = (self.plan.moves, self.plan.rewinds, self.plan.pairs);
        let world = &mut *lock(&self.world);
        let listed = world.disk.profiles[profile].listed;
        match world.rng.u8(0..6) {
            0 if moves && listed => app::toggle_profile(world, profile, false, pairs),
            1 if moves => {
                app::toggle_profile(world, profile, true, pairs);
                self.chain[profile].clear();
            }
            2 if moves && rewinds => app::restore(world, profile, false, true),
            3 if rewinds => app::restore(world, profile, false, false),
            4 => app::delete(world, profile),
            _ => {
                // A checkpoint: a false alarm.
                if let Some(file) = world.disk.data(profile) {
                    file.foreign += 1;
                }
            }
        }
        app::write_log(world, profile);
        self.put(50, Event::Watch(Some(profile)));
        self.put(60, Event::Watch(None));
    }

    /// Other programs at work beside the agent, and the clock.
    fn beside(&self, profile: usize) {
        let plan = &self.plan;
        let world = &mut *lock(&self.world);
        match world.rng.u8(0..6) {
            0..=1 if plan.foreign => {
                let (wait, portal) = (world.rng.u64(MS..SECOND), world.chance(5));
                if let Some(foreign) = app::foreign_begin(world, profile) {
                    self.put(wait, Event::Foreign(Box::new(foreign), portal));
                }
            }
            2 if plan.strangers => {
                let largest = world.chance(15);
                app::take_stamps(world, profile, largest);
            }
            3 if plan.strangers => app::take_pairs(world, profile),
            5 if plan.sick > 0 => app::mend_servers(world),
            4 if plan.jumps => {
                let years = world.rng.i64(-40..40);
                world.off = world.off.saturating_add(years * 365 * 86_400_000);
                world.tell(|| format!("the wall clock jumps by {years} years"));
            }
            _ if plan.disk_faults => {
                let wait: Micros = world.rng.u64(10 * MS..20 * SECOND);
                match world.rng.u8(0..3) {
                    0 => world.disk.full = true,
                    1 => world.disk.faulty = world.rng.u16(1..200),
                    _ => app::hold_lock(world, profile, wait),
                }
                self.put(wait, Event::Mend);
            }
            _ => {}
        }
    }

    /// The agent's process, and the machine's power.
    fn process(&mut self) {
        let (kind, wait) = {
            let world = &mut *lock(&self.world);
            (world.rng.u8(0..10), world.rng.u64(MS..30 * SECOND))
        };
        match kind {
            0..=1 => self.freeze(wait),
            2 => self.stop(),
            3 if self.plan.rewinds => self.cut_power(wait),
            _ if self.plan.kills > 0 && lock(&self.world).chance(self.plan.kills.saturating_mul(8)) => {
                self.kill();
                self.put(wait, Event::Start);
            }
            _ => {}
        }
    }

    fn freeze(&mut self, time: Micros) {
        self.frozen_until = self.frozen_until.max(self.now() + time);
        let world = &mut *lock(&self.world);
        world.count("act: freeze");
        world.tell(|| format!("the agent is stopped for {} ms", time / MS));
    }

    /// Asked to end, it ends, and is started again.
    fn stop(&mut self) {
        let now = self.now();
        let Some(agent) = &mut self.agent else { return };
        agent.stop();
        self.stopping = true;
        self.net.stopped_at.set(Some(now));
        lock(&self.world).count("act: stop");
    }

    /// The machine loses power: the last commits of `data.db` may not have reached the disk.
    fn cut_power(&mut self, wait: Micros) {
        self.kill();
        let profiles = self.plan.profiles;
        let world = &mut *lock(&self.world);
        world.count("act: power cut");
        for profile in 0..profiles {
            if world.chance(60) && world.disk.data(profile).is_some() {
                app::restore(world, profile, true, false);
            }
        }
        self.put(wait, Event::Start);
    }

    pub(super) fn mend(&self) {
        let world = &mut *lock(&self.world);
        (world.disk.full, world.disk.faulty) = (false, 0);
    }

    /// How long it may take until a commit is on its way, where nothing is wrong.
    pub(super) fn promptness(&self) -> Micros {
        match self.plan.watch {
            WatchMode::Auto => 400 * MS,
            WatchMode::Poll => 1_500 * MS,
            WatchMode::Off => 31 * SECOND,
        }
    }
}

/// Everything a profile needs to be served.
pub(super) fn make_ready(file: &mut DataFile) {
    (file.queue, file.local, file.locked_until) = (true, false, 0);
    file.foreign += 1;
}
