//! The hardening of the units: each directive is shown to hold from inside.

use crate::common::container::{ADA, ADMIN, App, BOB, Container, SERVICE};
use crate::common::sandbox::Hardened;

/// What harms nobody: the probe asks for what these filter, always with arguments that come to nothing. Nspawn's own filter
/// would refuse it first.
const LET_THROUGH: [&str; 2] = ["--system-call-filter=@keyring", "--system-call-filter=@clock"];

/// Keys of `[Service]` that forbid nothing, or not to the process: they are seen in other scenarios.
const NO_SANDBOX: [&str; 17] = [
    "ExecReload",
    "ExecStart",
    "NotifyAccess",
    // Opens what others shut.
    "ReadWritePaths",
    "Restart",
    "RestartPreventExitStatus",
    "RestartSec",
    "RuntimeDirectory",
    "RuntimeDirectoryMode",
    "RuntimeDirectoryPreserve",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "Type",
    "User",
    "WatchdogSec",
    "WorkingDirectory",
    "Environment",
];

/// What a user's manager has not the right to do outside a namespace of its user's own.
const BY_NAMESPACE: [&str; 11] = [
    "CapabilityBoundingSet",
    "InaccessiblePaths",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateTmp",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectSystem",
];

/// What the kernel does to the unit as a whole, where it is let: `systemctl` shows whether it was asked to.
const LIMITS: [&str; 3] = ["MemoryHigh", "MemoryMax", "TasksMax"];

#[test]
fn each_directive_of_the_user_unit_forbids_what_it_is_there_to_forbid() {
    let Some(container) = Container::boot_with(&LET_THROUGH) else { return };
    assert_each_holds(&Hardened {
        inside: &container,
        unit: container.user_unit("waveflow-sync-agent.service"),
        file: "/usr/lib/systemd/user/waveflow-sync-agent.service",
        user: &ADA,
        units: "/etc/systemd/user",
        bare: "",
        in_need: &BY_NAMESPACE,
    });
}

#[test]
fn each_directive_of_the_template_forbids_what_it_is_there_to_forbid() {
    let Some(container) = Container::boot_with(&LET_THROUGH) else { return };
    assert_each_holds(&Hardened {
        inside: &container,
        unit: container.system_unit("waveflow-sync-agent@bob.service"),
        file: "/usr/lib/systemd/system/waveflow-sync-agent@.service",
        user: &BOB,
        units: "/etc/systemd/system",
        // A keyring of its own is what a unit of the machine's has by default.
        bare: "User=bob\nKeyringMode=inherit",
        in_need: &[],
    });
}

#[test]
fn where_users_may_make_no_namespaces_the_service_starts_without_what_takes_one() {
    let Some(container) = Container::boot() else { return };
    let server = container.server();
    let app = App::new(&container, &ADA, &server);
    let service = container.user_unit(SERVICE);
    assert_eq!(service.show("PrivateUsers"), "yes");
    // Only what the setting says: the kernel has one for all its containers, and this one is not to change it.
    container.shell(&ADMIN, "echo 0 >/srv/none && mount --bind /srv/none /proc/sys/user/max_user_namespaces");
    service.manager(&["daemon-reload"]).ended_with(0);
    assert_eq!(service.show("PrivateUsers"), "no");
    service.ctl(&["start"]).ended_with(0);
    let ops = app.commit(3);
    app.delivered(&server, &ops);
    let world = |process: u32| container.shell(&ADMIN, &format!("readlink /proc/{process}/ns/user")).stdout;
    assert_eq!(world(service.pid()), world(1), "it took a namespace to start it");
    service.ctl(&["reload"]).ended_with(0);
    // What needs none is as it was.
    for (directive, value) in [("NoNewPrivileges", "yes"), ("RestrictNamespaces", "yes"), ("LimitCORE", "0")] {
        assert_eq!(service.show(directive), value, "{directive}");
    }
    let filters = format!("grep ^Seccomp: /proc/{}/status", service.pid());
    assert_eq!(container.shell(&ADMIN, &filters).stdout, "Seccomp:\t2\n");
}

#[track_caller]
fn assert_each_holds(hardened: &Hardened) {
    let shipped = hardened.directives();
    let mut keys: Vec<&str> = shipped.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    for limit in LIMITS.iter().filter(|limit| keys.contains(limit)) {
        let shown = hardened.unit.show(limit);
        assert!(shown.parse::<u64>().is_ok_and(|number| number > 0), "{limit} is {shown}");
    }
    keys.retain(|key| !NO_SANDBOX.contains(key) && !LIMITS.contains(key));
    if !cfg!(target_arch = "x86_64") {
        eprintln!(
            "SystemCallArchitectures is not tried: only on x86-64 is there a foreign call that a C library makes"
        );
        keys.retain(|key| *key != "SystemCallArchitectures");
    }
    hardened.prepare();
    let bare = hardened.bare();
    let vain: Vec<_> = bare.values().filter(|result| result["allowed"] != true).collect();
    assert!(vain.is_empty(), "forbidden without any directive: {vain:?}");
    // Before anything is started: a directive nobody tries is no promise.
    let untried: Vec<_> = keys.iter().filter(|key| !bare.contains_key(**key)).collect();
    assert!(untried.is_empty(), "in the unit, and not in probe.py: {untried:?}");
    let alone = hardened.one_by_one(&keys);
    let together = hardened.as_shipped();
    for (key, [with, without]) in keys.iter().zip(&alone) {
        println!("{key}: alone {}, as shipped {}", with["how"], together[*key]["how"]);
        assert_eq!(without["allowed"], true, "{key} is forbidden by something else: {without}");
        assert_eq!(with["forbidden"], true, "{key} forbids nothing by itself: {with}");
        assert_eq!(together[*key]["forbidden"], true, "{key}: {}", together[*key]);
    }
}
