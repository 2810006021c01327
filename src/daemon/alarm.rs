//! Looks, at each tick, whether a person has to be told of something that has been wrong for a day (`alert`).
//!
//! What must always hold: no file is opened and nothing is written while all is well; nobody waits for a desktop; a
//! message that could not be shown is tried again each hour, and one that was is remembered before the next look.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::AbortOnDrop;
use super::agent::Agent;
use super::served::Served;
use crate::alert::concern::{Seen, Stand};
use crate::alert::desktop::Bus;
use crate::alert::words::Message;
use crate::clock;
use crate::status::State;
use crate::worker::engine::Engine;

/// A desktop that shows nothing now may do so later: somebody logs in.
const TRY_EVERY: Duration = Duration::from_secs(3600);
/// By less than this, in ms, a wall clock is not set but corrected.
const JUMP_MIN_MS: i64 = 60_000;

/// What it takes to tell a person.
pub(super) struct Alarm {
    /// `None`: there is nobody to tell.
    bus: Option<Bus>,
    /// The wall clock, in ms, and the time that passed, when they were last looked at.
    clocks: (i64, Duration),
    /// On its way to the screen.
    sending: Option<AbortOnDrop>,
    tried: Option<Instant>,
}

impl Alarm {
    pub(super) fn new(bus: Option<Bus>) -> Self {
        Self { bus, clocks: (clock::now_ms(), clock::passed()), sending: None, tried: None }
    }

    /// Looks how the profiles stand, and tells if there is a reason.
    pub(super) async fn look(&mut self, agent: &Agent) {
        let Some(bus) = self.bus.clone() else { return };
        // What is on its way has not been written down yet. And where the app's directory is gone, its profiles are not.
        if self.sending.as_ref().is_some_and(|sending| !sending.0.is_finished()) || agent.problem().is_some() {
            return;
        }
        let engine = agent.engine();
        let (now, jumped) = self.now();
        let before = engine.keeper.look(|record| record.concern.clone());
        let (after, message) = if engine.config.notify.desktop {
            let served = agent.served();
            let seen: Vec<_> = served.iter().map(|served| seen(served)).collect();
            before.look(now, jumped, &seen)
        } else {
            (before.unwanted(), None)
        };
        if after != before {
            let keeper = Arc::clone(&engine.keeper);
            engine.database.call(move || keeper.change(|record| record.concern = after)).await;
        }
        if let Some(message) = message.filter(|_| self.tried.is_none_or(|tried| tried.elapsed() >= TRY_EVERY)) {
            self.tried = Some(Instant::now());
            self.sending = Some(AbortOnDrop(tokio::task::spawn_local(tell(bus, message, engine))));
        }
    }

    /// The wall clock, and by how much it was set since the last look.
    fn now(&mut self) -> (i64, i64) {
        let (wall, passed) = (clock::now_ms(), clock::passed());
        let (wall_before, passed_before) = self.clocks;
        self.clocks = (wall, passed);
        let passed = i64::try_from(passed.saturating_sub(passed_before).as_millis()).unwrap_or(i64::MAX);
        let jumped = wall.saturating_sub(wall_before).saturating_sub(passed);
        (wall, if jumped.saturating_abs() < JUMP_MIN_MS { 0 } else { jumped })
    }
}

async fn tell(bus: Bus, message: Message, engine: Rc<Engine>) {
    match bus.show(&message).await {
        Ok(()) => {
            tracing::debug!("told the user: {}", message.title);
            let (keeper, now) = (Arc::clone(&engine.keeper), clock::now_ms());
            engine.database.call(move || keeper.change(|record| record.concern.told = Some(now))).await;
        }
        Err(error) => tracing::debug!("the user could not be told: {error}"),
    }
}

fn seen(served: &Served) -> Seen<'_> {
    let standing = served.standing.borrow();
    let is_fine = standing.state == State::Idle && served.has_passed();
    // What the last pass counted holds while the next one is under way. One that was skipped counted nothing, and one that
    // failed perhaps not everything.
    let is_counted = is_fine || standing.state == State::Held;
    let counted = |count: u64| (count > 0 || is_counted).then_some(count);
    let refused = match standing.state {
        State::Unauthorized if standing.pending > 0 => Some(standing.pending),
        // Whoever signs in later has another token, and days of his own.
        State::SignedOut => Some(0),
        _ => is_fine.then_some(0),
    };
    let stand = Stand { refused, held: counted(standing.held), quarantined: counted(standing.quarantined) };
    Seen { profile: served.profile.id, name: &served.profile.name, stand }
}
