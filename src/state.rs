//! The agent's own state: one small JSON file, replaced as a whole.
//!
//! What must always hold: killed or out of power at any instruction, the file is the old one or the new one, never half
//! of one; it is for its owner's eyes only; what cannot be read is kept aside, and the agent starts without it; and
//! nothing is written when nothing changed.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::halt::{self, Place};
use crate::trust::{self, TrustError};

/// The layout this build writes, and the newest one it reads.
const VERSION: u32 = 1;

/// Some ten thousand quarantined or held ops. Beyond it something is wrong, and memory is not to pay for it.
const SIZE_LIMIT: u64 = 4 * 1024 * 1024;

const FILE_NAME: &str = "state.json";
/// Always the same name, so that what a crash leaves behind is overwritten, not added to.
const TEMPORARY_NAME: &str = "state.json.new";
/// One is kept, the last: enough to look at, and it cannot fill the disk.
const ASIDE_NAME: &str = "state.json.unreadable-1";
/// What it is kept in; not what was put aside.
pub const FILES: [&str; 2] = [FILE_NAME, TEMPORARY_NAME];

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Others may write. With that, they could put their own file in the place of ours.
const OTHERS_WRITE: u32 = 0o022;

/// Why state cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Something there belongs to somebody else, or is not what it has to be.
    #[error("{}: {why}", path.display())]
    NotOurs {
        /// What was refused.
        path: PathBuf,
        /// Why, and the mend.
        why: &'static str,
    },
    /// The state outgrew its limit. The file is as it was.
    #[error("{}: the state is {size} bytes long, and at most {SIZE_LIMIT} are kept", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What it would have been, in bytes.
        size: u64,
    },
    /// It was only looked at, and cannot be understood.
    #[error("{}: cannot be understood: {why}", path.display())]
    Strange {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The system refused.
    #[error("{}: cannot {action} it: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl StateError {
    /// How a process ends that needs the state.
    pub fn exit(&self) -> Exit {
        match self {
            Self::NotOurs { .. } => Exit::NotPermitted,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Exit::NotPermitted,
            Self::TooLarge { .. } | Self::Strange { .. } | Self::Io { .. } => Exit::TryLater,
        }
    }

    fn io<'a>(path: &'a Path, action: &'static str) -> impl Fn(io::Error) -> Self + use<'a> {
        move |source| Self::Io { path: path.to_owned(), action, source }
    }
}

impl From<TrustError> for StateError {
    fn from(error: TrustError) -> Self {
        match error {
            TrustError::Stranger { path, why } => Self::NotOurs { path, why },
            TrustError::Io { path, source } => Self::Io { path, action: "use", source },
        }
    }
}

/// What is in the file around the state.
#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    version: u32,
    state: T,
}

/// Read on its own first: the rest of another version may be anything.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

/// The state file in its directory.
#[derive(Debug)]
pub struct StateFile<T> {
    directory: PathBuf,
    /// What the file says; an absent one says the default.
    written: Mutex<T>,
}

impl<T: Serialize + DeserializeOwned + Default + Clone + PartialEq> StateFile<T> {
    /// Reads the state, making the directory (mode 0700, parents too) if it is not there. Without a file, or with one
    /// that cannot be understood (kept aside as `state.json.unreadable-1`), the state is the default one.
    pub fn open(directory: &Path) -> Result<(Self, T), StateError> {
        Self::open_as(directory, rustix::process::geteuid().as_raw())
    }

    fn open_as(directory: &Path, user: u32) -> Result<(Self, T), StateError> {
        // Before anything is made, lest it be made behind somebody else's link; and after, because where everybody may
        // make things somebody may have been faster.
        trust::check_way(directory)?;
        make_directory(directory)?;
        trust::check_way(directory)?;
        check_directory(directory, user)?;
        let path = directory.join(FILE_NAME);
        let state = match read(&path, user)? {
            None => T::default(),
            Some(bytes) => match parse(&bytes) {
                Ok(state) => state,
                Err(why) => {
                    put_aside(directory, &why)?;
                    T::default()
                }
            },
        };
        Ok((Self { directory: directory.to_owned(), written: Mutex::new(state.clone()) }, state))
    }

    /// What the file says, looked at only: nothing is made, nothing is put aside. `None`: it is not there.
    pub fn look(directory: &Path) -> Result<Option<T>, StateError> {
        trust::check_way(directory)?;
        if !directory.exists() {
            return Ok(None);
        }
        let user = rustix::process::geteuid().as_raw();
        check_directory(directory, user)?;
        let path = directory.join(FILE_NAME);
        let Some(bytes) = read(&path, user)? else { return Ok(None) };
        parse(&bytes).map(Some).map_err(|why| StateError::Strange { path, why })
    }

