//! The package on a real Debian: installed, used, upgraded, removed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use testkit::server::Fault;

use crate::common::container::{ADA, ADMIN, App, BOB, Container, SERVICE, SOCKET};
use crate::common::daemon::{SOON, eventually};

/// Makes the same package with a higher version, where it is installed from.
const REPACK: &str = "dpkg-deb --raw-extract /srv/agent.deb /srv/next && \
    sed -i 's/^Version: .*/Version: 9.9.9-1/' /srv/next/DEBIAN/control && \
    dpkg-deb --build /srv/next /srv/next.deb";

/// Everything below a directory: what it is, whose, and what is in it.
fn shown(directory: &Path) -> BTreeMap<PathBuf, (u32, u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else if meta.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else {
            fs::read(&path).unwrap()
        };
        found.insert(path, (meta.permissions().mode(), meta.uid(), content));
    }
    found
}

#[test]
fn an_upgrade_under_a_running_agent_starts_the_new_one_and_loses_and_doubles_nothing() {
    let Some(container) = Container::boot() else { return };
    let server = container.server();
    let (ada, bob) = (App::new(&container, &ADA, &server), App::new(&container, &BOB, &container.server()));
    let (socket, service) = (container.user_unit(SOCKET), container.user_unit(SERVICE));
    let template = container.system_unit("waveflow-sync-agent@bob.service");
    socket.ctl(&["enable", "--now"]).ended_with(0);
    service.ctl(&["start"]).ended_with(0);
    template.ctl(&["start"]).ended_with(0);
    let before = (service.pid(), template.pid());
    server.next(Fault::HoldAfterStore);
    let ops = ada.commit(20);
    assert!(server.wait_until_held(SOON));
    container.shell(&ADMIN, REPACK);
    container.run(&ADMIN, &["dpkg", "--install", "/srv/next.deb"]).ended_with(0);
    server.release();
    for (unit, before) in [(&service, before.0), (&template, before.1)] {
        eventually("the new one runs", || unit.state() == "active running" && unit.pid() != before);
    }
    ada.delivered(&server, &ops);
    let ops = ada.commit(5);
    ada.delivered(&server, &ops);
    assert_eq!(server.stored().len(), 25, "stored twice");
    assert_eq!((service.show("NRestarts"), socket.state()), ("0".to_owned(), "active running".to_owned()));
    assert_eq!(socket.show("UnitFileState"), "enabled");
    assert_eq!(bob.pending(), 0);
}

#[test]
fn removed_and_purged_nothing_of_it_is_left_and_the_home_is_as_it_was() {
    let Some(container) = Container::boot() else { return };
    let server = container.server();
    let app = App::new(&container, &ADA, &server);
    let (socket, service) = (container.user_unit(SOCKET), container.user_unit(SERVICE));
    let template = container.system_unit("waveflow-sync-agent@bob.service");
    socket.ctl(&["start"]).ended_with(0);
    template.ctl(&["enable", "--now"]).ended_with(0);
    assert_eq!(container.say("ping")["pong"], true);
    let ops = app.commit(3);
    app.delivered(&server, &ops);
    container.say("pause");
    let ops = app.commit(2);
    let files = container.run(&ADMIN, &["dpkg", "--listfiles", "waveflow-sync-agent"]).ended_with(0).stdout;
    let files: Vec<&str> = files.lines().filter(|file| container.path(file).is_file()).collect();
    assert!(files.contains(&"/usr/bin/waveflow-sync-agent"), "{files:?}");
    container.run(&ADMIN, &["dpkg", "--remove", "waveflow-sync-agent"]).ended_with(0);
    assert_eq!(files.iter().find(|file| container.path(file).exists()), None);
    assert_eq!((service.pid(), template.pid()), (0, 0), "it runs on");
    assert!(!container.path("/run/user/1000/waveflow/sync-agent.sock").exists(), "the socket is left behind");
    let home = shown(&container.home(&ADA));
    container.run(&ADMIN, &["dpkg", "--purge", "waveflow-sync-agent"]).ended_with(0);
    assert!(shown(&container.home(&ADA)) == home, "something was done to the home");
    let left = container.shell(&ADMIN, "find / -xdev -name '*waveflow-sync-agent*' ! -path '/proc/*'").stdout;
    assert_eq!(left, "");
    assert_eq!(app.pending(), 2);
    // Installed again, it goes on where it was.
    container.run(&ADMIN, &["dpkg", "--install", "/srv/agent.deb"]).ended_with(0);
    socket.ctl(&["start"]).ended_with(0);
    container.say("resume");
    app.delivered(&server, &ops);
    assert_eq!(server.stored().len(), 5);
}

