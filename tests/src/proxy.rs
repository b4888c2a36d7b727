//! A TCP proxy between two programs that can delay, slice, swallow and reset what passes.
//!
//! Two threads a connection, one a direction. Conditions are read for every piece, so that they hold for connections
//! that stand. Deliberately absent: packets' limits; MQTT is bytes here.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::listener::listen;

const PIECE_BYTES: usize = 64 * 1024;

/// What happens to bytes on their way, both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions {
    /// Each piece waits so long.
    pub latency: Duration,
    /// The longest piece passed on at once.
    pub piece_bytes: usize,
    /// Bytes a second; 0: as many as come.
    pub bytes_per_s: u64,
    /// Nothing is passed on, nothing is closed, and what came is gone: a half-open link, whose ends do not know it.
    pub swallow: bool,
    /// New connections are refused.
    pub refuse: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            piece_bytes: PIECE_BYTES,
            bytes_per_s: 0,
            swallow: false,
            refuse: false,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    conditions: Mutex<Conditions>,
    sockets: Mutex<Vec<TcpStream>>,
    ended: AtomicBool,
}

impl State {
    fn conditions(&self) -> Conditions {
        *self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A proxy; it ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Its port on loopback.
    pub port: u16,
    state: Arc<State>,
}

impl Proxy {
    /// Starts one in front of a port on loopback.
    ///
    /// # Panics
    /// There is no port.
    #[must_use]
    pub fn to(target: u16) -> Self {
        let state = Arc::<State>::default();
        let (of_listener, of_joins) = (Arc::clone(&state), Arc::clone(&state));
        let port = listen(
            move || of_listener.ended.load(Ordering::Relaxed),
            move |near| {
                if !of_joins.conditions().refuse
                    && let Ok(far) = TcpStream::connect(("127.0.0.1", target))
                {
                    join(&of_joins, near, far);
                }
            },
        );
        Self { port, state }
    }

    /// From now on.
    pub fn set(&self, conditions: Conditions) {
        *self.state.conditions.lock().unwrap_or_else(PoisonError::into_inner) = conditions;
    }

    /// Ends every connection at once, whatever is still on its way.
    pub fn reset(&self) {
        for socket in self.state.sockets().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        self.reset();
    }
}

fn join(state: &Arc<State>, near: TcpStream, far: TcpStream) {
    for socket in [&near, &far] {
        let _ = socket.set_nonblocking(false);
        let _ = socket.set_nodelay(true);
        state.sockets().extend(socket.try_clone());
    }
    for (from, to) in [(near.try_clone(), far.try_clone()), (Ok(far), Ok(near))] {
        if let (Ok(from), Ok(to)) = (from, to) {
            let state = Arc::clone(state);
            std::thread::spawn(move || pass(&state, from, to));
        }
    }
}

fn pass(state: &State, mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let Conditions { piece_bytes, .. } = state.conditions();
        let Ok(length @ 1..) = from.read(&mut buffer[..piece_bytes.clamp(1, PIECE_BYTES)]) else { break };
        let Conditions { latency, bytes_per_s, swallow, .. } = state.conditions();
        if swallow {
            continue;
        }
        std::thread::sleep(latency);
        if bytes_per_s > 0 {
            std::thread::sleep(Duration::from_secs_f64(length as f64 / bytes_per_s as f64));
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn bytes_pass_are_swallowed_and_are_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::to(listener.local_addr().unwrap().port());
        let mut near = TcpStream::connect(("127.0.0.1", proxy.port)).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        far.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut heard = [0; 4];
        proxy.set(Conditions { piece_bytes: 1, latency: Duration::from_millis(1), ..Conditions::default() });
        near.write_all(b"four").unwrap();
        far.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"four");
        proxy.set(Conditions { swallow: true, ..Conditions::default() });
        near.write_all(b"gone").unwrap();
        assert!(far.read(&mut heard).is_err(), "neither bytes nor an end");
        proxy.reset();
        assert_eq!(far.read(&mut heard).unwrap(), 0);
    }
}
