//! What the made-up app and its user do to the files.
//!
//! What must always hold: each of these is one commit, or one thing a person does; who is signed in decides whose an op
//! is; what the app may do by the contract it does, also where that is unwise.

use uuid::Uuid;
use waveflow_sync_agent::op::{Pair, Reply};

use super::agenda::Micros;
use super::disk::{DataFile, Login, Nature, Row};
use super::oracle::Known;
use super::server::Sent;
use super::world::World;

/// Backups kept of one database.
const BACKUPS_MAX: usize = 6;
/// The app's own drain sends so many rows.
const FOREIGN_BATCH: usize = 100;

/// Something is written to the log of a database; another process may see that before it sees the commit.
pub fn write_log(world: &mut World, profile: usize) {
    let wall = world.wall() * 1000;
    if let Some(file) = world.disk.data(profile) {
        file.log = (file.log.0 + 1, wall);
    }
}

/// `app.db` changes.
pub fn write_registry(world: &mut World) {
    world.disk.app_written = world.wall() * 1000;
    world.disk.app_commits += 1;
}

/// Queues `count` ops in one transaction.
pub fn enqueue(world: &mut World, profile: usize, count: usize, sick: u8) {
    for _ in 0..count {
        let nature = nature(world, sick);
        let (operation_id, wall, now) = (world.operation_id(), world.wall(), world.now);
        let bytes = world.rng.usize(60..900);
        let Some(file) = world.disk.data(profile) else { return };
        if !file.queue {
            return;
        }
        let stamp = draw(file);
        let pair = file.pairs.then(|| draw_pair(file, wall));
        let owner = file.login.map(|login| login.user);
        let row = Row { operation_id, stamp, pair, created_at: wall, nature, bytes, marked: None, since: now };
        if file.insert(row).is_none() {
            // The user's action fails, and nothing of it is committed.
            continue;
        }
        for server in &mut world.servers {
            match nature {
                Nature::Poison | Nature::Doomed => server.poison.insert(operation_id),
                Nature::Refused => server.refused.insert(operation_id),
                Nature::Healthy | Nature::Lone | Nature::Sick => false,
            };
        }
        let late = world.rewound.contains(&profile);
        let known = Known { profile, owner, nature, late, free: owner.is_none(), stored: [None; 2] };
        world.oracle.ops.insert(operation_id, known);
    }
    if let Some(file) = world.disk.data(profile) {
        file.foreign += 1;
    }
    world.tell(|| format!("app: {count} ops in profile {profile}"));
}

fn nature(world: &mut World, sick: u8) -> Nature {
    if !world.chance(sick) {
        return Nature::Healthy;
    }
    let natures = [Nature::Lone, Nature::Poison, Nature::Doomed, Nature::Refused, Nature::Sick];
    natures[world.rng.usize(0..natures.len())]
}

/// As the app draws it; beyond the largest integer it becomes a float, and is read back as a small one.
fn draw(file: &mut DataFile) -> i64 {
    let stamp = file.lamport.unwrap_or(0).checked_add(1).unwrap_or(9);
    file.lamport = Some(stamp);
    stamp
}

fn draw_pair(file: &mut DataFile, now: i64) -> Pair {
    let (last, logical) = (file.hybrid.0.unwrap_or(0), file.hybrid.1.unwrap_or(0));
    let wall = now.max(last);
    let logical = if wall == last { logical + 1 } else { 0 };
    file.hybrid = (Some(wall), Some(logical));
    Pair { wall, logical }
}

/// The user takes something back, and the app deletes the ops.
pub fn delete(world: &mut World, profile: usize) {
    let ids: Vec<i64> = world.disk.data(profile).map(|file| file.rows.keys().copied().collect()).unwrap_or_default();
    for id in ids {
        if world.chance(30)
            && let Some(file) = world.disk.data(profile)
        {
            file.rows.remove(&id);
        }
    }
    if let Some(file) = world.disk.data(profile) {
        file.foreign += 1;
    }
}

