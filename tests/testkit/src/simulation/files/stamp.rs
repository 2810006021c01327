//! Fresh stamps in the made-up queue: how far and which is the agent's own [`waveflow_sync_agent::drain::clock`].

use waveflow_sync_agent::drain::action::{Block, Clock, Reserve, StoreError, StoreErrorKind};
use waveflow_sync_agent::drain::clock::{self, WALL_LIMIT};
use waveflow_sync_agent::op::{Pair, STAMP_LIMIT};

use super::{MadeUpFiles, crash, failed, touch};
use crate::simulation::disk::Row;
use crate::simulation::world::World;

impl MadeUpFiles {
    pub(super) fn reserve(&self, world: &mut World, reserve: &Reserve) -> Result<Option<Block>, StoreError> {
        let now = world.wall();
        let file = self.data(world, false)?;
        if reserve.clock == Clock::Hybrid && !file.pairs {
            return Ok(None);
        }
        let until = if reserve.alone { reserve.from } else { i64::MAX };
        let Some(last) = file.rows.range(reserve.from..=until).next_back().map(|(id, _)| *id) else { return Ok(None) };
        let room = last - reserve.from + 1;
        let file = self.data(world, true)?;
        let before = file.lamport;
        let (top, wall) = match reserve.clock {
            Clock::Lamport => {
                let highest = file.rows.values().map(|row| row.stamp).filter(|stamp| *stamp < STAMP_LIMIT).max();
                let top = clock::raise(clock::lamport(file.lamport), highest, reserve, room).map_err(|_| {
                    StoreError { kind: StoreErrorKind::ClockExhausted, message: "no stamps are left".to_owned() }
                })?;
                file.lamport = Some(top);
                (top, 0)
            }
            Clock::Hybrid => {
                let pairs = file.rows.values().filter_map(|row| row.pair);
                let highest = pairs.filter(|pair| (1..WALL_LIMIT).contains(&pair.wall)).max();
                let in_rows = highest.map_or((0, 0), |pair| (pair.wall, pair.logical));
                let (wall, top) = clock::pairs(file.hybrid.0, file.hybrid.1, in_rows, room, now);
                file.hybrid = (Some(wall), Some(top));
                (top, wall)
            }
        };
        if let Some(words) = &reserve.words
            && let Some(row) = file.rows.get_mut(&reserve.from)
        {
            row.marked = Some((now, words.as_str().into()));
        }
        touch(world, self.profile);
        if reserve.clock == Clock::Lamport {
            world.oracle.raised(self.profile, before, top);
        }
        crash(world)?;
        Ok(Some(Block { clock: reserve.clock, from: reserve.from, last, top, wall }))
    }

    pub(super) fn assign(&self, world: &mut World, mut block: Block) -> Result<Option<Block>, StoreError> {
        let stride = if world.whole { usize::MAX } else { world.rng.usize(1..8) };
        let file = self.data(world, true)?;
        let travels = |pair: Option<Pair>| block.clock == Clock::Lamport || pair.is_some();
        let rows = file.rows.range(block.from..=block.last.max(block.from - 1)).rev();
        let ids: Vec<i64> = rows.filter(|(_, row)| travels(row.pair)).take(stride).map(|(id, _)| *id).collect();
        for id in &ids {
            let fresh = block.give(*id);
            let has = |(other, row): (&i64, &Row)| other != id && row.stamp == fresh;
            let taken = block.clock == Clock::Lamport && file.rows.iter().any(has);
            let Some(row) = file.rows.get_mut(id) else { continue };
            match block.clock {
                _ if taken => {
                    world.oracle.breach(|| format!("row {id} is to get stamp {fresh}, which another row has"));
                    return Err(failed("UNIQUE constraint failed: sync_pending_op.lamport_ts"));
                }
                Clock::Lamport => row.stamp = fresh,
                Clock::Hybrid => row.pair = Some(Pair { wall: block.wall, logical: fresh }),
            }
        }
        touch(world, self.profile);
        world.oracle.progress();
        crash(world)?;
        Ok((ids.len() == stride && block.is_left()).then_some(block))
    }
}
