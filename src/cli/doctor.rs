//! `doctor`: everything a user can get wrong, a line each, the worst first.

use crate::config::{ConfigError, Environment, Loaded};
use crate::doctor::{self, Diagnosis};
use crate::exit::Exit;

pub(super) fn run(loaded: &Loaded, json: bool, env: &Environment) -> Exit {
    tell(&doctor::examine(loaded, env), json)
}

/// The configuration cannot be used, which is a finding too.
pub(super) fn without_configuration(error: &ConfigError, json: bool) -> Exit {
    tell(&doctor::unreadable(error), json)
}

fn tell(diagnosis: &Diagnosis, json: bool) -> Exit {
    let text = if json { diagnosis.for_programs() } else { diagnosis.for_people() };
    super::answer(&text, diagnosis.exit())
}
