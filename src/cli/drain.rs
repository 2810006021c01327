//! `drain now`: asks the daemon for a pass, waits for it, prints the outcome; on a terminal, how far it is meanwhile.
//!
//! What must always hold: the pass begins at once, whatever is shown; what is shown is on stderr, where that is a terminal,
//! after a second and not before, and it is gone before the outcome is printed.

use std::future::pending;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::daemon::told;
use crate::config::{Config, Control, Environment};
use crate::control::client::{self, Answer, ClientError};
use crate::control::stream::{self, Conversation};
use crate::exit::Exit;
use crate::screen::bar::Progress;
use crate::screen::terminal::{self, Footer};

/// What takes less has no progress worth showing.
const SHORT: Duration = Duration::from_secs(1);
/// Between two pictures.
const REDRAW_EVERY: Duration = Duration::from_millis(200);

pub(super) fn run(config: &Config, profile: Option<i64>, json: bool, env: &Environment) -> Exit {
    let line = profile.map_or_else(|| "drain now".to_owned(), |profile| format!("drain now {profile}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answer = match runtime {
        Ok(runtime) if !json && terminal::moves_cursor(&io::stderr(), env) => {
            runtime.block_on(accompanied(&config.control, &line, profile))
        }
        _ => client::ask(&config.control, &line),
    };
    told(answer, json, |answer| {
        let exit = if answer["remaining"].as_u64().unwrap_or(0) > 0 { Exit::TryLater } else { Exit::Done };
        (super::outcome::of_document(answer), exit)
    })
}

/// Asks, and shows how far it is until the answer comes.
async fn accompanied(control: &Control, line: &str, profile: Option<i64>) -> Result<Answer, ClientError> {
    // Before the pass can begin.
    let mut events = Conversation::begin(control, "watch").await.ok();
    let answer = stream::ask(control, line);
    let status = stream::ask(control, "status");
    tokio::pin!(answer, status);
    let began = Instant::now();
    let mut redraw = interval_at(began + SHORT, REDRAW_EVERY);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut progress, mut footer) = (Progress::new(profile), Footer::new(io::stderr()));
    let (mut long, mut counted) = (false, false);
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            _ = redraw.tick(), if events.is_some() => {
                long = true;
                // The last column stays free: a terminal may go on in the next line.
                let columns = terminal::columns(terminal::size(io::stderr())).saturating_sub(1);
                footer.draw(progress.line(began.elapsed(), columns));
            }
            event = next(&mut events) => match event {
                Some(event) if event.value["error"].is_null() => progress.note(&event.value),
                // Too many watch already, or it is an older daemon; or it told, and tells no more. Nobody knows how far it is.
                _ => {
                    events = None;
                    footer.draw(String::new());
                }
            },
            status = &mut status, if long && !counted => {
                counted = true;
                status.iter().for_each(|status| progress.count(&status.value));
            }
        }
    }
}

async fn next(events: &mut Option<Conversation>) -> Option<Answer> {
    match events {
        Some(events) => events.next().await,
        None => pending().await,
    }
}
