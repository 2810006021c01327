//! The agent under systemd's user manager: what is there ([`Found`]), and [`install`], [`uninstall`] and [`status`] of it.
//!
//! What must always hold: what is to be done is decided from an order and what was found, in functions that touch
//! nothing.

pub mod install;
pub mod status;
pub mod uninstall;

use std::fs;
use std::path::{Path, PathBuf};

use super::directories;
use super::mark::{Comment, Standing};
use super::programs::Programs;
use super::report::{Refusal, exit_of};
use super::systemctl::{self, Seen};
use super::unit::{self, SERVICE, SOCKET};
use super::user::User;
use crate::config::Environment;
use crate::exit::Exit;

/// A file of ours, or the place for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where.
    pub path: PathBuf,
    /// What is there.
    pub standing: Standing,
}

/// What is on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The user's own units are here.
    pub directory: PathBuf,
    /// The service's file and the socket's.
    pub units: [Place; 2],
    /// Links that enable them.
    pub links: Vec<PathBuf>,
    /// Directories for such links, with their modes, that were there before any install.
    pub kept: Vec<(PathBuf, u32)>,
    /// Directories with what the user adds to our units.
    pub drop_ins: Vec<PathBuf>,
}

/// What is there, the manager included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// On the disk.
    pub files: Files,
    /// A service's unit that a package brought, with its text.
    pub packaged: Option<(PathBuf, String)>,
    /// The service, as the manager has it.
    pub service: Seen,
    /// The socket.
    pub socket: Seen,
}

/// Whom and where it concerns.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// The environment.
    pub env: &'a Environment,
    /// Who asks.
    pub user: &'a User,
    /// Who runs programs.
    pub programs: &'a dyn Programs,
}

impl Files {
    /// Looks.
    ///
    /// # Errors
    /// There is no home directory, or something in it cannot be read.
    pub fn look(env: &Environment) -> Result<Self, Refusal> {
        let home = env.base_dir("XDG_CONFIG_HOME", ".config");
        let home = home.ok_or_else(|| Refusal::new("no_home", "HOME is not set", Exit::Config))?;
        let directory = unit::directory(&home);
        let place = |name: &str| {
            let path = directory.join(name);
            match Standing::of(&path, Comment::Hash) {
                Ok(standing) => Ok(Place { path, standing }),
                Err(error) => Err(Refusal::new("unusable", &format!("{}: {error}", path.display()), exit_of(&error))),
            }
        };
        let wants: Vec<_> = unit::wants().iter().map(|name| directory.join(name)).collect();
        let links = wants.iter().flat_map(|wants| [SERVICE, SOCKET].map(|name| wants.join(name)));
        let drop_ins = [SERVICE, SOCKET].map(|name| directory.join(format!("{name}.d")));
        Ok(Self {
            units: [place(SERVICE)?, place(SOCKET)?],
            links: links.filter(|link| link.is_symlink()).collect(),
            kept: directories::standing(&wants),
            drop_ins: drop_ins.into_iter().filter(|path| path.is_dir()).collect(),
            directory,
        })
    }

    /// Whether an install left something here.
    pub fn is_installed(&self) -> bool {
        !self.links.is_empty() || self.units.iter().any(|unit| unit.standing != Standing::Absent)
    }

    /// Where the installed unit listens, if that is a place of its own.
    fn own_socket(&self) -> Option<PathBuf> {
        match &self.units[1].standing {
            Standing::Ours(text) => unit::own_socket(text),
            _ => None,
        }
    }

    /// Refuses to touch what is somebody else's.
    fn refuse_others(&self) -> Result<(), Refusal> {
        let objection = |unit: &Place| Some((unit.path.display().to_string(), unit.standing.objection()?));
        self.units.iter().find_map(objection).map_or(Ok(()), |(path, why)| {
            let message = format!(
                "{path} {why}, so it is left as it is, and nothing was done. Keep what you need of it in a drop-in \
                 (`systemctl --user edit {SERVICE}`), remove the file, and say this again"
            );
            Err(Refusal::new("not_ours", &message, Exit::NotPermitted))
        })
    }
}

impl Found {
    /// Looks, and asks the manager.
    ///
    /// # Errors
    /// See [`Files::look`]; there is no manager; or it looks for units elsewhere.
    pub fn look(setting: Setting<'_>) -> Result<Self, Refusal> {
        let files = Files::look(setting.env)?;
        let unit_path = systemctl::unit_path(setting.programs)?;
        if !unit_path.contains(&files.directory) {
            let looks_in = unit_path.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
            let message = format!(
                "systemd does not look for units in {}: XDG_CONFIG_HOME is set here and not for systemd, which looks in \
                 {looks_in}",
                files.directory.display()
            );
            return Err(Refusal::new("other_directory", &message, Exit::Config));
        }
        let packaged = systemctl::packaged(SERVICE, &unit_path, &files.directory);
        let packaged = packaged.and_then(|path| Some((path.clone(), fs::read_to_string(path).ok()?)));
        let service = systemctl::show(SERVICE, setting.programs)?;
        let socket = systemctl::show(SOCKET, setting.programs)?;
        Ok(Self { files, packaged, service, socket })
    }

    /// The file the manager has the service from.
    fn fragment(&self) -> Option<&Path> {
        Some(self.service.get("FragmentPath")).filter(|path| !path.is_empty()).map(Path::new)
    }
}
