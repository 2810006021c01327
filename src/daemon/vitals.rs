//! How the daemon is, for the service manager: in a line, and whether it gets on at all.
//!
//! What must always hold: nothing is opened or asked for it.

use std::convert::Infallible;
use std::future::pending;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::agent::Agent;
use super::served::Served;
use crate::clock;
use crate::metrics::Gauges;
use crate::service::headline::Headline;
use crate::service::manager::Manager;
use crate::status::State;
use crate::worker::pulse::Pulse;

/// What one job on the database thread may take, busy disks included. A whole request has its own limits.
const JOB: Duration = Duration::from_secs(10);

/// Who was stuck is looked at again this soon: he may get on before the service manager's patience ends, and a sign that
/// waits for its usual time would come just behind that.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The line.
pub(super) fn headline(agent: &Agent) -> Headline {
    let served = agent.served();
    let standings: Vec<_> = served.iter().map(|served| served.standing.borrow()).collect();
    let stopped = standings.iter().find_map(|standing| match standing.state {
        State::BackingOff | State::Unauthorized | State::Unavailable => {
            let words = standing.state.words();
            let why = standing.last_error.as_ref().map(|failure| format!(": {}", failure.message));
            Some(format!("{words}{}", why.unwrap_or_default()))
        }
        _ => None,
    });
    Headline {
        trouble: agent.problem(),
        paused: agent.engine().keeper.look(|record| record.paused),
        profiles: standings.len(),
        pending: standings.iter().map(|standing| standing.pending).sum(),
        last_success: standings.iter().filter_map(|standing| standing.last_success).max(),
        stopped,
    }
}

/// The counters, and how the profiles stand by the last pass.
pub(crate) fn metrics(agent: &Agent) -> String {
    let engine = agent.engine();
    let (now, wall) = (engine.now(), clock::now_ms());
    let gauges = |served: Rc<Served>| {
        let standing = served.standing.borrow();
        let age = standing.oldest.map(|queued_at| wall.saturating_sub(queued_at).try_into().unwrap_or(0));
        Gauges {
            profile: served.profile.id,
            counted: standing.counted,
            pending: standing.pending,
            quarantined: standing.quarantined,
            held: standing.held,
            oldest_s: age.map(Duration::from_millis).unwrap_or_default().as_secs_f64(),
            backoff_s: standing.next_attempt.map(|at| at.saturating_sub(now)).unwrap_or_default().as_secs_f64(),
        }
    };
    let profiles: Vec<_> = agent.served().into_iter().map(gauges).collect();
    engine.tidings.metrics(&profiles)
}

/// Shows the service manager that everybody gets on, for ever: where somebody does not, it had better start us again. `own`
/// is the daemon's pulse, on a clock that `began` then.
pub(super) async fn show(agent: Rc<Agent>, manager: &Manager, own: Rc<Pulse>, began: Instant) -> Infallible {
    let Some(every) = manager.sign_every() else { return pending().await };
    let mut alarmed = false;
    loop {
        let next = match stuck(&agent, own.still_for(began.elapsed())) {
            None => {
                alarmed = false;
                manager.alive();
                every
            }
            Some((who, still)) => {
                if !std::mem::replace(&mut alarmed, true) {
                    let still = still.as_secs();
                    tracing::error!("{who} has not got on for {still} s; no sign of life is given any more");
                }
                every.min(LOOK_AGAIN)
            }
        };
        tokio::time::sleep(next).await;
    }
}

/// Who has come to a stand, with the time since anything came of his work; `own` is the daemon's.
fn stuck(agent: &Agent, own: Duration) -> Option<(String, Duration)> {
    let engine = agent.engine();
    let (now, server) = (engine.now(), &engine.config.server);
    let limit = server.connect_timeout + server.request_timeout + JOB;
    let profiles = agent.served().into_iter().map(|served| (served.profile.id, served.pulse.still_for(now)));
    stillest(profiles, own, limit)
}

/// The one that has been still for longest, if that is longer than `limit`: a profile, or the daemon itself.
fn stillest(
    profiles: impl Iterator<Item = (i64, Duration)>,
    own: Duration,
    limit: Duration,
) -> Option<(String, Duration)> {
    let all = profiles.map(|(profile, still)| (format!("profile {profile}"), still));
    let all = all.chain([("the daemon".to_owned(), own)]);
    all.max_by_key(|(_, still)| *still).filter(|(_, still)| *still > limit)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_profile_or_the_daemon_itself_may_come_to_a_stand() {
        let second = Duration::from_secs;
        let found =
            |profile, own| stillest([(1, second(0)), (2, second(profile))].into_iter(), second(own), second(60));
        assert_eq!(found(60, 60), None);
        assert_eq!(found(61, 0), Some(("profile 2".to_owned(), second(61))));
        assert_eq!(found(0, 61), Some(("the daemon".to_owned(), second(61))));
    }
    use crate::config::{self, Environment, Flags, Platform};

    #[tokio::test]
    async fn who_gets_on_again_is_told_of_at_once_and_not_at_the_usual_time() {
        let dir = tempfile::tempdir().unwrap();
        let ear = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        ear.set_nonblocking(true).unwrap();
        let (home, notify) = (dir.path().to_str().unwrap(), dir.path().join("notify"));
        let variables = [("HOME", home), ("NOTIFY_SOCKET", notify.to_str().unwrap()), ("WATCHDOG_USEC", "180000000")];
        let env = Environment::new(Platform::Linux, dir.path(), variables);
        let config = config::load(&Flags::default(), &env).unwrap().config;
        let (manager, own) = (Manager::of(&env), Rc::new(Pulse::default()));
        let agent = Rc::new(Agent::new(&config, Flags::default(), env).unwrap());
        let began = Instant::now().checked_sub(Duration::from_secs(1000)).unwrap();
        own.beat(Duration::ZERO);
        let mut signs = std::pin::pin!(show(agent, &manager, Rc::clone(&own), began));
        let patience = LOOK_AGAIN + LOOK_AGAIN;
        assert!(tokio::time::timeout(patience, &mut signs).await.is_err());
        assert!(ear.recv(&mut [0; 64]).is_err(), "it is stuck");
        own.rest();
        assert!(tokio::time::timeout(patience, signs).await.is_err());
        assert!(ear.recv(&mut [0; 64]).is_ok(), "it gets on");
    }
}