/// Signs in, over whoever is signed in: a fresh row, or (`paste`) a token over the old one.
pub fn sign_in(world: &mut World, profile: usize, user: usize, paste: bool) {
    let serial = world.rng.u64(..);
    let wall = world.wall();
    let Some(file) = world.disk.data(profile) else { return };
    // Nobody signs in within the millisecond of somebody else's change.
    let wall = file.rows.values().map(|row| row.created_at + 1).filter(|after| after - 1 == wall).max().unwrap_or(wall);
    let created_at = file.login.filter(|_| paste).map_or(wall, |login| login.created_at);
    file.login = Some(Login { user, serial, created_at, updated_at: wall });
    file.foreign += 1;
    world.tell(|| format!("app: user {user} in profile {profile}, pasted: {paste}"));
}

/// Signs out.
pub fn sign_out(world: &mut World, profile: usize) {
    if let Some(file) = world.disk.data(profile) {
        file.login = None;
        file.foreign += 1;
    }
    world.tell(|| format!("app: signed out of profile {profile}"));
}

/// Keeps a copy.
pub fn back_up(world: &mut World, profile: usize) {
    let Some(dir) = world.disk.profiles.get_mut(profile) else { return };
    if let Some(file) = &dir.file {
        let copy = file.clone();
        dir.backups.push(copy);
        if dir.backups.len() > BACKUPS_MAX {
            dir.backups.remove(0);
        }
    }
}

/// A copy comes back: into the live file, or (`replaces`) as another file.
pub fn restore(world: &mut World, profile: usize, newest: bool, replaces: bool) {
    let (now, inode) = (world.now, world.disk.inode());
    let count = world.disk.profiles.get(profile).map_or(0, |dir| dir.backups.len());
    if count == 0 {
        return;
    }
    let at = if newest { count - 1 } else { world.rng.usize(0..count) };
    let Some(dir) = world.disk.profiles.get_mut(profile) else { return };
    let backup = dir.backups[at].clone();
    match &mut dir.file {
        Some(file) if !replaces => file.restore(&backup, now),
        file => {
            let mut other = DataFile::new(inode, backup.pairs);
            other.restore(&backup, now);
            *file = Some(other);
        }
    }
    if let Some(file) = world.disk.data(profile) {
        file.foreign += 1;
    }
    world.oracle.rewound(profile);
    if world.passing.contains(&profile)
        && let Some(file) = world.disk.profiles.get(profile).and_then(|dir| dir.file.as_ref())
    {
        // A pass that is under way goes on behind the rows it has read, and takes the others with the next one; and so it
        // does with what is queued under their numbers from here on.
        file.rows.values().for_each(|row| world.oracle.late(row.operation_id));
        world.rewound.insert(profile);
    }
    world.tell(|| format!("a copy comes back in profile {profile}, as another file: {replaces}"));
}

/// Deletes a profile, or makes it.
pub fn toggle_profile(world: &mut World, profile: usize, listed: bool, pairs: bool) {
    let inode = world.disk.inode();
    let canonical = world.operation_id().to_string();
    let Some(dir) = world.disk.profiles.get_mut(profile) else { return };
    dir.listed = listed;
    dir.file = listed.then(|| DataFile::new(inode, pairs));
    dir.canonical_id = listed.then_some(canonical);
    dir.backups.clear();
    world.oracle.rewound(profile);
    write_registry(world);
    world.tell(|| format!("app: profile {profile} is there: {listed}"));
}

/// The app's own drain, while it waits for an answer.
pub struct Foreign {
    /// Which profile.
    pub profile: usize,
    /// Whose token.
    pub login: Login,
    /// As which device.
    pub device: String,
    /// Its batch.
    pub ops: Vec<Sent>,
}

/// The app's own drain reads a batch: everything, also what the agent sets aside.
pub fn foreign_begin(world: &mut World, profile: usize) -> Option<Foreign> {
    if world.disk.device.is_none() {
        let device = world.operation_id().to_string();
        world.disk.device = Some(device);
        write_registry(world);
    }
    let device = world.disk.device.clone()?;
    world.disk.url?;
    let now = world.now;
    let file = world.disk.data(profile)?;
    let login = file.login.filter(|_| !file.local)?;
    let rows = file.rows.iter().filter(|(_, row)| row.nature != Nature::Sick).take(FOREIGN_BATCH);
    let sent = |(id, row): (&i64, &Row)| Sent {
        operation_id: row.operation_id,
        stamp: row.stamp,
        pair: row.pair,
        profile,
        row: *id,
        read: now,
    };
    let ops: Vec<Sent> = rows.map(sent).collect();
    (!ops.is_empty()).then_some(Foreign { profile, login, device, ops })
}