    /// Makes the file say this. `false`: it already did, and nothing was written. After an error it says what it said
    /// before, or this, and the next call writes again.
    pub fn save(&self, state: &T) -> Result<bool, StateError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if *written == *state {
            return Ok(false);
        }
        let path = self.directory.join(FILE_NAME);
        let bytes = render(state).map_err(|error| StateError::io(&path, "write")(error.into()))?;
        if bytes.len() as u64 > SIZE_LIMIT {
            return Err(StateError::TooLarge { path, size: bytes.len() as u64 });
        }
        replace(&self.directory, &bytes).map_err(StateError::io(&path, "write"))?;
        *written = state.clone();
        Ok(true)
    }
}

/// Makes what is missing of the path, one by one: a umask takes bits from the mode that is asked for, so each gets its
/// mode afterwards, before anything is made inside.
fn make_directory(directory: &Path) -> Result<(), StateError> {
    let missing: Vec<_> = directory.ancestors().take_while(|path| !path.exists()).collect();
    for path in missing.into_iter().rev() {
        match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
            Ok(()) => fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE)),
            // Somebody else was faster, or a dangling link is in the way; what is there is checked next.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
        .map_err(StateError::io(path, "make"))?;
    }
    Ok(())
}

/// A directory that was there keeps its mode: it is not for us to shut out whom the user let in to read. The file in it
/// is shut to them anyway.
fn check_directory(directory: &Path, user: u32) -> Result<(), StateError> {
    let found = fs::metadata(directory).map_err(StateError::io(directory, "use"))?;
    let refuse = |why| Err(StateError::NotOurs { path: directory.to_owned(), why });
    if !found.is_dir() {
        return refuse("it is not a directory; set `state_dir` to one");
    }
    if found.uid() != user {
        return refuse("it belongs to another user; set `state_dir` to a directory of your own");
    }
    if found.mode() & OTHERS_WRITE != 0 {
        return refuse("other users may write to it; take that away with chmod go-w, or set another `state_dir`");
    }
    Ok(())
}

/// The file's bytes, one more than the limit at the most; `None` if it is not there.
fn read(path: &Path, user: u32) -> Result<Option<Vec<u8>>, StateError> {
    // NONBLOCK: opening a pipe must not wait for a writer. NOFOLLOW: the file is ours and in its place, or refused.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StateError::Io { path: path.to_owned(), action: "read", source }),
    };
    let found = file.metadata().map_err(StateError::io(path, "read"))?;
    let refuse = |why| Err(StateError::NotOurs { path: path.to_owned(), why });
    if !found.is_file() {
        return refuse("it is not a file; move it away");
    }
    if found.uid() != user {
        return refuse("it belongs to another user; move it away, or set another `state_dir`");
    }
    let mut bytes = Vec::new();
    file.take(SIZE_LIMIT + 1).read_to_end(&mut bytes).map_err(StateError::io(path, "read"))?;
    Ok(Some(bytes))
}

/// What the file holds that says this.
pub fn render<T: Serialize>(state: &T) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(&Envelope { version: VERSION, state })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The state that a file of these bytes holds, or why it cannot be understood.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.len() as u64 > SIZE_LIMIT {
        return Err(format!("it is longer than {SIZE_LIMIT} bytes"));
    }
    let head: Head = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if head.version != VERSION {
        return Err(format!("it is of version {}, and this agent reads {VERSION}", head.version));
    }
    let envelope: Envelope<T> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    Ok(envelope.state)
}

fn put_aside(directory: &Path, why: &str) -> Result<(), StateError> {
    let (path, aside) = (directory.join(FILE_NAME), directory.join(ASIDE_NAME));
    fs::rename(&path, &aside).map_err(StateError::io(&path, "move away"))?;
    tracing::warn!(file = %path.display(), kept_as = %aside.display(), why, "state not understood; starting without it");
    Ok(())
}

