//! The command line's side of the control socket, for a command that waits for more than one thing at once.
//!
//! What must always hold: what is read of one connection has a limit, whoever is behind it.

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Take};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::client::{ANSWER_MAX, Answer, ClientError, connect};
use crate::config::Control;

/// A connection that was asked something, and its answers.
#[derive(Debug)]
pub struct Conversation {
    lines: tokio::io::Lines<BufReader<Take<OwnedReadHalf>>>,
    /// Closed, it would tell that nobody listens.
    _write: OwnedWriteHalf,
    path: String,
}

impl Conversation {
    /// Sends `line` to the agent.
    ///
    /// # Errors
    /// Nobody takes it.
    pub async fn begin(control: &Control, line: &str) -> Result<Self, ClientError> {
        let (stream, path) = connect(control)?;
        let path = path.display().to_string();
        let ended = |_| ClientError::Ended { path: path.clone() };
        stream.set_nonblocking(true).map_err(ended)?;
        let (read, mut write) = UnixStream::from_std(stream).map_err(ended)?.into_split();
        write.write_all(format!("{line}\n").as_bytes()).await.map_err(ended)?;
        Ok(Self { lines: BufReader::new(read.take(ANSWER_MAX)).lines(), _write: write, path })
    }

    /// The next answer; `None` where there is none any more. Nothing is lost where it is not waited for to the end.
    pub async fn next(&mut self) -> Option<Answer> {
        Answer::read(self.lines.next_line().await.ok()??)
    }
}

/// Sends `line` to the agent and reads the one answer.
///
/// # Errors
/// Nobody answers.
pub async fn ask(control: &Control, line: &str) -> Result<Answer, ClientError> {
    let mut conversation = Conversation::begin(control, line).await?;
    conversation.next().await.ok_or(ClientError::Ended { path: conversation.path })
}
