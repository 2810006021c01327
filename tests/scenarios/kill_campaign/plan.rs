//! What a life's number decides: the install, the server, and where and how the agent is killed in each round.

use testkit::data_dir::Generation;
use testkit::server::{Fault, Reply, Version};
use waveflow_sync_agent::halt::Place;

/// Kills of the agent in a life.
pub(super) const ROUNDS: usize = 10;
/// Of these, at places it stops at.
const AT_PLACES: usize = 5;
/// Of these, while the server keeps its request.
const HELD: usize = 2;
/// Ops that a profile gets at least in each round: two batches, so that there is a second request and a second read.
const BURST_MIN: usize = 80;
/// Rows that one short transaction cannot stamp.
const LONG: usize = 20_000;
/// The seed of every life, with its number added.
const SEED: u64 = 0x6b69_6c6c;

/// A life.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) number: u64,
    pub(super) generation: Generation,
    pub(super) version: Version,
    /// The device has its id from the beginning.
    pub(super) has_device: bool,
    /// A broken client has stored the largest stamp there is.
    pub(super) largest_taken: bool,
    /// The app has both profiles open all the time, else only while it does something.
    pub(super) stays_open: bool,
    pub(super) batch_ops: usize,
    pub(super) rounds: Vec<Round>,
}

/// From one kill to the next.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) end: End,
    /// Ops the app queues in each profile beforehand.
    pub(super) bursts: [usize; 2],
    /// The first of them is one that no server takes.
    pub(super) sick: bool,
    pub(super) taken: Option<Taken>,
    /// The app as a process of its own, and its end.
    pub(super) app: Option<AppKill>,
}

/// What the next ops would use is taken on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Stamps,
    Pairs,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct AppKill {
    pub(super) profile: usize,
    /// The agent runs meanwhile.
    pub(super) beside: bool,
    /// How long it lives on after its first commit.
    pub(super) ms: u64,
}

/// How the agent is killed.
#[derive(Debug)]
pub(super) enum End {
    /// Where it stopped by itself, at this time of coming by.
    At(Place, u32, Then),
    /// While the server does this to its request number n, from 1.
    Held(Fault, u32),
    Random(Random),
}

/// What happens while it is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Kill,
    /// The app queues something, and drains by itself where it does so in this life.
    AppActs {
        drains: bool,
    },
    /// It goes on, and is killed so many ms later.
    Continue(u64),
}

/// A kill at a random moment.
#[derive(Debug)]
pub(super) struct Random {
    pub(super) faults: Vec<Fault>,
    /// The profile the app's own drain is busy with.
    pub(super) drained: Option<usize>,
    /// Ops the app queues while the agent runs.
    pub(super) late: usize,
    /// Stopped after so many ms, for so many.
    pub(super) stopped: Option<(u64, u64)>,
    /// It is killed so many requests
    pub(super) requests: u64,
    /// and so many ms after its start.
    pub(super) ms: u64,
}

impl Plan {
    /// The life with this number.
    pub(super) fn of(number: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(SEED + number);
        let generation = Generation::QUEUEING[usize::try_from(number % 3).unwrap()];
        let version = if (number / 3).is_multiple_of(2) { Version::Later } else { Version::First };
        let has_device = number % 2 == 1;
        let drains = random.bool();
        let pairs = generation.has_hlc() && version == Version::Later;
        let mut ends: Vec<End> = Vec::new();
        for place in places(number, has_device) {
            ends.push(at(&mut random, place, drains));
        }
        for _ in 0..HELD {
            let faults = [Fault::HoldBeforeStore, Fault::HoldAfterStore, Fault::StallMidReply];
            ends.push(End::Held(faults[random.usize(..3)].clone(), random.u32(1..=2)));
        }
        while ends.len() < ROUNDS {
            ends.push(End::Random(moment(&mut random, drains)));
        }
        // A device gets its id once, and before anything else.
        let first = usize::from(!has_device);
        random.shuffle(&mut ends[first..]);
        let rounds = ends.into_iter().map(|end| round(&mut random, end, pairs)).collect();
        Self {
            number,
            generation,
            version,
            has_device,
            // The app's own drain believes it, and so does the app.
            largest_taken: !drains && random.bool(),
            stays_open: random.bool(),
            batch_ops: random.usize(30..BURST_MIN),
            rounds,
        }
    }
}

