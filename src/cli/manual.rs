//! `manual`, for who makes packages: the page that `man waveflow-sync-agent` shows. No help tells of it.
//!
//! What must always hold: commands, flags, exit codes and variables come from where they are defined; what README tells
//! as well is the same there, word for word (`readme_tests.rs`). Made again, it is the same page.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command};

use super::roff::Page;
use super::told;
use crate::config::VARIABLES;
use crate::exit::Exit;

/// What it is, as README begins.
pub(super) const DESCRIPTION: [&str; 2] = [
    "The WaveFlow desktop app writes down what its user does (a playlist renamed, a track rated, a folder scanned) as \
     *operations* in a queue on disk, to be delivered to the user's own waveflow-server. This agent delivers them, \
     without the app's window: for a media box without a screen, a container, a cron job, or a laptop whose app is \
     mostly closed.",
    "What it promises: an operation leaves the queue only after the server named it as stored; each one is stored once, \
     in the order of the queue; whatever fails in between, the rest waits on disk. It serves every profile, not only \
     the active one, and it writes nothing to the app's files beyond what the app's own delivery writes there.",
];

/// Where it keeps to, and what is there.
pub(super) const FILES: [(&str, &str); 3] = [
    ("configuration, if any", "`~/.config/waveflow/sync-agent.toml`"),
    ("its own memory: whose operations are whose, what was refused, `pause`", "`~/.local/state/waveflow/sync-agent/`"),
    ("the socket", "`$XDG_RUNTIME_DIR/waveflow/sync-agent.sock`; without that variable, in the directory above"),
];

/// What the daemon does on them.
pub(super) const SIGNALS: [(&str, &str); 2] = [
    (
        "SIGTERM and SIGINT",
        "begins nothing new, waits up to 4.5 s for what is on the wire, ends with 0; a second one ends it at once.",
    ),
    ("SIGHUP", "reads the configuration again and delivers; a wrong one is logged and changes nothing."),
];

/// Variables of others, and what they are for here.
const OTHERS_VARIABLES: [(&str, &str); 4] = [
    ("`HOME`, `XDG_DATA_HOME`, `XDG_CONFIG_HOME`, `XDG_STATE_HOME`", "Where the files are."),
    ("`XDG_RUNTIME_DIR`", "Where the socket is."),
    (
        "`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`",
        "The proxy on the way to the server, unless the configuration names one.",
    ),
    ("`SSL_CERT_FILE`, `SSL_CERT_DIR`", "Where the system's certificate roots are, if elsewhere."),
];

/// As in README: what to type, and what for.
pub(super) const EXAMPLES: [(&str, &str); 3] = [
    ("waveflow-sync-agent check-config", "what is in force, where it comes from, and where the app's data was found"),
    ("waveflow-sync-agent run", "deliver whatever the app commits, until Ctrl-C"),
    ("waveflow-sync-agent status", "in another terminal: is everything on the server, and if not, why not"),
];

const SEE_ALSO: &str = "`systemctl`(1), `journalctl`(1), `systemd.socket`(5)";

/// The page, as roff.
pub(super) fn page() -> String {
    let mut definition = told();
    // Gives each command its usage, and help and version their flags.
    definition.build();
    let name = definition.get_name();
    let mut page = Page::new(name, env!("CARGO_PKG_VERSION"));
    page.section("NAME");
    page.text(&format!("{name} - {}", lower_first(&about(&definition))));
    page.section("SYNOPSIS");
    page.text(&format!("`{name}` [*OPTIONS*] *COMMAND*"));
    page.section("DESCRIPTION");
    DESCRIPTION.iter().for_each(|paragraph| page.paragraph(paragraph));
    page.section("COMMANDS");
    commands(&mut page, &definition, "");
    page.section("OPTIONS");
    page.text("They may stand before or behind every command.");
    definition.get_arguments().for_each(|flag| option(&mut page, flag));
    surroundings(&mut page);
    page.section("EXAMPLES");
    for (line, what) in EXAMPLES {
        page.paragraph(&format!("{}:", upper_first(what)));
        page.verbatim([line]);
    }
    page.section("SEE ALSO");
    page.text(SEE_ALSO);
    page.render()
}

