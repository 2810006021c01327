//! The made-up app by itself: queues ops in a directory at a rate, until it has queued as many as asked.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use testkit::args::Args;
use testkit::data_dir::{DataDir, Generation, Profile};
use testkit::ops::Mix;
use testkit::{Error, Result, token};

const USAGE: &str = "testkit-app DIR [--generation 1|2|3|future|head] [--url URL] [--user NAME] [--profile NAME] \
                     [--ops 10] [--burst 1] [--rate 10 (transactions a second, 0 = no pause)] [--seed N]";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let valued = ["generation", "url", "user", "profile", "ops", "burst", "rate", "seed"];
    let args = Args::parse(std::env::args().skip(1), &valued, &[])?;
    let [path] = args.words.as_slice() else { return Err(Error::other("one directory is wanted")) };
    let dir = DataDir::new(path, generation(args.text("generation"))?)?;
    let profile = profile(&dir, args.text("profile").unwrap_or("Zoë"))?;
    if let Some(url) = args.text("url") {
        dir.set_server_url(Some(url))?;
    }
    if let Some(user) = args.text("user") {
        profile.sign_in(&token::for_user(user))?;
    }
    play(&profile, &args)
}

fn generation(name: Option<&str>) -> Result<Generation> {
    match name {
        Some("1") => Ok(Generation::One),
        Some("2") => Ok(Generation::Two),
        None | Some("3") => Ok(Generation::Three),
        Some("future") => Ok(Generation::Future),
        Some("head") => Ok(Generation::Head),
        Some(other) => Err(Error::other(format!("there is no generation {other}"))),
    }
}

/// The first profile that is there, or a new one.
fn profile(dir: &DataDir, name: &str) -> Result<Profile> {
    let profile = match dir.profiles()?.into_iter().next() {
        Some(profile) => profile,
        None => dir.add_profile(name)?,
    };
    dir.set_active(&profile)?;
    Ok(profile)
}

fn play(profile: &Profile, args: &Args) -> Result<()> {
    let (mut left, burst, rate): (usize, usize, f64) =
        (args.get("ops", 10)?, args.get("burst", 1)?, args.get("rate", 10.0)?);
    let pause = if rate > 0.0 { Duration::try_from_secs_f64(1.0 / rate).ok() } else { Some(Duration::ZERO) };
    let pause = pause.ok_or_else(|| Error::other("that rate makes no sense"))?;
    // Ids differ from run to run unless a seed is given: a second run must not queue the same ops again.
    let mut mix = Mix::new(args.get("seed", fastrand::u64(..))?);
    let mut db = profile.open()?;
    while left > 0 {
        let ops: Vec<_> = mix.by_ref().take(burst.clamp(1, left)).collect();
        let stamps = db.enqueue(&ops)?;
        left -= ops.len();
        println!("{} {:?}", ops.len(), stamps.last());
        if left > 0 {
            thread::sleep(pause);
        }
    }
    Ok(())
}
