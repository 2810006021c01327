//! The reference server by itself: prints its URL, then a line for each op it stores, until its input ends.

use std::io::Read as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use testkit::args::Args;
use testkit::server::{Leaf, Server, Version};
use testkit::{Error, Result, token};

/// How often the printer looks whether the input has ended.
const LOOK_EVERY: Duration = Duration::from_millis(200);

const USAGE: &str = "testkit-server [--listen 127.0.0.1:0] [--version first|later] [--prefix /music] \
                     [--tls] [--certificate good|wrong-name|expired|self-signed] [--ca-file FILE] [--token USER]";

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
    let valued = ["listen", "version", "prefix", "certificate", "ca-file", "token"];
    let args = Args::parse(std::env::args().skip(1), &valued, &["tls"])?;
    let server = start(&args)?;
    if let (Some(file), Some(pem)) = (args.text("ca-file"), server.ca_pem()) {
        std::fs::write(file, pem)?;
    }
    println!("{}", server.url());
    if let Some(user) = args.text("token") {
        println!("{}", token::for_user(user));
    }
    let ended = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&ended);
    // Not joined: it ends with the input, and the program with it.
    thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().by_ref(), &mut std::io::sink());
        theirs.store(true, Ordering::Relaxed);
    });
    print_until(&server, &ended);
    Ok(())
}

fn start(args: &Args) -> Result<Server> {
    let version = match args.text("version") {
        Some("first") => Version::First,
        None | Some("later") => Version::Later,
        Some(other) => return Err(Error::other(format!("there is no version {other}"))),
    };
    let leaf = match args.text("certificate") {
        None | Some("good") => Leaf::Good,
        Some("wrong-name") => Leaf::WrongName,
        Some("expired") => Leaf::Expired,
        Some("self-signed") => Leaf::SelfSigned,
        Some(other) => return Err(Error::other(format!("there is no certificate {other}"))),
    };
    let mut builder = Server::builder(version).listen(args.get("listen", ([127, 0, 0, 1], 0).into())?);
    if let Some(prefix) = args.text("prefix") {
        builder = builder.prefix(prefix);
    }
    if args.has("tls") || args.text("certificate").is_some() {
        builder = builder.tls(leaf);
    }
    builder.start()
}

/// Prints place, user, device, stamp and id of each stored op; payloads are nobody's business.
fn print_until(server: &Server, ended: &AtomicBool) {
    let mut printed = 0;
    while !ended.load(Ordering::Relaxed) {
        server.wait_for(|stats| stats.stored > printed, LOOK_EVERY);
        for row in server.stored_after(printed) {
            println!("{} {} {} {} {}", row.seq, row.user, row.device_id, row.lamport_ts, row.operation_id);
            printed += 1;
        }
    }
}