/// What the definition of the command line does not hold.
fn surroundings(page: &mut Page) {
    page.section("EXIT STATUS");
    for exit in Exit::ALL {
        page.item(&format!("`{}`", exit as u8), &format!("{}.", upper_first(exit.means())));
    }
    page.section("ENVIRONMENT");
    for (variable, flag) in VARIABLES {
        page.item(
            &format!("`{variable}`"),
            &format!("As `{flag}`, which overrules it; it overrules the configuration."),
        );
    }
    OTHERS_VARIABLES.iter().for_each(|(variables, what)| page.item(variables, what));
    page.section("FILES");
    FILES.iter().for_each(|(what, path)| page.item(path, &format!("{}.", upper_first(what))));
    page.section("SIGNALS");
    SIGNALS.iter().for_each(|(signals, does)| page.item(&format!("`{signals}`"), &upper_first(does)));
}

/// Every command that can be given, with what may stand behind it.
fn commands(page: &mut Page, definition: &Command, way: &str) {
    for command in definition.get_subcommands() {
        let way = format!("{way} {}", command.get_name()).trim().to_owned();
        if command.has_subcommands() {
            commands(page, command, &way);
            continue;
        }
        page.subsection(&usage(command, &way));
        paragraphs(command).iter().for_each(|paragraph| page.paragraph(paragraph));
        for word in command.get_positionals() {
            described(page, &format!("*{}*", shown_name(word)), word);
        }
        let own = command.get_opts().filter(|flag| !flag.is_global_set());
        let switches = command.get_arguments().filter(|flag| is_switch(flag) && !flag.is_global_set());
        own.chain(switches).filter(|flag| !is_help(flag)).for_each(|flag| option(page, flag));
    }
}

/// `queue discard OPERATION_ID [--yes]`
fn usage(command: &Command, way: &str) -> String {
    let mut usage = way.to_owned();
    for argument in command.get_arguments().filter(|argument| !argument.is_global_set() && !is_help(argument)) {
        let word = match argument.get_long() {
            None => shown_name(argument),
            Some(flag) if is_switch(argument) => format!("--{flag}"),
            Some(flag) => format!("--{flag} {}", shown_name(argument)),
        };
        let _ = if argument.is_required_set() { write!(usage, " {word}") } else { write!(usage, " [{word}]") };
    }
    usage
}

fn option(page: &mut Page, flag: &Arg) {
    let short = flag.get_short().map(|short| format!("`-{short}`, ")).unwrap_or_default();
    let long = flag.get_long().unwrap_or_default();
    let value = if is_switch(flag) { String::new() } else { format!(" *{}*", shown_name(flag)) };
    described(page, &format!("{short}`--{long}`{value}"), flag);
}

/// What an argument is, what it may be, and what it is when it is not given.
fn described(page: &mut Page, word: &str, argument: &Arg) {
    page.item(word, &sentence(&argument.get_help().map(ToString::to_string).unwrap_or_default()));
    if is_switch(argument) {
        return;
    }
    let allowed = argument.get_possible_values();
    if !allowed.is_empty() {
        let names: Vec<_> = allowed.iter().map(|value| format!("`{}`", value.get_name())).collect();
        page.item_goes_on(&format!("Allowed: {}.", names.join(", ")));
    }
    for default in argument.get_default_values() {
        page.item_goes_on(&format!("Default: `{}`.", default.to_string_lossy()));
    }
}

fn is_switch(argument: &Arg) -> bool {
    !argument.is_positional() && !matches!(argument.get_action(), ArgAction::Set | ArgAction::Append)
}

fn is_help(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version)
}

/// `OPERATION_ID`
pub(super) fn shown_name(argument: &Arg) -> String {
    let given = argument.get_value_names().and_then(|names| names.first());
    given.map_or_else(|| argument.get_id().as_str().to_uppercase(), ToString::to_string)
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

/// All that `--help` says a command does.
pub(super) fn paragraphs(command: &Command) -> Vec<String> {
    let long = command.get_long_about().map_or_else(|| about(command), ToString::to_string);
    long.split("\n\n").map(sentence).collect()
}

/// The derive takes the full stop from a single sentence.
fn sentence(text: &str) -> String {
    format!("{}.", text.trim_end_matches('.'))
}

fn upper_first(text: &str) -> String {
    changed_first(text, char::to_ascii_uppercase)
}

fn lower_first(text: &str) -> String {
    changed_first(text, char::to_ascii_lowercase)
}

fn changed_first(text: &str, change: impl Fn(&char) -> char) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| change(&first)).into_iter().chain(letters).collect()
}