/// Where it stops in this life. One life after the other goes on in the list.
fn places(number: u64, has_device: bool) -> Vec<Place> {
    let device = [Place::DeviceInside, Place::DeviceAfter];
    let others: Vec<Place> = Place::ALL.into_iter().filter(|place| !device.contains(place)).collect();
    let half = usize::try_from(number / 2).unwrap();
    let mut places = if has_device { Vec::new() } else { vec![device[half % 2]] };
    // Of two lives the first has one fewer, because of the device.
    let from = half * (2 * AT_PLACES - 1) + if has_device { AT_PLACES - 1 } else { 0 };
    places.extend((from..).map(|at| others[at % others.len()]).take(AT_PLACES - places.len()));
    places
}

/// It may have the write lock there, and whoever wants to write waits: it is in a transaction, or it is the wire's turn,
/// and nobody knows what the database thread does.
fn may_lock(place: Place) -> bool {
    matches!(
        place,
        Place::SettleInside
            | Place::MarkInside
            | Place::ReserveInside
            | Place::AssignInside
            | Place::DeviceInside
            | Place::SendBefore
            | Place::SendAfter
    )
}

fn at(random: &mut fastrand::Rng, place: Place, drains: bool) -> End {
    // The others may be done for several batches at once.
    let often = matches!(place, Place::RowsRead | Place::SendBefore | Place::SendAfter);
    let time = if often { random.u32(1..=2) } else { 1 };
    let then = match random.u8(..3) {
        0 => Then::Kill,
        1 if may_lock(place) => Then::Kill,
        1 => Then::AppActs { drains },
        _ => Then::Continue(random.u64(..25)),
    };
    End::At(place, time, then)
}

fn moment(random: &mut fastrand::Rng, drains: bool) -> Random {
    let faults = (0..random.usize(..4)).map(|_| fault(random, drains)).collect();
    Random {
        faults,
        drained: (drains && random.bool()).then(|| random.usize(..2)),
        late: if random.bool() { random.usize(1..30) } else { 0 },
        stopped: random.bool().then(|| (random.u64(..40), random.u64(5..40))),
        requests: random.u64(..6),
        ms: random.u64(..60),
    }
}

/// Whatever the agent has to live with. A page that says 200 is for lives without the app's own drain, which believes it.
fn fault(random: &mut fastrand::Rng, drains: bool) -> Fault {
    match random.u8(..8) {
        0 => Fault::CutAfterStoring,
        1 => Fault::CutMidReply,
        2 => Fault::CutBeforeStoring,
        3 => Fault::CutMidRequest,
        4 => Fault::DelayAfter(std::time::Duration::from_millis(random.u64(1..30))),
        5 => Fault::DelayBefore(std::time::Duration::from_millis(random.u64(1..30))),
        6 if !drains => Fault::Answer(Reply::captive_portal()),
        _ => Fault::Answer(Reply::proxy(502)),
    }
}

/// What the app and the server have to do for the agent to come there, and something for the sake of variety.
fn round(random: &mut fastrand::Rng, end: End, pairs: bool) -> Round {
    let mut bursts = [random.usize(BURST_MIN..200), random.usize(..60)];
    random.shuffle(&mut bursts);
    let mut sick = false;
    let mut taken = random.bool();
    if let End::At(place, ..) = &end {
        match place {
            Place::AssignAfter => (bursts, taken) = ([LONG, 0], true),
            Place::ReserveInside | Place::ReserveAfter | Place::AssignInside => taken = true,
            Place::QuarantineNoted => sick = true,
            _ => {}
        }
    }
    // An app that stays in a transaction keeps the agent from where it is to stop, and us from acting as another one.
    let beside = match &end {
        End::At(..) => false,
        End::Held(..) => true,
        End::Random(random) => random.late == 0,
    };
    let beside = beside && random.bool();
    let app = (random.u8(..3) == 0).then(|| AppKill { profile: random.usize(..2), beside, ms: random.u64(..30) });
    let taken = taken.then(|| if pairs && random.bool() { Taken::Pairs } else { Taken::Stamps });
    Round { end, bursts, sick, taken, app }
}
