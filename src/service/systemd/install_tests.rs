use std::path::PathBuf;

use super::super::super::order::tests::order;
use super::super::super::systemctl::Seen;
use super::super::{Files, Place};
use super::*;
use crate::config::{Flags, Platform};

const DIRECTORY: &str = "/home/zoe/.config/systemd/user";
const PACKAGED: &str = "/usr/lib/systemd/user/waveflow-sync-agent.service";

fn plain() -> Order {
    order(&Flags::default(), Platform::Linux, &[]).unwrap()
}

fn elsewhere() -> Order {
    Order { binary: "/home/zoe/.cargo/bin/waveflow-sync-agent".into(), ..plain() }
}

fn seen(properties: &str) -> Seen {
    Seen::of(&properties.replace(' ', "\n"))
}

/// What a manager says that never heard of us.
fn nothing() -> Found {
    let place = |name: &str| Place { path: Path::new(DIRECTORY).join(name), standing: Standing::Absent };
    let files = Files {
        directory: DIRECTORY.into(),
        units: [place(SERVICE), place(SOCKET)],
        links: Vec::new(),
        kept: Vec::new(),
        drop_ins: Vec::new(),
    };
    let inactive = seen("LoadState=not-found ActiveState=inactive");
    Found { files, packaged: None, service: inactive.clone(), socket: inactive }
}

/// What there is behind an install of `order`.
fn installed(order: &Order) -> Found {
    let mut found = nothing();
    for (place, unit) in found.files.units.iter_mut().zip(unit::units(order)) {
        place.standing = Standing::Ours(unit.text);
    }
    found.service = seen(&format!("UnitFileState=enabled ActiveState=active FragmentPath={DIRECTORY}/{SERVICE}"));
    found.socket = seen(&format!("UnitFileState=enabled ActiveState=active FragmentPath={DIRECTORY}/{SOCKET}"));
    found
}

fn with_package(mut found: Found) -> Found {
    let [service, _] = unit::units(&plain());
    found.packaged = Some((PACKAGED.into(), service.text));
    found
}

/// The plan, a word or two for each step.
fn told(order: &Order, found: &Found, old: bool) -> Vec<String> {
    let word = |step: &Step| match step {
        Step::Run { arguments, .. } => {
            let words = arguments.iter().skip(1).map(|word| word.to_string_lossy().into_owned());
            words.filter(|word| !word.starts_with("waveflow")).collect::<Vec<_>>().join(" ")
        }
        Step::Write { path, .. } => format!("write {}", path.extension().unwrap().display()),
        Step::Remove(path) => format!("remove {}", path.extension().unwrap().display()),
        Step::MakeDirectory(path) => format!("make {}", path.file_name().unwrap().display()),
        Step::MakeState(path) => format!("make {}, private", path.file_name().unwrap().display()),
        other => format!("{other:?}"),
    };
    steps(order, found, old).iter().map(word).collect()
}

const MAKE: [&str; 3] = ["make default.target.wants", "make sockets.target.wants", "make sync-agent, private"];
const WRITE: [&str; 2] = ["write service", "write socket"];
const START: &str = "enable --now";

#[test]
fn a_first_install_writes_enables_and_starts() {
    let expected = [&MAKE[..], &WRITE, &["daemon-reload", START]].concat();
    assert_eq!(told(&plain(), &nothing(), false), expected);
}

#[test]
fn the_same_install_again_does_nothing() {
    assert!(told(&plain(), &installed(&plain()), false).is_empty());
    let mut stale = installed(&plain());
    stale.service = seen(&format!(
        "UnitFileState=enabled ActiveState=active NeedDaemonReload=yes FragmentPath={DIRECTORY}/{SERVICE}"
    ));
    assert_eq!(told(&plain(), &stale, false), ["daemon-reload"]);
}

#[test]
fn another_program_or_another_version_of_it_is_stopped_and_started() {
    let expected = [&["stop"][..], &MAKE, &["write service", "daemon-reload", START]].concat();
    assert_eq!(told(&elsewhere(), &installed(&plain()), false), expected);
    assert_eq!(told(&plain(), &installed(&plain()), true), ["stop", START]);
}

#[test]
fn what_failed_is_started_again_and_its_failures_are_forgotten() {
    let mut failed = installed(&plain());
    failed.service = seen(&format!("UnitFileState=enabled ActiveState=failed FragmentPath={DIRECTORY}/{SERVICE}"));
    assert_eq!(told(&plain(), &failed, false), ["reset-failed", START]);
}

#[test]
fn a_packages_unit_that_does_is_enabled_and_not_copied() {
    let expected = [&MAKE[..], &[START]].concat();
    assert_eq!(told(&plain(), &with_package(nothing()), false), expected);
    let mut enabled = with_package(nothing());
    enabled.service = seen(&format!("UnitFileState=enabled ActiveState=active FragmentPath={PACKAGED}"));
    enabled.socket = seen("UnitFileState=enabled ActiveState=active");
    assert!(told(&plain(), &enabled, false).is_empty());
    let moved = [&["stop", "disable"][..], &MAKE, &WRITE, &["daemon-reload", START]].concat();
    assert_eq!(told(&elsewhere(), &enabled, false), moved, "its links lead to the package's");
}

#[test]
fn a_copy_that_a_package_makes_needless_goes() {
    let found = with_package(installed(&elsewhere()));
    let expected =
        [&["stop", "disable"][..], &MAKE, &["remove service", "remove socket", "daemon-reload", START]].concat();
    assert_eq!(told(&plain(), &found, false), expected);
}

#[test]
fn a_socket_that_would_start_the_service_is_not_asked() {
    let dir = tempfile::tempdir().unwrap();
    let order = Order { socket: dir.path().join("sock"), ..plain() };
    let listener = std::os::unix::net::UnixListener::bind(&order.socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut found = installed(&order);
    found.service = seen("ActiveState=inactive");
    assert_eq!(pinged_if_safe(&order, &found), None);
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_state_directory_is_made_so_that_it_can_be_let_through_and_taken_away() {
    let order = order(&Flags::default(), Platform::Linux, &[("XDG_STATE_HOME", "/srv/not-there")]).unwrap();
    let made = Step::MakeState(PathBuf::from("/srv/not-there/waveflow/sync-agent"));
    assert!(steps(&order, &nothing(), false).contains(&made));
    let makes =
        |order: &Order, found: &Found| steps(order, found, false).iter().any(|step| matches!(step, Step::MakeState(_)));
    assert!(makes(&plain(), &nothing()));
    // Nothing to do is nothing to do.
    assert!(!makes(&plain(), &installed(&plain())));
}