#[test]
fn removed_it_leaves_an_agent_alone_that_is_another_program() {
    let Some(container) = Container::boot() else { return };
    let own = "/home/ada/bin/waveflow-sync-agent";
    container.shell(&ADA, &format!("install -D /usr/bin/waveflow-sync-agent {own} && {own} service install"));
    let service = container.user_unit(SERVICE);
    let pid = service.pid();
    container.run(&ADMIN, &["dpkg", "--remove", "waveflow-sync-agent"]).ended_with(0);
    assert!(pid != 0 && service.pid() == pid, "{}", service.state());
    assert_eq!(container.say("ping")["pong"], true);
}

#[test]
fn the_manual_and_the_completions_are_where_they_are_looked_for() {
    let Some(container) = Container::boot() else { return };
    let manual = container.shell(&ADA, "MANWIDTH=100 man waveflow-sync-agent | cat").stdout;
    for word in ["NAME", "SYNOPSIS", "drain now", "check-config", "--data-dir"] {
        assert!(manual.contains(word), "no {word} in {manual}");
    }
    assert!(container.run(&ADA, &["man", "--whatis", "waveflow-sync-agent"]).stdout.contains("waveflow"));
    let complete = "source /usr/share/bash-completion/bash_completion && _completion_loader waveflow-sync-agent; \
        complete -p waveflow-sync-agent";
    let loaded = container.run(&ADA, &["bash", "-c", complete]).ended_with(0).stdout;
    assert!(loaded.contains(" -F "), "{loaded}");
}

#[test]
fn the_units_are_exposed_as_little_as_promised() {
    let Some(container) = Container::boot() else { return };
    let analyse = ["systemd-analyze", "--no-pager"];
    let user = [&analyse[..], &["--user", "security", "--threshold=20", SERVICE]].concat();
    let run = container.run(&ADA, &user).ended_with(0);
    println!("{}", run.stdout.lines().last().unwrap_or_default());
    let template = [&analyse[..], &["security", "--threshold=15", "waveflow-sync-agent@bob.service"]].concat();
    let run = container.run(&ADMIN, &template).ended_with(0);
    println!("{}", run.stdout.lines().last().unwrap_or_default());
}

#[test]
fn installed_by_command_and_uninstalled_it_leaves_the_home_byte_for_byte_as_it_was() {
    let Some(container) = Container::boot() else { return };
    let server = container.server();
    let app = App::new(&container, &ADA, &server);
    let (socket, service) = (container.user_unit(SOCKET), container.user_unit(SERVICE));
    // As `cargo install` leaves it: a program, and no package.
    container.shell(&ADMIN, "cp /usr/bin/waveflow-sync-agent /usr/local/bin/; dpkg --purge waveflow-sync-agent");
    let home = || shown(&container.home(&ADA));
    let command = |what: &str| container.run(&ADA, &["waveflow-sync-agent", "service", what]).ended_with(0);
    let before = home();
    command("install");
    assert_eq!((socket.state(), service.state()), ("active running".to_owned(), "active running".to_owned()));
    command("status");
    let (installed, pid) = (home(), service.pid());
    command("install");
    assert!(home() == installed, "the second time changed something");
    assert_eq!(service.pid(), pid);
    let uninstalled = command("uninstall").stdout;
    assert_eq!((service.pid(), service.show("LoadState")), (0, "not-found".to_owned()));
    assert!(uninstalled.contains("left nothing else behind"), "{uninstalled}");
    let after = home();
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert!(after == before, "a file differs");
    // And again, this time with something to deliver.
    command("install");
    let ops = app.commit(3);
    app.delivered(&server, &ops);
    command("uninstall");
    let after = home();
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
}

#[test]
fn whoever_does_not_linger_is_told_how_to() {
    let Some(container) = Container::boot() else { return };
    let lingers = container.run(&ADA, &["waveflow-sync-agent", "service", "install"]).ended_with(0);
    assert!(!lingers.stdout.contains("enable-linger"), "{lingers:?}");
    container.run(&ADMIN, &["systemctl", "start", "user@1001.service"]).ended_with(0);
    let does_not = container.run(&BOB, &["waveflow-sync-agent", "service", "install"]).ended_with(0);
    assert!(does_not.stdout.contains("loginctl enable-linger"), "{does_not:?}");
}
