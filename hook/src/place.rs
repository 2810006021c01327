//! Where the agent's socket is, as the agent itself decides it.

use std::env;
use std::path::PathBuf;

/// Set where the agent was told another place than its default.
const VARIABLE: &str = "WAVEFLOW_SYNC_AGENT_SOCKET";
const FILE: &str = "sync-agent.sock";

/// The place in this environment; `None` where there is not even a home directory.
pub(crate) fn of_process() -> Option<PathBuf> {
    of(|name| env::var_os(name).map(PathBuf::from))
}

/// A relative path means another place to each process, so it is not heeded.
fn of(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    if let Some(path) = absolute(VARIABLE) {
        return Some(path);
    }
    let run = if cfg!(target_os = "macos") { None } else { absolute("XDG_RUNTIME_DIR") };
    if let Some(run) = run {
        return Some(run.join("waveflow").join(FILE));
    }
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("waveflow/sync-agent").join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(variables: &[(&str, &str)]) -> Option<PathBuf> {
        of(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value)))
    }

    #[test]
    fn the_socket_is_looked_for_where_the_agent_puts_it() {
        let home = ("HOME", "/h");
        let run = ("XDG_RUNTIME_DIR", "/run/user/1");
        assert_eq!(place(&[home, run, (VARIABLE, "/x/s")]), Some("/x/s".into()));
        assert_eq!(place(&[home, ("XDG_STATE_HOME", "/s")]), Some("/s/waveflow/sync-agent/sync-agent.sock".into()));
        assert_eq!(place(&[home]), Some("/h/.local/state/waveflow/sync-agent/sync-agent.sock".into()));
        if !cfg!(target_os = "macos") {
            assert_eq!(place(&[home, run]), Some("/run/user/1/waveflow/sync-agent.sock".into()));
        }
    }

    #[test]
    fn a_relative_or_empty_path_is_not_heeded() {
        assert_eq!(place(&[(VARIABLE, "s"), ("XDG_RUNTIME_DIR", ""), ("HOME", "h")]), None);
    }
}
