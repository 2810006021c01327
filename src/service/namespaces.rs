//! Whether this system lets an ordinary user make user namespaces, without which a user's service manager cannot lay most
//! of a sandbox around a service, and does not start one that asks for it.
//!
//! What must always hold: it only reads settings; trying it out instead would ask about this program, and not about the
//! service manager.

/// Below `/proc/sys`, with the value that forbids it. The kernel's own, Debian's and Ubuntu's; each knows its own alone.
/// `systemd/waveflow-sync-agent-generator` asks for the same.
const FORBIDDING: [(&str, &str); 3] = [
    ("user/max_user_namespaces", "0"),
    ("kernel/unprivileged_userns_clone", "0"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1"),
];

/// Whether users may make them, by what `read` finds in a file below `/proc/sys`.
pub fn are_allowed(read: impl Fn(&str) -> Option<String>) -> bool {
    !FORBIDDING.iter().any(|(file, value)| read(file).is_some_and(|found| found.trim() == *value))
}

/// The same of this machine.
pub fn are_allowed_here() -> bool {
    are_allowed(|file| std::fs::read_to_string(format!("/proc/sys/{file}")).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_setting_that_forbids_is_enough_and_none_that_is_unknown() {
        let with = |file: &str, value: &str| are_allowed(|asked| (asked == file).then(|| value.to_owned()));
        assert!(are_allowed(|_| None));
        for (file, value) in FORBIDDING {
            assert!(!with(file, &format!("{value}\n")), "{file}");
            assert!(with(file, if value == "0" { "1\n" } else { "0\n" }), "{file}");
        }
        assert!(with(FORBIDDING[0].0, "10000\n"));
    }

    #[test]
    fn the_generator_asks_for_the_same() {
        let generator = include_str!("../../systemd/waveflow-sync-agent-generator");
        for (file, value) in FORBIDDING {
            assert!(generator.contains(&format!("is {file} {value}")), "{file}");
        }
    }
}
