//! The server and the way there: the address, the proxy, name, TCP, TLS, and what answers.
//!
//! What must always hold: it goes the way a pass goes; what is sent is a batch without an op, as a pass sends it to see
//! whether a server is one; each step takes [`STEP_MAX`] at the most, and all the asking [`ALL_MAX`].

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Errand, Finding, Ticket, server, token};
use crate::config::{Config, Environment};
use crate::op::Reply;
use crate::push::probe::{self, Way};
use crate::push::wire::empty_batch;
use crate::push::{Client, Clocks, Settings, Target};
use crate::worker::engine;

/// Longer than this nobody waits for an answer in front of a terminal, whatever is configured.
const STEP_MAX: Duration = Duration::from_secs(10);
/// A server that takes its time for each of many profiles is not asked for all of them.
const ALL_MAX: Duration = Duration::from_secs(30);
/// Sent where the app has no device id yet; with no op beside it, it is stored nowhere.
const NO_DEVICE: &str = "00000000-0000-0000-0000-000000000000";

pub(super) fn look(config: &Config, env: &Environment, errand: &Errand, now: i64) -> Vec<Finding> {
    let Some(url) = &errand.url else { return vec![server::no_address()] };
    let target = match Target::parse(url) {
        Ok(target) => target,
        Err(why) => return vec![server::no_url(&why, config.server.url.is_some())],
    };
    let settings = match engine::settings(config, env) {
        Ok(settings) => Settings {
            connect_timeout: settings.connect_timeout.min(STEP_MAX),
            request_timeout: settings.request_timeout.min(STEP_MAX),
            ..settings
        },
        Err(why) => return vec![server::judge_setup(&why)],
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return vec![server::judge_setup(&format!("nothing can be asked: {error}"))],
    };
    let found = runtime.block_on(ask(&target, &settings, errand, now));
    // A name that is looked up for ever is left to itself.
    runtime.shutdown_background();
    found
}

async fn ask(target: &Target, settings: &Settings, errand: &Errand, now: i64) -> Vec<Finding> {
    let limit = settings.connect_timeout;
    let way = probe::probe(target, settings, limit).await;
    let mut found = server::judge_way(target, &way, now);
    if way.stopped.is_some() {
        found.extend(errand.tickets.iter().map(|ticket| token::judge(ticket, None, now)));
        return found;
    }
    let client = match Client::new(target.clone(), settings.clone()) {
        Ok(client) => client,
        Err(why) => return vec![server::judge_setup(&why)],
    };
    found.push(server::judge_scheme(target, &client, settings.require_tls));
    found.extend(ask_all(client, errand, &way, now).await);
    found
}

async fn ask_all(mut client: Client, errand: &Errand, way: &Way, now: i64) -> Vec<Finding> {
    let deadline = Instant::now() + ALL_MAX;
    let device = errand.device.as_deref().unwrap_or(NO_DEVICE);
    let mut replies: Vec<(&Ticket, Option<Reply>)> = Vec::new();
    let mut clocks: Option<Clocks> = None;
    for ticket in &errand.tickets {
        let left = deadline.saturating_duration_since(Instant::now());
        let reply = timeout(left, client.push(&ticket.token, empty_batch(device))).await.ok();
        clocks = clocks.or(client.clocks());
        replies.push((ticket, reply));
    }
    let through = way.proxy.is_some();
    // Whether it is a server does not hang on whose token it was: the best that was heard counts.
    let heard = replies.iter().filter_map(|(_, reply)| reply.as_ref());
    let best = heard.min_by_key(|reply| server::rank(reply));
    let mut found = vec![match best {
        Some(reply) => server::judge_reply(client.target(), reply, through),
        None => server::not_asked(errand.tickets.is_empty()),
    }];
    found.extend(replies.iter().map(|(ticket, reply)| token::judge(ticket, reply.as_ref(), now)));
    found.extend(clocks.map(server::judge_clocks));
    found
}
