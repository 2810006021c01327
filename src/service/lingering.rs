//! Whether this user's services run while he is not logged in.
//!
//! What must always hold: it only looks; what turns it on is told, and left to the user.

use std::path::Path;

use super::programs::Programs;

/// A file for each user who lingers.
const LINGER: &str = "/var/lib/systemd/linger";
/// Who lets an ordinary user turn it on for himself. Without it only root may.
const POLKIT: [&str; 3] = ["/usr/lib/polkit-1/polkitd", "/usr/libexec/polkitd", "/usr/lib/policykit-1/polkitd"];

/// Whether they do; `None`: it cannot be found out.
pub fn is_on(uid: u32, user: Option<&str>, programs: &dyn Programs) -> Option<bool> {
    let arguments = ["show-user".to_owned(), uid.to_string(), "--property=Linger".to_owned()];
    let said = programs.run("loginctl", &arguments.map(Into::into));
    match said.ok().filter(|ran| ran.success).map(|ran| ran.stdout.trim().to_owned()).as_deref() {
        Some("Linger=yes") => Some(true),
        Some("Linger=no") => Some(false),
        // It knows only users who are logged in or linger.
        _ => Path::new(LINGER).is_dir().then(|| user.is_some_and(|user| Path::new(LINGER).join(user).exists())),
    }
}

/// What it means that it is off, and the command that turns it on.
pub fn advice(uid: u32, user: Option<&str>) -> String {
    format!("The agent runs only while you are logged in. To have it run always: {}", mend(uid, user))
}

/// The command that turns it on.
pub fn mend(uid: u32, user: Option<&str>) -> String {
    let sudo = uid != 0 && !POLKIT.iter().any(|program| Path::new(program).exists());
    command(sudo, user)
}

fn command(sudo: bool, user: Option<&str>) -> String {
    match (sudo, user) {
        (false, _) => "loginctl enable-linger".to_owned(),
        (true, user) => format!("sudo loginctl enable-linger {}", user.unwrap_or("\"$USER\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::programs::played::{Played, fails, says};
    use super::*;

    #[test]
    fn loginctl_is_believed_if_it_knows() {
        for (answer, expected) in [("Linger=yes\n", Some(true)), ("Linger=no\n", Some(false))] {
            let played = Played::default().on("loginctl show-user 7 --property=Linger", says(answer));
            assert_eq!(is_on(7, None, &played), expected);
        }
        let unknown = Played::default().on("loginctl", fails("User ID 7 is not logged in or lingering\n"));
        assert_ne!(is_on(7, Some("no-such-user"), &unknown), Some(true));
    }

    #[test]
    fn root_is_needed_only_where_nobody_else_may() {
        assert_eq!(command(false, Some("zoe")), "loginctl enable-linger");
        assert_eq!(command(true, Some("zoe")), "sudo loginctl enable-linger zoe");
        assert!(advice(0, None).ends_with("always: loginctl enable-linger"));
    }
}