/// Written beside it, on the disk, then renamed over it, then the rename is on the disk.
fn replace(directory: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = directory.join(TEMPORARY_NAME);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // New, so it follows no link and inherits no mode; and its mode is set before there is anything in it to read.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&temporary)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    halt::here(Place::StateMade);
    file.write_all(bytes)?;
    file.sync_all()?;
    halt::here(Place::StateWritten);
    fs::rename(&temporary, directory.join(FILE_NAME))?;
    halt::here(Place::StateRenamed);
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::symlink;

    use super::*;

    type State = BTreeMap<String, u64>;

    fn state(value: u64) -> State {
        BTreeMap::from([("key".to_owned(), value)])
    }

    fn open(directory: &Path) -> (StateFile<State>, State) {
        StateFile::open(directory).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn what_was_saved_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let (file, found) = open(dir.path());
        assert_eq!(found, State::new());
        assert!(file.save(&state(1)).unwrap());
        assert!(file.save(&state(2)).unwrap());
        assert_eq!(open(dir.path()).1, state(2));
        let text = fs::read_to_string(dir.path().join(FILE_NAME)).unwrap();
        assert_eq!(text, "{\"version\":1,\"state\":{\"key\":2}}\n");
    }

    #[test]
    fn nothing_is_written_when_nothing_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let (file, _) = open(dir.path());
        assert!(!file.save(&State::new()).unwrap());
        assert!(!path.exists());
        assert!(file.save(&state(1)).unwrap());
        let before = fs::metadata(&path).unwrap().ino();
        assert!(!file.save(&state(1)).unwrap());
        assert!(!open(dir.path()).0.save(&state(1)).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().ino(), before);
        assert!(file.save(&State::new()).unwrap());
        assert_eq!(open(dir.path()).1, State::new());
    }

    #[test]
    fn what_a_crash_leaves_behind_is_harmless() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).0.save(&state(1)).unwrap();
        let stale = dir.path().join(TEMPORARY_NAME);
        fs::write(&stale, "{\"version\":1,\"sta").unwrap();
        fs::set_permissions(&stale, Permissions::from_mode(0o644)).unwrap();
        let (file, found) = open(dir.path());
        assert_eq!(found, state(1));
        assert!(file.save(&state(2)).unwrap());
        assert_eq!(mode(&dir.path().join(FILE_NAME)), 0o600);
        assert!(!stale.exists());
    }

    #[test]
    fn a_link_in_the_temporary_files_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, dir.path().join(TEMPORARY_NAME)).unwrap();
        open(dir.path()).0.save(&state(1)).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(open(dir.path()).1, state(1));
    }

    #[test]
    fn what_cannot_be_understood_is_kept_aside_once() {
        let dir = tempfile::tempdir().unwrap();
        let (path, aside) = (dir.path().join(FILE_NAME), dir.path().join(ASIDE_NAME));
        let large = vec![b' '; usize::try_from(SIZE_LIMIT).unwrap() + 1];
        let unreadable: [&[u8]; 6] = [
            b"",
            b"{\"version\":1,\"sta",
            b"{\"version\":2,\"state\":{}}",
            b"{\"version\":1,\"state\":[]}",
            b"\xff",
            &large,
        ];
        for bytes in unreadable {
            fs::write(&path, bytes).unwrap();
            assert_eq!(open(dir.path()).1, State::new());
            assert!(!path.exists());
            assert_eq!(fs::read(&aside).unwrap(), bytes);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).0.save(&state(1)).unwrap();
        let somebody = fs::metadata(dir.path()).unwrap().uid() + 1;
        let error = StateFile::<State>::open_as(dir.path(), somebody).unwrap_err();
        assert!(error.to_string().contains("another user"), "{error}");
        assert_eq!(error.exit(), Exit::NotPermitted);
        let error = read(&dir.path().join(FILE_NAME), somebody).unwrap_err();
        assert!(error.to_string().contains("state.json: it belongs to another user"), "{error}");
    }

    #[test]
    fn what_is_not_a_directory_or_not_a_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(StateFile::<State>::open(&file), Err(StateError::NotOurs { .. })));
        assert!(StateFile::<State>::open(&file.join("below")).is_err());
        let path = dir.path().join(FILE_NAME);
        symlink(&file, &path).unwrap();
        assert!(matches!(StateFile::<State>::open(dir.path()), Err(StateError::Io { .. })));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(StateFile::<State>::open(dir.path()), Err(StateError::NotOurs { .. })));
    }

    #[test]
    fn a_directory_others_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (bits, usable) in [(0o775, false), (0o702, false), (0o755, true), (0o700, true)] {
            fs::set_permissions(dir.path(), Permissions::from_mode(bits)).unwrap();
            assert_eq!(StateFile::<State>::open(dir.path()).is_ok(), usable, "{bits:o}");
            assert_eq!(mode(dir.path()), bits);
        }
    }

    #[test]
    fn a_state_that_could_not_be_read_back_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let (file, _) = StateFile::<String>::open(dir.path()).unwrap();
        file.save(&"small".to_owned()).unwrap();
        let error = file.save(&"x".repeat(usize::try_from(SIZE_LIMIT).unwrap())).unwrap_err();
        assert!(matches!(error, StateError::TooLarge { .. }));
        assert_eq!(StateFile::<String>::open(dir.path()).unwrap().1, "small");
    }

    /// Names the directory to the process that the next test starts.
    const UMASK_TEST: &str = "STATE_UMASK_TEST_DIRECTORY";

    #[test]
    fn the_modes_are_the_same_whatever_the_umask() {
        if let Some(directory) = std::env::var_os(UMASK_TEST) {
            open(Path::new(&directory)).0.save(&state(1)).unwrap();
            return;
        }
        // A umask is the whole process's, so it is set in one of its own.
        for umask in ["0000", "0777"] {
            let dir = tempfile::tempdir().unwrap();
            let deep = dir.path().join("waveflow/sync-agent");
            let status = std::process::Command::new("sh")
                .args(["-c", &format!("umask {umask} && exec \"$@\""), "sh"])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", "state::tests::the_modes_are_the_same_whatever_the_umask"])
                .env(UMASK_TEST, &deep)
                .stdout(std::process::Stdio::null())
                .status()
                .unwrap();
            assert!(status.success(), "umask {umask}");
            assert_eq!(mode(&dir.path().join("waveflow")), 0o700, "umask {umask}");
            assert_eq!(mode(&deep), 0o700, "umask {umask}");
            assert_eq!(mode(&deep.join(FILE_NAME)), 0o600, "umask {umask}");
        }
    }
}