/// Its answer comes; `portal` is a 200 that no server gave, and is believed.
pub fn foreign_end(world: &mut World, foreign: &Foreign, portal: bool) {
    let Some(server) = world.disk.url else { return };
    let (mut stored, Foreign { profile, login, device, ops }) = (Vec::new(), foreign);
    let reply = if portal {
        Reply::Accepted(Vec::new())
    } else {
        world.servers[server].answer(login.user, login.serial, device, ops, &mut stored)
    };
    for op in &stored {
        if let Some(known) = world.oracle.ops.get_mut(&op.operation_id) {
            known.stored[server].get_or_insert((login.user, Uuid::nil()));
            (known.free, known.late) = (true, true);
        }
    }
    world.tell(|| format!("app's own drain of profile {profile}, believed: {portal}, {reply:?}"));
    let wall = world.wall();
    let Some(file) = world.disk.data(*profile) else { return };
    match reply {
        Reply::Accepted(_) => {
            let sent = |row: &Row| ops.iter().any(|op| op.operation_id == row.operation_id);
            file.rows.retain(|_, row| !sent(row));
        }
        Reply::Regression { stored_max, .. } => {
            file.lamport = file.lamport.max(Some(stored_max));
            if stored_max >= 1 << 31 {
                world.oracle.unclocked.insert(*profile);
            }
        }
        _ => {
            for op in ops {
                if let Some(row) = file.rows.get_mut(&op.row) {
                    row.marked = Some((wall, "the app's own words".into()));
                }
            }
        }
    }
    if let Some(file) = world.disk.data(*profile) {
        file.foreign += 1;
    }
    write_log(world, *profile);
}

/// Another program of the same account, and mostly of the same device, stores ops under stamps around this profile's.
pub fn take_stamps(world: &mut World, profile: usize, largest: bool) {
    let (Some(server), Some(device)) = (world.disk.url, world.disk.device.clone()) else { return };
    let Some((login, clock)) = world.disk.data(profile).and_then(|file| Some((file.login?, file.lamport?))) else {
        return;
    };
    let from = clock.saturating_sub(world.rng.i64(0..20)).max(1);
    let until = from.saturating_add(world.rng.i64(0..40));
    let stamps = (from..=until).chain(largest.then_some(i64::MAX)).filter(|stamp| *stamp < 1 << 31 || largest);
    // What another device of the account stores takes nothing from this one.
    let device = if world.rng.u8(0..4) == 0 { "another device".to_owned() } else { device };
    world.servers[server].take(login.user, &device, stamps);
    world.tell(|| format!("stamps {from} to {until} are taken, the largest too: {largest}"));
}

/// Another program of the same account and device stores ops under pairs that rows of this queue have, or under those
/// that a server derives from their stamps.
pub fn take_pairs(world: &mut World, profile: usize) {
    let (Some(server), Some(device)) = (world.disk.url, world.disk.device.clone()) else { return };
    let Some(file) = world.disk.data(profile) else { return };
    let Some(login) = file.login else { return };
    let of = |row: &Row| row.pair.unwrap_or(Pair { wall: 0, logical: row.stamp });
    let pairs: Vec<Pair> = file.rows.values().filter(|row| row.stamp % 2 == 0).map(of).collect();
    world.tell(|| format!("pairs of profile {profile} are taken: {pairs:?}"));
    world.servers[server].take_pairs(login.user, &device, pairs);
}

/// The servers are mended, and take what they refused until now.
pub fn mend_servers(world: &mut World) {
    for server in &mut world.servers {
        server.poison.clear();
        server.refused.clear();
    }
    let files = world.disk.profiles.iter_mut().flat_map(|dir| dir.file.iter_mut().chain(&mut dir.backups));
    for row in files.flat_map(|file| file.rows.values_mut()) {
        match row.nature {
            Nature::Poison | Nature::Refused => row.nature = Nature::Healthy,
            Nature::Doomed => row.nature = Nature::Lone,
            Nature::Healthy | Nature::Lone | Nature::Sick => {}
        }
    }
    world.tell(|| "the servers are mended".to_owned());
}

/// A lock, for so long.
pub fn hold_lock(world: &mut World, profile: usize, time: Micros) {
    let until = world.now + time;
    if let Some(file) = world.disk.data(profile) {
        file.locked_until = until;
    }
}
