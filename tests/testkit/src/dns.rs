//! A name server with a handful of names, for a network that has no other.
//!
//! What must always hold: it listens on loopback only, answers UDP, and ends with its [`Dns`].

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use crate::{Error, Result};

/// Longer than any question over UDP.
const QUESTION_MAX: usize = 512;
/// Identity, flags and four counts.
const HEADER: usize = 12;
/// Type and class of a question.
const KIND: usize = 4;

const A: u16 = 1;
const NO_SUCH_NAME: u8 = 3;
/// How long an answer may be kept, in seconds: not at all.
const KEPT: [u8; 4] = [0; 4];

/// The name server.
pub struct Dns {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dns {
    /// Answers at `address`: these names have this address each, and no other name exists.
    pub fn start(address: SocketAddr, names: &[(&str, Ipv4Addr)]) -> Result<Self> {
        if !address.ip().is_loopback() {
            return Err(Error::other(format!("{address} is not this machine alone")));
        }
        let socket = UdpSocket::bind(address)?;
        let address = socket.local_addr()?;
        let names: Vec<_> = names.iter().map(|(name, ip)| (encoded(name), *ip)).collect();
        let (asked, ended) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (counted, over) = (Arc::clone(&asked), Arc::clone(&ended));
        let thread = thread::spawn(move || serve(&socket, &names, &counted, &over));
        Ok(Self { address, asked, ended, thread: Some(thread) })
    }

    /// Questions so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread; where even that fails it waits for a question, and is left to.
        let woken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.send_to(&[], self.address));
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, names: &[(Vec<u8>, Ipv4Addr)], asked: &AtomicUsize, ended: &AtomicBool) {
    let mut question = [0; QUESTION_MAX];
    while let Ok((length, whom)) = socket.recv_from(&mut question) {
        if ended.load(Ordering::Relaxed) {
            return;
        }
        if let Some(answer) = answer(&question[..length], names) {
            asked.fetch_add(1, Ordering::Relaxed);
            // Whoever asked may be gone.
            let _ = socket.send_to(&answer, whom);
        }
    }
}

/// As it travels: each label behind its length, and an empty one at the end.
fn encoded(name: &str) -> Vec<u8> {
    let labels = name.split('.').chain([""]).filter_map(|label| Some((u8::try_from(label.len()).ok()?, label)));
    labels.flat_map(|(length, label)| [&[length], label.as_bytes()].concat()).collect()
}

/// The question with an answer behind it; `None` where it is none.
fn answer(question: &[u8], names: &[(Vec<u8>, Ipv4Addr)]) -> Option<Vec<u8>> {
    let rest = question.get(HEADER..)?;
    let name = &rest[..=rest.iter().position(|byte| *byte == 0)?];
    let kind = rest.get(name.len()..name.len() + KIND)?;
    let known = names.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    let address = known.map(|(_, ip)| ip).filter(|_| kind[..2] == A.to_be_bytes());
    let code = if known.is_some() { 0 } else { NO_SUCH_NAME };
    // An answer, by whom it concerns, to a question that may be passed on, as this one's can.
    let mut answer = vec![question[0], question[1], 0x84 | question[2] & 0x01, 0x80 | code];
    // One question, as many answers, nothing besides.
    answer.extend([0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    answer.extend_from_slice(name);
    answer.extend_from_slice(kind);
    if let Some(ip) = address {
        // The name stands at the question's place already.
        answer.extend([0xc0, 12]);
        answer.extend_from_slice(kind);
        answer.extend(KEPT);
        answer.extend([0, 4]);
        answer.extend(ip.octets());
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let header = [7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        [&header[..], &encoded(name), &kind.to_be_bytes(), &[0, 1]].concat()
    }

    #[test]
    fn a_known_name_has_its_address_and_no_other_exists() {
        let dns = Dns::start(([127, 0, 0, 1], 0).into(), &[("music.test", Ipv4Addr::new(127, 0, 0, 9))]).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let ask = |name: &str, kind| {
            client.send_to(&question(name, kind), dns.address).unwrap();
            let mut answer = [0; QUESTION_MAX];
            let length = client.recv(&mut answer).unwrap();
            answer[..length].to_vec()
        };
        let found = ask("Music.test", A);
        assert_eq!((found[3] & 0x0f, found[7], &found[found.len() - 4..]), (0, 1, &[127, 0, 0, 9][..]));
        let no_ipv6 = ask("music.test", 28);
        assert_eq!((no_ipv6[3] & 0x0f, no_ipv6[7]), (0, 0));
        let unknown = ask("musik.test", A);
        assert_eq!((unknown[3] & 0x0f, unknown[7]), (NO_SUCH_NAME, 0));
        assert_eq!(dns.asked(), 3);
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        for wrong in [&[][..], &[0; HEADER], &question("music.test", A)[..20]] {
            assert_eq!(answer(wrong, &[]), None, "{wrong:?}");
        }
    }
}
